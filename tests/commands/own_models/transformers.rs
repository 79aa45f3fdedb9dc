//! FLUX.1 and Z-Image, tiny and random, as authors have them: folders, whole checkpoints, and a
//! transformer with its other parts in files of their own.

use super::*;
use serde_json::Value;

fn model(case: &str, disk: &Disk, name: &str) -> PathBuf {
    let to = disk.path(name);
    copy(&Path::new(FIXTURES).join(case), &to);
    to
}

fn identified(disk: &Disk, path: &Path) -> Value {
    let run = disk
        .command(&["models", "identify", "--json"])
        .arg(path)
        .output();
    serde_json::from_slice(&run.unwrap().stdout).unwrap()
}

fn tell(disk: &Disk, id: &str, more: &[&str]) -> PathBuf {
    let out = disk.path(&format!("story-of-{id}"));
    let flags = [
        "tell",
        OPENING,
        "--model",
        id,
        "--writer",
        "tiny-writer",
        "--seed",
        "5",
        "--steps",
        "2",
        "--size",
        "32x24",
    ];
    disk.run(&[&flags[..], more, &["--out"]].concat(), &[&out]);
    out
}

#[test]
fn a_flux_folder_tells_a_story_and_says_what_it_cannot_take() {
    let disk = Disk::new();
    let folder = model("24-flux-schnell/model", &disk, "schnell");
    let said = identified(&disk, &folder);
    assert_eq!(
        (&said["is"], &said["family"]),
        (&"model".into(), &"flux".into())
    );
    assert_eq!(
        (&said["called"], &said["supported"]),
        (&"FLUX.1 schnell".into(), &true.into())
    );
    disk.run(&["models", "add"], &[&folder]);
    let out = tell(&disk, "schnell", &["--panels", "2"]);
    let (told, _) = story(&out);
    assert_eq!(told.panels.len(), 2);
    let made = record(&out);
    assert_eq!((&*made.model, &*made.prompt), ("schnell", OPENING));
    assert_eq!(
        (made.settings.guidance, made.settings.scheduler.as_str()),
        (1.0, "euler")
    );
    disk.regenerate(&out, &["--seed", "5"]).assert().success();
    disk.regenerate(&out, &["--seed", "6"]).assert().success();
    let all = takes(&out);
    assert_eq!(all[0], all[1]);
    assert_ne!(all[0], all[2]);

    let refused = |more: &[&str], words: &str| {
        let run = disk.regenerate(&out, more).assert().failure();
        run.stderr(contains(words));
    };
    refused(&["--negative", "blurry"], "a negative prompt");
    refused(&["--guidance", "4"], "can't take the guidance 4; choose 1");
    refused(&["--size", "34x24"], "34x24");
    refused(&["--scheduler", "ddim"], "no scheduler \"ddim\"");
    refused(&["--clip-skip", "2"], "a clip skip");
    let lora = disk.path("mine/brush.safetensors").display().to_string();
    refused(&["--lora", &lora], "LoRAs");
    let prompt = |words: &str| {
        let mut set = disk.command(&["panel"]);
        set.arg(&out).args(["set", "1", "--prompt", words]);
        set.assert().success();
    };
    prompt("a (red:1.3) fox");
    refused(&[], "weighs no words; write the words of (red:1.3)");
    fs::create_dir_all(disk.path("embeddings")).unwrap();
    fs::write(disk.path("embeddings/inkfox.pt"), "").unwrap();
    prompt("an inkfox at sea");
    refused(&[], "reads no embeddings, and the prompt names inkfox");
    assert_eq!(takes(&out).len(), 3);

    let plan = disk
        .command(&["models", "plan", "schnell"])
        .assert()
        .success();
    plan.stdout(contains("transformer").and(contains("reading the prompt")));
    fs::remove_file(folder.join("transformer/diffusion_pytorch_model.safetensors")).unwrap();
    let gone = disk.regenerate(&out, &[]).assert().failure();
    gone.stderr(contains("diffusion_pytorch_model.safetensors"));
}

#[test]
fn a_part_of_a_flux_picture_is_drawn_anew() {
    let disk = Disk::new();
    let folder = model("25-flux-dev/model", &disk, "dev");
    disk.run(&["models", "add"], &[&folder]);
    let out = tell(&disk, "dev", &["--panels", "1"]);
    assert_eq!(record(&out).settings.guidance, 3.5);
    let from = ["--seed", "5", "--from", "current", "--strength", "1"];
    disk.regenerate(&out, &from).assert().success();
    let mask = GrayImage::from_fn(32, 24, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
    let file = disk.path("mask.png");
    mask.save(&file).unwrap();
    let file = file.display().to_string();
    disk.regenerate(&out, &["--mask", &file]).assert().success();
    let all = takes(&out);
    // 1 ignores the picture.
    assert_eq!(all[1], all[0]);
    for (x, y, pixel) in all[2].enumerate_pixels() {
        assert!(x >= 16 || pixel == all[1].get_pixel(x, y), "{x} {y}");
    }
    assert_ne!(all[2], all[1]);
}

#[test]
fn a_whole_flux_checkpoint_and_a_z_image_in_parts_are_added() {
    let disk = Disk::new();
    let flux = model("26-flux-single", &disk, "flux");
    let file = flux.join("model.safetensors");
    assert_eq!(identified(&disk, &file)["is"], "model");
    disk.run(&["models", "add"], &[&file]);

    let parts = model("29-z-image-parts", &disk, "z/unet");
    let file = parts.join("model.safetensors");
    let said = identified(&disk, &file);
    // By itself it draws nothing, and it says with what it does.
    assert_eq!(
        (&said["is"], &said["supported"]),
        (&"refused".into(), &false.into())
    );
    assert!(
        said["instead"].as_str().unwrap().contains("--with"),
        "{said}"
    );
    let vae = parts.join("extra/ae.safetensors");
    let add = |more: &[&str]| {
        let mut command = disk.command(&["models", "add"]);
        command.arg(&file).args(more);
        command.assert()
    };
    add(&[])
        .failure()
        .stderr(contains("without its Qwen3 text encoder"));
    let vae_named = vae.display().to_string();
    add(&["--with", &vae_named])
        .failure()
        .stderr(contains("Qwen3"));
    let foreign = disk.path("mine/brush.safetensors").display().to_string();
    add(&["--with", &foreign])
        .failure()
        .stderr(contains("no part of a z-image model"));
    // As ComfyUI keeps them.
    fs::create_dir_all(disk.path("z/text_encoders")).unwrap();
    fs::create_dir_all(disk.path("z/vae")).unwrap();
    fs::rename(
        parts.join("extra/qwen.safetensors"),
        disk.path("z/text_encoders/q.safetensors"),
    )
    .unwrap();
    fs::rename(&vae, disk.path("z/vae/ae.safetensors")).unwrap();
    fs::rename(&file, parts.join("turbo.safetensors")).unwrap();
    let added = disk
        .command(&["models", "add"])
        .arg(parts.join("turbo.safetensors"))
        .assert();
    added
        .success()
        .stdout(contains("q.safetensors").and(contains("ae.safetensors")));
    let guided = ["--panels", "1", "--negative", "blurry", "--guidance", "4"];
    let out = tell(&disk, "turbo", &guided);
    assert_eq!(record(&out).negative, "blurry");
    let none = disk
        .regenerate(&out, &["--guidance", "1"])
        .assert()
        .failure();
    none.stderr(contains("only where guidance is above 1"));
    fs::rename(
        disk.path("z/vae/ae.safetensors"),
        disk.path("z/away.safetensors"),
    )
    .unwrap();
    let gone = disk.regenerate(&out, &[]).assert().failure();
    gone.stderr(contains("ae.safetensors"));
}
