use super::*;
use crate::diffusion::{DownBlockKind, PerBlock, References, Unet, UpBlockKind, Vae, VaeConfig};
use crate::nn::noise;
use candle_core::{DType, Device};
use std::fs;

fn unet() -> UnetConfig {
    UnetConfig {
        sample_size: 16,
        in_channels: 16,
        out_channels: 16,
        block_out_channels: vec![32, 32],
        layers_per_block: 1,
        down_block_types: vec![DownBlockKind::CrossAttnDownBlock2D; 2],
        up_block_types: vec![UpBlockKind::CrossAttnUpBlock2D; 2],
        attention_head_dim: PerBlock::All(1),
        cross_attention_dim: 16,
        use_linear_projection: true,
        norm_num_groups: 8,
        class_embed_type: Some("simple_projection".into()),
        projection_class_embeddings_input_dim: Some(16),
        reference_attention: true,
        ..UnetConfig::default()
    }
}

struct Small {
    unet: Unet,
    params: Params,
    conditioning: Conditioning,
    empty: Conditioning,
    references: ReferenceLatents,
    noisy: Tensor,
    times: Tensor,
}

/// Two pictures with two references each.
fn small() -> Small {
    let cpu = Device::Cpu;
    let params = Params::init(5, &cpu);
    let unet = Unet::new(unet(), params.clone()).unwrap();
    // Nothing is 0, so that every path carries something.
    for (i, (_, var)) in params.vars().iter().enumerate() {
        let shake = noise(6, i as u64, var.dims(), &cpu).unwrap();
        var.set(&(var.as_tensor() + (shake * 0.05).unwrap()).unwrap())
            .unwrap();
    }
    let conditioning = |b: usize, stream| Conditioning {
        pooled: Some(noise(7, stream, &[b, 16], &cpu).unwrap()),
        ..Conditioning::of_text(noise(8, stream, &[b, 5, 16], &cpu).unwrap())
    };
    Small {
        conditioning: conditioning(2, 0),
        empty: conditioning(1, 1),
        references: ReferenceLatents {
            latents: noise(9, 0, &[4, 8, 8, 16], &cpu).unwrap(),
            corners: vec![[0.0, 7.0], [8.0, 7.0], [-1.0, 0.0], [4.0, 7.0]],
            left_out: vec![false; 4],
        },
        noisy: noise(9, 1, &[2, 16, 16, 16], &cpu).unwrap(),
        times: Tensor::new(&[400f32, 20.0], &cpu).unwrap(),
        unet,
        params,
    }
}

impl Small {
    fn read(&self, references: &ReferenceLatents) -> References {
        let read = self.unet.read_references(references, 2, &self.empty);
        read.unwrap()
    }

    fn predict(&self, references: Option<References>) -> Tensor {
        let conditioning = Conditioning {
            references,
            ..self.conditioning.clone()
        };
        self.unet
            .predict(&self.noisy, &self.times, &conditioning)
            .unwrap()
    }

    /// A prediction, each of its numbers times a weight.
    fn weighed(&self) -> Tensor {
        let out = self.predict(Some(self.read(&self.references)));
        let weights = noise(10, 0, out.dims(), &Device::Cpu).unwrap();
        (out * weights).unwrap()
    }
}

fn far(a: &Tensor, b: &Tensor) -> f32 {
    let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    off.to_scalar().unwrap()
}

/// The slope of the loss along a random direction of each parameter, against the difference of two
/// losses: every path through the references has an exact backward.
#[test]
fn gradients_through_references_are_exact() {
    let s = small();
    let grads = s.weighed().sum_all().unwrap().backward().unwrap();
    let value = || -> f64 {
        let all = s.weighed().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        all.into_iter().map(f64::from).sum()
    };
    let mut checked = 0;
    for (i, (name, var)) in s.params.vars().into_iter().enumerate() {
        let wanted = [
            "position_",
            "reference_",
            "attn1.to_",
            "conv_in",
            "time_emb_proj",
        ];
        let grad = grads
            .get(&var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        if !wanted.iter().any(|part| name.contains(part)) {
            continue;
        }
        let way = noise(11, i as u64, var.dims(), &Device::Cpu).unwrap();
        let length = way.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
        let way = way.broadcast_div(&length).unwrap();
        let slope = (grad * &way).unwrap().sum_all().unwrap();
        let slope = f64::from(slope.to_scalar::<f32>().unwrap());
        let before = var.as_tensor().copy().unwrap();
        let step = 3e-2;
        let at = |by: f64| {
            var.set(&(&before + (&way * by).unwrap()).unwrap()).unwrap();
            value()
        };
        let measured = (at(step) - at(-step)) / (2.0 * step);
        at(0.0);
        let tolerance = 0.02 * slope.abs().max(measured.abs()) + 0.01;
        assert!(
            (slope - measured).abs() < tolerance,
            "{name}: {slope} by backward, {measured} by differences"
        );
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn a_reference_that_is_left_out_is_not_seen() {
    let s = small();
    let alone = s.predict(None);
    let read = s.read(&s.references);
    assert!(far(&s.predict(Some(read.clone())), &alone) > 1e-3);
    let unseen = s.read(&ReferenceLatents {
        left_out: vec![true; 4],
        ..s.references.clone()
    });
    assert!(far(&s.predict(Some(unseen)), &alone) < 1e-5);
    // Left out of the second picture only, the first stays as it is.
    let some = s.read(&ReferenceLatents {
        left_out: vec![false, false, true, true],
        ..s.references.clone()
    });
    let (some, all) = (s.predict(Some(some)), s.predict(Some(read)));
    let row = |t: &Tensor, i| t.narrow(0, i, 1).unwrap();
    assert!(far(&row(&some, 0), &row(&all, 0)) < 1e-5);
    assert!(far(&row(&some, 1), &row(&alone, 1)) < 1e-5);
}

#[test]
fn the_order_of_references_says_nothing_and_their_place_everything() {
    let s = small();
    let swapped = |t: &Tensor, order: [u32; 4]| {
        t.index_select(&Tensor::new(&order, &Device::Cpu).unwrap(), 0)
            .unwrap()
    };
    let r = &s.references;
    let both = ReferenceLatents {
        latents: swapped(&r.latents, [1, 0, 3, 2]),
        corners: vec![r.corners[1], r.corners[0], r.corners[3], r.corners[2]],
        left_out: r.left_out.clone(),
    };
    let places = ReferenceLatents {
        latents: r.latents.clone(),
        ..both.clone()
    };
    let [as_is, both, places] = [r, &both, &places].map(|r| s.predict(Some(s.read(r))));
    assert!(far(&as_is, &both) < 1e-4);
    assert!(far(&as_is, &places) > 1e-3);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tiny model folder and settings of a few steps.
fn prepare(dir: &Path) {
    let config = serde_json::to_string(&unet()).unwrap();
    write(&dir.join("model/unet/config.json"), &config);
    let text = r#"{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_act": "gelu"}"#;
    write(&dir.join("model/text_encoder/config.json"), text);
    let scheduler = r#"{"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "timestep_spacing": "trailing"}"#;
    write(
        &dir.join("model/scheduler/scheduler_config.json"),
        scheduler,
    );
    let vae = r#"{"in_channels": 3, "out_channels": 3, "latent_channels": 16, "block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8], "patch_size": 4, "decoder_patch_size": 4, "layers_per_block": 1, "decoder_layers_per_block": 1, "norm_num_groups": 4, "mid_block_add_attention": false}"#;
    write(&dir.join("autoencoder/vae/config.json"), vae);
    let vae: VaeConfig = serde_json::from_str(vae).unwrap();
    let params = Params::init(3, &Device::Cpu);
    Vae::new(vae.clone(), params.clone()).unwrap();
    let folder = ModelFolder::new(dir.join("autoencoder"));
    let weights = params.to_file_layout(None).unwrap();
    folder.write_vae(&vae, &weights, DType::F32).unwrap();
    let preview = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sprout/preview.json");
    fs::copy(preview, dir.join("autoencoder/preview.json")).unwrap();
}

const SETTINGS: &str = r#"
model = "model"
autoencoder = "autoencoder"
seed = 1
steps = STEPS
batch = 2
learning_rate = 1e-3
warmup = 1
decay_from = 1.0
size = 128
scenes = 8
figures = [0.5, 0.5, 0.0, 0.0]
recoloured = 0.5
dropout = [0.2, 0.2, 0.1]
min_snr_gamma = 5.0
subject_weight = 4.0
tokens = 32
checkpoint_every = 2
grid_every = 100
"#;

#[test]
fn a_run_that_was_stopped_ends_in_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    let run = |steps: u64, name: &str, resume| {
        let config = dir.join(format!("{name}.toml"));
        fs::write(&config, SETTINGS.replace("STEPS", &steps.to_string())).unwrap();
        train(&config, &dir.join("runs").join(name), resume).unwrap();
    };
    run(4, "whole", false);
    run(2, "broken", false);
    run(4, "broken", true);
    let bytes = |name: &str, file: &str| fs::read(dir.join("runs").join(name).join(file)).unwrap();
    for file in [
        "checkpoint.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ] {
        assert!(bytes("whole", file) == bytes("broken", file), "{file}");
    }
    assert!(dir.join("runs/whole/grid-000004.png").exists());
    let again = train(&dir.join("whole.toml"), &dir.join("runs/whole"), false);
    assert!(again.unwrap_err().to_string().contains("--resume"));
}

#[test]
fn settings_that_fit_nothing_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    let config = dir.join("bad.toml");
    for (good, bad, named) in [
        (
            "dropout = [0.2, 0.2, 0.1]",
            "dropout = [0.5, 0.5, 0.5]",
            "dropout",
        ),
        (
            "figures = [0.5, 0.5, 0.0, 0.0]",
            "figures = [0, 0, 0, 0]",
            "figures",
        ),
        ("size = 128", "size = 100", "size"),
        ("batch = 2", "batch = 0", "batch"),
        ("batch = 2", "batch = 2\nhaste = 1", "haste"),
    ] {
        fs::write(&config, SETTINGS.replace("STEPS", "1").replace(good, bad)).unwrap();
        let error = train(&config, &dir.join("run"), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}
