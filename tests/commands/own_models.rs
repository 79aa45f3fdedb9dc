//! An author's own picture model, a tiny random Stable Diffusion in a single file, end to end.

#[path = "own_models/inpainting.rs"]
mod inpainting;
#[path = "own_models/transformers.rs"]
mod transformers;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use image::{GrayImage, Luma, RgbaImage};
use predicates::prelude::*;
use predicates::str::contains;
use vokenboard::pipeline::{self, LoadOptions, Make, Request};
use vokenboard::story::{Images, Project, Record, Story, encode_png, read_record};

use crate::support::copy;

const OPENING: &str = "An old man rides a horse.";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");

/// An author's disk: a checkpoint with LoRAs and embeddings beside it, and the models of the
/// program.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let disk = Disk(temp);
        crate::common::write_tiny_models(&disk.models());
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
        let mut command = crate::support::vokenboard(&self.models());
        command.args(args);
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
    let options = LoadOptions {
        models: Some(disk.models()),
        model: Some(read.model.clone()),
        writer: Some("tiny-writer".into()),
        ..LoadOptions::default()
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

/// The pictures of the first panel's takes, in order.
fn takes(out: &Path) -> Vec<RgbaImage> {
    let (told, images) = story(out);
    let takes = told.panels[0].pictures.items();
    let shown = takes.iter().map(|take| images.get(&take.image).unwrap());
    shown.map(|picture| picture.as_ref().clone()).collect()
}

#[test]
fn a_reference_changes_the_picture_and_the_same_settings_give_the_same_bytes() {
    let disk = Disk::new();
    let out = disk.told();
    let seed = ["--seed", "5"];
    let regenerate = |more: &[&str]| {
        disk.regenerate(&out, &[&seed, more].concat())
            .assert()
            .success();
    };
    regenerate(&["--reference", "panel:2"]);
    let made = record(&out).settings.references;
    let (told, _) = story(&out);
    let second = told.panels[1].picture().unwrap();
    assert_eq!(made[0].image, second.image);
    let drawn = second.record.as_ref().unwrap();
    assert_eq!((&made[0].prompt, made[0].strength), (&drawn.prompt, 0.5));
    regenerate(&[]);
    // One that has no strength, or works in no step, is as none.
    regenerate(&["--reference", "panel:2", "--reference-scale", "0"]);
    regenerate(&["--reference", "panel:2", "--reference-end", "0"]);
    regenerate(&["--reference", "none"]);
    let two = ["--reference", "panel:2", "--reference", "panel:1"];
    regenerate(&two);
    let all = takes(&out);
    assert_ne!(all[0], all[1]);
    assert_eq!(all[1], all[2]);
    assert!(all[3] == all[0] && all[4] == all[0] && all[5] == all[0]);
    assert!(all[6] != all[0] && all[6] != all[1]);
    let wrong = disk
        .regenerate(&out, &["--reference", "cast:Milo"])
        .assert();
    wrong.failure().stderr(contains("the cast has no Milo"));
}

#[test]
fn a_region_is_drawn_large_and_what_is_around_the_mask_stays() {
    let disk = Disk::new();
    let out = disk.told();
    let mask = GrayImage::from_fn(32, 24, |x, y| {
        Luma([255 * u8::from((8..14).contains(&x) && (6..12).contains(&y))])
    });
    let file = disk.path("mask.png");
    mask.save(&file).unwrap();
    let file = file.display().to_string();
    let flags = ["--mask", &file, "--region", "4", "--feather", "1"];
    disk.regenerate(&out, &flags).assert().success();
    disk.regenerate(&out, &["--seed", "5"]).assert().success();
    let all = takes(&out);
    assert_eq!(all[1].dimensions(), (32, 24));
    let mut changed = 0;
    for (x, y, pixel) in all[1].enumerate_pixels() {
        match mask.get_pixel(x, y).0[0] {
            0 => assert_eq!(pixel, all[0].get_pixel(x, y), "{x} {y}"),
            _ => changed += usize::from(pixel != all[0].get_pixel(x, y)),
        }
    }
    assert!(changed > 20, "{changed}");
    let made = record(&out).settings;
    let region = made.region.unwrap();
    assert_eq!((region.padding, region.feather, made.size), (4, 1, None));
    // The record brings it back.
    assert_eq!(all[1], all[2]);
    let black = disk.path("black.png");
    GrayImage::new(32, 24).save(&black).unwrap();
    let black = black.display().to_string();
    let refused = disk.regenerate(&out, &["--mask", &black]).assert();
    refused.failure().stderr(contains("nothing white"));
}

#[test]
fn more_is_drawn_around_a_picture() {
    let disk = Disk::new();
    let out = disk.told();
    let flags = ["--outpaint", "left=8,bottom=4"];
    disk.regenerate(&out, &flags).assert().success();
    disk.regenerate(&out, &["--seed", "5"]).assert().success();
    let all = takes(&out);
    assert_eq!(all[1].dimensions(), (40, 28));
    for (x, y, pixel) in all[0].enumerate_pixels() {
        assert_eq!(pixel, all[1].get_pixel(x + 8, y), "{x} {y}");
    }
    let margin: Vec<_> = (0..8).map(|x| *all[1].get_pixel(x, 12)).collect();
    assert!(margin.iter().any(|pixel| pixel != &margin[0]));
    assert_eq!(all[1], all[2]);
    let refused = disk.regenerate(&out, &["--outpaint", "left=0"]).assert();
    refused.failure().stderr(contains("how many pixels"));
}

#[test]
fn a_picture_is_made_larger_by_an_upscaler_and_by_a_second_pass() {
    let disk = Disk::new();
    let out = disk.told();
    let upscaler = disk.path("mine/sharp.pth");
    let from = Path::new(FIXTURES).join("../upscalers/x4.pth");
    fs::copy(from, &upscaler).unwrap();
    let file = upscaler.display().to_string();
    let regenerate = |more: &[&str]| disk.regenerate(&out, more).assert().success();
    regenerate(&["--from", "current", "--upscale", "3", "--upscaler", &file]);
    let made = record(&out).settings;
    let upscale = made.upscale.unwrap();
    assert_eq!((upscale.scale, made.init.unwrap().strength), (3.0, 0.0));
    assert_eq!(upscale.file.unwrap().hash.len(), 64);
    regenerate(&["--seed", "5"]);
    let all = takes(&out);
    assert_eq!(all[1].dimensions(), (96, 72));
    assert_eq!(all[1], all[2]);
    // From a picture of another size, with a second pass.
    let small = disk.path("small.png");
    RgbaImage::from_fn(20, 16, |x, y| {
        image::Rgba([(9 * x) as u8, (9 * y) as u8, 80, 255])
    })
    .save(&small)
    .unwrap();
    let small = small.display().to_string();
    let flags = ["--from", &small, "--upscale", "4", "--upscaler", &file];
    regenerate(&[&flags[..], &["--strength", "0.4"]].concat());
    regenerate(&["--seed", "5"]);
    let all = takes(&out);
    assert_eq!(all[3].dimensions(), (80, 64));
    assert_eq!(all[3], all[4]);
    let refused = |more: &[&str], words: &str| {
        let run = disk.regenerate(&out, more).assert().failure();
        run.stderr(contains(words));
    };
    let lora = disk.path("mine/brush.safetensors").display().to_string();
    refused(
        &["--upscale", "2", "--upscaler", &lora],
        "brush.safetensors is no upscaler",
    );
    refused(&["--upscale", "2", "--mask", &small], "cannot be used with");
    let add = disk.command(&["models", "add"]).arg(&upscaler).assert();
    add.failure().stderr(contains("need not be added"));
    let known = disk
        .command(&["models", "identify"])
        .arg(&upscaler)
        .assert();
    known.success().stdout(contains("regenerate --upscale 4"));
}

#[test]
fn strength_is_how_much_of_a_picture_is_drawn_anew() {
    let disk = Disk::new();
    let out = disk.told();
    let from = |strength: &str, picture: &str| {
        let flags = ["--seed", "5", "--from", picture, "--strength", strength];
        disk.regenerate(&out, &flags).assert().success();
    };
    let blue = disk.path("blue.png");
    RgbaImage::from_pixel(32, 24, image::Rgba([20, 40, 220, 255]))
        .save(&blue)
        .unwrap();
    let blue = blue.display().to_string();
    from("0", &blue);
    from("0", &blue);
    from("1", &blue);
    from("0.5", &blue);
    let all = takes(&out);
    assert_eq!(all[1], all[2]);
    // 1 ignores the picture: it is the one that was told without it.
    assert_eq!(all[3], all[0]);
    assert!(all[4] != all[0] && all[4] != all[1]);
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

#[test]
fn added_files_are_called_by_their_ids() {
    let disk = Disk::new();
    let out = disk.told();
    let lora = disk.path("mine/brush.safetensors");
    let vae = disk.path("mine/soft.safetensors");
    let from = Path::new(FIXTURES).join("18-sd1-vae-file/extra/vae.safetensors");
    fs::copy(from, &vae).unwrap();
    for file in [&lora, &vae] {
        disk.run(&["models", "add"], &[file]);
    }
    let seed = ["--seed", "5"];
    let draw = |more: &[&str]| {
        disk.regenerate(&out, &[&seed, more].concat())
            .assert()
            .success();
    };
    draw(&["--no-lora"]);
    draw(&["--lora", "brush:0.8"]);
    draw(&["--lora", "brush:0.8", "--vae", "soft"]);
    let all = takes(&out);
    // By its id it is the same as by its path.
    assert_eq!(all[2], all[0]);
    assert!(all[1] != all[0] && all[3] != all[0]);
    let made = record(&out).settings;
    assert_eq!(Path::new(&made.loras[0].file), lora);
    assert_eq!((made.loras[0].weight, made.loras[0].hash.len()), (0.8, 64));
    assert_eq!(Path::new(&made.vae.unwrap().file), vae);
    let unknown = disk.regenerate(&out, &["--lora", "brusch:0.8"]).assert();
    unknown.failure().stderr(contains("brusch"));
}

#[test]
fn a_picture_that_memory_cannot_hold_and_a_file_that_was_cut_are_told() {
    let disk = Disk::new();
    let out = disk.told();
    let large = [
        "models",
        "plan",
        "ink",
        "--size",
        "4096x4096",
        "--memory",
        "1GB",
    ];
    let refused = disk.command(&large).assert().failure();
    refused.stderr(contains("more than the 1").and(contains("choose smaller pictures")));
    let file = disk.path("mine/ink.ckpt");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let cut = disk.regenerate(&out, &[]).assert().failure();
    cut.stderr(contains("ink.ckpt").and(contains("bytes")));
    let added = disk.command(&["models", "add"]).arg(&file).assert();
    added.failure().stderr(contains("ink.ckpt"));
}
