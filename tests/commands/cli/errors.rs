//! What is wrong with projects, models, flags, devices and screens is one sentence.

use super::*;

#[test]
fn a_project_that_is_open_elsewhere_is_read_but_not_changed() {
    let (_temp, project) = told(1);
    let lock = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(project.join(".lock"))
        .unwrap();
    lock.try_lock().unwrap();
    let before = files(&project);
    refused(
        regenerate(&project, &["--panel", "1"]),
        "another Vokenboard",
    );
    refused(tell(&project, &["--continue"]), "another Vokenboard");
    assert!(files(&project) == before);
    vokenboard()
        .args(["export", "--png"])
        .arg(project.join("sheet.png"))
        .arg(&project)
        .assert()
        .success();
}

#[test]
fn a_broken_project_is_named() {
    let (_temp, out) = told(1);
    fs::write(out.join("story.json"), "{ not json").unwrap();
    let mut command = vokenboard();
    command.arg("export").arg(&out);
    refused(command, "story.json");
    refused(tell(&out, &["--continue"]), "story.json");
}

#[test]
fn models_are_listed_with_what_they_draw() {
    vokenboard().arg("models").assert().success().stdout(
        contains("tiny")
            .and(contains("caption"))
            .and(contains("fox"))
            .and(contains("MIT")),
    );
    vokenboard().args(["models", "--verify"]).assert().success();
    let temp = tempfile::tempdir().unwrap();
    let mut command = vokenboard();
    command.arg("models").arg("--models").arg(temp.path());
    refused(command, "holds no models");
    let mut command = vokenboard();
    command
        .arg("models")
        .env("VOKENBOARD_MODELS", temp.path().join("none"));
    refused(command, "VOKENBOARD_MODELS");
}

#[test]
fn a_model_with_a_broken_file_is_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let models = temp.path().join("models");
    let out = temp.path().join("story");
    crate::common::write_tiny_models(&models);
    let on_these = |more: &[&str]| {
        let mut command = tell(&out, more);
        command.env("VOKENBOARD_MODELS", &models);
        command
    };
    let weights = models.join("tiny/unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    // The size is right, the contents are not.
    fs::write(&weights, vec![0xff; whole.len()]).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    fs::remove_file(&weights).unwrap();
    refused(on_these(&[]), "diffusion_pytorch_model.safetensors");
    fs::write(&weights, &whole).unwrap();
    refused(on_these(&["--model", "tiny-writer"]), "tiny-writer");
    assert!(!out.exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    for wrong in [
        &["--guidance", "99"][..],
        &["--steps", "0"],
        &["--panels", "0"],
        &["--scheduler", "magic"],
        &["--device", "abacus"],
        &["--temperature", "-1"],
        &["--top-p", "2"],
        &["--seed", "x"],
        &["--colour"],
    ] {
        tell(&out, wrong)
            .assert()
            .code(2)
            .stderr(contains(wrong[0]));
    }
    vokenboard()
        .arg("tell")
        .arg("--out")
        .arg(&out)
        .assert()
        .code(2);
    vokenboard().args(["tell", OPENING]).assert().code(2);
    assert!(!out.exists());
    let mut command = vokenboard();
    command.args(["tell", "  ", "--out"]).arg(&out);
    refused(command, "opening is empty");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in_is_named_with_the_command_that_builds_it() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("story");
    refused(
        tell(&out, &["--device", "cuda"]),
        "cargo run --release --features cuda",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn with_no_display_the_studio_names_the_command_line() {
    refused(vokenboard(), "vokenboard tell");
    let (_temp, out) = told(1);
    // The file in a story's folder names the story as well.
    for path in [out.clone(), out.join("story.json")] {
        let mut command = vokenboard();
        command.arg(path);
        refused(command, "vokenboard tell");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_program_without_a_panic() {
    let mut child = Process::new(env!("CARGO_BIN_EXE_vokenboard"))
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .args(["models", "--verify"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("panicked"));
}
