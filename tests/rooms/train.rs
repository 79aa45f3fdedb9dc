//! Training as a developer runs it, with a tiny configuration: the loss falls, a run that was cut
//! off goes on to the same weights, and mistakes are named.

use std::fs;
use std::path::Path;
use vokenboard::train;

fn write_settings(dir: &Path) {
    for part in ["vae", "unet", "text_encoder", "scheduler"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    fs::write(
        dir.join("vae/config.json"),
        r#"{"latent_channels": 4, "block_out_channels": [4, 8, 8, 8], "layers_per_block": 1,
            "norm_num_groups": 2, "sample_size": 64, "mid_block_add_attention": false}"#,
    )
    .unwrap();
    fs::write(
        dir.join("unet/config.json"),
        r#"{"sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
            "layers_per_block": 1, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 2,
            "cross_attention_dim": 16, "use_linear_projection": true, "norm_num_groups": 4,
            "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 16}"#,
    )
    .unwrap();
    fs::write(
        dir.join("text_encoder/config.json"),
        r#"{"vocab_size": 0, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 24, "hidden_act": "gelu",
            "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}"#,
    )
    .unwrap();
    fs::write(
        dir.join("scheduler/scheduler_config.json"),
        r#"{"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}"#,
    )
    .unwrap();
}

fn autoencoder_toml(dir: &Path, steps: u64) -> std::path::PathBuf {
    let path = dir.join(format!("autoencoder-{steps}.toml"));
    let text = format!(
        "model = \"vae/config.json\"\nseed = 1\nsteps = {steps}\nbatch = 2\nlearning_rate = 8e-3\n\
         warmup = 2\ndecay_from = 1.0\nsize = 64\ncrop = 32\nkl = 1e-6\nsubject_weight = 3.0\n\
         checkpoint_every = 4\ngrid_every = 1000\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn diffusion_toml(dir: &Path, steps: u64) -> std::path::PathBuf {
    let path = dir.join(format!("diffusion-{steps}.toml"));
    let text = format!(
        "model = \".\"\nautoencoder = \"ae\"\nseed = 2\nsteps = {steps}\nbatch = 4\n\
         learning_rate = 4e-3\nwarmup = 2\ndecay_from = 1.0\nsize = 64\nscenes = 8\n\
         subjects = [1.0, 0.0, 0.0]\ncaption_dropout = 0.1\nrough_captions = 0.2\nmin_snr_gamma = 5.0\n\
         subject_weight = 3.0\ntokens = 24\ncheckpoint_every = 4\ngrid_every = 1000\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn first_and_last_loss(run: &Path) -> (f64, f64) {
    let csv = fs::read_to_string(run.join("loss.csv")).unwrap();
    let losses: Vec<f64> = csv
        .lines()
        .skip(1)
        .map(|l| l.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    (losses[0], *losses.last().unwrap())
}

#[test]
fn stages_learn_and_go_on_after_a_kill_to_the_same_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write_settings(dir);

    train::run(
        "autoencoder",
        &autoencoder_toml(dir, 100),
        &dir.join("ae"),
        false,
    )
    .unwrap();
    let (first, last) = first_and_last_loss(&dir.join("ae"));
    assert!(last < 0.95 * first, "autoencoder loss {first} -> {last}");

    // A run that ends at its checkpoint after four steps and is resumed must meet the unbroken one.
    train::run(
        "autoencoder",
        &autoencoder_toml(dir, 8),
        &dir.join("whole"),
        false,
    )
    .unwrap();
    train::run(
        "autoencoder",
        &autoencoder_toml(dir, 4),
        &dir.join("cut"),
        false,
    )
    .unwrap();
    train::run(
        "autoencoder",
        &autoencoder_toml(dir, 8),
        &dir.join("cut"),
        true,
    )
    .unwrap();
    let weights = |run: &str, file: &str| fs::read(dir.join(run).join(file)).unwrap();
    let vae = "vae/diffusion_pytorch_model.safetensors";
    assert!(weights("whole", vae) == weights("cut", vae));

    train::run(
        "diffusion",
        &diffusion_toml(dir, 8),
        &dir.join("d-whole"),
        false,
    )
    .unwrap();
    train::run(
        "diffusion",
        &diffusion_toml(dir, 4),
        &dir.join("d-cut"),
        false,
    )
    .unwrap();
    train::run(
        "diffusion",
        &diffusion_toml(dir, 8),
        &dir.join("d-cut"),
        true,
    )
    .unwrap();
    for file in [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ] {
        assert!(weights("d-whole", file) == weights("d-cut", file), "{file}");
        // Others may read it as they may any file.
        let about = |path: &Path| fs::metadata(path).unwrap().permissions();
        let plain = about(&dir.join("vae/config.json"));
        assert_eq!(about(&dir.join("d-whole").join(file)), plain, "{file}");
    }

    train::run(
        "diffusion",
        &diffusion_toml(dir, 150),
        &dir.join("d"),
        false,
    )
    .unwrap();
    let (first, last) = first_and_last_loss(&dir.join("d"));
    assert!(last < 0.9 * first, "diffusion loss {first} -> {last}");

    let error =
        train::run("diffusion", &diffusion_toml(dir, 8), &dir.join("d"), false).unwrap_err();
    assert!(error.to_string().contains("--resume"), "{error}");

    // The UNet alone goes on from there.
    let own = fs::read_to_string(diffusion_toml(dir, 4)).unwrap();
    let further = dir.join("further.toml");
    fs::write(&further, format!("{own}unet_only = true\n")).unwrap();
    let error = train::run("diffusion", &further, &dir.join("u"), false).unwrap_err();
    assert!(error.to_string().contains("needs init"), "{error}");
    fs::write(&further, format!("{own}unet_only = true\ninit = \"d\"\n")).unwrap();
    train::run("diffusion", &further, &dir.join("u"), false).unwrap();
    for (file, stays) in [
        ("unet/diffusion_pytorch_model.safetensors", false),
        ("text_encoder/model.safetensors", true),
    ] {
        assert_eq!(weights("u", file) == weights("d", file), stays, "{file}");
    }
}

#[test]
fn a_decoder_learns_on_while_the_latents_stay() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write_settings(dir);
    let first = autoencoder_toml(dir, 4);
    train::run("autoencoder", &first, &dir.join("whole"), false).unwrap();
    let on = dir.join("on.toml");
    let settings = fs::read_to_string(&first).unwrap() + "init = \"whole\"\ndecoder_only = true\n";
    fs::write(&on, settings).unwrap();
    train::run("autoencoder", &on, &dir.join("on"), false).unwrap();

    let read = |run: &str, file: &str| dir.join(run).join("vae").join(file);
    let weights = |run: &str| {
        let file = read(run, "diffusion_pytorch_model.safetensors");
        candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap()
    };
    let (before, after) = (weights("whole"), weights("on"));
    for (name, was) in &before {
        let values = |t: &candle_core::Tensor| {
            let t = t.to_dtype(candle_core::DType::F32).unwrap();
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let encodes = name.starts_with("encoder.") || name.starts_with("quant_conv.");
        let same = values(was) == values(&after[name]);
        assert!(same || !encodes, "{name} changed");
        assert!(
            !same || encodes || values(was).iter().all(|v| *v == 0.0),
            "{name} did not learn"
        );
    }
    let scale = |run: &str| {
        let text = fs::read_to_string(read(run, "config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["scaling_factor"].clone()
    };
    assert_eq!(scale("whole"), scale("on"));
}

#[test]
fn mistakes_are_named() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write_settings(dir);
    let said = |stage: &str, config: &Path| {
        train::run(stage, config, &dir.join("run"), false)
            .unwrap_err()
            .to_string()
    };

    assert!(said("autoencode", &autoencoder_toml(dir, 1)).contains("autoencode"));
    assert!(said("autoencoder", &dir.join("none.toml")).contains("none.toml"));
    let bad = dir.join("bad.toml");
    fs::write(&bad, "sted = 1\n").unwrap();
    assert!(said("autoencoder", &bad).contains("bad.toml"));
    assert!(said("diffusion", &diffusion_toml(dir, 1)).contains("vae"));

    // A damaged checkpoint is refused by name.
    let run = dir.join("run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("checkpoint.safetensors"), b"half a file").unwrap();
    let error = train::run("autoencoder", &autoencoder_toml(dir, 1), &run, true).unwrap_err();
    assert!(
        error.to_string().contains("checkpoint.safetensors"),
        "{error}"
    );
}
