//! Redoing a picture the way one means it: a part of it, from it, variations, larger, by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers, Role, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::engine::Loader;
use vokenboard::story::{Edit, Member, MemberId, Record, Retouch};
use vokenboard::studio::actions::{Action, InspectorControl};

use crate::Dropped;
use crate::cast::drag;
use crate::studio_support::Doodle;
use crate::window::{FOX, Test, open_with};

/// A studio whose painter can be asked for everything, with a picture.
fn drawn_in(width: f32, height: f32, theme: Theme) -> Test {
    let mut t = open_with(width, height, theme, |parts| {
        parts.loader_for = Arc::new(|_| {
            let loader: Loader = Box::new(|_| {
                let doodle = Doodle::new(Duration::from_millis(1));
                Ok(Box::new(doodle.that_takes(|takes| {
                    takes.init = true;
                    takes.mask = true;
                    takes.variation = true;
                    takes.references = 2;
                    takes.control = ["scribble", "canny"].map(String::from).to_vec();
                })))
            });
            loader
        });
    });
    // The same picture on every machine.
    for setting in [InspectorControl::Seed(7), InspectorControl::LockSeed(true)] {
        let state = &mut t.studio.state_mut().state;
        state.perform(Action::Set(setting), Instant::now());
    }
    t.write(FOX);
    t.idle();
    t.click("Picture 1");
    t
}

fn drawn() -> Test {
    drawn_in(1280.0, 800.0, Theme::Light)
}

/// How the picture that panel 1 shows was made.
fn record(t: &Test) -> Record {
    let take = t.state().panels()[0].picture().unwrap();
    take.record.clone().unwrap()
}

/// Presses what may lie below the fold of the inspector.
fn press(t: &mut Test, label: &str) {
    t.studio.get_by_label(label).scroll_to_me();
    t.studio.run_steps(8);
    t.click(label);
}

/// Moves a slider of the inspector.
fn slide(t: &mut Test, name: &str, value: f64) {
    let slider = t.studio.get_by_role_and_label(Role::Slider, name);
    slider.set_value_accesskit(value);
    t.studio.run_steps(2);
}

fn grey(t: &Test, id: &vokenboard::story::ImageId, x: u32, y: u32) -> u8 {
    t.state().board.images.get(id).unwrap().get_pixel(x, y).0[0]
}

#[test]
fn a_part_is_painted_over_and_only_that_is_drawn_anew() {
    let mut t = drawn();
    let before = t.state().panels()[0].picture().unwrap().image.clone();
    t.double_click("Picture 1");
    t.click("Redraw a part");
    drag(&mut t, (0.2, 0.5), (0.4, 0.5));
    drag(&mut t, (0.8, 0.2), (0.8, 0.3));
    t.shot("mask");
    // The last stroke goes, the story stays.
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.takes(0), 1);
    t.click("Erase");
    drag(&mut t, (0.4, 0.5), (0.45, 0.5));
    t.click("Redraw only here");
    t.idle();
    assert_eq!(t.takes(0), 2);
    let made = record(&t).settings;
    let init = made.init.unwrap();
    assert_eq!((init.image, init.strength), (before, 1.0));
    let mask = made.mask.unwrap();
    assert_eq!(
        t.state().board.images.get(&mask).unwrap().dimensions(),
        (256, 256)
    );
    assert_eq!(grey(&t, &mask, 60, 128), 255, "painted");
    assert_eq!(grey(&t, &mask, 110, 128), 0, "erased");
    assert_eq!(grey(&t, &mask, 205, 64), 0, "taken back");
    assert_eq!(grey(&t, &mask, 60, 10), 0, "never touched");
    assert!(made.region.is_some(), "in full detail");

    // What is painted is still there; turned about, and then loaded from a file.
    t.click("Invert");
    t.click("In full detail");
    t.click("Redraw only here");
    t.idle();
    let made = record(&t).settings;
    let mask = made.mask.unwrap();
    assert_eq!(
        (grey(&t, &mask, 60, 128), grey(&t, &mask, 60, 10)),
        (0, 255)
    );
    assert!(made.region.is_none());
    let file = t.dir.join("mask.png");
    let half =
        image::GrayImage::from_fn(32, 32, |x, _| image::Luma([if x < 16 { 255 } else { 0 }]));
    half.save(&file).unwrap();
    t.answers.paths.lock().unwrap().push_back(file);
    t.click("Load a mask…");
    t.until("the mask", |s| {
        let canvas = s.state().state.framing.canvas.as_ref().unwrap();
        canvas.mask().get_pixel(200, 128).0[0] == 0
    });
    t.click("Redraw only here");
    t.idle();
    let mask = record(&t).settings.mask.unwrap();
    assert_eq!(
        (grey(&t, &mask, 60, 128), grey(&t, &mask, 200, 128)),
        (255, 0)
    );
    // An ordinary picture of the panel is no part of one.
    t.key(Modifiers::NONE, Key::Escape);
    press(&mut t, "Regenerate image");
    t.idle();
    let made = record(&t).settings;
    assert!(made.init.is_none() && made.mask.is_none());
}

#[test]
fn a_picture_is_drawn_from_the_take_by_a_slider_that_shows_it_live() {
    let mut t = drawn();
    let first = t.state().panels()[0].picture().unwrap().image.clone();
    let seed = record(&t).settings.seed;
    slide(&mut t, "Strength", 0.3);
    t.studio.run_steps(2);
    t.until("a picture", |s| {
        s.state().state.panels()[0].pictures.len() == 2
    });
    let made = record(&t).settings;
    let init = made.init.unwrap();
    assert_eq!((&init.image, init.strength, made.seed), (&first, 0.3, seed));
    // The slider goes on from where it began, not from what it made.
    slide(&mut t, "Strength", 0.8);
    t.studio.run_steps(2);
    t.until("another", |s| {
        s.state().state.panels()[0].pictures.len() == 3
    });
    let init = record(&t).settings.init.unwrap();
    assert_eq!((&init.image, init.strength), (&first, 0.8));
    let third = t.state().panels()[0].picture().unwrap().image.clone();
    press(&mut t, "From the take shown");
    press(&mut t, "Draw from it");
    t.idle();
    assert_eq!(record(&t).settings.init.unwrap().image, third);

    // From a picture of the author's, and from a scribble.
    let photo = t.dir.join("photo.png");
    let pixels = image::RgbImage::from_pixel(64, 48, image::Rgb([10, 120, 200]));
    pixels.save(&photo).unwrap();
    t.answers.paths.lock().unwrap().push_back(photo);
    press(&mut t, "From a picture…");
    t.until("the picture", |s| {
        let state = &s.state().state;
        state.framing.has_source(state.panels()[0].id)
    });
    press(&mut t, "Draw from it");
    t.idle();
    let init = record(&t).settings.init.unwrap().image;
    assert_eq!(
        t.state().board.images.get(&init).unwrap().dimensions(),
        (64, 48)
    );
    press(&mut t, "From a scribble");
    drag(&mut t, (0.2, 0.2), (0.8, 0.2));
    t.shot("scribble");
    t.click("Use this scribble");
    press(&mut t, "Draw from it");
    t.idle();
    let init = record(&t).settings.init.unwrap().image;
    assert_eq!(
        (grey(&t, &init, 128, 51), grey(&t, &init, 128, 200)),
        (0, 255)
    );
}

#[test]
fn four_variations_become_takes_and_a_larger_picture_is_ordered() {
    let mut t = drawn();
    let seed = record(&t).settings.seed;
    slide(&mut t, "Variation", 0.35);
    t.studio.run_steps(2);
    press(&mut t, "Four variations");
    t.idle();
    let takes = t.state().panels()[0].pictures.items();
    assert_eq!(takes.len(), 5);
    let mut towards: Vec<u64> = takes[1..]
        .iter()
        .map(|take| {
            let made = &take.record.as_ref().unwrap().settings;
            let variation = made.variation.clone().unwrap();
            assert_eq!((made.seed, variation.strength), (seed, 0.35));
            variation.seed
        })
        .collect();
    towards.dedup();
    assert_eq!(towards.len(), 4);
    t.shot("variations");

    press(&mut t, "4 times as large");
    press(&mut t, "Make it larger");
    t.idle();
    let made = record(&t).settings;
    let upscale = made.upscale.unwrap();
    assert_eq!(
        (upscale.scale, upscale.file, made.variation),
        (4.0, None, None)
    );
    assert_eq!(made.init.unwrap().strength, 0.3);
}

#[test]
fn the_frame_is_dragged_and_what_lies_outside_is_drawn() {
    let mut t = drawn();
    t.double_click("Picture 1");
    t.click("Extend");
    let handle = t.studio.get_by_label("Frame on the right").rect().center();
    let picture = t.studio.get_by_label("Large picture 1").rect();
    let to = handle + egui::vec2(picture.width() / 4.0, 0.0);
    t.studio.hover_at(handle);
    t.studio.run_steps(2);
    t.studio.drag_at(handle);
    t.studio.run_steps(2);
    for share in [0.5, 1.0] {
        t.studio.hover_at(handle + (to - handle) * share);
        t.studio.run_steps(2);
    }
    t.shot("extend");
    t.studio.drop_at(to);
    t.studio.run_steps(3);
    t.click("Draw outside");
    t.idle();
    let made = record(&t).settings;
    let margins = made.outpaint.unwrap();
    assert_eq!((margins.left, margins.top, margins.bottom), (0, 0, 0));
    assert!((56..=72).contains(&margins.right), "{margins:?}");
    assert!(made.mask.is_none() && made.init.is_some());
}

#[test]
fn a_take_is_cropped_flipped_and_turned_into_takes_with_a_record() {
    let mut t = drawn();
    let first = t.state().panels()[0].picture().unwrap().image.clone();
    t.double_click("Picture 1");
    t.click("Crop");
    drag(&mut t, (0.0, 0.0), (0.5, 1.0));
    t.shot("crop");
    t.click("Crop to the box");
    let take = t.state().panels()[0].picture().unwrap();
    assert!(
        (126..=130).contains(&take.width) && take.height == 256,
        "{} x {}",
        take.width,
        take.height
    );
    t.click("Turn right");
    t.click("Flip sideways");
    let take = t.state().panels()[0].picture().unwrap();
    assert_eq!(take.width, 256);
    let made = record(&t);
    let done: Vec<Retouch> = made.retouched.iter().map(|done| done.how).collect();
    assert_eq!(done[1..], [Retouch::RotateRight, Retouch::FlipHorizontal]);
    assert_eq!(made.retouched[0].of, first);
    assert_eq!((t.takes(0), &*made.model), (4, "doodle"));
    t.studio
        .get_by_label_contains("cropped, turned right, flipped sideways");
    // Saved with every picture that the record names.
    t.saved();
    let dir = t.state().board.project.clone().unwrap();
    for retouched in &made.retouched {
        assert!(dir.join("images").join(retouched.of.file_name()).is_file());
    }
    t.click("Undo");
    assert_eq!(t.takes(0), 3);
}

#[test]
fn the_next_picture_follows_a_sketch() {
    let mut t = drawn();
    press(&mut t, "Follow a scribble");
    drag(&mut t, (0.1, 0.5), (0.9, 0.5));
    t.click("Use this scribble");
    t.key(Modifiers::NONE, Key::Escape);
    press(&mut t, "Regenerate image");
    t.idle();
    let made = record(&t).settings;
    let control = &made.control[0];
    assert_eq!(control.kind, "scribble");
    // Lines are white on black.
    assert_eq!(
        (
            grey(&t, &control.image, 128, 128),
            grey(&t, &control.image, 128, 20)
        ),
        (255, 0)
    );
    press(&mut t, "Follow nothing");
    press(&mut t, "Regenerate image");
    t.idle();
    assert!(record(&t).settings.control.is_empty());
}

#[test]
fn a_picture_is_dropped_into_the_panel_that_is_open_large() {
    let mut t = drawn();
    t.double_click("Picture 1");
    let photo = t.dir.join("photo.png");
    let pixels = image::RgbImage::from_pixel(640, 400, image::Rgb([10, 120, 200]));
    pixels.save(&photo).unwrap();
    let file = Arc::new(Dropped(photo));
    t.studio.input_mut().dropped_files.push(file);
    t.until("the picture", |s| {
        s.state().state.panels()[0].pictures.len() == 2
    });
    let take = t.state().panels()[0].picture().unwrap();
    assert_eq!((take.width, take.height, t.texts().len()), (640, 400, 1));
    // Its own picture can be retouched, and stays the author's.
    t.studio.run_steps(3);
    t.click("Flip upside down");
    let panel = &t.state().panels()[0];
    assert!(!record(&t).is_drawn() && panel.picture_to_describe().is_some());
}

#[test]
fn the_viewer_with_a_mask_looks_as_it_did() {
    for (theme, name) in [
        (Theme::Light, "viewer_mask"),
        (Theme::Dark, "viewer_mask_dark"),
    ] {
        let mut t = drawn_in(1366.0, 768.0, theme);
        t.double_click("Picture 1");
        t.click("Redraw a part");
        drag(&mut t, (0.25, 0.4), (0.6, 0.7));
        t.studio.remove_cursor();
        t.studio.run_steps(4);
        t.shot(name);
    }
}

/// Lets a picture go over the window.
fn drop_picture(t: &mut Test, name: &str, blue: u8) {
    let photo = t.dir.join(name);
    let pixels = image::RgbImage::from_pixel(64, 40, image::Rgb([10, 120, blue]));
    pixels.save(&photo).unwrap();
    let file = Arc::new(Dropped(photo));
    t.studio.input_mut().dropped_files.push(file);
}

#[test]
fn a_picture_is_dropped_into_the_panel_under_the_pointer() {
    let mut t = drawn();
    t.write("The fox slept.");
    t.idle();
    assert_eq!(t.chosen(), [2]);
    let first = t.studio.get_by_label("Picture 1").rect();
    t.studio.hover_at(first.center());
    t.studio.run_steps(2);
    drop_picture(&mut t, "one.png", 1);
    t.until("the picture", |s| {
        s.state().state.panels()[0].pictures.len() == 2
    });
    assert_eq!((t.texts().len(), t.takes(1)), (2, 1));
    // Beside the cards it is a panel of its own.
    t.studio
        .hover_at(first.left_bottom() + egui::vec2(10.0, 300.0));
    t.studio.run_steps(2);
    drop_picture(&mut t, "two.png", 2);
    t.until("the panel", |s| s.state().state.panels().len() == 3);
    // Where no system says where the pointer is, the selected panel has it that waits for one.
    t.click("Add panel");
    t.studio.event(egui::Event::PointerGone);
    t.studio.run_steps(2);
    let panels = t.texts().len();
    let bare = t.chosen()[0] - 1;
    drop_picture(&mut t, "three.png", 3);
    t.until("the picture", |s| {
        s.state().state.panels()[bare].pictures.len() == 1
    });
    assert_eq!(t.texts().len(), panels);
}

#[test]
fn likeness_begins_and_ends_where_the_author_says() {
    let mut t = drawn();
    let image = t.state().panels()[0].picture().unwrap().image.clone();
    let member = Member {
        id: MemberId(1),
        name: "Fox".to_owned(),
        pictures: vec![image],
        ..Member::default()
    };
    let edit = Action::Apply(Box::new(Edit::AddMember { at: 0, member }));
    t.studio.state_mut().state.perform(edit, Instant::now());
    t.studio.run_steps(3);
    slide(&mut t, "Likeness begins", 0.2);
    slide(&mut t, "Likeness ends", 0.7);
    press(&mut t, "Regenerate image");
    t.idle();
    let likeness = record(&t).settings.likeness.unwrap();
    assert_eq!((likeness.start, likeness.end), (0.2, 0.7));
    // What begins after its end would never work.
    slide(&mut t, "Likeness ends", 0.1);
    assert!(t.state().shown().likeness.as_ref().unwrap().start <= 0.1 + 1e-6);
    let file = t.dir.join("adapter.safetensors");
    t.answers.paths.lock().unwrap().push_back(file.clone());
    press(&mut t, "Choose a file: IP-Adapter");
    t.studio.run_steps(3);
    let used = t.state().shown().likeness.clone().unwrap().adapter.unwrap();
    assert_eq!(used.file, file.to_string_lossy());
    let file = t.dir.join("canny.safetensors");
    t.answers.paths.lock().unwrap().push_back(file.clone());
    press(&mut t, "Choose a file: ControlNet");
    t.studio.run_steps(3);
    assert_eq!(t.state().framing.controlnet, file.to_string_lossy());
}

#[test]
fn a_seed_that_was_chosen_is_that_of_the_next_picture() {
    let mut t = open_with(1280.0, 800.0, Theme::Light, |_| {});
    let choose = |t: &mut Test, seed| {
        let state = &mut t.studio.state_mut().state;
        state.perform(Action::Set(InspectorControl::Seed(seed)), Instant::now());
    };
    let seed = |t: &Test, panel: usize| {
        let take = t.state().panels()[panel].picture().unwrap();
        take.record.as_ref().unwrap().settings.seed
    };
    choose(&mut t, 99);
    t.write(FOX);
    t.idle();
    assert_eq!(seed(&t, 0), 99);
    t.write("The fox slept.");
    t.idle();
    assert_ne!(seed(&t, 1), 99, "not locked");
    // The field shows the seed of the selected panel then, and what is chosen there is the next one.
    choose(&mut t, 5);
    t.write("An owl came.");
    t.idle();
    assert_eq!(seed(&t, 2), 5);
}
