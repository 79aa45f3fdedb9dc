//! The window, compared with pictures of it in `tests/snapshots/window`; `UPDATE_SNAPSHOTS=1`
//! writes them anew, to be looked at. One test, since a software device that several threads ask
//! at once may wait for ever.

#[path = "studio_support/mod.rs"]
mod studio_support;
#[path = "studio/window.rs"]
#[allow(dead_code, reason = "what an author does is tested elsewhere")]
mod window;

use std::time::Instant;

use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::Queryable as _;
use egui_kittest::{OsThreshold, SnapshotOptions};
use vokenboard::studio::actions::{Action, InspectorControl};
use window::{FOX, Test, open_sized, open_with};

/// Adds what is wrong with the picture `name` of the window to `wrong`.
fn look(t: &mut Test, name: &str, wrong: &mut Vec<String>) {
    // The pointer's traces and animations have gone by then.
    t.studio.run_steps(20);
    let options = SnapshotOptions::new()
        .output_path("tests/snapshots/window")
        // As many as a blinking cursor has, and the seconds that a picture took; other systems'
        // devices smooth edges in their own way.
        .max_failed_pixels(OsThreshold::new(120).macos(4000).windows(4000));
    if let Err(difference) = t.studio.try_snapshot_options(name, &options) {
        wrong.push(format!("{name}: {difference}"));
    }
}

/// Three panels, two of them told, and drawn with the same seed everywhere.
fn three_panels(theme: Theme) -> Test {
    let mut t = open_sized(1280.0, 800.0, theme);
    for setting in [InspectorControl::Seed(7), InspectorControl::LockSeed(true)] {
        let state = &mut t.studio.state_mut().state;
        state.perform(Action::Set(setting), Instant::now());
    }
    t.write_texts(&["A boy called Milo runs to the harbour."]);
    for text in [FOX, "The bear finds a kite on the beach."] {
        t.write(text);
        t.idle();
    }
    t.saved();
    t
}

#[test]
fn the_window_looks_as_it_did() {
    let mut wrong = Vec::new();
    for (theme, name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        let mut t = open_with(1280.0, 800.0, theme, |parts| {
            // The start page names it.
            parts.projects = "/home/author/Stories".into();
        });
        look(&mut t, &format!("welcome-{name}"), &mut wrong);
        drop(t);

        let mut t = three_panels(theme);
        look(&mut t, &format!("board-{name}"), &mut wrong);
        t.click("Picture 2");
        look(&mut t, &format!("panel-{name}"), &mut wrong);
        t.double_click("Picture 2");
        t.studio.get_by_label("Large picture 2");
        look(&mut t, &format!("viewer-{name}"), &mut wrong);
    }
    let mut t = open_sized(900.0, 600.0, Theme::Light);
    t.write_texts(&["A hen sings.", "Nobody listens."]);
    look(&mut t, "small", &mut wrong);
    t.key(Modifiers::NONE, Key::F1);
    look(&mut t, "help", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
