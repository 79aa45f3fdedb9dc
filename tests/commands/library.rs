//! Stories whose subjects come from pictures: the cast's, and the library's drawings.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use candle_core::Device;
use image::{Rgba, RgbaImage};
use predicates::prelude::*;
use predicates::str::contains;
use vokenboard::diffusion::{CompositionDiffusion, DenoisingOptions};
use vokenboard::eval::{DrawingOptions, DrawingSource, judge_drawings};
use vokenboard::story::{MemberKind, Project, Record, Story};
use vokenboard::weights::ComputeDevices;

fn models() -> PathBuf {
    static MODELS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MODELS.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        crate::common::write_tiny_models(dir.path());
        crate::common::write_tiny_stage(dir.path());
        dir
    });
    made.path().to_path_buf()
}

fn vokenboard(desk: &Path, args: &[&str]) -> Command {
    let mut command = crate::support::vokenboard(&models());
    command.current_dir(desk).args(args);
    command
}

fn story(desk: &Path) -> Story {
    let (_, document, _) = Project::open(desk.join("story")).unwrap();
    document.story().clone()
}

fn record(story: &Story, panel: usize) -> Record {
    let take = story.panels[panel].picture().unwrap();
    take.record.clone().unwrap()
}

const TELL: [&str; 9] = [
    "tell",
    "My grandmother kept bees behind the lighthouse in the garden.",
    "--model",
    "tiny-stage",
    "--steps",
    "2",
    "--seed",
    "3",
    "--out",
];

/// The built-in model itself: its vokens say who is in each picture, which is kept as a prompt that
/// the author can change.
#[test]
fn vokens_of_the_built_in_model_say_who_is_shown() {
    let desk = tempfile::tempdir().unwrap();
    let tell = |opening: &str, out: &str, more: &[&str]| {
        let args = [
            "tell",
            opening,
            "--model",
            "sprout-open",
            "--steps",
            "2",
            "--seed",
            "3",
            "--out",
            out,
        ];
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        crate::support::vokenboard(&built_in)
            .current_dir(desk.path())
            .args([&args[..], more].concat())
            .assert()
            .success();
    };
    let opening = "A wizard called Otto finds an egg in the cave.";
    tell(opening, "story", &["--panels", "3"]);
    let told = story(desk.path());
    let names: Vec<&str> = told.cast.iter().map(|member| &*member.name).collect();
    assert!(names.starts_with(&["Otto", "egg"]), "{names:?}");
    for panel in 0..3 {
        let record = record(&told, panel);
        assert_eq!(record.pipeline, "voken");
        assert!(!record.prompt.is_empty());
    }
    // Who came with a picture is shown by it from then on.
    assert!((1..3).any(|panel| !record(&told, panel).settings.references.is_empty()));
    assert!(record(&told, 0).prompt.ends_with(" in the cave by day"));
    // It writes in the words of the stories that it learnt, each panel once.
    let texts: std::collections::HashSet<&str> =
        told.panels.iter().map(|panel| &*panel.text).collect();
    assert_eq!(texts.len(), 3);
    tell(opening, "again", &["--panels", "3"]);
    let read = |dir: &str| {
        let (_, document, _) = Project::open(desk.path().join(dir)).unwrap();
        let panels = &document.story().panels;
        panels
            .iter()
            .map(|panel| panel.text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(read("story"), read("again"));
}

#[test]
fn nouns_find_their_drawings_and_join_the_cast() {
    let desk = tempfile::tempdir().unwrap();
    let args = [&TELL[..], &["story", "--panels", "1"]].concat();
    vokenboard(desk.path(), &args)
        .assert()
        .success()
        .stderr(contains(
            "bees: bee; lighthouse: tower, the nearest there is",
        ));
    let told = story(desk.path());
    let cast: Vec<(&str, MemberKind, usize)> = told
        .cast
        .iter()
        .map(|member| (&*member.name, member.kind, member.pictures.len()))
        .collect();
    assert_eq!(
        cast,
        [
            ("grandmother", MemberKind::Character, 1),
            ("bees", MemberKind::Character, 1),
            ("lighthouse", MemberKind::Thing, 1),
        ]
    );
    let prompt = "grandmother on the left, bees in the middle and lighthouse on the right in the garden on a sunny day";
    assert_eq!(record(&told, 0).prompt, prompt);

    // Another picture shows them as the cast does.
    let again = [
        "regenerate",
        "story",
        "--panel",
        "1",
        "--seed",
        "4",
        "--model",
        "tiny-stage",
    ];
    vokenboard(desk.path(), &again).assert().success();
    let told = story(desk.path());
    let drawn = record(&told, 0);
    let shown: Vec<&str> = drawn
        .settings
        .references
        .iter()
        .map(|r| &*r.prompt)
        .collect();
    assert_eq!(
        shown,
        ["grandmother: old woman", "bees: bee", "lighthouse: tower"]
    );
    assert_eq!(told.cast.len(), 3);
    let first = fs::read(desk.path().join("story/story.json")).unwrap();

    // The same settings give the same bytes.
    vokenboard(desk.path(), &again).assert().success();
    let takes = story(desk.path()).panels[0].pictures.items().to_vec();
    assert_eq!(takes.len(), 3);
    assert_eq!(takes[1].image, takes[2].image);
    assert_ne!(
        first,
        fs::read(desk.path().join("story/story.json")).unwrap()
    );
}

#[test]
fn whom_the_author_takes_out_of_the_cast_does_not_come_back() {
    let desk = tempfile::tempdir().unwrap();
    let args = [&TELL[..], &["story", "--panels", "1"]].concat();
    vokenboard(desk.path(), &args).assert().success();
    let names = |desk: &Path| -> Vec<String> {
        let cast = story(desk).cast;
        cast.into_iter().map(|member| member.name).collect()
    };
    let before = names(desk.path());
    assert!(before.contains(&"bees".to_owned()), "{before:?}");
    let again = [
        "regenerate",
        "story",
        "--panel",
        "1",
        "--model",
        "tiny-stage",
    ];
    for args in [&["cast", "story", "remove", "bees"][..], &again] {
        vokenboard(desk.path(), args).assert().success();
    }
    let after = names(desk.path());
    assert_eq!(after.len(), before.len() - 1, "{after:?}");
    assert!(!after.contains(&"bees".to_owned()), "{after:?}");
}

#[test]
fn a_drawing_of_the_authors_takes_the_place_of_the_librarys() {
    let desk = tempfile::tempdir().unwrap();
    let args = [&TELL[..], &["story", "--panels", "1"]].concat();
    vokenboard(desk.path(), &args).assert().success();
    let blob = RgbaImage::from_fn(60, 80, |x, y| {
        let inside = (x as f32 - 30.0).hypot(y as f32 - 40.0) < 25.0;
        if inside {
            Rgba([30, 140, 90, 255])
        } else {
            Rgba([255; 4])
        }
    });
    blob.save(desk.path().join("bee.png")).unwrap();
    for args in [
        &["cast", "story", "remove", "bees"][..],
        &["cast", "story", "add", "bees", "--picture", "bee.png"],
        &[
            "regenerate",
            "story",
            "--panel",
            "1",
            "--model",
            "tiny-stage",
        ],
    ] {
        vokenboard(desk.path(), args).assert().success();
    }
    let told = story(desk.path());
    let takes = told.panels[0].pictures.items();
    let drawn = record(&told, 0);
    assert!(drawn.settings.references.iter().any(|r| r.prompt == "bees"));
    assert_ne!(takes[0].image, takes[1].image);
}

#[test]
fn what_such_a_model_cannot_take_is_refused_by_name() {
    let desk = tempfile::tempdir().unwrap();
    let args = [&TELL[..], &["story", "--panels", "1", "--size", "512x512"]].concat();
    vokenboard(desk.path(), &args)
        .assert()
        .code(1)
        .stderr(contains("tiny-stage draws pictures of 128x128 pixels only"));
}

/// Stories of the library are told to the same end as those of the storyworld; who is not shown to the
/// painter is not drawn.
#[test]
fn the_comparison_tells_stories_of_the_library() {
    let desk = tempfile::tempdir().unwrap();
    let row = |name: &str, more: &str| {
        format!(
            "[[row]]\nname = \"{name}\"\nkind = \"pipeline\"\nmodel = \"sprout-open\"\n{more}\n"
        )
    };
    let rows = [
        "world = \"library\"\n".to_owned(),
        row("vokens", ""),
        row("no references", "references = false\nwrites = false"),
        "[[row]]\nname = \"real\"\nkind = \"real\"\n".to_owned(),
        row("pictures alone", "context = [\"pictures\"]\nwrites = false"),
        row("in words", "voken = \"describes\"\nwrites = false"),
    ];
    fs::write(desk.path().join("rows.toml"), rows.concat()).unwrap();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    // One that is asked for picture prompts in words, which it was not taught, still draws.
    let (voken, describes) = (
        built_in.join("sprout-open/voken"),
        desk.path().join("describes"),
    );
    fs::create_dir(&describes).unwrap();
    for name in ["model.safetensors", "vision.safetensors"] {
        fs::copy(voken.join(name), describes.join(name)).unwrap();
    }
    let config = fs::read_to_string(voken.join("config.json")).unwrap();
    let config = config.replace("\"vokens\"", "\"description\"");
    fs::write(describes.join("config.json"), config).unwrap();
    let options = "--config rows.toml --stories 1 --seed 5 --steps 4 --json out.json";
    crate::support::vokenboard(&built_in)
        .current_dir(desk.path())
        .args(["eval", "stories"])
        .args(options.split(' '))
        .assert()
        .success()
        .stdout(contains("| no references |").and(contains("Fréchet").not()))
        .stdout(contains("which of 100 drawings"));
    let report = fs::read_to_string(desk.path().join("out.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["world"], "library");
    let value = |row: usize, metric: &str| report["rows"][row]["metrics"][metric]["value"].as_f64();
    for metric in [
        "recall",
        "precision",
        "place",
        "time",
        "weather",
        "all_correct",
    ] {
        assert_eq!(value(2, metric), Some(1.0), "{metric}");
        assert_eq!(value(2, "frechet"), None);
    }
    let recall = |row| value(row, "recall").unwrap();
    assert!(recall(0) > recall(1) && recall(3) > recall(1), "{report}");
    assert!(recall(4) < 1.0 && value(4, "perplexity").is_none());
    assert!(value(0, "perplexity").unwrap() > 1.0 && value(1, "perplexity").is_none());
    // What the storyworld has no references for is refused by name.
    fs::write(desk.path().join("rows.toml"), rows[1..].concat()).unwrap();
    crate::support::vokenboard(&built_in)
        .current_dir(desk.path())
        .args(["eval", "stories", "--config", "rows.toml"])
        .assert()
        .code(1)
        .stderr(contains("rows.toml").and(contains("\"no references\"")));
}

#[test]
fn the_built_in_model_draws_what_it_never_saw() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sprout-open");
    let model = CompositionDiffusion::load(&dir, &ComputeDevices::of(&Device::Cpu)).unwrap();
    let options = DrawingOptions {
        samples: 3,
        seed: 2,
        how: DenoisingOptions {
            steps: 12,
            guidance: 2.0,
            ..DenoisingOptions::default()
        },
        source: DrawingSource::HeldOut,
    };
    let report = judge_drawings(&model, &options, None, &mut |_| {}).unwrap();
    let (real, drawn) = (report.real.all(), report.drawn.all());
    assert_eq!((real.of, drawn.of), (18, 18));
    assert!(real.right >= 17 && drawn.right >= 15, "{report:?}");
}
