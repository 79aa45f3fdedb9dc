//! What can be used is added where it lies, alone or as a tree.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use super::{empty, fixtures, json_of, listed, run, sentence, sparse, text};

#[test]
fn a_checkpoint_is_added_where_it_lies_listed_when_it_is_away_and_forgotten() {
    let (_temp, models, disk) = empty();
    let pictures = fixtures().join("headers/pictures");
    let sdxl = disk.join("Some Model (v1.0).SAFETENSORS");
    sparse(&json_of(&pictures.join("sdxl-vpred-only.json")), &sdxl);
    run(&models, &["models", "add", text(&sdxl)])
        .success()
        .stdout(
            contains(
                "added some-model-v1.0: Stable Diffusion XL, v prediction, f16, 1024x1024, 6.9 GB",
            )
            .and(contains("--model some-model-v1.0")),
        );
    // Again it has the same id; another file of the same name has another one.
    run(&models, &["models", "add", text(&sdxl)])
        .success()
        .stdout(contains("added some-model-v1.0 ("));
    let other = disk.join("b/Some Model (v1.0).safetensors");
    fs::create_dir(disk.join("b")).unwrap();
    sparse(&json_of(&pictures.join("sd2.1-base.json")), &other);
    run(&models, &["models", "add", text(&other)])
        .success()
        .stdout(contains("added some-model-v1.0-2").and(contains("--prediction decides")));
    run(
        &models,
        &["models", "add", text(&other), "--prediction", "v"],
    )
    .success()
    .stdout(contains("v prediction"));
    let all = listed(&models);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["identity"]["family"], "sdxl");
    assert_eq!(all[1]["identity"]["prediction"], "v_prediction");
    assert_eq!(all[1]["there"], true);

    fs::rename(&disk, disk.with_file_name("unplugged")).unwrap();
    run(&models, &["models"])
        .success()
        .stdout(contains("away: was at").and(contains("Some Model")));
    assert_eq!(listed(&models)[0]["there"], false);
    run(
        &models,
        &["tell", "Once.", "--model", "some-model-v1.0", "--out", "x"],
    )
    .code(1)
    .stderr(sentence().and(contains("not there at the moment")));
    fs::rename(disk.with_file_name("unplugged"), &disk).unwrap();
    run(&models, &["models", "remove", "some-model-v1.0"])
        .success()
        .stdout(contains("stays at"));
    assert!(sdxl.exists());
    assert_eq!(listed(&models).len(), 1);
    run(&models, &["models", "remove", "nothing"])
        .code(1)
        .stderr(sentence().and(contains("some-model-v1.0-2")));
}

#[test]
fn a_tree_of_models_is_listed_and_added() {
    let (_temp, models, disk) = empty();
    let pictures = fixtures().join("headers/pictures");
    let put = |header: &str, path: &str| {
        let path = disk.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        sparse(&json_of(&pictures.join(format!("{header}.json"))), &path);
    };
    put("sd1.5", "checkpoints/old.CKPT");
    put("sdxl-base-1.0", "checkpoints/sub/new.safetensors");
    put("lora-sdxl-kohya", "loras/style.safetensors");
    put("flux1-dev", "unet/flux.safetensors");
    fs::write(disk.join("checkpoints/._old.ckpt"), b"mac").unwrap();
    fs::write(
        disk.join("checkpoints/page.safetensors"),
        b"<!doctype html>",
    )
    .unwrap();
    fs::write(
        disk.join("checkpoints/half.safetensors"),
        &b"\xff\0\0\0\0\0\0\0{\"a"[..],
    )
    .unwrap();
    let refuse = fixtures().join("refuse");
    // Ollama names its files by hashes alone, and Hugging Face's cache links to such.
    let hash = "b".repeat(64);
    let library = disk.join("ollama/manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&library).unwrap();
    fs::create_dir(disk.join("ollama/blobs")).unwrap();
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{hash}"}}]}}"#
    );
    fs::write(library.join("latest"), manifest).unwrap();
    fs::copy(
        refuse.join("state-space.gguf"),
        disk.join(format!("ollama/blobs/sha256-{hash}")),
    )
    .unwrap();
    #[cfg(unix)]
    {
        let snapshot = disk.join("hub/models--someone--Painter/snapshots/abc");
        put("vae-ft-mse-840000", "hub/models--someone--Painter/blobs/0f");
        fs::create_dir_all(&snapshot).unwrap();
        std::os::unix::fs::symlink("../../blobs/0f", snapshot.join("vae.safetensors")).unwrap();
        std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("gone.safetensors")).unwrap();
        std::os::unix::fs::symlink(&disk, disk.join("loras/again")).unwrap();
    }
    let scanned = run(&models, &["models", "scan", text(&disk), "--add", "--json"]).success();
    let output = String::from_utf8(scanned.get_output().stdout.clone()).unwrap();
    let found: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let about = |end: &str| {
        let all = found
            .iter()
            .filter(|found| found["path"].as_str().unwrap().ends_with(end));
        let all: Vec<&Value> = all.collect();
        assert_eq!(all.len(), 1, "{end}: {found:#?}");
        all[0].clone()
    };
    assert_eq!(about("old.CKPT")["family"], "sd1");
    assert_eq!(about("new.safetensors")["family"], "sdxl");
    assert_eq!(about("style.safetensors")["is"], "lora");
    assert_eq!(about("flux.safetensors")["called"], "FLUX.1 dev");
    assert!(
        about("page.safetensors")["error"]
            .as_str()
            .unwrap()
            .contains("web page")
    );
    assert!(
        about("half.safetensors")["error"]
            .as_str()
            .unwrap()
            .contains("incomplete")
    );
    let stored = about(&hash);
    assert_eq!(
        (&stored["name"], &stored["family"]),
        (&json!("tiny:latest"), &json!("mamba"))
    );
    let mut ids: Vec<String> = listed(&models)
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_string())
        .collect();
    ids.sort();
    #[cfg(unix)]
    {
        assert_eq!(about("vae.safetensors")["is"], "vae");
        assert!(about("gone.safetensors")["error"].is_string());
        assert_eq!(ids, ["new", "old", "someone-painter-vae", "style"]);
        assert_eq!(found.len(), 9);
    }
}
