//! Clicks, keys and menus on the board do what they do elsewhere.

use egui::{Key, Modifiers, Role};
use egui_kittest::kittest::Queryable as _;
use vokenboard::studio::actions::{Action, InspectorControl};

use crate::window::{FOX, Test, open};

fn drawn(texts: &[&str]) -> Test {
    let mut t = open();
    for text in texts {
        t.write(text);
        t.idle();
    }
    t
}

fn perform(t: &mut Test, action: Action) {
    let state = &mut t.studio.state_mut().state;
    state.perform(action, std::time::Instant::now());
    t.studio.run_steps(3);
}

#[test]
fn one_click_selects_two_or_space_enlarge() {
    let mut t = drawn(&[FOX, "A bear sings in the garden."]);
    t.click("Picture 1");
    assert_eq!(t.chosen(), [1]);
    assert!(t.studio.query_by_label("Large picture 1").is_none());
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    t.studio.key_press(Key::Space);
    t.studio.event(egui::Event::Text(" ".into()));
    t.studio.run_steps(6);
    t.studio.get_by_label("Large picture 1");
    assert_eq!(t.state().view.composer, "", "the space was for the viewer");
    // Nothing behind the viewer is deleted.
    t.key(Modifiers::NONE, Key::Delete);
    assert_eq!(t.texts().len(), 2);
    t.key(Modifiers::NONE, Key::Escape);
    t.double_click("Picture 2");
    t.studio.get_by_label("Large picture 2");
}

#[test]
fn letters_that_come_in_one_frame_keep_their_spaces() {
    let mut t = open();
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    for letter in ["M", "y", " ", "c", "a", "t"] {
        t.studio.event(egui::Event::Text(letter.into()));
    }
    t.studio.run_steps(3);
    assert_eq!(t.state().view.composer, "My cat");
}

#[test]
fn plus_puts_the_cursor_into_the_new_panel() {
    let mut t = open();
    t.write_texts(&["One."]);
    t.click("Add panel");
    assert!(t.studio.get_by_label("Text of panel 2").is_focused());
    t.studio.get_by_label("Text of panel 2").type_text("Two.");
    t.studio.run_steps(3);
    assert_eq!(t.texts(), ["One.", "Two."]);
}

#[test]
fn a_panel_is_inserted_and_told_after_the_selected_one() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    t.click("Empty picture 1");
    t.key(Modifiers::COMMAND, Key::Enter);
    assert_eq!(t.texts(), ["One.", "", "Two.", "Three."]);
    assert!(t.studio.get_by_label("Text of panel 2").is_focused());
    t.click("Undo");
    t.click("Empty picture 1");
    t.studio.get_by_label("Goes after panel 1");
    t.write("One and a half.");
    t.idle();
    assert_eq!(t.texts(), ["One.", "One and a half.", "Two.", "Three."]);
    t.click("Empty picture 1");
    t.click("Tell 5 panels");
    t.idle();
    let texts = t.texts();
    assert_eq!(texts.len(), 9);
    assert_eq!(
        texts[6..],
        ["One and a half.", "Two.", "Three."],
        "{texts:?}"
    );
    let read: Vec<usize> = t.state().panels()[1..6]
        .iter()
        .map(|p| p.picture().unwrap().record.as_ref().unwrap().context.len())
        .collect();
    assert_eq!(read, [1, 2, 3, 4, 5], "one after the other");
}

#[test]
fn a_picture_goes_into_an_existing_panel() {
    let mut t = open();
    t.write_texts(&["A fox.", "An owl."]);
    t.click("Empty picture 1");
    let picture = egui::ColorImage::filled([60, 40], egui::Color32::from_rgb(10, 120, 200));
    t.studio.event(egui::Event::PasteImage(picture.into()));
    t.studio.run_steps(3);
    assert_eq!((t.texts().len(), t.takes(0)), (2, 1));
    let photo = t.dir.join("PHOTO.JPG");
    let pixels = image::RgbImage::from_pixel(30, 50, image::Rgb([10, 120, 200]));
    pixels.save(&photo).unwrap();
    t.answers.paths.lock().unwrap().push_back(photo);
    t.studio.get_by_label("Picture 1").click_secondary();
    t.studio.run_steps(3);
    t.shot("panel-menu");
    t.click("Put a picture here…");
    t.until("the picture", |s| {
        s.state().state.panels()[0].pictures.len() == 2
    });
    let shown = t.state().panels()[0].picture().unwrap();
    assert_eq!((shown.width, shown.height), (30, 50));
    t.studio.run_steps(2);
    t.shot("own-shapes");
    t.click("Undo");
    assert_eq!(t.takes(0), 1);
}

#[test]
fn keys_go_to_both_ends_and_by_pages() {
    let mut t = open();
    let texts: Vec<String> = (1..=30).map(|n| format!("Page {n}.")).collect();
    for text in &texts {
        t.studio.state_mut().state.view.composer = text.clone();
        perform(&mut t, Action::Tell(vokenboard::engine::Make::Text));
    }
    t.key(Modifiers::NONE, Key::Home);
    assert_eq!(t.chosen(), [1]);
    let page = t.state().view.columns * t.state().view.rows;
    t.key(Modifiers::NONE, Key::PageDown);
    assert_eq!(t.chosen(), [1 + page]);
    t.key(Modifiers::NONE, Key::End);
    assert_eq!(t.chosen(), [30]);
    t.key(Modifiers::NONE, Key::PageUp);
    assert_eq!(t.chosen(), [30 - page]);
}

#[test]
fn several_panels_are_chosen_redrawn_and_deleted() {
    let mut t = drawn(&["A fox sleeps.", "An owl wakes.", "A bear sings."]);
    t.write_texts(&["Four."]);
    t.click("Picture 1");
    let third = t.state().panels()[2].id;
    perform(&mut t, Action::Toggle(third));
    assert_eq!(t.chosen(), [1, 3]);
    t.shot("several");
    t.click("Redraw pictures");
    t.idle();
    assert_eq!([t.takes(0), t.takes(1), t.takes(2)], [2, 1, 2]);
    perform(&mut t, Action::Toggle(third));
    assert_eq!(t.chosen(), [1]);
    perform(&mut t, Action::Extend(third));
    assert_eq!(t.chosen(), [1, 2, 3]);
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Delete);
    assert_eq!(t.texts(), ["Four."]);
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.texts().len(), 4, "one step of undo");
    t.key(Modifiers::COMMAND, Key::A);
    assert_eq!(t.chosen(), [1, 2, 3, 4]);
    t.click("Empty picture 4");
    assert_eq!(t.chosen(), [4]);
}

#[test]
fn clicks_with_a_key_held_add_to_what_is_chosen() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    t.key(Modifiers::NONE, Key::Home);
    t.studio.run_steps(6);
    let click = |t: &mut Test, panel: usize, held| {
        let label = format!("Empty picture {panel}");
        t.studio.get_by_label(&label).click_modifiers(held);
        t.studio.run_steps(4);
    };
    click(&mut t, 1, Modifiers::NONE);
    click(&mut t, 3, Modifiers::COMMAND);
    assert_eq!(t.chosen(), [1, 3]);
    click(&mut t, 3, Modifiers::COMMAND);
    assert_eq!(t.chosen(), [1]);
    click(&mut t, 3, Modifiers::SHIFT);
    assert_eq!(t.chosen(), [1, 2, 3]);
    click(&mut t, 2, Modifiers::NONE);
    assert_eq!(t.chosen(), [2]);
}

#[test]
fn takes_have_a_menu_and_two_stand_side_by_side() {
    let mut t = drawn(&[FOX]);
    t.click("Regenerate image");
    t.idle();
    t.studio.get_by_label("Take 1").click_secondary();
    t.studio.run_steps(3);
    t.shot("take-menu");
    t.click("Compare with the one shown");
    t.studio.get_by_label("Large picture 1");
    t.studio.get_by_label("Take 1 beside it");
    t.shot("compare");
    // Over each other by a slider, which says how much of the picture is whose.
    let divide = |t: &mut Test, share: f64| {
        let slider = t.studio.get_by_role_and_label(Role::Slider, "Divider");
        slider.set_value_accesskit(share);
        t.studio.run_steps(3);
        let rect = |label: &str| t.studio.get_by_label(label).rect();
        (rect("Large picture 1"), rect("Take 1 beside it"))
    };
    let (shown, other) = divide(&mut t, 0.25);
    let at = shown.left() + 0.25 * shown.width();
    assert!((other.left() - at).abs() < 2.0 && (other.right() - shown.right()).abs() < 2.0);
    t.shot("compare-divided");
    let (shown, other) = divide(&mut t, 0.0);
    assert!(shown.right() <= other.left());
    t.click("Show the right one");
    assert_eq!(t.shown(0), Some(0));
    t.studio.get_by_label("Take 2 beside it");
    t.click("One alone");
    assert!(t.studio.query_by_label("Take 2 beside it").is_none());
    t.key(Modifiers::NONE, Key::Escape);
    t.click("Star take");
    t.studio.get_by_label("Picture 1 is a favourite");
    t.shot("favourite");
}

#[test]
fn every_undo_of_a_slow_frame_counts() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three."]);
    for _ in 0..2 {
        t.studio.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    }
    t.studio.run_steps(3);
    assert_eq!(t.texts(), ["One."]);
}

#[test]
fn settings_belong_to_what_is_selected() {
    let mut t = drawn(&["A fox sleeps.", "An owl wakes."]);
    let usual = t.state().panels()[1]
        .picture()
        .unwrap()
        .record
        .clone()
        .unwrap();
    t.click("Picture 1");
    for setting in [
        InspectorControl::Guidance(11.0, false),
        InspectorControl::LockSeed(true),
    ] {
        perform(&mut t, Action::Set(setting));
    }
    t.until("the take", |s| {
        s.state().state.panels()[0].pictures.len() == 2
    });
    t.idle();
    t.click("Picture 2");
    assert_eq!(t.state().shown().guidance, usual.settings.guidance);
    assert!(!t.state().seed_locked());
    t.write("A bear sings.");
    t.idle();
    let made = t.state().panels()[2]
        .picture()
        .unwrap()
        .record
        .clone()
        .unwrap();
    assert_eq!(made.settings.guidance, usual.settings.guidance);
    // A new story begins with the model's own settings.
    perform(&mut t, Action::Select(None));
    perform(&mut t, Action::Set(InspectorControl::Guidance(9.0, false)));
    perform(&mut t, Action::Set(InspectorControl::LockSeed(true)));
    t.saved();
    t.key(Modifiers::COMMAND, Key::N);
    assert_eq!(t.state().shown().guidance, usual.settings.guidance);
    assert!(!t.state().seed_locked());
}

#[test]
fn a_picture_older_than_its_text_says_so() {
    let mut t = drawn(&["A fox sleeps."]);
    assert!(
        t.studio
            .query_by_label("Picture 1 is older than its text")
            .is_none()
    );
    let id = t.state().panels()[0].id;
    perform(&mut t, Action::Typed(id, "A bear sleeps.".into()));
    t.studio.get_by_label("Picture 1 is older than its text");
    t.shot("older");
    t.click("Regenerate image");
    t.idle();
    assert!(
        t.studio
            .query_by_label("Picture 1 is older than its text")
            .is_none()
    );
    // A text of the model and its picture belong together.
    t.click("Text + image");
    t.idle();
    assert!(
        t.studio
            .query_by_label("Picture 2 is older than its text")
            .is_none()
    );
}
