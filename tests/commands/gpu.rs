//! Pictures on a GPU through wgpu: the software one that automatic tests have, or a real one.
//! Where there is none at all a sentence says so.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{common, support::copy};
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use vokenboard::nn::gpu::{AdapterKind, Gpu, GpuOptions, adapters};

const OPENING: &str = "A fox finds a lantern in the snowy forest.";

fn there_is_a_gpu() -> bool {
    let there = !adapters().is_empty();
    if !there {
        eprintln!(
            "no adapter of Vulkan, Metal or DirectX 12 is on this machine: nothing is tested"
        );
    }
    there
}

fn vokenboard(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    let data = concat!(env!("CARGO_TARGET_TMPDIR"), "/data");
    command.env("VOKENBOARD_DATA", data).args(args);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// Tells a panel and gives its picture.
fn told(out: &Path, device: &str, more: &[&str]) -> image::RgbImage {
    told_by(vokenboard(&[]), out, device, more)
}

/// The same by a program that is set up already.
fn told_by(mut command: Command, out: &Path, device: &str, more: &[&str]) -> image::RgbImage {
    command.args(["tell", OPENING, "--panels", "1", "--seed", "3"]);
    command.args(["--device", device]).args(more);
    command.arg("--out").arg(out).assert().success();
    let story = fs::read_to_string(out.join("story.json")).unwrap();
    let story: serde_json::Value = serde_json::from_str(&story).unwrap();
    let id = story["panels"][0]["pictures"]["items"][0]["image"].as_str();
    let picture = out.join(format!("images/{}.png", id.unwrap()));
    image::open(picture).unwrap().to_rgb8()
}

/// Peak signal-to-noise ratio in dB; 40 is more than the eye tells apart.
fn psnr(a: &image::RgbImage, b: &image::RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let squares = a.as_raw().iter().zip(b.as_raw());
    let sum: f64 = squares
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    10.0 * (255.0f64.powi(2) / (sum / a.as_raw().len() as f64).max(1e-9)).log10()
}

#[test]
fn devices_lists_adapters_and_what_auto_takes() {
    let all = adapters();
    let mut listed = vokenboard(&["devices"]).assert().success();
    listed = listed
        .stdout(contains("cpu"))
        .stdout(contains("auto   takes"));
    for adapter in &all {
        listed = listed.stdout(contains(format!("gpu:{}", adapter.index)));
        listed = listed
            .stdout(contains(&adapter.name))
            .stdout(contains("workgroup"));
    }
    if all
        .iter()
        .all(|adapter| adapter.kind == AdapterKind::Software)
    {
        listed.stdout(contains("auto   takes CPU"));
    }
}

#[test]
fn devices_that_are_not_there_are_named() {
    vokenboard(&["tell", OPENING, "--device", "gpu:x"])
        .assert()
        .failure()
        .stderr(contains("gpu:x").and(contains("gpu:0")));
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = temp.path().join("story");
    let out = out.to_str().unwrap();
    vokenboard(&["tell", OPENING, "--out", out, "--device", "gpu:77"])
        .assert()
        .failure()
        .stderr(contains("77").and(contains("vokenboard devices")));
}

/// The processor takes the place of a GPU that is not there, and the author hears of it.
#[test]
fn a_gpu_that_is_not_there_leaves_the_story_to_the_processor_and_says_so() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (models, out) = (temp.path().join("models"), temp.path().join("story"));
    common::write_tiny_models(&models);
    vokenboard(&["tell", OPENING, "--panels", "1", "--steps", "1"])
        .args(["--model", "tiny", "--writer", "tiny-writer"])
        .args(["--device", "gpu:77,cpu", "--models"])
        .arg(&models)
        .arg("--out")
        .arg(&out)
        .assert()
        .success()
        .stderr(contains("77").and(contains("the processor goes on")));
}

/// The model that comes with the program, both ways in which it draws.
#[test]
fn the_built_in_model_draws_the_same_on_a_gpu() {
    if !there_is_a_gpu() {
        return;
    }
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for pipeline in ["caption", "voken"] {
        let how = ["--pipeline", pipeline, "--steps", "3"];
        let cpu = told(&temp.path().join(format!("{pipeline}-cpu")), "cpu", &how);
        let out = temp.path().join(format!("{pipeline}-gpu"));
        let gpu = told(&out, "gpu:0", &how);
        let alike = psnr(&cpu, &gpu);
        assert!(alike > 40.0, "{pipeline}: {alike} dB");
        let dark = gpu.as_raw().iter().all(|value| *value < 8);
        assert!(!dark, "{pipeline}: the picture is black");
        let story = fs::read_to_string(out.join("story.json")).unwrap();
        assert!(
            story.contains(&adapters()[0].name),
            "the record names the GPU"
        );
    }
}

/// Two programs at the same time, which share the GPU and what is kept of it, draw what one draws
/// alone. The log says who opened it: of those that use the processor nobody.
#[test]
fn programs_share_a_gpu_and_one_on_the_processor_leaves_it_alone() {
    if !there_is_a_gpu() {
        return;
    }
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = temp.path().join("data");
    let tell = |name: &str, device: &str| {
        let mut command = vokenboard(&[]);
        command.env("VOKENBOARD_DATA", &data);
        let how = ["--model", "sprout", "--pipeline", "caption", "--steps", "1"];
        told_by(command, &temp.path().join(name), device, &how)
    };
    let opened = || {
        let log = fs::read_to_string(data.join("vokenboard.log")).unwrap();
        let opened = log.lines().filter(|line| line.contains("opening"));
        (opened.count(), log.contains(&adapters()[0].name))
    };
    tell("cpu", "cpu");
    assert_eq!(opened(), (0, false), "the processor alone wakes no GPU");
    let alone = tell("alone", "gpu:0");
    assert_eq!(opened(), (1, true));
    let together = std::thread::scope(|scope| {
        let others = ["one", "other"].map(|name| scope.spawn(move || tell(name, "gpu:0")));
        others.map(|other| other.join().unwrap())
    });
    assert!(together.iter().all(|picture| *picture == alone));
    assert_eq!(opened().0, 3);
}

/// What it takes of a GPU is foretold without one.
#[test]
fn a_plan_says_what_a_picture_takes_of_a_gpu() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let models = own_model(temp.path());
    let folder = models.to_str().unwrap();
    vokenboard(&[
        "models", "plan", "ink", "--models", folder, "--device", "gpu,cpu",
    ])
    .assert()
    .success()
    .stdout(
        contains("on a GPU")
            .and(contains("a step: "))
            .and(contains("decoding: ")),
    )
    .stdout(contains("runs of kernels").and(contains("times the least")));
    vokenboard(&[
        "models", "plan", "ink", "--models", folder, "--device", "gpu:99",
    ])
    .assert()
    .failure()
    .stderr(contains("there is no GPU number 99").and(contains("--device cpu")));
    vokenboard(&["models", "plan", "tiny", "--models", folder])
        .assert()
        .failure()
        .stderr(contains("models add"));
}

/// A models folder with a writer and an author's model, `ink`.
fn own_model(temp: &Path) -> PathBuf {
    let models = temp.join("models");
    common::write_tiny_models(&models);
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/09b-sd1-ckpt-legacy");
    let mine = temp.join("mine");
    fs::create_dir_all(mine.join("config")).unwrap();
    copy(&from.join("config"), &mine.join("config"));
    fs::copy(from.join("model.ckpt"), mine.join("ink.ckpt")).unwrap();
    let file = mine.join("ink.ckpt");
    let folder = models.to_str().unwrap();
    let add = ["models", "add", file.to_str().unwrap(), "--models", folder];
    vokenboard(&add).assert().success();
    models
}

/// An author's own Stable Diffusion, from a file of tiny random weights.
#[test]
fn an_authors_own_model_draws_the_same_on_a_gpu_and_again() {
    if !there_is_a_gpu() {
        return;
    }
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let models = own_model(temp.path());
    let folder = models.to_str().unwrap();
    let how = [
        "--models",
        folder,
        "--model",
        "ink",
        "--writer",
        "tiny-writer",
        "--steps",
        "2",
    ];
    let cpu = told(&temp.path().join("cpu"), "cpu", &how);
    let gpu = told(&temp.path().join("gpu"), "gpu:0", &how);
    // A GPU that does not fail does not leave its work to the processor.
    let again = told(&temp.path().join("again"), "gpu:0,cpu", &how);
    assert!(psnr(&cpu, &gpu) > 40.0);
    assert_eq!(
        gpu, again,
        "the same seed draws the same picture on one device"
    );
}

/// Language models of authors: each family computes there what it does on the processor.
#[test]
fn language_models_write_the_same_on_a_gpu() {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::ops::ControlFlow;
    use vokenboard::llm::{CacheType, CausalLm, GgufLm, LanguageModelOptions};
    use vokenboard::llm::{Sampling, TokenChoice};
    if !there_is_a_gpu() {
        return;
    }
    let gpu = Gpu::open(Some(0), GpuOptions::default()).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/writers");
    let options = LanguageModelOptions {
        context: 128,
        cache: CacheType::F32,
    };
    let mut moved = Vec::new();
    for family in fs::read_dir(models).unwrap() {
        let family = family.unwrap();
        let file = family.path().join("model.gguf");
        let name = family.file_name().to_string_lossy().into_owned();
        if !file.exists() {
            continue;
        }
        let (mut cpu, mut lm) = (
            GgufLm::open(&file, &options).unwrap(),
            GgufLm::open(&file, &options).unwrap(),
        );
        assert_eq!(lm.move_to(&gpu).unwrap(), None, "{name}");
        cpu.make_exact();
        let ids: Vec<u32> = (0..70).map(|i| (i * 37 + 11) % 90).collect();
        let alike = |got: &[f32], want: &[f32], what: &str| {
            let largest = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            let off = got.iter().zip(want).map(|(a, b)| (a - b).abs());
            let off = off.fold(0f32, f32::max) / largest;
            assert!(off < 2e-3, "{name}, {what}: {off} apart");
        };
        let (got, want) = (lm.all_logits(&ids).unwrap(), cpu.all_logits(&ids).unwrap());
        alike(&got, &want, "a text at once");
        // Token by token behind what was read, and taken back.
        let mut go_on = || ControlFlow::Continue(());
        for length in [60, 61, 62, 40, 41] {
            let (mut got, mut want) = (Vec::new(), Vec::new());
            lm.read(&ids[..length], &mut got, &mut go_on).unwrap();
            cpu.read(&ids[..length], &mut want, &mut go_on).unwrap();
            alike(&got, &want, &format!("{length} tokens"));
        }
        let drawn = |lm: &mut GgufLm| {
            let sampling = Sampling {
                top_k: 40,
                ..Sampling::default()
            };
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let mut text = ids[..50].to_vec();
            for _ in 0..12 {
                let choice = TokenChoice {
                    sampling: &sampling,
                    used: &[3, 17],
                    never: &[0, 1, 2],
                };
                let go_on = &mut || ControlFlow::Continue(());
                let id = lm.next_token(&text, &choice, &mut rng, go_on);
                text.push(id.unwrap().unwrap());
            }
            text
        };
        let before = gpu.counts();
        let written = drawn(&mut lm);
        let counts = gpu.counts().since(&before, 12);
        assert_eq!(written, drawn(&mut cpu), "{name}");
        // Of the logits the likeliest come back, and of the hidden states nothing.
        assert!(
            counts.downloaded < 1200,
            "{name}: {} bytes",
            counts.downloaded
        );
        moved.push(name);
    }
    // Windows and caps, sinks, mixtures of experts, two ropes for long texts.
    for family in [
        "llama", "qwen2", "smollm2", "gemma2", "gemma3", "gpt-oss", "qwen3moe", "phi35",
    ] {
        let there = moved.iter().any(|name| name.starts_with(family));
        assert!(there, "{family} is not among {moved:?}");
    }
}

/// A table for authors to send: every kernel, and the model that comes with the program.
#[test]
fn bench_gpu_prints_a_table() {
    if !there_is_a_gpu() {
        return;
    }
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let json = temp.path().join("gpu.json");
    vokenboard(&["bench", "gpu", "--device", "gpu:0", "--runs", "1"])
        .args(["--pictures", "1", "--json"])
        .arg(&json)
        .assert()
        .success()
        .stdout(contains("convolution 3x3").and(contains("sprout, UNet step")));
    let told: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let measured = told["measured"].as_array().unwrap();
    for row in measured {
        for what in [
            "seconds",
            "flops",
            "dispatches",
            "least_bytes",
            "moved_bytes",
        ] {
            assert!(
                row[what].as_f64().unwrap() > 0.0,
                "{what} of {}",
                row["name"]
            );
        }
    }
    let compared = told["pictures"].as_array().unwrap();
    assert!(!compared.is_empty());
    for row in compared {
        assert_eq!(row["black"], 0, "{row}");
        assert!(row["least_psnr"].as_f64().unwrap() > 30.0, "{row}");
    }
    // What a step brings to the GPU and back is its latents, texts and answer, not its layers.
    let step = measured
        .iter()
        .find(|row| row["name"] == "sprout, UNet step, batch 2")
        .unwrap();
    let moved = step["uploaded"].as_u64().unwrap() + step["downloaded"].as_u64().unwrap();
    assert!(moved < 1 << 20, "{moved} bytes moved in a step");
    vokenboard(&["bench", "gpu", "--device", "cpu"])
        .assert()
        .failure()
        .stderr(contains("no GPU through wgpu"));
}
