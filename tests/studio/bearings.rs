//! The start page, preferences, help, messages, and windows of every size.

use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::story::{Document, Edit, Images, Panel, Project};
use vokenboard::studio::actions::Action;
use vokenboard::studio::preferences::{ColourMode, Preferences};

use crate::window::{FOX, open, open_sized, open_with};

fn story(dir: &std::path::Path, text: &str) {
    let mut project = Project::create(dir).unwrap();
    let mut document = Document::default();
    let id = document.fresh_id();
    let images = Images::default();
    let picture = image::RgbaImage::from_pixel(60, 40, image::Rgba([10, 120, 200, 255]));
    let image = images.put(picture);
    let take = vokenboard::story::PictureTake::new(image, 60, 40, None);
    let panel = Panel::with_text(id, text);
    document.apply(Edit::InsertPanel { at: 0, panel }).unwrap();
    document
        .apply(Edit::AddPicture { panel: id, take })
        .unwrap();
    project.save(&document, &images).unwrap();
}

#[test]
fn the_start_page_goes_on_with_recent_stories() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    story(&one, "A bear bakes bread.");
    story(&two, "An owl reads a book.");
    let recent = vec![one, two.clone(), temp.path().join("gone")];
    let mut t = open_with(1280.0, 800.0, Theme::Light, |parts| {
        parts.preferences.recent = recent;
    });
    t.until("the stories", |s| s.state().state.stories.recent.len() == 2);
    t.studio.run_steps(3);
    t.studio.get_by_label("Continue “A bear bakes bread”");
    // Where they are and from which day is said on them.
    let stories = ["Open A bear bakes bread", "Open An owl reads a book"];
    t.shot_without("recent", &stories);
    t.click("Open An owl reads a book");
    t.until("opened", |s| !s.state().state.panels().is_empty());
    assert_eq!(t.state().board.project.as_deref(), Some(two.as_path()));
    assert_eq!(t.state().preferences.recent[0], two);
}

#[test]
fn preferences_are_set_and_kept() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("preferences.toml");
    let kept = file.clone();
    let mut t = open_with(1280.0, 800.0, Theme::Light, |parts| {
        parts.preferences_file = Some(kept);
    });
    t.key(Modifiers::COMMAND, Key::Comma);
    t.shot("preferences");
    t.click("Theme: Dark");
    t.shot("preferences-dark");
    let folder = temp.path().join("my stories");
    t.answers.paths.lock().unwrap().push_back(folder.clone());
    t.click("Choose a folder…");
    t.click("Close Preferences");
    let read = Preferences::load(&file);
    assert_eq!(read.theme, ColourMode::Dark);
    assert_eq!(read.folder.as_deref(), Some(folder.as_path()));
    assert!(t.studio.ctx.theme() == Theme::Dark);
    t.write_texts(&["A hen sings."]);
    t.saved();
    assert!(folder.join("A hen sings").join("story.json").is_file());
}

#[test]
fn help_messages_and_versions_are_a_key_away() {
    let mut t = open();
    t.key(Modifiers::NONE, Key::F1);
    t.studio.get_by_label("Ctrl+Shift+S");
    t.shot("help");
    t.key(Modifiers::NONE, Key::Escape);
    t.studio.run_steps(3);
    assert!(t.state().view.sheet.is_none());
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    t.studio.event(egui::Event::Text("?".into()));
    t.studio.run_steps(3);
    t.studio.get_by_label("Close Keyboard and mouse");
    assert_eq!(t.state().view.composer, "");
    t.click("Close Keyboard and mouse");

    let refused = "The story cannot be saved (Permission denied (os error 13) at path \
                   \"/x/.writing-SI0Oce\"); choose another folder.";
    let state = &mut t.studio.state_mut().state;
    state.toasts.error(refused, std::time::Instant::now());
    t.studio.run_steps(2);
    let said = &t.state().toasts.all()[0].sentence;
    assert!(
        !said.contains("os error") && !said.contains(".writing"),
        "{said}"
    );
    t.click("Help");
    t.click("Messages");
    t.shot("messages");
    t.click("Copy details of message 1");
    let copied = t.studio.output().platform_output.commands.iter().any(|command| {
        matches!(command, egui::OutputCommand::CopyText(text) if text.contains("os error 13"))
    });
    assert!(
        copied
            || t.state()
                .toasts
                .history()
                .any(|m| m.detail.as_deref() == Some(refused))
    );
    t.studio.get_by_label("The log");
    t.click("Close Messages");
    t.click("Help");
    t.click("About Vokenboard");
    t.studio.get_by_label_contains(env!("CARGO_PKG_VERSION"));
    t.shot("about");
    let libraries = "The libraries that it is built from";
    t.studio.get_by_label(libraries).click_accesskit();
    t.studio.run_steps(10);
    // No picture: the list changes with every dependency.
    t.studio.get_by_label_contains("moxcms 0.");
}

#[test]
fn a_small_or_dense_screen_has_room_for_a_story() {
    // 1366x768 pixels at scale 2, and a small window.
    for (width, height, name) in [(683.0, 384.0, "dense"), (900.0, 600.0, "folded")] {
        for theme in [Theme::Light, Theme::Dark] {
            let mut t = open_sized(width, height, theme);
            t.shot(&format!("{name}-{theme:?}-welcome"));
            t.write(FOX);
            t.idle();
            t.write("My grandmother kept bees behind the lighthouse.");
            t.idle();
            t.shot(&format!("{name}-{theme:?}"));
            assert!(t.studio.query_by_label("Guidance").is_none(), "folded away");
            t.click("Show inspector");
            t.shot(&format!("{name}-{theme:?}-inspector"));
            let window = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(width, height));
            for label in ["Composer", "Text + image", "Undo", "Export", "File", "Help"] {
                let rect = t.studio.get_by_label(label).rect();
                assert!(window.contains_rect(rect), "{label} at {width}: {rect}");
            }
            let rail = t
                .studio
                .get_by_role_and_label(egui::Role::Slider, "Guidance");
            assert!(window.contains_rect(rail.rect()));
            t.click("Hide inspector");
            assert!(t.studio.query_by_label("Guidance").is_none());
        }
    }
}

#[test]
fn the_focus_goes_through_the_window_as_it_is_read() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.studio.get_by_label("Story title").focus();
    t.studio.run_steps(2);
    let order = [
        "Undo",
        "Export",
        "File",
        "Help",
        "Picture 1",
        "Text of panel 1",
        "Add panel",
        "Star take",
        "Guidance",
        "Seed",
        "Lock seed",
        "Regenerate image",
        "Composer",
        "Text + image",
        "Tell 5 panels",
    ];
    let mut seen = Vec::new();
    for _ in 0..60 {
        t.key(Modifiers::NONE, Key::Tab);
        for label in order {
            let focused = t
                .studio
                .query_all_by_label(label)
                .any(|node| node.is_focused());
            if focused && !seen.contains(&label) {
                seen.push(label);
                if label == "Guidance" {
                    t.shot("focus-slider");
                }
            }
        }
    }
    assert_eq!(seen, order);
}

#[test]
fn words_that_the_model_does_not_know_are_said_while_they_are_typed() {
    let mut t = open();
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    let text = "My grandmother kept bees behind the lighthouse.";
    t.studio.get_by_label("Composer").type_text(text);
    t.studio.run_steps(2);
    t.studio
        .get_by_label("Doodle does not know: grandmother, bees, lighthouse");
    t.shot("unknown-words");
    t.key(Modifiers::NONE, Key::Enter);
    t.idle();
    // The next sentence is one that it knows.
    t.studio.get_by_label("Composer").type_text(FOX);
    t.studio.run_steps(2);
    assert!(t.studio.query_by_label_contains("does not know").is_none());
    // Another language is said once.
    for text in [
        "Der kleine Fuchs fand eine leuchtende Laterne im verschneiten Wald.",
        "Die alte Eule schlief den ganzen Tag lang in ihrem warmen Baum.",
    ] {
        t.studio.state_mut().state.view.composer = text.into();
        t.studio
            .state_mut()
            .state
            .perform(Action::Enter, std::time::Instant::now());
        t.idle();
    }
    let said = t.state().toasts.history();
    let said: Vec<_> = said.filter(|m| m.sentence.contains("in German")).collect();
    assert_eq!(said.len(), 1);
}

#[test]
fn closing_asks_where_panels_are_still_to_come() {
    let mut t = open();
    t.hold.in_the_picture();
    t.write(FOX);
    t.until("denoising", |s| {
        s.state().state.work.running().is_some_and(|r| r.step > 0)
    });
    t.key(Modifiers::COMMAND, Key::N);
    t.studio.get_by_label("Save a copy…");
    t.shot("leaving");
    t.click("Cancel closing");
    assert_eq!(t.texts(), [FOX]);
    t.key(Modifiers::COMMAND, Key::N);
    t.click("Close without them");
    assert!(t.texts().is_empty());
}

#[test]
fn a_desktop_without_dialogs_has_a_chooser() {
    let mut t = open();
    story(&t.dir.join("projects").join("Tale"), "A fox sleeps.");
    *t.answers.none.lock().unwrap() = true;
    t.key(Modifiers::COMMAND, Key::O);
    t.studio.run_steps(3);
    t.shot("chooser");
    t.click("Tale");
    t.until("opened", |s| !s.state().state.panels().is_empty());
    assert_eq!(t.texts(), ["A fox sleeps."]);
    // Nothing is replaced without a question.
    std::fs::write(t.dir.join("projects").join("A fox sleeps.png"), "mine").unwrap();
    t.click("Export");
    t.click("Sheet as PNG…");
    t.studio.run_steps(3);
    t.studio.get_by_label("Name");
    t.click("Save here");
    t.studio.get_by_label("There is one of this name already.");
    t.click("Cancel choosing");
    let kept = std::fs::read(t.dir.join("projects").join("A fox sleeps.png")).unwrap();
    assert_eq!(kept, b"mine");
}

#[test]
fn every_script_is_shown_and_stays_in_its_card() {
    let mut t = open();
    // Which fonts there are is the system's affair.
    let policy = egui::MissingGlyphPolicy::Tofu;
    t.studio.ctx.set_missing_glyph_policy(policy);
    t.write_texts(&[
        "狐狸在雪林里发现了一盏灯。月亮出来了，森林里静悄悄的。",
        "キツネは雪の森で光るランタンを見つけました。",
        "여우가 눈 덮인 숲에서 빛나는 등불을 발견했습니다.",
        "लोमड़ी को बर्फीले जंगल में एक चमकता हुआ लालटेन मिला।",
        "สุนัขจิ้งจอกพบโคมไฟเรืองแสงในป่าหิมะ",
        "وجد الثعلب فانوسا متوهجا في الغابة الثلجية. كان الليل باردا جدا.",
        "השועל מצא עששית זוהרת ביער המושלג. הלילה היה קר מאוד.",
        "A fox 🦊 finds a lantern 🏮 and says שלום to the owl 🦉.",
    ]);
    t.key(Modifiers::NONE, Key::Home);
    t.studio.run_steps(6);
    t.look("scripts", &[]);
    let text = |n: usize| format!("Text of panel {n}");
    let [first, second, third] = [1, 2, 3].map(|n| t.studio.get_by_label(&text(n)).rect());
    assert!(first.right() < second.left() && second.right() < third.left());
    t.key(Modifiers::NONE, Key::End);
    t.studio.run_steps(6);
    t.look("scripts-end", &[]);
    t.studio.get_by_label("Text of panel 7").click();
    t.studio.run_steps(5);
    assert!(t.studio.get_by_label("Text of panel 7").is_focused());
    let out = t.dir.join("scripts.png");
    t.answers.paths.lock().unwrap().push_back(out.clone());
    t.click("Export");
    t.click("Sheet as PNG…");
    t.until("the sheet", |_| out.is_file());
    if let Ok(dir) = std::env::var("STUDIO_SHOTS") {
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::fs::copy(&out, format!("{dir}/scripts-sheet.png")).unwrap();
    }
}
