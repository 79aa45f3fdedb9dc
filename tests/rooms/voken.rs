//! A story told by MiniGPT-5: a folder of public weights (tiny, random) is added and told with.

use assert_cmd::Command;
use image::RgbaImage;
use predicates::str::contains;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vokenboard::pipeline::{
    ContextPanel, LoadOptions, Make, Output, Pipeline, Progress, Request, loader,
};
use vokenboard::story::{Images, Likeness, Member, MemberId, PanelId, Settings};
use vokenboard::weights::{DeviceChoice, DeviceKind};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
}

/// A models folder and, elsewhere, the model that was added to it; made once.
fn added() -> (PathBuf, PathBuf) {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let weights =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint");
        copy(&weights, &dir.path().join("tiny"));
        fs::create_dir(dir.path().join("models")).unwrap();
        program(&dir.path().join("models"))
            .args(["models", "add"])
            .arg(dir.path().join("tiny"))
            .assert()
            .success()
            .stdout(contains("added tiny"));
        dir
    });
    (dir.path().join("models"), dir.path().join("tiny"))
}

fn program(models: &Path) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    command.env(
        "VOKENBOARD_DATA",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
    );
    command.env("VOKENBOARD_MODELS", models);
    command
}

fn pipeline() -> Box<dyn Pipeline> {
    let (models, model) = added();
    let load = loader(LoadOptions {
        models: Some(models),
        model: Some(model.to_str().unwrap().to_string()),
        device: DeviceChoice::Only(DeviceKind::Cpu),
        ..LoadOptions::default()
    });
    let mut told = Vec::new();
    let pipeline = load(&mut |progress| told.push(progress)).unwrap();
    let layer = told
        .iter()
        .find(|p| p.what == "language model, layer 2 of 3");
    assert_eq!(layer.map(|p| (p.done, p.of)), Some((0, 3)));
    assert!(
        told.iter().any(|p| p.what == "vision tower, block 3 of 4"),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|p| p.what.starts_with("picture model, up block 1 of "))
    );
    let mut parts: Vec<_> = told.iter().map(|p| (p.done, p.of)).collect();
    parts.dedup();
    assert_eq!(parts, [(0, 3), (1, 3), (2, 3), (3, 3)]);
    pipeline
}

fn panel(id: u64, text: &str, shade: Option<u8>) -> ContextPanel {
    let paint = |shade| RgbaImage::from_pixel(40, 30, image::Rgba([shade, 90, 200, 255]));
    ContextPanel {
        id: PanelId(id),
        text: text.to_string(),
        picture: shade.map(|shade| Arc::new(paint(shade))),
    }
}

fn request(context: Vec<ContextPanel>, text: Option<&str>, make: Make) -> Request {
    Request {
        context,
        text: text.map(str::to_string),
        picture: None,
        make,
        settings: Settings {
            seed: 5,
            steps: 2,
            ..Settings::default()
        },
        ..Request::default()
    }
}

fn made(pipeline: &mut dyn Pipeline, request: &Request) -> Output {
    let made = pipeline.generate(request, &mut |_| ControlFlow::Continue(()));
    made.unwrap().unwrap()
}

fn pixels(output: &Output) -> &RgbaImage {
    &output.picture.as_ref().unwrap().0
}

#[test]
fn a_story_is_told_by_the_folder_and_by_its_id() {
    let (models, model) = added();
    let temp = tempfile::tempdir().unwrap();
    let mut stories = Vec::new();
    for name in [model.to_str().unwrap(), "tiny"] {
        let out = temp.path().join(stories.len().to_string());
        program(&models)
            .args([
                "tell",
                "Two boats on the water.",
                "--model",
                name,
                "--device",
                "cpu",
            ])
            .args(["--panels", "2", "--steps", "2", "--seed", "3", "--out"])
            .arg(&out)
            .assert()
            .success();
        let story: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("story.json")).unwrap()).unwrap();
        let text = story.to_string();
        assert!(text.contains("\"pipeline\":\"voken\""), "{text}");
        assert_eq!(fs::read_dir(out.join("images")).unwrap().count(), 2);
        let mut pictures: Vec<_> = fs::read_dir(out.join("images"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        pictures.sort();
        stories.push(pictures);
    }
    assert_eq!(stories[0], stories[1]);
}

#[test]
fn pictures_and_texts_on_the_board_change_the_next_picture() {
    let mut pipeline = pipeline();
    let say = "the kids played with a ball";
    let mut draw = |context: Vec<ContextPanel>, text: &str| {
        let order = request(context, Some(text), Make::Picture);
        let output = made(pipeline.as_mut(), &order);
        assert!(output.text.is_none());
        let (picture, record) = output.picture.unwrap();
        assert!(record.prompt.contains(text) && record.pipeline == "voken");
        picture
    };
    let before = |shade| vec![panel(1, "my sister arrived", shade)];
    let dark = draw(before(Some(0)), say);
    assert_eq!(dark, draw(before(Some(0)), say));
    let light = draw(before(Some(250)), say);
    assert_ne!(dark, light);
    let unseen = draw(before(None), say);
    assert_ne!(unseen, dark);
    assert_ne!(unseen, draw(Vec::new(), say));
    assert_ne!(dark, draw(before(Some(0)), "two boats on the water"));
}

#[test]
fn the_three_orders_give_what_they_ask_for() {
    let mut pipeline = pipeline();
    let context = || vec![panel(1, "a man is reading a book", Some(120))];
    let text = made(pipeline.as_mut(), &request(context(), None, Make::Text));
    assert!(text.picture.is_none());
    let said = &text.text.as_ref().unwrap().0;
    assert!(!said.trim().is_empty() && !said.contains("IMG"), "{said}");

    let both = made(pipeline.as_mut(), &request(context(), None, Make::Both));
    let (said, record) = both.text.as_ref().unwrap();
    assert!(!said.trim().is_empty() && !said.contains("IMG"), "{said}");
    assert_eq!(record.context, [PanelId(1)]);
    let size = pipeline.describe().takes.size.width;
    assert_eq!(pixels(&both).dimensions(), (size, size));
    let again = made(pipeline.as_mut(), &request(context(), None, Make::Both));
    assert_eq!(again.text.as_ref().unwrap().0, *said);
    assert_eq!(pixels(&again), pixels(&both));

    // A picture of no text follows from the story alone.
    let picture = made(pipeline.as_mut(), &request(context(), None, Make::Picture));
    assert!(picture.text.is_none() && picture.picture.is_some());
}

/// With so little memory that only one network fits at a time, each leaves before the next comes
/// and is read again, and what is made is the same.
#[test]
fn where_memory_is_short_the_parts_take_turns() {
    let (models, model) = added();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("small");
    copy(&model, &dir);
    let parts = dir.join("vokenboard.toml");
    let text = fs::read_to_string(&parts).unwrap();
    fs::write(&parts, format!("memory = \"10MB\"\n{text}")).unwrap();
    let load = loader(LoadOptions {
        models: Some(models),
        model: Some(dir.to_str().unwrap().to_string()),
        device: DeviceChoice::Only(DeviceKind::Cpu),
        ..LoadOptions::default()
    });
    let mut told = Vec::new();
    let mut short = load(&mut |progress| told.push(progress.what)).unwrap();
    assert!(
        told.iter().all(|what| !what.starts_with("vision tower")),
        "{told:?}"
    );
    let order = || request(vec![panel(1, "two boats", Some(9))], None, Make::Both);
    let mut loads = Vec::new();
    let made_short = short.generate(&order(), &mut |progress| {
        if let Progress::Loading(part) = progress
            && !part.what.contains(',')
        {
            loads.push(part.what);
        }
        ControlFlow::Continue(())
    });
    let made_short = made_short.unwrap().unwrap();
    assert_eq!(loads, ["vision tower", "language model", "picture model"]);
    let whole = made(pipeline().as_mut(), &order());
    assert_eq!(
        whole.text.as_ref().unwrap().0,
        made_short.text.as_ref().unwrap().0
    );
    assert_eq!(pixels(&whole), pixels(&made_short));
}

#[test]
fn pieces_make_up_the_text_and_cancelling_is_obeyed() {
    let mut pipeline = pipeline();
    let order = request(vec![panel(1, "two boats", Some(9))], None, Make::Both);
    let (mut pieces, mut done, mut steps) = (String::new(), String::new(), 0);
    let whole = pipeline.generate(&order, &mut |progress| {
        match progress {
            Progress::TextPiece(piece) => pieces.push_str(&piece),
            Progress::TextDone(text, _) => done = text,
            Progress::Step { .. } => steps += 1,
            Progress::Loading(_) | Progress::Still | Progress::Waiting(_) | Progress::Note(_) => {
                panic!("everything was loaded, here")
            }
        }
        ControlFlow::Continue(())
    });
    let whole = whole.unwrap().unwrap();
    assert_eq!(whole.text.unwrap().0, done);
    assert!(steps >= 2 && !pieces.is_empty());
    for stop in [0, 1] {
        let mut at = 0;
        let cancelled = pipeline.generate(&order, &mut |_| {
            at += 1;
            match at > stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        assert!(cancelled.unwrap().is_none());
    }
}

#[test]
fn the_oldest_panels_are_left_out_of_a_story_that_is_too_long() {
    let mut pipeline = pipeline();
    let sentence = "my sister arrived early to help me with the family barbecue. ".repeat(4);
    let long: Vec<ContextPanel> = (0..40).map(|i| panel(i, &sentence, Some(7))).collect();
    let output = made(
        pipeline.as_mut(),
        &request(long, Some("the end"), Make::Picture),
    );
    let prompt = &output.picture.unwrap().1.prompt;
    let told = prompt.matches("<ImageHere>").count();
    assert!(told > 1 && told < 40, "{told}");
}

#[test]
fn the_cast_is_seen_before_the_story() {
    let mut pipeline = pipeline();
    let images = Images::new();
    let face = RgbaImage::from_fn(20, 30, |x, y| {
        image::Rgba([9, x as u8 * 9, y as u8 * 8, 255])
    });
    let milo = Member {
        name: "Milo".into(),
        description: "a red scarf".into(),
        pictures: vec![images.put(face)],
        ..Member::new(MemberId(1))
    };
    let story = vec![panel(1, "A door opens.", Some(120))];
    let plain = request(story, Some("Milo runs."), Make::Picture);
    let with_cast = |cast: Vec<Member>, who: Option<Vec<MemberId>>| {
        let mut request = plain.clone();
        request.board.cast = cast;
        request.cast = who;
        request.images = images.clone();
        request
    };
    let picture =
        |pipeline: &mut dyn Pipeline, request: &Request| made(pipeline, request).picture.unwrap();
    let (before, record) = picture(pipeline.as_mut(), &plain);
    assert!(record.settings.references.is_empty());
    let seen = with_cast(vec![milo.clone()], None);
    let (after, record) = picture(pipeline.as_mut(), &seen);
    assert!(after != before, "what is seen counts");
    let told = record.prompt.find("This is Milo: a red scarf.");
    assert!(
        told < record.prompt.find("A door opens."),
        "{}",
        record.prompt
    );
    assert_eq!(record.context, [PanelId(1)], "it is no panel");
    // Its record draws it again, without the story's cast.
    let again = Request {
        settings: record.settings.clone(),
        images: images.clone(),
        ..plain.clone()
    };
    assert!(picture(pipeline.as_mut(), &again).0 == after);
    // Who is not there is not shown.
    let nobody = with_cast(vec![milo.clone()], Some(Vec::new()));
    assert!(picture(pipeline.as_mut(), &nobody).0 == before);
    // A picture is seen or it isn't.
    let mut half = with_cast(vec![milo], None);
    half.settings.likeness = Some(Likeness {
        strength: 0.3,
        ..Likeness::default()
    });
    let refused = pipeline.generate(&half, &mut |_| ControlFlow::Continue(()));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("strength 1"), "{refused}");
}
