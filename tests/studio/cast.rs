//! The cast above the board: its members, their pictures, and who is in a panel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers, Role, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::engine::{Loader, Make};
use vokenboard::pipeline::painter::PromptStyle;
use vokenboard::story::Project;
use vokenboard::studio::actions::Action;

use crate::Dropped;
use crate::studio_support::Doodle;
use crate::window::{FOX, Test, open, open_sized, open_with};

fn called_milo(t: &mut Test) {
    t.write_texts(&["A boy called Milo runs.", "Rain falls on Ann and Milo."]);
    t.click("Add Milo to the cast");
}

/// The names of whoever is in a panel, by its index.
fn there(t: &Test, panel: usize) -> Vec<String> {
    let story = t.state().story();
    let ids = story.in_panel(&story.panels[panel]);
    let members = ids.iter().filter_map(|id| story.member(*id));
    members.map(|member| member.name.clone()).collect()
}

/// Types into a field of the member's sheet and leaves it.
fn fill(t: &mut Test, field: &str, text: &str) {
    let role = match field.starts_with("How it looks") {
        true => Role::MultilineTextInput,
        false => Role::TextInput,
    };
    t.studio.get_by_role_and_label(role, field).focus();
    t.studio.run_steps(2);
    t.studio.get_by_role_and_label(role, field).type_text(text);
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Tab);
}

/// Drags over the large picture from one place to another, in shares of it.
pub fn drag(t: &mut Test, from: (f32, f32), to: (f32, f32)) {
    let rect = t.studio.get_by_label("Large picture 1").rect();
    let at = |(x, y): (f32, f32)| rect.min + egui::vec2(x, y) * rect.size();
    t.studio.hover_at(at(from));
    t.studio.run_steps(2);
    t.studio.drag_at(at(from));
    t.studio.run_steps(2);
    for step in 1..=4 {
        let share = step as f32 / 4.0;
        t.studio.hover_at(at(from) + (at(to) - at(from)) * share);
        t.studio.run_steps(1);
    }
    t.studio.drop_at(at(to));
    t.studio.run_steps(3);
}

#[test]
fn names_in_the_story_are_proposed_and_become_members_or_not() {
    let mut t = open();
    t.write_texts(&["A boy called Milo runs.", "Rain falls on Ann and Milo."]);
    t.shot("cast-proposed");
    t.click("Add Milo to the cast");
    assert_eq!(t.state().story().cast[0].name, "Milo");
    t.studio.get_by_label("Cast: Milo");
    assert!(t.studio.query_by_label("Add Milo to the cast").is_none());
    t.click("Ann is nobody of the cast");
    assert!(t.studio.query_by_label("Add Ann to the cast").is_none());
    assert_eq!(t.state().story().dismissed, ["Ann"]);
    t.click("Undo");
    t.studio.get_by_label("Add Ann to the cast");
    t.click("Undo");
    t.studio.get_by_label("Add Milo to the cast");
    assert!(t.state().story().cast.is_empty());
}

#[test]
fn who_is_in_a_panel_is_found_and_put_right_by_chips() {
    let mut t = open();
    called_milo(&mut t);
    t.click("Add Ann to the cast");
    assert_eq!(
        (there(&t, 0), there(&t, 1)),
        (
            vec!["Milo".to_owned()],
            vec!["Ann".to_owned(), "Milo".to_owned()]
        )
    );
    t.shot("cast-chips");
    t.click("Take Milo out of panel 2");
    assert_eq!(there(&t, 1), ["Ann"]);
    t.click("Who else is in panel 2");
    t.click("Milo");
    assert_eq!(
        t.state().panels()[1].cast,
        None,
        "that is what the text says"
    );
    t.click("Who else is in panel 1");
    t.click("Ann");
    assert_eq!(there(&t, 0), ["Milo", "Ann"]);
    t.saved();
    let dir = t.state().board.project.clone().unwrap();
    let (document, ..) = Project::read(&dir).unwrap();
    let story = document.story();
    assert_eq!(story.in_panel(&story.panels[0]).len(), 2);
    t.click("Undo");
    assert_eq!(there(&t, 0), ["Milo"]);
}

#[test]
fn a_member_is_edited_on_its_sheet_and_gets_pictures_that_are_dropped_there() {
    let mut t = open();
    called_milo(&mut t);
    t.click("Cast: Milo");
    fill(
        &mut t,
        "Other names, with commas between them",
        "the boy, my brother",
    );
    fill(
        &mut t,
        "How it looks, in the words of a picture prompt",
        "small, red scarf",
    );
    fill(
        &mut t,
        "LoRA that was trained on it",
        "/loras/milo.safetensors",
    );
    fill(
        &mut t,
        "Embedding that was trained on it",
        "/embeddings/milo.pt",
    );
    let photo = t.dir.join("milo.png");
    let picture =
        image::RgbImage::from_fn(60, 40, |x, y| image::Rgb([x as u8 * 4, y as u8 * 6, 9]));
    picture.save(&photo).unwrap();
    let file = std::sync::Arc::new(Dropped(photo.clone()));
    t.studio.input_mut().dropped_files.push(file);
    t.until("the picture", |s| {
        s.state().state.story().cast[0].pictures.len() == 1
    });
    assert_eq!(t.texts().len(), 2, "it is no panel");
    t.studio.get_by_label("Picture 1 of it");
    t.shot("cast-sheet");
    // The same picture again is the same picture.
    t.answers.paths.lock().unwrap().push_back(photo);
    t.click("Add a picture…");
    t.studio.run_steps(10);
    let milo = t.state().story().cast[0].clone();
    assert_eq!(milo.pictures.len(), 1);
    assert_eq!(
        milo.names().collect::<Vec<_>>(),
        ["Milo", "the boy", "my brother"]
    );
    assert_eq!(milo.description, "small, red scarf");
    assert_eq!(milo.lora.unwrap().file, "/loras/milo.safetensors");
    assert_eq!(milo.embedding.unwrap().file, "/embeddings/milo.pt");
    t.click("Without picture 1");
    assert!(t.state().story().cast[0].pictures.is_empty());
    t.click("Close Member of the cast");
    t.click("Undo");
    assert_eq!(t.state().story().cast[0].pictures.len(), 1);
    t.click("Cast: Milo");
    t.click("Take out of the cast");
    assert!(t.state().story().cast.is_empty() && t.state().view.sheet.is_none());
    t.click("Undo");
    assert_eq!(t.state().story().cast.len(), 1);
}

#[test]
fn a_member_comes_from_a_take_and_from_a_box_on_it() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.click("Picture 1");
    t.studio.get_by_label("Take 1 (shown)").click_secondary();
    t.studio.run_steps(3);
    t.click("This is");
    t.click("This is somebody new…");
    fill(&mut t, "Name", "Rusty");
    t.click("Close Member of the cast");
    let cast = &t.state().story().cast;
    assert_eq!(cast[0].name, "Rusty");
    let take = t.state().panels()[0].picture().unwrap().image.clone();
    assert_eq!(cast[0].pictures, [take]);

    t.double_click("Picture 1");
    t.click("Who is this?");
    drag(&mut t, (0.25, 0.25), (0.75, 0.5));
    t.shot("cast-box");
    t.click("This is Rusty");
    let pictures = &t.state().story().cast[0].pictures;
    assert_eq!(pictures.len(), 2);
    let boxed = t.state().board.images.get(&pictures[1]).unwrap();
    let (width, height) = boxed.dimensions();
    assert!(
        (126..=130).contains(&width) && (62..=66).contains(&height),
        "{width} x {height}"
    );
    let whole = t.state().board.images.get(&pictures[0]).unwrap();
    // Somewhere about there, as exactly as a pointer is.
    let (x, y) = ((256 - width) / 2, 64);
    let mut places = (x - 2..=x + 2).flat_map(|x| (y - 2..=y + 2).map(move |y| (x, y)));
    let corner = *boxed.get_pixel(0, 0);
    assert!(
        places.any(|(x, y)| *whole.get_pixel(x, y) == corner),
        "it is that part of the picture"
    );
    t.studio.get_by_label("Large picture 1");
    t.key(Modifiers::NONE, Key::Escape);
    t.click("Undo");
    assert_eq!(t.state().story().cast[0].pictures.len(), 1);
}

#[test]
fn the_cast_fits_small_and_dark_windows() {
    for (width, height, name) in [(1366.0, 768.0, "cast-dark"), (640.0, 480.0, "cast-small")] {
        let mut t = open_sized(width, height, Theme::Dark);
        let state = &mut t.studio.state_mut().state;
        for text in ["A boy called Milo runs.", "Rain falls on Ann and Milo."] {
            state.view.composer = text.to_owned();
            state.perform(Action::Tell(Make::Text), Instant::now());
        }
        t.studio.run_steps(3);
        t.click("Add Milo to the cast");
        t.click("Add Ann to the cast");
        t.shot(name);
        let strip = t.studio.get_by_label("Cast: Milo").rect();
        let card = t.studio.get_by_label("Empty picture 1").rect();
        assert!(
            strip.bottom() <= card.top() && card.height() > 100.0,
            "{name}"
        );
    }
}

#[test]
fn what_is_drawn_from_the_library_is_said_and_can_be_another_drawing() {
    let mut t = open_with(1280.0, 800.0, Theme::Light, |parts| {
        parts.loader_for = Arc::new(|_| {
            let loader: Loader = Box::new(|_| {
                let doodle = Doodle::new(Duration::from_millis(1));
                Ok(Box::new(doodle.that_takes(|takes| {
                    takes.prompts = PromptStyle::Composition;
                    takes.references = 4;
                    takes.sees = true;
                })))
            });
            loader
        });
    });
    t.write_texts(&["Rain falls."]);
    let sentence = "My grandmother kept bees behind the lighthouse.";
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    t.studio.get_by_label("Composer").type_text(sentence);
    t.studio.run_steps(2);
    t.studio.get_by_label(
        "Doodle draws grandmother: old woman; bees: bee; lighthouse: tower, the nearest there is",
    );
    t.shot("cast-drawn-from-the-library");
    t.click("Add to the cast");
    fill(&mut t, "Name", "Merlin");
    let none = t.state().story().cast[0].pictures.len();
    assert_eq!(none, 0);
    let field = "Look for a drawing";
    t.studio
        .get_by_role_and_label(Role::TextInput, field)
        .focus();
    t.studio.run_steps(2);
    t.studio
        .get_by_role_and_label(Role::TextInput, field)
        .type_text("wiz");
    t.studio.run_steps(3);
    t.click("Drawing of: wizard");
    let member = t.state().story().cast[0].clone();
    assert_eq!((member.pictures.len(), &*member.description), (1, "wizard"));
    t.click("Close Member of the cast");
    t.click("Undo");
    assert!(t.state().story().cast[0].pictures.is_empty());
}
