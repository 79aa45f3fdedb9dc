//! Models, LoRAs, embeddings and guides that authors own, on tiny models of the recorded cases: what
//! is refused, and forms of files that no case has.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vokenboard::diffusion::{
    Conditioning, PictureRequest, ReferenceBank, SchedulerKind, StableDiffusion,
    StableDiffusionOptions, StableDiffusionPipeline, TokenSelection, same_timestep,
};
use vokenboard::nn::noise;

fn case(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pictures")
        .join(path)
}

fn sd1() -> PathBuf {
    case("01-sd1-pndm/model")
}

fn options() -> StableDiffusionOptions {
    StableDiffusionOptions::on(&Device::Cpu)
}

fn open(path: &Path, options: StableDiffusionOptions) -> StableDiffusion {
    StableDiffusion::open(path, options).unwrap()
}

/// The one sentence with which opening fails.
fn refusal(path: &Path, options: StableDiffusionOptions) -> String {
    let refused = StableDiffusion::open(path, options);
    let sentence = refused.err().expect("it was opened").to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

fn write(path: &Path, tensors: &[(&str, &[usize])]) {
    let tensors: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, shape)| {
            let tensor = noise(1, 0, shape, &Device::Cpu).unwrap();
            ((*name).to_string(), tensor)
        })
        .collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn load(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// A copy of a model's folder that a test may change.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What a UNet with cross attention of width 32 answers.
fn answer(model: &StableDiffusion) -> Tensor {
    let cpu = Device::Cpu;
    let width = model.unet_config().cross_attention_dim;
    let latents = noise(2, 0, &[1, 8, 8, 4], &cpu).unwrap();
    let told = Conditioning::of_text(noise(2, 1, &[1, 7, width], &cpu).unwrap());
    let time = same_timestep(500.0, 1, &cpu).unwrap();
    let unet = model.unet().unwrap();
    unet.predict(&latents, &time, &told).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    off.to_scalar().unwrap()
}

#[test]
fn files_that_are_no_plain_lora_for_this_model_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("mine.safetensors");
    let refused = |tensors: &[(&str, &[usize])]| {
        write(&file, tensors);
        let with = StableDiffusionOptions {
            loras: vec![(file.clone(), 1.0)],
            ..options()
        };
        let sentence = refusal(&sd1(), with);
        assert!(sentence.contains("mine.safetensors"), "{sentence}");
        sentence
    };
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
    let down = format!("{module}.lora_down.weight");
    let up = format!("{module}.lora_up.weight");
    let fits = [(&*down, &[4, 32][..]), (&*up, &[32, 4][..])];
    for (name, called) in [
        ("dora_scale", "DoRA"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
    ] {
        let other = format!("{module}.{name}");
        let sentence = refused(&[fits[0], fits[1], (&other, &[4, 4])]);
        assert!(sentence.contains(called), "{sentence}");
    }
    let wide = refused(&[(&down, &[4, 2048]), (&up, &[32, 4])]);
    assert!(wide.contains("a LoRA for Stable Diffusion XL"), "{wide}");
    let alpha = format!("{module}.alpha");
    let other = refused(&[(&alpha, &[]), (&down, &[4, 1024]), (&up, &[32, 4])]);
    assert!(other.contains("a LoRA for Stable Diffusion 2.x"), "{other}");
    let unknown = refused(&[
        ("lora_unet_down_blocks_9_x.lora_down.weight", &[4, 32]),
        ("lora_unet_down_blocks_9_x.lora_up.weight", &[32, 4]),
    ]);
    assert!(unknown.contains("not a LoRA for this model"), "{unknown}");
    let half = refused(&[fits[0]]);
    assert!(half.contains("only one of the two matrices"), "{half}");
    let none = refused(&[("emb_params", &[2, 32])]);
    assert!(none.contains("emb_params"), "{none}");
}

#[test]
fn an_embedding_of_another_width_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("style.safetensors");
    write(&file, &[("emb_params", &[2, 1024])]);
    let with = StableDiffusionOptions {
        embeddings: vec![(file.clone(), "style".into())],
        ..options()
    };
    let sentence = refusal(&sd1(), with.clone());
    assert!(sentence.contains("width 1024") && sentence.contains("32"));
    write(&file, &[("emb_params", &[2, 32])]);
    let model = open(&sd1(), with);
    assert_eq!(model.added_tokens(), [[("style".to_string(), 634..636)]]);
}

#[test]
fn a_vae_for_other_latents_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("ae.safetensors");
    write(&file, &[("decoder.conv_in.weight", &[8, 16, 3, 3])]);
    let with = StableDiffusionOptions {
        vae: Some(file),
        ..options()
    };
    let sentence = refusal(&sd1(), with);
    assert!(sentence.contains("a VAE of 16 channels"), "{sentence}");
}

#[test]
fn settings_that_would_change_the_picture_are_read_or_refused() {
    let temp = tempfile::tempdir().unwrap();
    copy(&sd1(), temp.path());
    let set = |part: &str, name: &str, value: serde_json::Value| {
        let path = temp.path().join(part).join("config.json");
        let text = std::fs::read(&path).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        config[name] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        text
    };
    for (part, name, value) in [
        ("unet", "resnet_time_scale_shift", "scale_shift".into()),
        ("unet", "conv_in_kernel", 5.into()),
        ("unet", "a_setting_of_tomorrow", "on".into()),
        ("unet", "time_embedding_act_fn", "gelu".into()),
        ("unet", "encoder_hid_dim", 4096.into()),
        ("vae", "latents_mean", serde_json::json!([0.1, 0.2])),
        (
            "vae",
            "latents_std",
            serde_json::json!([1.0, 1.0, 1.0, 1.0]),
        ),
        ("vae", "scaling_factor", 0.into()),
        ("vae", "a_setting_of_tomorrow", 2.into()),
        (
            "vae",
            "down_block_types",
            serde_json::json!(["AttnDownEncoderBlock2D"]),
        ),
    ] {
        let before = set(part, name, value);
        let sentence = refusal(temp.path(), options());
        assert!(sentence.contains(name), "{sentence}");
        std::fs::write(temp.path().join(part).join("config.json"), before).unwrap();
    }
    let zeros = Tensor::zeros((1, 1, 1, 4), DType::F32, &Device::Cpu).unwrap();
    // What the UNet sees of zeros, and that it leads back to them.
    let seen = || {
        let vae = open(temp.path(), options()).vae().unwrap();
        let seen = vae.to_unet(&zeros).unwrap();
        assert!(apart(&vae.from_unet(&seen).unwrap(), &zeros) < 1e-6);
        seen.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let before = set("vae", "shift_factor", 0.5.into());
    assert!(near(&seen(), &[-0.5 * 0.18215; 4]));
    std::fs::write(temp.path().join("vae/config.json"), &before).unwrap();
    set(
        "vae",
        "latents_mean",
        serde_json::json!([0.1, 0.2, 0.3, 0.4]),
    );
    set(
        "vae",
        "latents_std",
        serde_json::json!([1.0, 2.0, 4.0, 8.0]),
    );
    let means = [0.1, 0.1, 0.075, 0.05].map(|m: f32| -m * 0.18215);
    assert!(near(&seen(), &means), "{:?}", seen());
    std::fs::write(temp.path().join("vae/config.json"), before).unwrap();
    // Null means that a size was left out.
    let size = open(temp.path(), options()).picture_size();
    for part in ["unet", "vae"] {
        set(part, "sample_size", serde_json::Value::Null);
    }
    let usual = open(temp.path(), options()).picture_size().0;
    assert!(usual >= size.0 && usual.is_multiple_of(64), "{usual}");
}

#[test]
fn broken_files_are_named() {
    let temp = tempfile::tempdir().unwrap();
    copy(&sd1(), temp.path());
    let weights = temp.path().join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    assert!(refusal(temp.path(), options()).contains("diffusion_pytorch_model"));

    let mut tensors = load(&sd1().join("unet/diffusion_pytorch_model.safetensors"));
    let name = "mid_block.resnets.0.conv1.weight".to_string();
    let bad = (&tensors[&name] * f64::NAN).unwrap();
    tensors.insert(name.clone(), bad);
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    let model = open(temp.path(), options());
    let sentence = model.unet().unwrap_err().to_string();
    assert!(
        sentence.contains("NaN") && sentence.contains(&name),
        "{sentence}"
    );

    tensors.remove(&name);
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    assert!(refusal(temp.path(), options()).contains(&name));
    std::fs::remove_file(&weights).unwrap();
    assert!(refusal(temp.path(), options()).contains("unet"));
}

/// A checkpoint in half precision gives the same whether its weights are held so or widened.
#[test]
fn weights_are_held_as_they_are_stored() {
    let file = case("09b-sd1-ckpt-legacy/model.ckpt");
    let wide = StableDiffusionOptions {
        held: Some(DType::F32),
        ..options()
    };
    let (as_stored, wide) = (open(&file, options()), open(&file, wide));
    assert!(as_stored.weight_bytes().1 < wide.weight_bytes().1 * 6 / 10);
    assert!(apart(&answer(&as_stored), &answer(&wide)) < 1e-6);
}

/// Weights of eight bits with their scales, as ComfyUI writes them.
#[test]
fn weights_of_eight_bits_are_scaled() {
    let temp = tempfile::tempdir().unwrap();
    copy(&sd1(), temp.path());
    let path = temp.path().join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = load(&path);
    // 1.0 in e4m3, everywhere but in one corner, and the scale 0.25.
    let name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let shape = tensors[&format!("{name}.weight")].dims().to_vec();
    let mut bytes = vec![0x38u8; shape.iter().product()];
    bytes[0] = 0xb9;
    let mut values = vec![0.25f32; bytes.len()];
    values[0] = -0.25 * 1.125;
    let plain = Tensor::from_vec(values, &shape[..], &Device::Cpu).unwrap();
    tensors.insert(format!("{name}.weight"), plain);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let want = answer(&open(temp.path(), options()));

    tensors.remove(&format!("{name}.weight"));
    let scale = 0.25f32.to_le_bytes();
    let mut views: Vec<(String, safetensors::tensor::TensorView)> = Vec::new();
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, t)| {
            let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), t.dims().to_vec(), bytes)
        })
        .collect();
    let view = |dtype, shape: &[usize], bytes| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
    };
    for (name, shape, bytes) in &stored {
        views.push((name.clone(), view(safetensors::Dtype::F32, shape, bytes)));
    }
    let eight = view(safetensors::Dtype::F8_E4M3, &shape, &bytes);
    views.push((format!("{name}.weight"), eight));
    let scale = view(safetensors::Dtype::F32, &[], &scale);
    views.push((format!("{name}.scale_weight"), scale));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let held = StableDiffusionOptions {
        held: Some(DType::F32),
        ..options()
    };
    assert!(apart(&answer(&open(temp.path(), held)), &want) < 1e-6);
}

#[test]
fn a_controlnet_of_other_sizes_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = case("22-sd1-controlnet/extra/controlnet");
    let tensors = load(&folder.join("diffusion_pytorch_model.safetensors"));
    let file = temp.path().join("control.safetensors");
    // Its reader of pictures is smaller than the published one's, which a single file is taken for.
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let model = open(&sd1(), options());
    assert_eq!(model.controlnet(&folder).unwrap().picture_scale(), 2);
    let sentence = model.controlnet(&file).unwrap_err().to_string();
    assert!(sentence.contains("controlnet_cond_embedding"), "{sentence}");
    let sdxl = open(&case("05-sdxl-euler/model"), options());
    let sentence = sdxl.controlnet(&folder).unwrap_err().to_string();
    assert!(
        sentence.contains("use one made for Stable Diffusion XL"),
        "{sentence}"
    );
}

#[test]
fn an_ip_adapter_for_another_width_is_refused() {
    let sdxl = open(&case("05-sdxl-euler/model"), options());
    let adapter = case("21a-sd1-ip-adapter/extra/ip_adapter.safetensors");
    let encoder = case("21a-sd1-ip-adapter/extra/image_encoder");
    let refused = sdxl.ip_adapter(&adapter, &encoder);
    let sentence = refused.err().unwrap().to_string();
    assert!(
        sentence.contains("the model is Stable Diffusion XL"),
        "{sentence}"
    );
    let model = open(&sd1(), options());
    let file = encoder.join("model.safetensors");
    // The published encoders' form is told from shapes; this tiny one has other heads.
    assert!(model.ip_adapter(&adapter, &file).is_ok());
}

/// Values of diffusers 0.42.1 in f64, whose attention processors of the way up were replaced by ones
/// that see the keys and values of another picture beside their own.
#[test]
fn reference_attention_gives_the_recorded_values() {
    let path = case("../reference/attention.safetensors");
    let vectors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let nhwc = |name: &str| {
        let x = vectors[name].permute((0, 2, 3, 1)).unwrap();
        x.contiguous().unwrap()
    };
    for (name, folder) in [("sd1", "01-sd1-pndm"), ("sdxl", "05-sdxl-euler")] {
        let unet = open(&case(folder).join("model"), options()).unet().unwrap();
        let told = |before: &str| Conditioning {
            pooled: vectors.get(&format!("{name}.{before}pooled")).cloned(),
            time_ids: vectors.get(&format!("{name}.{before}ids")).cloned(),
            ..Conditioning::of_text(vectors[&format!("{name}.{before}text")].clone())
        };
        let time = |batch| same_timestep(437.0, batch, &Device::Cpu).unwrap();
        let see = |share: f64| {
            let pick = TokenSelection {
                seed: 1,
                call: 0,
                picture: 0,
                share,
            };
            let reference = nhwc(&format!("{name}.ref"));
            let bank = unet.bank_reference(
                &reference,
                &time(1),
                &told("ref_"),
                pick,
                ReferenceBank::default(),
            );
            let told = Conditioning {
                beside: Some(Arc::new(bank.unwrap())),
                ..told("")
            };
            unet.predict(&nhwc(&format!("{name}.x")), &time(2), &told)
                .unwrap()
        };
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let far = |a: &Tensor, b: &Tensor| {
            let both = values(a).into_iter().zip(values(b));
            both.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
        };
        let wanted = nhwc(&format!("{name}.out"));
        let off = far(&see(1.0), &wanted);
        assert!(off < 3e-5 * 2.7, "{name} is off by {off}");
        // Nothing of it is nothing at all; half of it is something else.
        let plain = unet.predict(&nhwc(&format!("{name}.x")), &time(2), &told(""));
        let plain = plain.unwrap();
        assert_eq!(values(&see(0.0)), values(&plain), "{name}");
        let half = see(0.5);
        assert!(far(&half, &plain) > 0.01 && far(&half, &wanted) > 0.01);
        assert_eq!(values(&half), values(&see(0.5)));
    }
}

/// Values of diffusers 0.42.1 in f64 with random weights: a ControlNet and both kinds of IP-Adapter
/// of SDXL.
#[test]
fn guides_of_sdxl_give_the_recorded_values() {
    let at = |name: &str| case("../reference").join(name);
    let vectors = candle_core::safetensors::load(at("sdxl-guides.safetensors"), &Device::Cpu);
    let vectors = vectors.unwrap();
    let nhwc = |name: &str| {
        let x = vectors[name].permute((0, 2, 3, 1)).unwrap();
        x.contiguous().unwrap()
    };
    let model = open(&case("05-sdxl-euler").join("model"), options());
    let unet = model.unet().unwrap();
    let told = || Conditioning {
        pooled: vectors.get("pooled").cloned(),
        time_ids: vectors.get("ids").cloned(),
        ..Conditioning::of_text(vectors["text"].clone())
    };
    let (x, time) = (nhwc("x"), same_timestep(371.0, 2, &Device::Cpu).unwrap());
    let compare = |told: &Conditioning, name: &str| {
        let got = unet.predict(&x, &time, told).unwrap();
        let off = apart(&got, &nhwc(&format!("{name}.out")));
        assert!(off < 3e-5 * 3.0, "{name} is off by {off}");
    };
    let net = model.controlnet(&at("sdxl-controlnet")).unwrap();
    let residuals = net
        .forward(&x, &time, &told(), &nhwc("picture"), 0.7)
        .unwrap();
    let control = Conditioning {
        control: Some(residuals),
        ..told()
    };
    compare(&control, "control");
    let encoder = case("21a-sd1-ip-adapter/extra/image_encoder");
    for kind in ["base", "plus"] {
        let file = at(&format!("sdxl-ip-{kind}.safetensors"));
        let adapter = model.ip_adapter(&file, &encoder).unwrap();
        let tokens = adapter.tokens(&vectors[&format!("{kind}.embeds")]).unwrap();
        let image = adapter.prompt(&tokens, true, 0.6).unwrap();
        let told = Conditioning {
            image: Some(image),
            ..told()
        };
        compare(&told, kind);
    }
}

/// A checkpoint in eight bits without scales is that of the same numbers in 16.
#[test]
fn a_whole_model_in_e5m2_is_read() {
    use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
    let from = case("10-sd2-single");
    let temp = tempfile::tempdir().unwrap();
    copy(&from.join("config"), &temp.path().join("config"));
    let tensors = load(&from.join("model.safetensors"));
    let write = |name: &str, narrow: bool| {
        let stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, tensor)| {
                let shape = tensor.dims().to_vec();
                let values = tensor.to_dtype(DType::F16).unwrap().flatten_all().unwrap();
                let values = values.to_vec1::<half::f16>().unwrap();
                // E5M2 is the upper half of f16.
                let upper = values.iter().map(|value| (value.to_bits() >> 8) as u8);
                match narrow {
                    true => (name.clone(), Dtype::F8_E5M2, shape, upper.collect()),
                    false => {
                        let wide = upper.flat_map(|byte| [0, byte]);
                        (name.clone(), Dtype::F16, shape, wide.collect())
                    }
                }
            })
            .collect();
        let views = stored.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        let path = temp.path().join(name);
        serialize_to_file(views, None, &path).unwrap();
        answer(&open(&path, options()))
    };
    let (narrow, wide) = (
        write("narrow.safetensors", true),
        write("wide.safetensors", false),
    );
    assert_eq!(apart(&narrow, &wide), 0.0);
}

#[test]
fn a_picture_that_comes_to_nothing_names_the_stage() {
    let temp = tempfile::tempdir().unwrap();
    let drawn = |part: &str, name: &str, value: f32| -> String {
        let dir = temp.path().join(part).join(name);
        copy(&sd1(), &dir);
        let file = match part {
            "text_encoder" => dir.join(part).join("model.safetensors"),
            _ => dir.join(part).join("diffusion_pytorch_model.safetensors"),
        };
        let mut tensors = load(&file);
        let changed = tensors[name].ones_like().unwrap();
        tensors.insert(name.to_owned(), (changed * f64::from(value)).unwrap());
        candle_core::safetensors::save(&tensors, &file).unwrap();
        let request = PictureRequest {
            prompt: "a fox",
            negative: None,
            size: (32, 24),
            seed: 1,
            variation: None,
            guidance: 1.0,
            steps: 2,
            scheduler: SchedulerKind::Ddim,
            clip_skip: 0,
            init: None,
            mask: None,
            control_images: Vec::new(),
            ip_adapter_image: None,
            reference_images: Vec::new(),
        };
        let mut pipeline = StableDiffusionPipeline::new(open(&dir, options()));
        let picture = pipeline.draw(&request, &mut |_| ControlFlow::Continue(()));
        picture.expect_err("a picture was drawn").to_string()
    };
    let text = drawn("text_encoder", "text_model.final_layer_norm.bias", 3e38);
    assert!(
        text.contains("UNet") || text.contains("text encoder"),
        "{text}"
    );
    let unet = drawn("unet", "conv_out.bias", 3e38);
    assert!(unet.contains("the UNet in step 1 of 2"), "{unet}");
    let vae = drawn("vae", "decoder.conv_in.weight", 3e38);
    assert!(
        vae.contains("the autoencoder, drawing the picture"),
        "{vae}"
    );
    assert!(vae.contains("choose another VAE"), "{vae}");
    let nan = drawn("unet", "conv_in.weight", f32::NAN);
    assert!(
        nan.contains("conv_in.weight") && nan.contains("NaN"),
        "{nan}"
    );
}
