use super::tensors::of;
use super::*;

fn family(list: &[(&str, &[usize])]) -> (String, String) {
    let identity = identify_tensors(&of(list));
    (identity.family, identity.called)
}

#[test]
fn a_model_that_is_known_by_one_tensor_is_named() {
    for (name, shape, wanted) in [
        (
            "down_blocks.0.motion_modules.0.temporal_transformer.norm.bias",
            &[1][..],
            "animatediff",
        ),
        (
            "double_stream_modulation_img.lin.weight",
            &[6144, 6144],
            "flux2",
        ),
        (
            "distilled_guidance_layer.in_proj.weight",
            &[5120, 64],
            "chroma",
        ),
        (
            "model.diffusion_model.joint_blocks.23.x_block.mlp.fc1.weight",
            &[6144, 1536],
            "sd3-medium",
        ),
        (
            "transformer_blocks.0.img_mod.1.weight",
            &[18432, 3072],
            "qwen-image",
        ),
        ("patchify_proj.weight", &[2048, 128], "ltx-video"),
        ("concept_embeds", &[17, 768], "safety-checker"),
        (
            "decoder.middle.0.residual.0.gamma",
            &[384, 1, 1, 1],
            "wan-vae",
        ),
        ("effnet_mapper.0.weight", &[64, 16, 1, 1], "stable-cascade"),
        ("task_embedding", &[6, 320], "sdxl-controlnet-union"),
        ("double_layers.0.attn.w1q.weight", &[3072, 3072], "auraflow"),
        (
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
            &[16, 3072],
            "flux",
        ),
        (
            "transformer.transformer_blocks.0.img_mlp.net.0.proj.lora_A.weight",
            &[16, 3072],
            "qwen-image",
        ),
        (
            "diffusion_model.blocks.0.cross_attn.k.lora_A.weight",
            &[16, 5120],
            "wan",
        ),
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            &[16, 320],
            "sd2",
        ),
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            &[16, 320, 1, 1],
            "sd1",
        ),
        (
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
            &[16, 5120],
            "wan",
        ),
        ("t5xxl", &[3, 4096], "embedding"),
        ("redux_up.weight", &[12288, 1152], "flux"),
        ("pulid_ca.0.norm1.weight", &[3072], "pulid"),
        (
            "id_encoder.visual_projection_2.weight",
            &[1280, 1024],
            "photomaker",
        ),
        (
            "lora_prior_unet_down_blocks_0_5_attention_to_q.lora_down.weight",
            &[16, 2048],
            "stable-cascade",
        ),
        (
            "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            &[16, 3072],
            "flux",
        ),
        (
            "clip_g.text_model.encoder.layers.0.mlp.fc1.lora_down.weight",
            &[16, 1280],
            "sdxl",
        ),
        (
            "unet.down_blocks.0.attentions.0.proj_in.lora_A.default.weight",
            &[16, 320, 1, 1],
            "sd1",
        ),
        (
            "conditioner.embedders.1.model.token_embedding.weight",
            &[49408, 1280],
            "clip-g",
        ),
        ("block_1.c1_r.sk.weight", &[48, 3, 1, 1], "upscaler-span"),
        ("768.0.linear.0.weight", &[1536, 768], "hypernetwork"),
        ("unknown.weight", &[5], "unknown"),
    ] {
        assert_eq!(family(&[(name, shape)]).0, wanted, "{name}");
    }
}

#[test]
fn what_several_tensors_tell_is_named() {
    for (list, wanted) in [
        // Halves of TAESD begin with biases in order of names.
        (
            &[
                ("1.bias", &[64][..]),
                ("1.weight", &[64, 4, 3, 3]),
                ("3.conv.0.bias", &[64]),
                ("3.conv.0.weight", &[64, 64, 3, 3]),
            ][..],
            "taesd",
        ),
        (
            &[
                ("0.weight", &[64, 3, 3, 3]),
                ("1.conv.0.weight", &[64, 64, 3, 3]),
            ],
            "taesd",
        ),
        (
            &[
                ("control_layers.0.attention.to_q.weight", &[3840, 3840]),
                (
                    "control_noise_refiner.0.attention.to_q.weight",
                    &[3840, 3840],
                ),
            ],
            "z-image",
        ),
        (
            &[
                ("fuse_convs_dict.32.scale.0.weight", &[256, 256, 3, 3]),
                ("quantize.embedding.weight", &[1024, 256]),
            ],
            "codeformer",
        ),
        (
            &[
                (
                    "text_decoder.bert.embeddings.word_embeddings.weight",
                    &[30524, 768],
                ),
                ("visual_encoder.cls_token", &[1, 1, 1024]),
            ],
            "blip",
        ),
        (
            &[
                ("ln_post.weight", &[1024]),
                ("style_embedding", &[1, 8, 1024]),
            ],
            "t2i-adapter",
        ),
    ] {
        assert_eq!(family(list).0, wanted, "{list:?}");
    }
}

#[test]
fn what_looks_like_another_model_is_told_from_it() {
    let told = |list: &[(&str, &[usize])]| {
        let identity = identify_tensors(&of(list));
        assert!(!identity.supported, "{identity:?}");
        identity.family
    };
    let auraflow = told(&[
        ("pos_embed.proj.weight", &[3072, 16]),
        ("context_embedder.weight", &[3072, 2048]),
        (
            "joint_transformer_blocks.0.attn.add_k_proj.weight",
            &[3072, 3072],
        ),
    ]);
    assert_eq!(auraflow, "auraflow");
    let ltx = told(&[
        ("scale_shift_table", &[2, 2048]),
        ("caption_projection.linear_1.weight", &[2048, 4096]),
        (
            "time_embed.emb.timestep_embedder.linear_1.weight",
            &[2048, 256],
        ),
    ]);
    assert_eq!(ltx, "ltx-video");
    let xs = told(&[
        ("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
        ("control_to_base_for_conv_in.weight", &[320, 16, 1, 1]),
        ("conv_in.weight", &[16, 4, 3, 3]),
        ("down_blocks.0.resnets.0.conv1.weight", &[16, 16, 3, 3]),
    ]);
    assert_eq!(xs, "controlnet-xs");
    let sana = told(&[
        ("decoder.conv_in.weight", &[1024, 32, 3, 3]),
        ("encoder.conv_in.weight", &[128, 3, 3, 3]),
        (
            "decoder.up_blocks.3.1.attn.to_qkv_multiscale.0.proj_in.weight",
            &[1536, 1, 5, 5],
        ),
    ]);
    assert_eq!(sana, "dc-ae");
    let embedding = told(&[
        ("clip_l", &[3, 768]),
        ("clip_g", &[3, 1280]),
        ("t5xxl", &[3, 4096]),
    ]);
    assert_eq!(embedding, "embedding");
}
