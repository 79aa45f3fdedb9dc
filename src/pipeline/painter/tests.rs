//! Every setting with every kind of painter: it is used, or refused or told in a sentence.

use super::*;
use crate::catalogue;
use crate::pipeline::frame;
use crate::story::{
    Control, FileUse, ImageId, LoraUse, Margins, Reference, Region, SchedulerName, Size, Upscale,
    Variation,
};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn fixture(file: &str) -> PathBuf {
    repository("tests/fixtures/pictures").join(file)
}

fn named(file: &str) -> FileUse {
    FileUse {
        file: fixture(file).to_string_lossy().into_owned(),
        hash: String::new(),
    }
}

fn picture(side: u32) -> Arc<RgbaImage> {
    let pixel = |x: u32, y: u32| image::Rgba([(9 * x) as u8, (7 * y) as u8, 90, 255]);
    Arc::new(RgbaImage::from_fn(side, side, pixel))
}

/// Half of it white.
fn mask(side: u32) -> Arc<RgbaImage> {
    let white = |x: u32, _| image::Rgba([255 * u8::from(2 * x < side); 4]);
    let mut mask = RgbaImage::from_fn(side, side, white);
    mask.pixels_mut().for_each(|pixel| pixel.0[3] = 255);
    Arc::new(mask)
}

fn reference(side: u32, change: impl FnOnce(&mut Reference)) -> GivenReference {
    let seen = picture(side);
    let mut how = Reference {
        image: ImageId::of(&seen),
        strength: 1.0,
        start: 0.0,
        end: 1.0,
        prompt: "a fox".into(),
        adapter: None,
        encoder: None,
        member: None,
    };
    change(&mut how);
    GivenReference {
        picture: seen.clone(),
        whole: seen,
        how,
    }
}

/// A setting by its name, and a brief with another value of it.
type Change = (&'static str, fn(&mut Brief));

/// One for every field of a brief, with what it needs beside it.
const CHANGES: &[Change] = &[
    ("prompt", |b| b.prompt = "an owl".into()),
    ("negative", |b| b.negative = "rain".into()),
    ("size", |b| b.size.width += 16),
    ("seed", |b| b.seed += 1),
    ("guidance", |b| b.guidance += 2.0),
    ("steps", |b| b.steps += 1),
    ("scheduler", |b| {
        b.scheduler = SchedulerName::from("euler-a-karras");
    }),
    ("clip skip", |b| b.clip_skip = Some(3)),
    ("LoRA", |b| {
        b.loras = vec![LoraUse {
            file: named("12a-sd1-lora-kohya/extra/lora.safetensors").file,
            weight: 0.9,
            ..LoraUse::default()
        }];
    }),
    ("VAE", |b| {
        b.vae = Some(named("18-sd1-vae-file/extra/vae.safetensors"));
    }),
    ("embedding", |b| {
        b.prompt = "a fox, thing".into();
        b.embeddings = vec![named(
            "14a-sd1-embedding-safetensors/extra/thing.safetensors",
        )];
    }),
    ("prediction", |b| b.prediction = Some("v_prediction".into())),
    ("bf16", |b| b.bf16 = true),
    ("variation", |b| {
        b.variation = Some(Variation {
            seed: 77,
            strength: 0.5,
        });
    }),
    ("init", |b| b.init = Some((picture(32), 0.5))),
    ("mask", |b| {
        b.init = Some((picture(32), 1.0));
        b.mask = Some(mask(32));
    }),
    ("region", |b| {
        b.init = Some((picture(32), 1.0));
        b.mask = Some(mask(32));
        b.region = Some(Region {
            padding: 4,
            feather: 2,
        });
    }),
    ("outpainting", |b| {
        b.init = Some((picture(32), 1.0));
        b.outpaint = Some(Margins {
            left: 8,
            ..Margins::default()
        });
    }),
    ("upscale", |b| {
        b.init = Some((picture(16), 0.5));
        b.upscale = Some(Upscale {
            scale: 2.0,
            file: None,
        });
    }),
    ("reference", |b| b.references = vec![reference(32, |_| {})]),
    ("reference in part", |b| {
        b.references = vec![reference(32, |how| how.strength = 0.3)];
    }),
    ("reference from half", |b| {
        b.references = vec![reference(32, |how| how.start = 0.5)];
    }),
    ("IP-Adapter", |b| {
        b.references = vec![reference(32, |how| {
            how.adapter = Some(named("21a-sd1-ip-adapter/extra/ip_adapter.safetensors"));
            how.encoder = Some(named("21a-sd1-ip-adapter/extra/image_encoder"));
        })];
    }),
    ("control", |b| {
        let seen = picture(32);
        b.control = vec![GivenControl {
            kind: "canny".into(),
            how: Control {
                kind: "canny".into(),
                image: ImageId::of(&seen),
                strength: 1.0,
                start: 0.0,
                end: 1.0,
                file: Some(named("22-sd1-controlnet/extra/controlnet")),
            },
            picture: seen,
        }];
    }),
];

fn load_from(path: &Path, models: &Path) -> Box<dyn Painter> {
    let added = catalogue::add(path, None, None, models).unwrap();
    let place = ComputeDevices::of(&Device::Cpu);
    load(&added.model, &place, &mut |_| {}).unwrap()
}

/// The SD 1.x fixture with another configuration and other weights of its UNet.
fn changed_unet(dir: &Path, key: &str, value: u64, tensor: (&str, Tensor)) -> PathBuf {
    let to = dir.join("model");
    copy(&fixture("01-sd1-pndm/model"), &to);
    let config = to.join("unet/config.json");
    let mut said: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    said[key] = value.into();
    std::fs::write(&config, said.to_string()).unwrap();
    let weights = std::fs::read_dir(to.join("unet")).unwrap();
    let weights = weights.map(|entry| entry.unwrap().path());
    let weights = weights
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "safetensors"));
    let weights = weights.unwrap();
    let mut tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
    tensors.insert(tensor.0.into(), tensor.1);
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let to = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &to),
            false => std::fs::write(&to, std::fs::read(&entry).unwrap()).unwrap(),
        }
    }
}

fn noise(shape: &[usize]) -> Tensor {
    let noise = crate::nn::noise(3, 0, shape, &Device::Cpu).unwrap();
    (noise.to_dtype(DType::F32).unwrap() * 0.2).unwrap()
}

/// The picture of a brief with what was told of it, or the sentence that refuses it.
fn drawn(painter: &mut dyn Painter, brief: Brief) -> Result<(RgbaImage, Vec<String>), String> {
    let brief = frame::complete(painter, brief, None).map_err(|error| error.to_string())?;
    let notes = painter.notes(&brief);
    let go_on = &mut |_| ControlFlow::Continue(());
    let drawn = frame::draw(painter, &brief, None, go_on).map_err(|error| error.to_string())?;
    Ok((drawn.unwrap().picture, notes))
}

/// Names what is refused; the rest changes the picture or is told.
fn refused(name: &str, painter: &mut dyn Painter, side: u32) -> Vec<&'static str> {
    let about = painter.describe();
    let plain = Brief {
        prompt: "a fox".into(),
        size: match &about.takes.sizes {
            Some(_) => Size {
                width: side,
                height: side,
            },
            None => about.takes.size,
        },
        seed: 5,
        guidance: about.default_settings.guidance,
        steps: 2,
        scheduler: about.default_settings.scheduler.clone(),
        ..Brief::default()
    };
    let inpaints = drawn(painter, plain.clone()).is_err();
    let plain = match inpaints {
        // A model for inpainting draws in a picture only.
        true => Brief {
            init: Some((picture(32), 1.0)),
            mask: Some(mask(32)),
            ..plain
        },
        false => plain,
    };
    let (before, _) = drawn(painter, plain.clone()).unwrap();
    let mut refused = Vec::new();
    for (setting, change) in CHANGES {
        let mut brief = plain.clone();
        change(&mut brief);
        let said = brief.prediction.is_some();
        match drawn(painter, brief) {
            // What its file says already: the other one then.
            Ok((after, _)) if said && after == before => {
                let mut brief = plain.clone();
                brief.prediction = Some("epsilon".into());
                let (after, _) = drawn(painter, brief).unwrap();
                assert_ne!(after, before, "{name}: {setting} is passed over");
            }
            Ok((after, notes)) => {
                let same = after == before && notes.is_empty();
                let masked = inpaints && ["init", "mask"].contains(setting);
                assert!(!same || masked, "{name}: {setting} is passed over");
            }
            Err(sentence) => {
                let one = !sentence.contains('\n') && sentence.contains(';');
                assert!(one, "{name}: {setting}: {sentence}");
                refused.push(*setting);
            }
        }
    }
    refused
}

#[test]
fn every_setting_is_used_or_refused_by_every_kind_of_painter() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path();
    let bf16 = |refused: Vec<&'static str>| -> Vec<&'static str> {
        // Not every processor multiplies so.
        refused
            .into_iter()
            .filter(|setting| *setting != "bf16")
            .collect()
    };
    let mut wrong = Vec::new();
    let mut say = |name: &str, path: &Path, want: &[&str]| {
        let said = bf16(refused(name, load_from(path, models).as_mut(), 32));
        if said != want {
            wrong.push(format!("{name} refuses {said:?}, not {want:?}"));
        }
    };
    say("SD 1.x", &fixture("01-sd1-pndm/model"), &[]);
    let (nine, lcm) = (home.path().join("in"), home.path().join("lcm"));
    let conv = ("conv_in.weight", noise(&[32, 9, 3, 3]));
    let nine = changed_unet(&nine, "in_channels", 9, conv);
    say("SD 1.x inpainting", &nine, &[]);
    let proj = ("time_embedding.cond_proj.weight", noise(&[32, 16]));
    let lcm = changed_unet(&lcm, "time_cond_proj_dim", 16, proj);
    say("LCM", &lcm, &["negative"]);
    let of_sd1 = ["LoRA", "embedding", "IP-Adapter", "control"];
    say(
        "SD 2.x",
        &fixture("10-sd2-single/model.safetensors"),
        &of_sd1,
    );
    // The autoencoder of that case has more levels.
    let of_sd1 = ["LoRA", "VAE", "embedding", "IP-Adapter", "control"];
    say("SD XL", &fixture("05-sdxl-euler/model"), &of_sd1);
    let of_unets = [
        "scheduler",
        "clip skip",
        "LoRA",
        "VAE",
        "embedding",
        "prediction",
        "reference",
        "reference in part",
        "reference from half",
        "IP-Adapter",
        "control",
    ];
    let all = |more: &[&'static str]| [more, &of_unets].concat();
    let schnell = fixture("24-flux-schnell/model");
    say("FLUX.1 schnell", &schnell, &all(&["negative", "guidance"]));
    say(
        "FLUX.1 dev",
        &fixture("25-flux-dev/model"),
        &all(&["negative"]),
    );
    say(
        "Z-Image",
        &fixture("27-z-image-turbo/model"),
        &all(&["negative"]),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_setting_is_used_or_refused_by_the_built_in_models() {
    let place = ComputeDevices::of(&Device::Cpu);
    let models = crate::weights::installed(&repository("models"))
        .unwrap()
        .models;
    let of_ours = [
        "size",
        "clip skip",
        "LoRA",
        "VAE",
        "embedding",
        "prediction",
    ];
    for (id, more) in [
        (
            "sprout",
            &[
                "reference",
                "reference in part",
                "reference from half",
                "IP-Adapter",
                "control",
            ][..],
        ),
        (
            "sprout-open",
            &[
                "reference in part",
                "reference from half",
                "IP-Adapter",
                "control",
            ],
        ),
    ] {
        let model = models.iter().find(|model| model.manifest.id == id).unwrap();
        let mut painter = load(model, &place, &mut |_| {}).unwrap();
        let said = refused(id, painter.as_mut(), 0);
        let said: Vec<&str> = said
            .into_iter()
            .filter(|setting| *setting != "bf16")
            .collect();
        assert_eq!(said, [&of_ours[..], more].concat(), "{id}");
    }
}
