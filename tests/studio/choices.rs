//! Takes are discarded, models chosen, keys kept to what they are for, boards of any size.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egui::{Key, Modifiers, Role, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::engine::Loader;
use vokenboard::nn::gpu::{AdapterInfo, AdapterKind};
use vokenboard::studio::state::{ModelChoice, Readiness, Storyteller};
use vokenboard::weights::{DeviceChoice, DeviceKind, DrawableWords, Manifest};

use crate::studio_support::Doodle;
use crate::window::{FOX, Test, open, open_sized, open_with, opening};

#[test]
fn a_take_is_discarded_and_undo_brings_it_back() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.click("Regenerate image");
    t.idle();
    let both = t.state().panels()[0].pictures.clone();
    t.click("Delete take");
    assert_eq!((t.takes(0), t.shown(0)), (1, Some(0)));
    let left = t.state().shown().seed;
    let first = both.items()[0].record.as_ref().unwrap().settings.seed;
    assert_eq!(left, first, "the inspector shows the take that is left");
    t.click("Undo");
    assert_eq!(t.state().panels()[0].pictures, both);

    // By keyboard: the take that has the focus goes, not the panel.
    t.studio.get_by_label("Take 1").focus();
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Delete);
    assert_eq!(t.state().panels()[0].pictures.items(), &both.items()[1..]);
    t.click("Delete take");
    t.studio.get_by_label("Empty picture 1");
    t.studio.get_by_label("Draw picture 1");
    t.key(Modifiers::COMMAND, Key::Z);
    t.key(Modifiers::COMMAND, Key::Z);
    assert_eq!(t.state().panels()[0].pictures, both);
    t.studio.get_by_label("Picture 1");

    assert!(
        t.studio.query_by_label("Delete text").is_none(),
        "the only text is deleted by typing"
    );
    t.click("Rewrite text");
    t.idle();
    let texts = t.state().panels()[0].texts.clone();
    assert_ne!(t.texts()[0], FOX);
    t.shot("two-texts");
    t.click("Delete text");
    assert_eq!(t.texts()[0], FOX);
    t.click("Undo");
    assert_eq!(t.state().panels()[0].texts, texts);
}

#[test]
fn a_gpu_is_chosen_by_its_name() {
    let asked: Arc<Mutex<Vec<DeviceChoice>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let mut t = open_with(1280.0, 800.0, Theme::Light, |parts| {
        parts.models = vec![storyteller("doodle", "Doodle", "fox")];
        parts.loader_for = Arc::new(move |choice| -> Loader {
            seen.lock().unwrap().push(choice.device);
            Box::new(|_| Ok(Box::new(Doodle::new(Duration::from_millis(2)))))
        });
    });
    let gpu = |index: usize, name: &str| AdapterInfo {
        index,
        name: name.to_owned(),
        kind: AdapterKind::Discrete,
        backend: "Vulkan".to_owned(),
        driver: String::new(),
        memory: None,
        f16: false,
        subgroups: None,
        matrix_side: None,
        largest_buffer: 1 << 27,
        workgroup_memory: 1 << 14,
        workgroup_size: 256,
    };
    let both = vec![gpu(0, "Radeon"), gpu(1, "Arc")];
    t.state().models.gpus.set(both).unwrap();
    t.click("Model and device: Doodle · CPU");
    t.click("Arc (Vulkan)");
    t.until("ready again", |s| {
        matches!(s.state().state.models.readiness, Readiness::Ready(_))
    });
    t.click("Model and device: Doodle · CPU");
    t.click("The processor goes on where it fails");
    t.until("ready once more", |s| {
        matches!(s.state().state.models.readiness, Readiness::Ready(_))
    });
    let asked = asked.lock().unwrap().clone();
    let gpu = Some(1);
    assert_eq!(
        asked,
        [
            DeviceChoice::Auto,
            DeviceChoice::Gpu(gpu),
            DeviceChoice::GpuOrCpu(gpu)
        ]
    );
}

fn storyteller(id: &str, name: &str, character: &str) -> Storyteller {
    Storyteller {
        model: id.to_owned(),
        manifest: Manifest {
            id: id.to_owned(),
            name: name.to_owned(),
            draws: DrawableWords {
                characters: vec![character.to_owned()],
                ..DrawableWords::default()
            },
            ..Manifest::default()
        },
        ..Storyteller::default()
    }
}

#[test]
fn the_author_chooses_the_model_and_the_device() {
    let asked: Arc<Mutex<Vec<ModelChoice>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let mut t = open_with(1280.0, 800.0, Theme::Light, |parts| {
        parts.models = vec![
            storyteller("doodle", "Doodle", "fox"),
            storyteller("scrawl", "Scrawl", "otter"),
        ];
        parts.loader_for = Arc::new(move |choice| -> Loader {
            seen.lock().unwrap().push(choice.clone());
            let fails = choice.model == "scrawl" && choice.device != DeviceChoice::Auto;
            Box::new(move |_| {
                if fails {
                    let reason = "scrawl does not run here; choose another device";
                    return Err(vokenboard::engine::PipelineError::Request(reason.into()));
                }
                Ok(Box::new(Doodle::new(Duration::from_millis(2))))
            })
        });
    });
    t.click("Model and device: Doodle · CPU");
    t.shot("models");
    t.click("Scrawl");
    t.until("the other model", |s| {
        s.query_by_label("Model and device: Scrawl · CPU").is_some()
    });
    t.write(FOX);
    t.idle();
    assert_eq!(t.takes(0), 1);

    // A choice that does not work is said, and another can be made.
    t.click("Model and device: Scrawl · CPU");
    t.click("CPU");
    t.until("the failure", |s| {
        matches!(s.state().state.models.readiness, Readiness::Failed(_))
    });
    t.studio.run_steps(2);
    t.click("Model and device: Scrawl · not loaded");
    t.shot("not-loaded");
    t.click("Best device that works");
    t.until("ready again", |s| {
        matches!(s.state().state.models.readiness, Readiness::Ready(_))
    });
    t.click("Regenerate image");
    t.idle();
    assert_eq!(t.takes(0), 2);
    let asked: Vec<(String, DeviceChoice)> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|choice| (choice.model.clone(), choice.device))
        .collect();
    let cpu = DeviceChoice::Only(DeviceKind::Cpu);
    let auto = DeviceChoice::Auto;
    let scrawl = || "scrawl".to_owned();
    assert_eq!(
        asked,
        [
            ("doodle".to_owned(), auto),
            (scrawl(), auto),
            (scrawl(), cpu),
            (scrawl(), auto)
        ]
    );
}

#[test]
fn words_of_the_model_are_there_while_it_loads() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(Some(wait));
    let mut t = opening(1280.0, 800.0, Theme::Light, move |parts| {
        parts.models = vec![storyteller("doodle", "Doodle", "otter")];
        parts.loader_for = Arc::new(move |_| -> Loader {
            let wait = wait.lock().unwrap().take();
            Box::new(move |_| {
                // Until the test lets go, however it ends.
                let _ = wait.map(|wait| wait.recv());
                Ok(Box::new(Doodle::new(Duration::from_millis(2))))
            })
        });
    });
    // Dropped before the studio, which waits for the loader, where the test fails.
    let go = go;
    t.studio.run_steps(3);
    assert!(matches!(t.state().models.readiness, Readiness::Loading(_)));
    t.shot("loading");
    t.click("otter");
    assert_eq!(t.state().view.composer, "An otter");
    t.key(Modifiers::NONE, Key::Enter);
    drop(go);
    t.until("the picture", |s| {
        let panels = s.state().state.panels();
        panels.first().is_some_and(|p| p.picture().is_some())
    });
}

#[test]
fn escape_closes_what_is_in_front_and_cancels_only_then() {
    let mut t = open();
    t.write(FOX);
    t.idle();
    t.hold.in_the_picture();
    t.click("Tell 5 panels");
    let first = t.state().panels()[0].id;
    let busy = |t: &Test| !t.state().work.is_idle();
    // A menu.
    t.click("Export");
    t.studio.get_by_label("Sheet as PNG…");
    t.key(Modifiers::NONE, Key::Escape);
    assert!(t.studio.query_by_label("Sheet as PNG…").is_none());
    assert!(busy(&t), "the menu was closed, the queue goes on");
    // A panel's text.
    t.studio.get_by_label("Text of panel 1").focus();
    t.studio.run_steps(2);
    assert_eq!(t.state().view.selected, Some(first));
    t.key(Modifiers::NONE, Key::Escape);
    assert!(busy(&t), "the text was left, the queue goes on");
    assert!(!t.studio.get_by_label("Text of panel 1").is_focused());
    // Nothing but the queue is left to cancel; the author can write on.
    t.studio.get_by_label("Composer").focus();
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Escape);
    t.idle();
    assert!(t.texts().len() < 6);
    assert!(t.studio.get_by_label("Composer").is_focused());
}

#[test]
fn the_board_stays_where_a_text_is_written() {
    let mut t = open();
    t.write_texts(&["One.", "Two.", "Three.", "Four."]);
    t.hold.in_the_picture();
    t.click("Tell 5 panels");
    t.studio.get_by_label("Text of panel 1").focus();
    t.studio.run_steps(2);
    for word in ["It", " was", " a", " dark", " night."] {
        t.studio.get_by_label("Text of panel 1").type_text(word);
        t.studio.run_steps(2);
    }
    t.hold.let_go();
    t.idle();
    let text = t.studio.get_by_label("Text of panel 1");
    assert!(text.is_focused());
    assert!(text.rect().top() > 0.0 && text.rect().bottom() < 700.0);
    assert_eq!(t.texts()[0], "One.It was a dark night.");
    assert_eq!(t.texts().len(), 9);
    // What the author asks for is shown, and then what follows it.
    t.click("Goes after panel 1");
    t.click("Tell 5 panels");
    t.idle();
    t.studio.get_by_label("Picture 14");
    assert_eq!(t.state().view.selected, Some(t.state().panels()[13].id));
    // One who looks at another panel meanwhile stays there.
    t.hold.in_the_text();
    t.click("Tell 5 panels");
    let third = t.state().panels()[2].id;
    let select = vokenboard::studio::actions::Action::Select(Some(third));
    t.studio.state_mut().state.perform(select, Instant::now());
    t.hold.let_go();
    t.idle();
    assert_eq!(t.state().view.selected, Some(third));
    assert!(t.studio.query_by_label("Picture 19").is_none());
}

#[test]
fn a_hundred_panels_and_windows_of_any_size_can_be_used() {
    for (width, height, name) in [(720.0, 480.0, "tiny"), (2560.0, 1440.0, "huge")] {
        let mut t = open_sized(width, height, Theme::Light);
        t.write(FOX);
        t.idle();
        for n in 0..99 {
            let text = format!("Page {n}. {}", "And the snow fell on. ".repeat(n % 14));
            let panels = t.state().panels().len();
            t.studio.state_mut().state.view.composer = text.trim().to_owned();
            t.studio
                .state_mut()
                .state
                .perform(tell_text(), Instant::now());
            assert_eq!(t.state().panels().len(), panels + 1);
        }
        t.studio.run_steps(4);
        t.shot(&format!("{name}-hundred"));
        let window = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(width, height));
        for label in ["Composer", "Text + image", "Undo", "Export", "File"] {
            let rect = t.studio.get_by_label(label).rect();
            assert!(window.contains_rect(rect), "{label} at {width}: {rect}");
        }
        let first = t.state().panels()[0].id;
        t.key(Modifiers::NONE, Key::Escape);
        t.key(Modifiers::NONE, Key::Escape);
        t.key(Modifiers::NONE, Key::ArrowRight);
        assert_eq!(t.state().view.selected, Some(first));
        t.studio.run_steps(6);
        t.studio.get_by_label("Picture 1");
        if width < 960.0 {
            t.click("Show inspector");
        }
        t.shot(&format!("{name}-first"));
        let rail = t
            .studio
            .get_by_role_and_label(Role::Slider, "Guidance")
            .rect();
        assert!(window.contains_rect(rail), "guidance at {width}: {rail}");
    }
}

fn tell_text() -> vokenboard::studio::actions::Action {
    vokenboard::studio::actions::Action::Tell(vokenboard::engine::Make::Text)
}
