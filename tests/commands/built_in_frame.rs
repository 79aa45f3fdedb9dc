//! A built-in model that draws from words begins from a picture and draws only where a mask is
//! white, as authors' own models do.

use std::path::Path;

use assert_cmd::Command;
use image::{GrayImage, Luma, RgbaImage};
use vokenboard::story::Project;

fn vokenboard(models: &Path, desk: &Path, args: &[&str]) -> Command {
    let mut command = crate::support::vokenboard(models);
    command.current_dir(desk).args(args);
    command
}

fn takes(desk: &Path) -> Vec<RgbaImage> {
    let (_, document, images) = Project::open(desk.join("story")).unwrap();
    let takes = document.story().panels[0].pictures.items();
    takes
        .iter()
        .map(|take| images.get(&take.image).unwrap().as_ref().clone())
        .collect()
}

#[test]
fn a_part_is_drawn_anew_and_strength_1_ignores_the_picture() {
    let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    crate::common::write_tiny_models(made.path());
    crate::common::write_tiny_stage(made.path());
    let desk = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        vokenboard(made.path(), desk.path(), args)
            .assert()
            .success();
    };
    run(&[
        "tell",
        "An owl sits in the garden.",
        "--model",
        "tiny-stage",
        "--steps",
        "3",
        "--seed",
        "3",
        "--panels",
        "1",
        "--out",
        "story",
    ]);
    let regenerate = |more: &[&str]| {
        let base = ["regenerate", "story", "--panel", "1"];
        run(&[&base[..], more].concat());
    };
    // Whom the first picture drew from the library is in the cast for the next.
    regenerate(&["--seed", "3"]);
    let first = takes(desk.path()).remove(1);
    let (width, height) = first.dimensions();
    let mask = GrayImage::from_fn(width, height, |x, _| {
        Luma([if x < width / 2 { 0 } else { 255 }])
    });
    mask.save(desk.path().join("mask.png")).unwrap();
    // 1 ignores the picture.
    regenerate(&["--seed", "3", "--from", "current", "--strength", "1"]);
    regenerate(&["--seed", "8", "--mask", "mask.png", "--region", "whole"]);
    let all = takes(desk.path());
    assert_eq!(all[2], first);
    assert_ne!(all[3], first);
    for (x, y, pixel) in all[3].enumerate_pixels() {
        assert!(x >= width / 2 || pixel == first.get_pixel(x, y), "{x} {y}");
    }
}
