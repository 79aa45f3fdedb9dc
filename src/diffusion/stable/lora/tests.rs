//! How trainers name what they train.

use super::*;
use crate::diffusion::UpBlockKind;

fn targets(texts: usize) -> Targets {
    let shapes = |list: &[(&str, &[usize])]| -> BTreeMap<String, Vec<usize>> {
        let all = list.iter();
        all.map(|(name, shape)| ((*name).to_string(), shape.to_vec()))
            .collect()
    };
    let unet = shapes(&[
        (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            &[64, 32],
        ),
        (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight",
            &[64, 64],
        ),
        ("down_blocks.1.resnets.0.conv1.weight", &[64, 32, 3, 3]),
        ("add_embedding.linear_1.weight", &[64, 32]),
    ]);
    let text = shapes(&[
        (
            "text_model.encoder.layers.0.self_attn.q_proj.weight",
            &[32, 32],
        ),
        ("text_projection.weight", &[32, 32]),
    ]);
    let config = UnetConfig {
        layers_per_block: 2,
        up_block_types: vec![UpBlockKind::UpBlock2D; 2],
        ..UnetConfig::default()
    };
    let texts = vec![(&text, 1); texts];
    Targets::new(StableDiffusionFamily::Sdxl, &config, &unet, &texts)
}

#[test]
fn every_trainer_s_spelling_finds_the_weight() {
    let targets = targets(2);
    let attn2 = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    let out = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight";
    let conv = "down_blocks.1.resnets.0.conv1.weight";
    let query = "text_model.encoder.layers.0.self_attn.q_proj.weight";
    for (base, network, weight) in [
        // kohya, with diffusers' names and with LDM's
        (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            Network::Unet,
            attn2,
        ),
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
            Network::Unet,
            attn2,
        ),
        (
            "lora_unet_input_blocks_4_0_in_layers_2",
            Network::Unet,
            conv,
        ),
        (
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
            Network::Text(0),
            query,
        ),
        (
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
            Network::Text(1),
            query,
        ),
        // OneTrainer's, old and new, and that of the Open Model Initiative
        (
            "lora_unet.down_blocks.1.resnets.0.conv1",
            Network::Unet,
            conv,
        ),
        ("unet.input_blocks.4.0.in_layers.2", Network::Unet, conv),
        (
            "unet.label_emb.0.0",
            Network::Unet,
            "add_embedding.linear_1.weight",
        ),
        (
            "lora_te1.text_model.encoder.layers.0.self_attn.q_proj",
            Network::Text(0),
            query,
        ),
        (
            "clip_l.text_model.encoder.layers.0.self_attn.q_proj",
            Network::Text(0),
            query,
        ),
        (
            "clip_g.text_model.encoder.layers.0.self_attn.q_proj",
            Network::Text(1),
            query,
        ),
        (
            "clip_g.text_projection",
            Network::Text(1),
            "text_projection.weight",
        ),
        // LyCORIS by itself, as SimpleTuner saves it
        (
            "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
            Network::Unet,
            out,
        ),
        // diffusers, new and old
        (
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            Network::Unet,
            out,
        ),
        (
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            Network::Unet,
            out,
        ),
        (
            "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
            Network::Text(1),
            query,
        ),
        // PEFT
        (
            "base_model.model.down_blocks.1.resnets.0.conv1",
            Network::Unet,
            conv,
        ),
        // ComfyUI
        (
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
            Network::Unet,
            attn2,
        ),
        (
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj",
            Network::Text(0),
            query,
        ),
    ] {
        let found = targets.modules.get(&flat(base));
        assert_eq!(found, Some(&(network, weight.to_string())), "{base}");
    }
}

#[test]
fn peft_s_alpha_is_read_from_the_file_beside() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (
        dir.path().join("adapter_model.safetensors"),
        dir.path().join(ADAPTER),
    );
    let base = "base_model.model.down_blocks.1.resnets.0.conv1";
    let one = |shape: &[usize]| candle_core::Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors: HashMap<String, _> = [
        (format!("{base}.lora_A.weight"), one(&[4, 32, 3, 3])),
        (format!("{base}.lora_B.weight"), one(&[64, 4, 1, 1])),
    ]
    .into();
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let scale = |said: &str| {
        std::fs::write(&config, said).unwrap();
        let deltas = targets(1).deltas(&file, 0.5);
        deltas
            .map(|deltas| deltas[0].2.scale)
            .map_err(|e| e.to_string())
    };
    assert_eq!(
        scale(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#),
        Ok(1.0)
    );
    let rooted = r#"{"lora_alpha": 8, "use_rslora": true}"#;
    assert_eq!(scale(rooted), Ok(2.0));
    let own = r#"{"lora_alpha": 8, "alpha_pattern": {"resnets.0.conv1": 4}}"#;
    assert_eq!(scale(own), Ok(0.5));
    assert!(
        scale(r#"{"peft_type": "LOHA"}"#)
            .unwrap_err()
            .contains("LOHA")
    );
    assert!(scale("{").is_err());
    std::fs::remove_file(&config).unwrap();
    assert_eq!(targets(1).deltas(&file, 0.5).unwrap()[0].2.scale, 0.5);
}
