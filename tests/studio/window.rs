//! A studio of any size with a model that needs no weights.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use vokenboard::studio::app::App;
use vokenboard::studio::state::{Readiness, State, StudioParts};

use crate::studio_support::{Answers, Hold, parts};

pub type Studio = Harness<'static, App>;

/// A studio on the screen, and what an author does in it.
pub struct Test {
    pub studio: Studio,
    pub answers: Answers,
    pub hold: Hold,
    pub dir: PathBuf,
    _temp: tempfile::TempDir,
}

pub fn open_sized(width: f32, height: f32, theme: egui::Theme) -> Test {
    open_with(width, height, theme, |_| {})
}

/// A studio whose parts `change` has had its way with, with its model loaded.
pub fn open_with(
    width: f32,
    height: f32,
    theme: egui::Theme,
    change: impl FnOnce(&mut StudioParts),
) -> Test {
    let mut test = opening(width, height, theme, change);
    test.until("the model is ready", |s| {
        matches!(s.state().state.models.readiness, Readiness::Ready(_))
    });
    test.studio.run_steps(3);
    test
}

/// The same while its model loads.
pub fn opening(
    width: f32,
    height: f32,
    theme: egui::Theme,
    change: impl FnOnce(&mut StudioParts),
) -> Test {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_path_buf();
    let (mut parts, answers, hold) = parts(dir.join("projects"), Duration::from_millis(2));
    change(&mut parts);
    let studio = Harness::builder()
        .with_size([width, height])
        .with_theme(theme)
        .with_max_steps(8)
        .with_step_dt(1.0 / 30.0)
        .wgpu()
        .build_eframe(move |cc| App::new(&cc.egui_ctx, State::new(parts)));
    Test {
        studio,
        answers,
        hold,
        dir,
        _temp: temp,
    }
}

pub fn open() -> Test {
    open_sized(1280.0, 800.0, egui::Theme::Light)
}

pub const FOX: &str = "A fox finds a glowing lantern in the snowy forest.";

impl Test {
    pub fn state(&self) -> &State {
        &self.studio.state().state
    }

    /// Frames until `done`, for a minute at most.
    pub fn until(&mut self, what: &str, done: impl Fn(&Studio) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            self.studio.run_steps(2);
            if done(&self.studio) {
                return;
            }
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn idle(&mut self) {
        self.until("idle", |s| s.state().state.work.is_idle());
        self.studio.run_steps(3);
    }

    pub fn click(&mut self, label: &str) {
        self.studio.get_by_label(label).click();
        self.studio.run_steps(3);
    }

    pub fn double_click(&mut self, label: &str) {
        // Apart from a click before it.
        self.studio.run_steps(20);
        for _ in 0..2 {
            self.studio.get_by_label(label).click();
            self.studio.run_steps(1);
        }
        self.studio.run_steps(2);
    }

    pub fn key(&mut self, modifiers: Modifiers, key: Key) {
        self.studio.key_press_modifiers(modifiers, key);
        self.studio.run_steps(3);
    }

    /// Into the composer, with Enter.
    pub fn write(&mut self, text: &str) {
        self.studio.get_by_label("Composer").focus();
        self.studio.run_steps(2);
        self.studio.get_by_label("Composer").type_text(text);
        self.studio.run_steps(2);
        self.key(Modifiers::NONE, Key::Enter);
    }

    /// Panels with the texts and nothing else.
    pub fn write_texts(&mut self, texts: &[&str]) {
        for text in texts {
            self.studio.get_by_label("Composer").focus();
            self.studio.run_steps(2);
            self.studio.get_by_label("Composer").type_text(text);
            self.studio.run_steps(2);
            self.click("Text");
        }
        assert!(
            self.texts()
                .ends_with(&texts.iter().map(|t| t.to_string()).collect::<Vec<_>>())
        );
    }

    /// The numbers of the chosen panels.
    pub fn chosen(&self) -> Vec<usize> {
        let state = self.state();
        let chosen = state.chosen().into_iter();
        chosen
            .filter_map(|id| Some(state.index_of(id)? + 1))
            .collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.state()
            .panels()
            .iter()
            .map(|p| p.text.clone())
            .collect()
    }

    pub fn takes(&self, panel: usize) -> usize {
        self.state().panels()[panel].pictures.items().len()
    }

    pub fn shown(&self, panel: usize) -> Option<usize> {
        self.state().panels()[panel].pictures.active_index()
    }

    /// Frames until the story is on the disk.
    pub fn saved(&mut self) {
        self.until("saved", |s| s.state().state.saved_words() == Some("saved"));
    }

    /// A picture of the window for the one who draws it, where `STUDIO_SHOTS` names a folder.
    pub fn shot(&mut self, name: &str) {
        if let Ok(out) = std::env::var("STUDIO_SHOTS") {
            let picture = self.studio.render().unwrap();
            picture.save(format!("{out}/{name}.png")).unwrap();
        }
    }
}
