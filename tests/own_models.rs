//! An author's own picture model, a tiny random Stable Diffusion in a single file, end to end.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use image::{GrayImage, Luma};
use predicates::str::contains;
use vokenboard::pipeline::{self, Make, Options, Request};
use vokenboard::story::{Images, Project, Record, Story, encode_png, read_record};

const OPENING: &str = "An old man rides a horse.";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");

/// An author's disk: a checkpoint with LoRAs and embeddings beside it, and the models of the
/// program.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let disk = Disk(temp);
        common::write_tiny_models(&disk.models());
        let from = Path::new(FIXTURES).join("09b-sd1-ckpt-legacy");
        copy(&from.join("config"), &disk.path("mine/config"));
        fs::copy(from.join("model.ckpt"), disk.path("mine/ink.ckpt")).unwrap();
        let lora = Path::new(FIXTURES).join("12a-sd1-lora-kohya/extra/lora.safetensors");
        fs::copy(lora, disk.path("mine/brush.safetensors")).unwrap();
        disk.run(&["models", "add"], &[&disk.path("mine/ink.ckpt")]);
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn models(&self) -> PathBuf {
        self.path("models")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("vokenboard").unwrap();
        command.env("VOKENBOARD_MODELS", self.models()).args(args);
        command
    }

    fn run(&self, args: &[&str], paths: &[&Path]) {
        self.command(args).args(paths).assert().success();
    }

    /// Tells two panels with the model, a LoRA and a negative prompt.
    fn told(&self) -> PathBuf {
        let out = self.path("story");
        let lora = format!("{}:0.8", self.path("mine/brush.safetensors").display());
        let flags = [
            "tell",
            OPENING,
            "--model",
            "ink",
            "--writer",
            "tiny-writer",
            "--panels",
            "2",
            "--steps",
            "3",
            "--seed",
            "5",
            "--size",
            "32x24",
            "--negative",
            "blurry",
            "--clip-skip",
            "2",
            "--lora",
            &lora,
            "--out",
        ];
        self.run(&flags, &[&out]);
        out
    }

    fn regenerate(&self, out: &Path, more: &[&str]) -> Command {
        let mut command = self.command(&["regenerate"]);
        command
            .arg(out)
            .args(["--panel", "1", "--writer", "tiny-writer"]);
        command.args(more);
        command
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

fn story(out: &Path) -> (Story, Images) {
    let (document, images, _) = Project::read(out).unwrap();
    (document.story().clone(), images)
}

fn record(out: &Path) -> Record {
    let (story, _) = story(out);
    story.panels[0].picture().unwrap().record.clone().unwrap()
}

#[test]
fn two_panels_are_told_and_the_first_comes_back_byte_for_byte() {
    let disk = Disk::new();
    let out = disk.told();
    let (told, images) = story(&out);
    assert_eq!(told.panels.len(), 2);
    let take = told.panels[0].picture().unwrap();
    assert_eq!((take.width, take.height), (32, 24));
    let made = record(&out);
    assert_eq!((&*made.model, &*made.prompt), ("ink", OPENING));
    assert_eq!(
        (&*made.negative, made.settings.clip_skip),
        ("blurry", Some(2))
    );
    let lora = &made.settings.loras[0];
    assert_eq!((lora.hash.len(), lora.weight), (64, 0.8));

    // The exported picture says all that it takes to draw it again.
    let picture = images.get(&take.image).unwrap();
    let file = disk.path("panel.png");
    fs::write(&file, encode_png(&picture, Some(&made)).unwrap()).unwrap();
    let read = read_record(&file).unwrap().unwrap();
    let options = Options {
        models: Some(disk.models()),
        model: Some(read.model.clone()),
        writer: Some("tiny-writer".into()),
        ..Options::default()
    };
    let mut pipeline = pipeline::loader(options)(&mut |_| {}).unwrap();
    let request = Request {
        text: read.text.clone(),
        prompt: Some(read.prompt.clone()),
        make: Make::Picture,
        settings: read.settings.clone(),
        ..Request::default()
    };
    let drawn = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()));
    let (again, record) = drawn.unwrap().unwrap().picture.unwrap();
    assert_eq!(again.as_raw(), picture.as_raw());
    assert_eq!(record.settings, read.settings);

    // ... and so does the project.
    disk.regenerate(&out, &["--seed", "5"]).assert().success();
    let (story, _) = story(&out);
    let takes = story.panels[0].pictures.items();
    assert_eq!((takes.len(), &takes[0].image), (2, &takes[1].image));
    // What it was drawn with makes a difference.
    disk.regenerate(&out, &["--seed", "5", "--no-lora"])
        .assert()
        .success();
    disk.regenerate(&out, &["--seed", "5", "--clip-skip", "1"])
        .assert()
        .success();
    let (story, _) = self::story(&out);
    let images: Vec<_> = story.panels[0]
        .pictures
        .items()
        .iter()
        .map(|t| &t.image)
        .collect();
    assert!(
        images[2] != images[1] && images[3] != images[2],
        "{images:?}"
    );
}

#[test]
fn what_is_gone_or_unfit_is_named_and_nothing_is_lost() {
    let disk = Disk::new();
    let out = disk.told();
    let before = fs::read(out.join("story.json")).unwrap();
    let refused = |more: &[&str], words: &str| {
        let run = disk.regenerate(&out, more).assert().failure();
        run.stderr(contains(words));
        assert_eq!(fs::read(out.join("story.json")).unwrap(), before);
    };
    refused(&["--size", "33x24"], "steps of");
    refused(
        &["--lora", "nowhere.safetensors:0.5"],
        "nowhere.safetensors is not there",
    );
    let xl = format!("{FIXTURES}/13c-sdxl-two-loras/extra/one.safetensors");
    refused(&["--lora", &xl], "one.safetensors");
    let words = format!("{FIXTURES}/14a-sd1-embedding-safetensors/case.json");
    refused(&["--vae", &words], "case.json");
    refused(&["--strength", "0.5"], "--from");
    refused(&["--mask", "nowhere.png"], "nowhere.png");

    // The same file with something else in it is not the one that was used.
    let lora = disk.path("mine/brush.safetensors");
    let kept = fs::read(&lora).unwrap();
    let other = format!("{FIXTURES}/12b-sd1-lora-old-diffusers/extra/lora.safetensors");
    fs::copy(other, &lora).unwrap();
    refused(&[], "is not the file that this picture was made with");
    fs::remove_file(&lora).unwrap();
    refused(&[], "brush.safetensors is not there");
    fs::write(&lora, kept).unwrap();
    disk.regenerate(&out, &[]).assert().success();

    let model = disk.path("mine/ink.ckpt");
    fs::rename(&model, disk.path("mine/away.ckpt")).unwrap();
    let gone = disk.regenerate(&out, &[]).assert().failure();
    gone.stderr(contains("ink.ckpt"));
}

#[test]
fn a_picture_is_drawn_from_another_and_only_where_the_mask_is_white() {
    let disk = Disk::new();
    let out = disk.told();
    let mask = GrayImage::from_fn(32, 24, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
    let file = disk.path("mask.png");
    mask.save(&file).unwrap();
    let file = file.display().to_string();
    disk.regenerate(&out, &["--mask", &file]).assert().success();
    let (told, images) = story(&out);
    let takes = told.panels[0].pictures.items();
    let shown = |at: usize| images.get(&takes[at].image).unwrap();
    let (was, is) = (shown(0), shown(1));
    let mut changed = 0;
    for (x, y, pixel) in is.enumerate_pixels() {
        match x < 16 {
            true => assert_eq!(pixel, was.get_pixel(x, y), "{x} {y}"),
            false => changed += usize::from(pixel != was.get_pixel(x, y)),
        }
    }
    assert!(changed > 0);
    let made = record(&out).settings;
    assert_eq!(made.init.unwrap().image, takes[0].image);
    assert!(made.mask.is_some());

    disk.regenerate(&out, &["--from", "none", "--variations", "2"])
        .assert()
        .success();
    let (told, _) = story(&out);
    let takes = told.panels[0].pictures.items();
    assert_eq!(takes.len(), 4);
    assert_ne!(takes[2].image, takes[3].image);
    let made = record(&out).settings;
    assert!(made.init.is_none() && made.variation.is_some());
}

#[test]
fn embeddings_beside_the_model_are_called_by_name() {
    let disk = Disk::new();
    let out = disk.told();
    let from = Path::new(FIXTURES).join("14a-sd1-embedding-safetensors/extra/style.safetensors");
    let folder = disk.path("mine/embeddings");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("badstyle.safetensors");
    fs::copy(&from, &file).unwrap();
    let words = ["--seed", "5", "--negative", "(BadStyle:1.2), blurry"];
    disk.regenerate(&out, &words).assert().success();
    let made = record(&out).settings;
    assert_eq!(Path::new(&made.embeddings[0].file), file);
    assert_eq!(made.embeddings[0].hash.len(), 64);
    let (told, _) = story(&out);
    let takes = told.panels[0].pictures.items();
    assert_ne!(takes[0].image, takes[1].image);
    // One for another model has another width.
    let xl = Path::new(FIXTURES).join("14c-sdxl-embedding/extra/style.safetensors");
    fs::copy(xl, folder.join("xlstyle.safetensors")).unwrap();
    let refused = disk.regenerate(&out, &["--negative", "xlstyle"]).assert();
    refused.failure().stderr(contains("xlstyle.safetensors"));
}
