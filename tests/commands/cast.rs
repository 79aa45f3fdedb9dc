//! The cast and the panels of a story at the command line.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use image::{Rgba, RgbaImage};
use predicates::str::contains;
use serde_json::Value;
use vokenboard::story::{Project, Story};

use crate::support::{copy, tiny_models};

/// A folder of an author's, with a story of two panels and pictures beside it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        let picture = RgbaImage::from_fn(40, 30, |x, y| Rgba([x as u8 * 6, y as u8 * 8, 90, 255]));
        picture.save(desk.path("milo.png")).unwrap();
        fs::write(desk.path("milo.safetensors"), b"a LoRA").unwrap();
        fs::write(desk.path("not.png"), b"no picture").unwrap();
        desk.run(&[
            "tell",
            "Milo finds a lantern.",
            "--model",
            "tiny",
            "--steps",
            "1",
            "--seed",
            "3",
            "--panels",
            "2",
            "--out",
            "story",
        ]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("vokenboard").unwrap();
        command
            .env("VOKENBOARD_MODELS", tiny_models())
            .env("XDG_DATA_HOME", self.path("data"))
            .current_dir(self.0.path())
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    }

    /// Ends with 1 and one sentence that names `what`; the story stays as it was.
    fn refuses(&self, args: &[&str], what: &str) {
        let before = fs::read(self.path("story/story.json")).unwrap();
        let output = self.command(args).assert().code(1).stderr(contains(what));
        let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert_eq!(before, fs::read(self.path("story/story.json")).unwrap());
    }

    fn story(&self) -> Story {
        let (document, _, warnings) = Project::read(&self.path("story")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        document.story().clone()
    }
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_cast_is_added_listed_changed_and_removed() {
    let desk = Desk::new();
    desk.run(&[
        "cast",
        "story",
        "add",
        "Milo",
        "--also",
        "the boy",
        "--description",
        "small, red scarf",
        "--picture",
        "milo.png",
        "--picture",
        "milo.png@10,5,20,20",
        "--picture",
        "panel:1",
        "--picture",
        "panel:2:1@0,0,8,8",
        "--lora",
        "milo.safetensors:0.7",
    ]);
    let story = desk.story();
    let milo = &story.cast[0];
    assert_eq!(milo.names().collect::<Vec<_>>(), ["Milo", "the boy"]);
    assert_eq!(milo.pictures.len(), 4);
    let (_, images, _) = Project::read(&desk.path("story")).unwrap();
    let sizes: Vec<(u32, u32)> = milo
        .pictures
        .iter()
        .map(|id| images.get(id).unwrap().dimensions())
        .collect();
    assert_eq!((sizes[0], sizes[1], sizes[3]), ((40, 30), (20, 20), (8, 8)));
    assert_eq!(milo.pictures[2], story.panels[0].picture().unwrap().image);
    assert_eq!(milo.lora.as_ref().unwrap().weight, 0.7);
    let listed = desk.run(&["cast", "story", "list"]);
    assert!(
        listed.starts_with("Milo, also the boy: small, red scarf (4 pictures; LoRA ")
            && listed.contains("in panels 1"),
        "{listed}"
    );
    let changed = desk.run(&[
        "cast",
        "story",
        "set",
        "the boy",
        "--name",
        "Milo Two",
        "--no-pictures",
        "--no-lora",
        "--kind",
        "thing",
        "--json",
    ]);
    let changed = object(&changed);
    assert_eq!(changed["event"], "changed");
    assert_eq!(changed["member"]["kind"], "thing");
    assert_eq!(changed["member"]["description"], "small, red scarf");
    assert_eq!(desk.story().cast[0].pictures, []);
    desk.run(&["cast", "story", "remove", "milo two"]);
    assert_eq!(desk.story().cast, []);
    assert_eq!(
        desk.run(&["cast", "story", "list"]),
        "the story has no cast\n"
    );
}

#[test]
fn a_listed_cast_is_told_with() {
    let desk = Desk::new();
    desk.run(&[
        "cast",
        "story",
        "add",
        "Milo",
        "--description",
        "a fox",
        "--picture",
        "milo.png",
        "--lora",
        "milo.safetensors",
    ]);
    let listed = desk.run(&["cast", "story", "list", "--json"]);
    fs::write(desk.path("cast.json"), &listed).unwrap();
    fs::create_dir(desk.path("toml")).unwrap();
    fs::copy(desk.path("milo.png"), desk.path("toml/face.png")).unwrap();
    fs::write(
        desk.path("toml/cast.toml"),
        "[[cast]]\nname = \"Milo\"\ndescription = \"a fox\"\npictures = [\"face.png\"]\n\
         lora = \"../milo.safetensors:0.5\"\n",
    )
    .unwrap();
    for (number, cast) in ["cast.json", "toml/cast.toml", "story"].iter().enumerate() {
        let out = format!("told-{number}");
        desk.run(&[
            "tell",
            "Milo sleeps in the forest.",
            "--model",
            "tiny",
            "--steps",
            "1",
            "--panels",
            "1",
            "--cast",
            cast,
            "--out",
            &out,
        ]);
        let (document, _, warnings) = Project::read(&desk.path(&out)).unwrap();
        assert!(warnings.is_empty());
        let story = document.story();
        let milo = &story.cast[0];
        assert_eq!((&*milo.name, milo.pictures.len()), ("Milo", 1), "{cast}");
        assert!(milo.lora.is_some());
        // A painter of the storyworld is told what it knows.
        let record = story.panels[0].picture().unwrap().record.clone().unwrap();
        assert_eq!(record.prompt, "The fox sleeps in the forest.");
    }
    // Told on with another cast: who is there by name becomes as listed.
    fs::write(
        desk.path("more.json"),
        r#"[{"name": "milo", "description": "an owl"}, {"name": "Ann"}]"#,
    )
    .unwrap();
    desk.run(&[
        "tell",
        "--continue",
        "--model",
        "tiny",
        "--steps",
        "1",
        "--panels",
        "1",
        "--cast",
        "more.json",
        "--out",
        "told-0",
    ]);
    let (document, ..) = Project::read(&desk.path("told-0")).unwrap();
    let cast = &document.story().cast;
    assert_eq!((cast.len(), &*cast[0].description), (2, "an owl"));
}

#[test]
fn what_is_no_cast_is_told_in_a_sentence_before_anything_is_made() {
    let desk = Desk::new();
    let add = |more: &[&'static str]| [&["cast", "story", "add", "Ann"], more].concat();
    desk.refuses(&["cast", "story", "add", " "], "needs a name");
    desk.refuses(
        &["cast", "story", "set", "Ann", "--kind", "place"],
        "no cast, so there is no Ann",
    );
    desk.refuses(&add(&["--picture", "gone.png"]), "gone.png");
    desk.refuses(&add(&["--picture", "not.png"]), "not.png");
    desk.refuses(&add(&["--picture", "panel:9"]), "no panel 9");
    desk.refuses(&add(&["--picture", "panel:1:7"]), "no take 7");
    desk.refuses(&add(&["--picture", "milo.png@30,0,20,9"]), "40x30");
    desk.refuses(&add(&["--picture", "milo.png@1,2"]), "no box");
    desk.refuses(
        &add(&["--lora", "gone.safetensors"]),
        "no LoRA gone.safetensors",
    );
    desk.refuses(&add(&["--lora", "milo.safetensors:much"]), "no weight");
    desk.refuses(&add(&["--embedding", "gone.pt"]), "no embedding gone.pt");
    desk.run(&["cast", "story", "add", "Milo"]);
    desk.refuses(&["cast", "story", "add", "MILO"], "has MILO already");
    desk.refuses(&["cast", "story", "remove", "Bob"], "name one of Milo");
    desk.refuses(&["cast", "nowhere", "list"], "nowhere");
    for (name, text) in [
        ("text.txt", "nothing"),
        ("odd.json", r#"{"cast": [{"description": "x"}]}"#),
        ("empty.json", r#"[{"name": " "}]"#),
        (
            "lost.json",
            r#"[{"name": "Ann", "pictures": ["gone.png"]}]"#,
        ),
    ] {
        fs::write(desk.path(name), text).unwrap();
        let args = [
            "tell", "A fox.", "--model", "tiny", "--panels", "1", "--out", "new", "--cast", name,
        ];
        let what = if name == "lost.json" {
            "gone.png"
        } else {
            name
        };
        desk.refuses(&args, what);
        assert!(!desk.path("new").exists(), "{name}");
    }
}

#[test]
fn panels_are_made_and_changed_by_hand() {
    let desk = Desk::new();
    let texts = || -> Vec<String> {
        desk.story()
            .panels
            .iter()
            .map(|panel| panel.text.clone())
            .collect()
    };
    let second = texts()[1].clone();
    let added = desk.run(&[
        "panel",
        "story",
        "add",
        "Rain falls.",
        "--picture",
        "milo.png",
        "--prompt",
        "rain on a roof",
        "--direction",
        "nobody is out",
        "--json",
    ]);
    let added = object(&added);
    assert_eq!(
        (&added["event"], &added["panel"], &added["panels"]),
        (&"added".into(), &3.into(), &3.into())
    );
    let story = desk.story();
    let third = &story.panels[2];
    let take = third.picture().unwrap();
    assert_eq!(
        (take.width, take.height, take.record.is_none()),
        (40, 30, true)
    );
    assert_eq!(added["image"], take.image.as_str());
    assert_eq!(third.prompt.as_deref(), Some("rain on a roof"));
    assert_eq!(third.direction, "nobody is out");

    desk.run(&["panel", "story", "insert", "1", "Once."]);
    desk.run(&["panel", "story", "move", "4", "2"]);
    assert_eq!(
        texts(),
        ["Once.", "Rain falls.", "Milo finds a lantern.", &second]
    );
    // A text of a model's stays as a take beside the author's.
    desk.run(&["panel", "story", "set", "4", "--text", "The end."]);
    let story = desk.story();
    assert_eq!(story.panels[3].texts.len(), 2);
    assert!(story.panels[3].picture_is_older());
    desk.run(&["cast", "story", "add", "Milo"]);
    desk.run(&["panel", "story", "set", "4", "--cast", "milo"]);
    let story = desk.story();
    assert_eq!(story.in_panel(&story.panels[3]), [story.cast[0].id]);
    desk.run(&["panel", "story", "set", "4", "--no-cast", "--no-prompt"]);
    let story = desk.story();
    assert_eq!(story.in_panel(&story.panels[3]), []);
    desk.run(&["panel", "story", "remove", "2"]);
    assert_eq!(texts(), ["Once.", "Milo finds a lantern.", "The end."]);

    desk.refuses(&["panel", "story", "insert", "9", "x"], "1 to 4");
    desk.refuses(&["panel", "story", "remove", "4"], "no panel 4");
    desk.refuses(&["panel", "story", "move", "1", "4"], "no panel 4");
    desk.refuses(&["panel", "story", "set", "1"], "nothing is said");
    desk.refuses(&["panel", "story", "set", "1", "--cast", "Bob"], "no Bob");
    desk.refuses(
        &[
            "panel",
            "story",
            "set",
            "1",
            "--picture",
            "not.png",
            "--text",
            "x",
        ],
        "not.png",
    );
    desk.command(&["panel", "story", "remove", "0"])
        .assert()
        .failure();
}

#[test]
fn a_story_that_is_open_elsewhere_is_left_alone() {
    let desk = Desk::new();
    let _open = Project::open(desk.path("story")).unwrap();
    desk.refuses(&["cast", "story", "add", "Ann"], "open");
    desk.refuses(&["panel", "story", "add", "Rain."], "open");
    // To look is free.
    assert!(desk.run(&["cast", "story", "list"]).contains("no cast"));
    assert!(Path::new(&desk.path("story/story.json")).is_file());
}

/// A desk with an author's own picture model, a tiny Stable Diffusion.
fn own_model() -> (Desk, PathBuf) {
    let desk = Desk::new();
    let models = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
        .keep();
    crate::common::write_tiny_models(&models);
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/09b-sd1-ckpt-legacy");
    let to = desk.path("mine");
    copy(&from.join("config"), &to.join("config"));
    fs::copy(from.join("model.ckpt"), to.join("ink.ckpt")).unwrap();
    let mut add = desk.command(&["models", "add", "mine/ink.ckpt"]);
    add.env("VOKENBOARD_MODELS", &models).assert().success();
    (desk, models)
}

#[test]
fn looks_reach_an_own_model_and_the_picture_comes_back_byte_for_byte() {
    let (desk, models) = own_model();
    desk.run(&[
        "cast",
        "story",
        "add",
        "Milo",
        "--description",
        "red scarf, gap tooth",
        "--picture",
        "milo.png",
    ]);
    let draw = |more: &[&str]| {
        let flags = [
            "regenerate",
            "story",
            "--panel",
            "1",
            "--model",
            "ink",
            "--writer",
            "tiny-writer",
            "--steps",
            "2",
            "--size",
            "32x24",
            "--seed",
            "5",
        ];
        let mut command = desk.command(&[&flags[..], more].concat());
        command.env("VOKENBOARD_MODELS", &models);
        command
    };
    let record = || {
        let story = desk.story();
        let take = story.panels[0].picture().unwrap();
        (take.image.clone(), take.record.clone().unwrap())
    };
    draw(&[]).assert().success();
    let (image, made) = record();
    assert_eq!(
        made.prompt,
        "Milo finds a lantern. Milo: red scarf, gap tooth"
    );
    let milo = desk.story().cast[0].clone();
    let reference = &made.settings.references[0];
    assert_eq!(
        (&reference.image, reference.member),
        (&milo.pictures[0], Some(milo.id))
    );
    assert_eq!(reference.prompt, "red scarf, gap tooth");
    draw(&[]).assert().success();
    assert_eq!(record().0, image, "the same settings give the same bytes");
    // Without likeness, without Milo, or by name: each is another picture.
    draw(&["--likeness", "0"]).assert().success();
    let (plain, made) = record();
    assert!(plain != image && made.settings.references.is_empty());
    desk.run(&["panel", "story", "set", "1", "--cast", ""]);
    draw(&["--likeness", "0.5"]).assert().success();
    let (nobody, made) = record();
    assert_eq!(made.prompt, "Milo finds a lantern.");
    assert!(nobody != plain && made.settings.references.is_empty());
    draw(&["--reference", "cast:Milo"]).assert().success();
    let (named, made) = record();
    let reference = &made.settings.references[0];
    assert_eq!(
        (&reference.image, reference.member),
        (&milo.pictures[0], None)
    );
    assert!(named != nobody);
    draw(&["--reference", "cast:Bob"])
        .assert()
        .code(1)
        .stderr(contains("no Bob"));
    // The storyworld's own painter takes none.
    let mut tiny = desk.command(&[
        "regenerate",
        "story",
        "--panel",
        "1",
        "--model",
        "tiny",
        "--likeness",
        "0.5",
    ]);
    tiny.assert()
        .code(1)
        .stderr(contains("leave --likeness out"));
}
