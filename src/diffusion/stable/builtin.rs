//! The configurations of the published models, for checkpoints that come in one file without any.

use crate::diffusion::{
    DownBlockKind, PerBlock, StableDiffusionFamily, TextActivation, TextConfig, UnetConfig,
    UpBlockKind, VaeConfig,
};
use serde_json::{Map, Value, json};

/// Latents along a side of a picture of Stable Diffusion XL.
pub(super) const XL_SIDE: usize = 128;

/// The UNet of `family`, which reads so many channels.
pub(crate) fn unet(family: StableDiffusionFamily, in_channels: usize) -> UnetConfig {
    use DownBlockKind::{CrossAttnDownBlock2D, DownBlock2D};
    use UpBlockKind::{CrossAttnUpBlock2D, UpBlock2D};
    let sd1 = UnetConfig {
        in_channels,
        cross_attention_dim: 768,
        ..UnetConfig::default()
    };
    match family {
        StableDiffusionFamily::Sd1 => sd1,
        StableDiffusionFamily::Sd2 => UnetConfig {
            cross_attention_dim: 1024,
            attention_head_dim: PerBlock::Each(vec![5, 10, 20, 20]),
            use_linear_projection: true,
            ..sd1
        },
        StableDiffusionFamily::Sdxl => UnetConfig {
            sample_size: XL_SIDE,
            cross_attention_dim: 2048,
            block_out_channels: vec![320, 640, 1280],
            down_block_types: vec![DownBlock2D, CrossAttnDownBlock2D, CrossAttnDownBlock2D],
            up_block_types: vec![CrossAttnUpBlock2D, CrossAttnUpBlock2D, UpBlock2D],
            attention_head_dim: PerBlock::Each(vec![5, 10, 20]),
            transformer_layers_per_block: PerBlock::Each(vec![1, 2, 10]),
            use_linear_projection: true,
            addition_embed_type: Some("text_time".into()),
            addition_time_embed_dim: Some(256),
            projection_class_embeddings_input_dim: Some(2816),
            ..sd1
        },
    }
}

/// Configuration of the family's published autoencoder.
pub(crate) fn vae(family: StableDiffusionFamily) -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        sample_size: if family == StableDiffusionFamily::Sdxl {
            1024
        } else {
            512
        },
        scaling_factor: scaling_factor(family),
        ..VaeConfig::default()
    }
}

/// By what latents are multiplied, which no file of an autoencoder tells.
pub(super) fn scaling_factor(family: StableDiffusionFamily) -> f64 {
    match family {
        StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sd2 => 0.182_15,
        StableDiffusionFamily::Sdxl => 0.130_25,
    }
}

/// The text encoders of `family`.
pub(crate) fn texts(family: StableDiffusionFamily) -> Vec<TextConfig> {
    let clip = |width: usize, layers: usize, act: TextActivation| TextConfig {
        hidden_size: width,
        intermediate_size: 4 * width,
        num_hidden_layers: layers,
        num_attention_heads: width / 64,
        hidden_act: act,
        // As in every published file: the end is where the highest id is.
        eos_token_id: 2,
        projection_dim: width,
        ..TextConfig::default()
    };
    let clip_l = clip(768, 12, TextActivation::QuickGelu);
    match family {
        StableDiffusionFamily::Sd1 => vec![clip_l],
        // The last of OpenCLIP's 24 layers is left out.
        StableDiffusionFamily::Sd2 => vec![clip(1024, 23, TextActivation::Gelu)],
        StableDiffusionFamily::Sdxl => vec![clip_l, clip(1280, 32, TextActivation::Gelu)],
    }
}

/// `scheduler_config.json` of the published models.
pub(super) fn scheduler(family: StableDiffusionFamily) -> Map<String, Value> {
    let class = match family {
        StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sd2 => "PNDMScheduler",
        StableDiffusionFamily::Sdxl => "EulerDiscreteScheduler",
    };
    let mut all = json!({
        "_class_name": class,
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "trained_betas": null,
    });
    if family == StableDiffusionFamily::Sdxl {
        all["timestep_spacing"] = "leading".into();
    }
    match all {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
