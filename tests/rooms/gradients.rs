//! Every trainable module, walked: each parameter has a gradient, and it is the slope of the loss.
//!
//! A layer without a backward trains silently as if everything before it were frozen, so nothing
//! may be left out here. (The recogniser's loss is its own; its walk stands beside it.)

use candle_core::{Device, Tensor};
use vokenboard::diffusion::{TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig};
use vokenboard::llm::float::{FloatConfig, FloatLlama, LoraConfig};
use vokenboard::nn::{Params, noise};
use vokenboard::vision::{TowerParams, VisionConfig, VisionTower};
use vokenboard::voken::{FeatureMapper, MapperConfig, MapperParams};

const CPU: Device = Device::Cpu;

fn read<T: serde::de::DeserializeOwned>(config: serde_json::Value) -> T {
    serde_json::from_value(config).unwrap()
}

fn drawn(stream: u64, shape: &[usize]) -> Tensor {
    noise(2, stream, shape, &CPU).unwrap()
}

/// Moves every parameter off its initial value, so that no layer is at zero.
fn stir(p: &Params) {
    for (i, (_, var)) in p.vars().iter().enumerate() {
        let by = noise(99, i as u64, var.dims(), &CPU).unwrap();
        var.set(&(var.as_tensor() + (by * 0.1).unwrap()).unwrap())
            .unwrap();
    }
}

/// A random linear function of `t`, of about unit size.
fn project(t: &Tensor) -> Tensor {
    let weights = noise(11, 0, t.dims(), &CPU).unwrap();
    let scale = 1.0 / (t.elem_count() as f64).sqrt();
    ((t * weights).unwrap().sum_all().unwrap() * scale).unwrap()
}

/// Fails when a parameter of `p` has no gradient of `output`, or another one than the slope in a
/// random direction.
fn walk(p: &Params, output: impl Fn() -> Tensor) {
    stir(p);
    assert!(!p.vars().is_empty());
    let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
    let loss = || project(&output());
    let grads = loss().backward().unwrap();
    for (i, (name, var)) in p.vars().iter().enumerate() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has none"));
        let before = var.as_tensor().copy().unwrap();
        let along = noise(7, i as u64, var.dims(), &CPU).unwrap();
        let want = number((grad * &along).unwrap().sum_all().unwrap());
        let at = |step: f64| {
            var.set(&(&before + (&along * step).unwrap()).unwrap())
                .unwrap();
            let value = number(loss());
            var.set(&before).unwrap();
            value
        };
        // Fourth-order differences: their own error is far below f32's rounding, except where a kink
        // (ReLU) lies within the step; so a shorter one may show the slope as well.
        let slope = |h: f64| (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let got = [2e-3, 6e-4, 2e-4].map(slope);
        let close = got
            .iter()
            // Rounding of a loss of about 1 gives up to 1e-7 / h.
            .any(|got| (got - want).abs() < 5e-2 * want.abs() + 3e-3);
        assert!(close, "{name}: slope {got:?}, gradient {want}");
    }
}

#[test]
fn diffusion() {
    let p = Params::init(1, &CPU);
    let unet = UnetConfig {
        sample_size: 4,
        in_channels: 3,
        out_channels: 3,
        ..read(serde_json::json!({
            "block_out_channels": [8, 12],
            "layers_per_block": 1,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "attention_head_dim": [1, 2],
            "cross_attention_dim": 8,
            "norm_num_groups": 4,
            "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": 8,
        }))
    };
    let unet = Unet::new(unet, p.clone()).unwrap();
    let (x, text, pooled) = (
        drawn(0, &[2, 4, 4, 3]),
        drawn(1, &[2, 3, 8]),
        drawn(2, &[2, 8]),
    );
    let t = Tensor::new(&[3f32, 700.0], &CPU).unwrap();
    walk(&p, || unet.forward(&x, &t, &text, Some(&pooled)).unwrap());

    let p = Params::init(1, &CPU);
    let vae: VaeConfig = read(serde_json::json!({
        "latent_channels": 3,
        "block_out_channels": [4, 8],
        "decoder_block_out_channels": [4, 4, 8],
        "decoder_layers_per_block": 2,
        "norm_num_groups": 2,
    }));
    let vae = Vae::new(vae, p.clone()).unwrap();
    let (x, noise) = (drawn(3, &[1, 8, 8, 3]), drawn(4, &[1, 4, 4, 3]));
    walk(&p, || {
        vae.decode(&vae.encode(&x).unwrap().sample(&noise).unwrap())
            .unwrap()
    });

    let p = Params::init(1, &CPU);
    let text: TextConfig = read(serde_json::json!({
        "vocab_size": 8,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 6,
        "hidden_act": "gelu",
        "eos_token_id": 1,
    }));
    let text = TextEncoder::new(text, p.clone()).unwrap();
    let ids = Tensor::new(&[[0u32, 3, 2, 4, 5, 1], [7, 6, 5, 1, 0, 2]], &CPU).unwrap();
    walk(&p, || {
        let features = text.forward(&ids).unwrap();
        let pooled = features.pooled.unsqueeze(1).unwrap();
        Tensor::cat(&[&features.states, &pooled], 1).unwrap()
    });
}

#[test]
fn seeing() {
    let p = Params::init(1, &CPU);
    let config: VisionConfig = read(serde_json::json!({
        "image_size": 8,
        "eva_vit": { "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_hidden": 12 },
        "qformer": {
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "cross_attention_freq": 2, "num_query_tokens": 3,
            "encoder_width": 8,
        },
    }));
    let tower = TowerParams {
        vit: p.clone(),
        qformer: p.clone(),
        projection: p.clone(),
    };
    let tower = VisionTower::new(config, 6, &tower).unwrap();
    let x = drawn(5, &[2, 8, 8, 3]);
    walk(&p, || tower.forward(&x).unwrap());
}

#[test]
fn the_feature_mapper() {
    let p = Params::init(1, &CPU);
    let config: MapperConfig = read(serde_json::json!({
        "d_model": 8, "nhead": 2, "encoder_layers": 1, "decoder_layers": 2,
        "dim_feedforward": 12, "prompt_tokens": 5,
    }));
    let mapper = FeatureMapper::new(config, 6, &MapperParams::all(&p)).unwrap();
    let states = drawn(6, &[2, 4, 6]);
    walk(&p, || mapper.forward(&states).unwrap());
}

#[test]
fn the_language_model_and_its_adapters() {
    for tied in [true, false] {
        let p = Params::init(1, &CPU);
        let config: FloatConfig = read(serde_json::json!({
            "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 9,
            "tie_word_embeddings": tied,
        }));
        let mut llama = FloatLlama::new(config, &p).unwrap();
        llama
            .add_lora(
                &LoraConfig {
                    r: 2,
                    alpha: 4.0,
                    ..LoraConfig::default()
                },
                &p.pp("lora"),
            )
            .unwrap();
        let ids = Tensor::new(&[[0u32, 3, 2, 4, 8], [7, 6, 5, 1, 0]], &CPU).unwrap();
        walk(&p, || {
            let hidden = llama.forward(&llama.embed(&ids).unwrap(), None).unwrap();
            llama.logits(&hidden).unwrap()
        });
    }
}
