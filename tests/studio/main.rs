//! The studio, driven by the labels that an author (or a screen reader) sees.

mod bearings;
mod cast;
mod choices;
#[path = "../common/mod.rs"]
mod common;
mod engines;
mod gpus;
mod hands;
mod looks;
mod models;
mod redo;
#[path = "../remote/server.rs"]
#[allow(dead_code, reason = "the tests of engines use all of it")]
mod server;
mod state;
mod studio_support;
mod window;
mod words;

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use window::{FOX, open, open_sized};

#[test]
fn a_stranger_tells_a_first_story() {
    let mut t = open();
    t.shot("welcome");
    assert!(
        t.studio.get_by_label("Composer").is_focused(),
        "the cursor is in the composer"
    );
    t.write(FOX);
    t.idle();
    assert_eq!(t.texts(), [FOX]);
    t.studio.get_by_label("Picture 1");
    t.shot("one");
    // Enter on the empty composer goes on.
    t.hold.in_the_picture();
    t.key(Modifiers::NONE, Key::Enter);
    t.until("denoising", |s| {
        s.state().state.work.running().is_some_and(|r| r.step > 2)
    });
    t.shot("denoising");
    assert!(
        t.texts()[1].ends_with('.'),
        "the text is there while its picture denoises"
    );
    t.studio.get_by_label("Text of panel 2");
    t.hold.let_go();
    t.idle();
    let texts = t.texts();
    assert_eq!(texts.len(), 2);
    assert!(texts[1].ends_with('.'), "{texts:?}");
    t.studio.get_by_label("Picture 2");

    t.hold.in_the_text();
    t.click("Tell 5 panels");
    t.until("writing", |s| {
        let running = s.state().state.work.running();
        running.is_some_and(|r| !r.text_done && r.text.len() > 10)
    });
    t.shot("writing");
    t.hold.let_go();
    t.idle();
    assert_eq!(t.texts().len(), 7);
    t.shot("seven");
    let records: Vec<_> = t.state().panels()[2..]
        .iter()
        .map(|p| {
            p.texts
                .active()
                .unwrap()
                .record
                .clone()
                .unwrap()
                .context
                .len()
        })
        .collect();
    assert_eq!(records, [2, 3, 4, 5, 6], "each reads all before it");
}

#[test]
fn a_sample_opening_and_words_of_the_model_are_a_click_away() {
    let mut t = open();
    t.click("fox");
    t.click("Show things");
    t.click("kite");
    t.click("Show places");
    t.click("beach");
    assert_eq!(t.state().view.composer, "A fox and a kite on the beach");
    t.shot("words");
    t.click("An owl and a rabbit share a cake in the garden.");
    t.idle();
    assert_eq!(
        t.texts(),
        ["An owl and a rabbit share a cake in the garden."]
    );
    t.click("Characters");
    t.shot("popup");
    t.click("bear");
    assert_eq!(t.state().view.composer, "A bear");
}

#[test]
fn cancel_stops_at_once_and_leaves_nothing_half_made() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.hold.in_the_text();
    t.click("Tell 5 panels");
    t.until("at work", |s| {
        s.state()
            .state
            .work
            .running()
            .is_some_and(|r| r.text.len() > 4)
    });
    let waiting = t.state().work.waiting();
    assert_eq!(waiting, 4);
    t.click("Cancel");
    t.idle();
    let texts = t.texts();
    assert!(
        texts.len() <= 2 && texts.iter().all(|t| !t.is_empty()),
        "{texts:?}"
    );

    // Esc does the same, while a picture denoises; the panel's own text stays.
    t.hold.in_the_picture();
    t.write("A bear sings.");
    t.until("denoising", |s| {
        s.state().state.work.running().is_some_and(|r| r.step > 0)
    });
    t.key(Modifiers::NONE, Key::Escape);
    t.idle();
    assert_eq!(t.texts().last().unwrap(), "A bear sings.");
    assert_eq!(t.takes(t.texts().len() - 1), 0);
}

#[test]
fn regenerating_adds_takes_and_the_author_picks_one() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.click("Regenerate image");
    t.idle();
    assert_eq!((t.takes(0), t.shown(0)), (2, Some(1)));
    let seeds: Vec<u64> = t.state().panels()[0]
        .pictures
        .items()
        .iter()
        .map(|take| take.record.as_ref().unwrap().settings.seed)
        .collect();
    assert_ne!(seeds[0], seeds[1], "a new take has a new seed");
    t.click("Take 1");
    assert_eq!(t.shown(0), Some(0));
    assert_eq!(
        t.state().shown().seed,
        seeds[0],
        "the inspector shows how it was made"
    );
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.shown(0), Some(1));

    t.click("Lock seed");
    t.click("Regenerate image");
    t.idle();
    let again = &t.state().panels()[0].pictures.items()[2];
    assert_eq!(
        again.image,
        t.state().panels()[0].pictures.items()[1].image,
        "same seed, same picture"
    );

    t.click("Rewrite text");
    t.idle();
    assert_ne!(t.texts()[0], FOX);
    t.click("Previous text");
    assert_eq!(t.texts()[0], FOX);
    t.shot("takes");
}

#[test]
fn the_guidance_slider_draws_one_take_for_the_value_it_settles_on() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    let seed = t.state().shown().seed;
    let rail = t
        .studio
        .get_by_role_and_label(egui::Role::Slider, "Guidance")
        .rect();
    let at = |x: f32| egui::pos2(rail.left() + rail.width() * x, rail.center().y);
    t.studio.drag_at(at(0.12));
    t.studio.run_steps(1);
    for i in 0..30 {
        t.studio.hover_at(at(0.12 + 0.02 * i as f32));
        t.studio.run_steps(1);
    }
    // Held still, the picture follows without a take.
    t.until("a glimpse", |s| {
        let state = &s.state().state;
        let take = state.panels()[0].pictures.active().unwrap();
        let kept = state.board.images.get(&take.image);
        state.picture_of(state.panels()[0].id) != kept
    });
    assert_eq!(t.takes(0), 1);
    t.studio.drop_at(at(0.7));
    t.studio.run_steps(3);
    t.idle();
    t.until("the take", |s| {
        s.state().state.panels()[0].pictures.items().len() > 1
    });
    t.idle();
    assert_eq!(t.takes(0), 2, "one take for one settled value");
    let made = t.state().panels()[0]
        .pictures
        .active()
        .unwrap()
        .record
        .clone()
        .unwrap()
        .settings;
    assert_eq!(made.seed, seed, "the same seed");
    assert!((made.guidance - t.state().shown().guidance).abs() < 1e-4);
    assert!((10.0..11.5).contains(&made.guidance), "{}", made.guidance);
    t.shot("guidance");
}

#[test]
fn panels_are_edited_duplicated_deleted_and_all_of_it_undone() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    t.click("Duplicate panel 2");
    assert_eq!(t.texts(), ["One.", "Two.", "Two.", "Three."]);
    t.click("Delete panel 1");
    assert_eq!(t.texts(), ["Two.", "Two.", "Three."]);
    t.studio.get_by_label("Text of panel 3").focus();
    t.studio.run_steps(2);
    t.studio
        .get_by_label("Text of panel 3")
        .type_text(" And so on.");
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Enter);
    assert_eq!(t.texts()[2], "Three. And so on.");
    t.click("Add panel");
    assert_eq!(t.texts().len(), 4);

    let full = t.texts();
    let mut undone = 0;
    while t.state().board.document.can_undo() {
        t.click("Undo");
        undone += 1;
        assert!(undone < 50);
    }
    assert!(t.texts().is_empty());
    for _ in 0..undone {
        t.key(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    }
    assert_eq!(t.texts(), full);
}

#[test]
fn a_panel_is_dragged_to_another_place() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    let from = t.studio.get_by_label("Empty picture 1").rect().center() + egui::vec2(0.0, 90.0);
    let last = t.studio.get_by_label("Empty picture 3").rect();
    t.studio.drag_at(from);
    t.studio.run_steps(1);
    for i in 1..=10 {
        let to = egui::pos2(last.right() - 20.0, last.center().y);
        t.studio.hover_at(from.lerp(to, i as f32 / 10.0));
        t.studio.run_steps(1);
    }
    t.shot("dragging");
    t.studio
        .drop_at(egui::pos2(last.right() - 20.0, last.center().y));
    t.studio.run_steps(3);
    assert_eq!(t.texts(), ["Two.", "Three.", "One."]);
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.texts(), ["One.", "Two.", "Three."]);
}

#[test]
fn panels_moved_and_deleted_while_one_is_made_lose_nothing() {
    let mut t = open();
    t.write_texts(&["One.", "Two."]);
    t.hold.in_the_picture();
    t.write("A fox sleeps.");
    t.until("denoising", |s| {
        s.state().state.work.running().is_some_and(|r| r.step > 0)
    });
    t.click("Delete panel 1");
    t.click("Duplicate panel 1");
    t.hold.let_go();
    t.idle();
    assert_eq!(t.texts(), ["Two.", "Two.", "A fox sleeps."]);
    assert_eq!(
        [t.takes(0), t.takes(1), t.takes(2)],
        [0, 0, 1],
        "the picture found its panel"
    );

    t.hold.in_the_picture();
    t.click("Draw picture 1");
    t.until("denoising", |s| {
        s.state().state.work.running().is_some_and(|r| r.step > 0)
    });
    t.click("Delete panel 1");
    t.idle();
    assert_eq!(t.texts(), ["Two.", "A fox sleeps."]);
    t.click("Undo");
    assert_eq!(t.texts(), ["Two.", "Two.", "A fox sleeps."]);
}

#[test]
fn the_keyboard_does_it_all() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    t.key(Modifiers::NONE, Key::ArrowLeft);
    let second = t.state().panels()[1].id;
    assert_eq!(t.state().view.selected, Some(second));
    t.key(Modifiers::COMMAND, Key::D);
    assert_eq!(t.texts(), ["One.", "Two.", "Two.", "Three."]);
    t.key(Modifiers::NONE, Key::Delete);
    assert_eq!(t.texts(), ["One.", "Two.", "Three."]);
    t.key(Modifiers::COMMAND, Key::Z);
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.texts(), ["One.", "Two.", "Three."]);
    t.key(Modifiers::COMMAND, Key::Y);
    assert_eq!(t.texts(), ["One.", "Two.", "Two.", "Three."]);
    // A sentence in the composer keeps the keys for itself.
    t.studio.get_by_label("Composer").type_text("Hm");
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::ArrowLeft);
    t.key(Modifiers::NONE, Key::Delete);
    assert_eq!(t.texts().len(), 4);
    assert_eq!(t.state().view.composer, "H");
}

#[test]
fn a_picture_opens_large_and_closes() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.write("A bear sings in the garden.");
    t.idle();
    t.click("Picture 1");
    assert!(t.state().view.large.is_none(), "one click selects");
    t.double_click("Picture 1");
    t.studio.get_by_label("Large picture 1");
    t.shot("large");
    t.click("Next picture");
    t.studio.get_by_label("Large picture 2");
    t.key(Modifiers::NONE, Key::Escape);
    assert!(t.studio.query_by_label("Large picture 2").is_none());
    t.studio.get_by_label("Picture 1");
}

#[test]
fn the_board_looks_right_in_every_size_and_theme() {
    for (width, height, theme, name) in [
        (900.0, 600.0, egui::Theme::Light, "small"),
        (1920.0, 1080.0, egui::Theme::Light, "wide"),
        (1280.0, 800.0, egui::Theme::Dark, "dark"),
    ] {
        let mut t = open_sized(width, height, theme);
        t.shot(&format!("{name}-welcome"));
        t.write(FOX);
        t.idle();
        let long = "The owl tells everyone what it saw, and what it heard, and what it thought. "
            .repeat(9);
        t.write_texts(&[long.trim(), "Two."]);
        t.click("Tell 5 panels");
        t.until("the third", |s| s.state().state.panels().len() > 5);
        t.idle();
        t.shot(name);
        let window = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(width, height));
        for label in [
            "Composer",
            "Text + image",
            "Tell 5 panels",
            "Undo",
            "Export",
            "File",
            "Story title",
        ] {
            let rect = t.studio.get_by_label(label).rect();
            assert!(
                window.contains_rect(rect),
                "{label} is outside the window at {width}: {rect}"
            );
        }
    }
}

#[test]
fn the_board_is_kept_by_itself_and_opens_as_it_was() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.click("Regenerate image");
    t.idle();
    t.click("Take 1");
    t.saved();
    let dir = t.dir.join("projects").join("A fox finds a glowing lantern");
    assert_eq!(t.state().board.project.as_deref(), Some(dir.as_path()));
    assert!(dir.join("story.json").is_file());
    let story = t.state().story().clone();

    t.key(Modifiers::COMMAND, Key::N);
    assert!(t.texts().is_empty(), "a new board");
    t.write_texts(&["Another story."]);
    t.key(Modifiers::COMMAND, Key::S);
    t.saved();
    assert!(t.dir.join("projects").join("Another story").is_dir());

    t.answers.paths.lock().unwrap().push_back(dir);
    t.key(Modifiers::COMMAND, Key::O);
    t.until("opened", |s| {
        s.state()
            .state
            .panels()
            .first()
            .is_some_and(|p| p.text == FOX)
    });
    assert_eq!(t.state().story(), &story, "takes included");
    t.studio.run_steps(3);
    t.studio.get_by_label("Picture 1");
}

#[test]
fn what_cannot_be_opened_is_said_and_nothing_is_lost() {
    let mut t = open();
    t.write_texts(&["One."]);
    t.answers.paths.lock().unwrap().push_back("/nowhere".into());
    t.click("File");
    t.click("Open…");
    t.until("a message", |s| {
        s.query_by_label("Dismiss message").is_some()
    });
    t.shot("message");
    t.click("Dismiss message");
    assert!(t.studio.query_by_label("Dismiss message").is_none());
    assert_eq!(t.texts(), ["One."]);
}

/// A file that the author let go over the window.
#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|e| e.to_string())
    }
}

#[test]
fn pictures_of_the_author_join_the_story() {
    let mut t = open();
    t.write_texts(&["A fox."]);
    let (photo, notes) = (t.dir.join("photo.jpg"), t.dir.join("notes.txt"));
    let picture = image::RgbImage::from_pixel(60, 40, image::Rgb([10, 120, 200]));
    picture.save(&photo).unwrap();
    std::fs::write(&notes, "no picture").unwrap();

    let over = egui::HoveredFile {
        path: Some(photo.clone()),
        mime: "image/jpeg".into(),
    };
    t.studio.input_mut().hovered_files = vec![over];
    t.studio.step();
    t.shot("files-over-the-window");
    t.studio.input_mut().hovered_files.clear();
    for path in [&photo, &notes] {
        let file = std::sync::Arc::new(Dropped(path.clone()));
        t.studio.input_mut().dropped_files.push(file);
    }
    t.until("the picture", |s| s.state().state.panels().len() == 2);
    t.studio.run_steps(3);
    t.studio.get_by_label("Picture 2");
    t.studio
        .get_by_label_contains("notes.txt is not a PNG, JPEG or WebP picture");
    let panel = &t.state().panels()[1];
    let take = panel.picture().unwrap();
    assert_eq!((take.width, take.height, &take.record), (60, 40, &None));
    assert_eq!(t.state().view.selected, Some(panel.id));

    // A text is for the picture that has none, and what is told next sees both.
    t.click("Text");
    t.idle();
    assert_eq!(t.texts().len(), 2);
    assert!(!t.texts()[1].is_empty());
    t.click("Text + image");
    t.idle();
    let seen = t.state().panels()[2].picture().unwrap().record.clone();
    assert!(seen.unwrap().context.contains(&t.state().panels()[1].id));
    for _ in 0..3 {
        t.click("Undo");
    }
    assert_eq!(t.texts(), ["A fox."], "a step of undo each");

    t.answers.paths.lock().unwrap().push_back(photo);
    t.click("File");
    t.click("Add a picture…");
    t.until("the picture", |s| s.state().state.panels().len() == 2);
}

#[test]
fn the_board_is_exported_as_sheet_markdown_and_picture() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    let out = t.dir.join("out");
    std::fs::create_dir(&out).unwrap();
    for (item, path, file) in [
        ("Sheet as PNG…", out.join("board"), out.join("board.png")),
        (
            "Markdown folder…",
            out.join("markdown"),
            out.join("markdown").join("story.md"),
        ),
        (
            "Selected picture as PNG…",
            out.join("fox.png"),
            out.join("fox.png"),
        ),
    ] {
        t.answers.paths.lock().unwrap().push_back(path);
        t.click("Export");
        if item.starts_with("Sheet") {
            t.shot("export");
        }
        t.click(item);
        t.until(item, |_| file.is_file());
    }
    let record = vokenboard::story::read_record(&out.join("fox.png"))
        .unwrap()
        .unwrap();
    let take = t.state().panels()[0].picture().unwrap();
    assert_eq!(record.settings, take.record.as_ref().unwrap().settings);
    let sheet = image::open(out.join("board.png")).unwrap();
    assert!(sheet.width() > 256 && sheet.height() > 256);
}
