//! The window in its usual states, light and dark, compared with pictures of it.

use std::time::Instant;

use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::studio::actions::{Action, InspectorControl};

use crate::window::{FOX, Test, open_sized, open_with};

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
    for (theme, name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        let mut t = open_with(1280.0, 800.0, theme, |parts| {
            // The start page names it.
            parts.projects = "/home/author/Stories".into();
        });
        t.shot(&format!("welcome-{name}"));
        drop(t);

        let mut t = three_panels(theme);
        t.shot(&format!("board-{name}"));
        t.click("Picture 2");
        t.shot(&format!("panel-{name}"));
        t.double_click("Picture 2");
        t.studio.get_by_label("Large picture 2");
        t.shot(&format!("viewer-{name}"));
    }
    let mut t = open_sized(900.0, 600.0, Theme::Light);
    t.write_texts(&["A hen sings.", "Nobody listens."]);
    t.shot("two-texts-small");
    t.key(Modifiers::NONE, Key::F1);
    t.shot("help-small");
}
