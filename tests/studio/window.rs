//! A studio of any size with a model that needs no weights.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use egui::{FullOutput, Key, Modifiers, TexturesDelta};
use egui_kittest::kittest::{By, Queryable as _};
use egui_kittest::{
    Harness, LazyRenderer, OsThreshold, SnapshotOptions, TestRenderer, try_image_snapshot_options,
};
use image::RgbaImage;
use image::imageops::{FilterType, resize};
use vokenboard::studio::app::App;
use vokenboard::studio::state::{Readiness, State, StudioParts};

use crate::studio_support::{Answers, Hold, parts};

pub type Studio = Harness<'static, App>;

/// Draws the window where a picture of it is wanted. Devices are made, used and dropped one at a
/// time: software devices that several threads ask at once may wait for ever.
#[derive(Default)]
struct OneAtATime(Option<LazyRenderer>);

static DEVICES: Mutex<()> = Mutex::new(());

fn devices() -> MutexGuard<'static, ()> {
    // A test that failed inside leaves nothing half done.
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TestRenderer for OneAtATime {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        let _one = devices();
        self.0.get_or_insert_default().handle_delta(delta);
    }

    fn render(&mut self, ctx: &egui::Context, output: &FullOutput) -> Result<RgbaImage, String> {
        let _one = devices();
        self.0.get_or_insert_default().render(ctx, output)
    }
}

impl Drop for OneAtATime {
    fn drop(&mut self) {
        let _one = devices();
        self.0 = None;
    }
}

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
        .renderer(OneAtATime::default())
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

    /// Paints over texts that are others in every run, in the colour beside them: this run's folder,
    /// day and time, how long is left, and whether all is saved yet.
    fn cover_what_changes(&self, window: &mut RgbaImage, labels: &[&str]) {
        let folder = self.dir.file_name().unwrap().to_string_lossy().into_owned();
        let year = chrono::Local::now().format(" %Y").to_string();
        let changes = |text: String| {
            let is_time = text.len() == 5 && text.as_bytes()[2] == b':';
            let is_passing = text == "saved" || text == "saving…" || text.ends_with(" s left");
            labels.contains(&text.as_str())
                || is_time
                || is_passing
                || text.contains(&folder)
                || text.ends_with(&year)
        };
        let covered = By::new().predicate(|node| {
            node.label().is_some_and(changes) || node.value().is_some_and(changes)
        });
        for node in self.studio.query_all(covered) {
            // With the frame of a message, which is as wide as its text.
            let rect = node.rect().expand2(egui::vec2(64.0, 8.0));
            let (left, right) = (rect.left().max(2.0) as u32, rect.right().ceil() as u32);
            let top = rect.top().max(0.0) as u32;
            if left - 2 >= window.width() || top >= window.height() {
                continue;
            }
            let beside = *window.get_pixel(left - 2, top);
            for y in top..(rect.bottom().ceil() as u32).min(window.height()) {
                for x in left..right.min(window.width()) {
                    window.put_pixel(x, y, beside);
                }
            }
        }
    }

    /// Compares the window with its picture in `tests/snapshots/window`, which is half as large and
    /// written anew with `UPDATE_SNAPSHOTS=1`; `STUDIO_SHOTS` names a folder for pictures in full
    /// size.
    ///
    /// # Panics
    /// Where it looks otherwise.
    pub fn shot(&mut self, name: &str) {
        self.shot_without(name, &[]);
    }

    /// The window without what is at these labels; `STUDIO_SHOTS` as with [`Test::shot`]. By itself it is
    /// for what looks otherwise on every system, as letters of the system's fonts do.
    pub fn look(&mut self, name: &str, labels: &[&str]) -> RgbaImage {
        // Traces of the pointer and what moves have gone by then.
        self.studio.run_steps(20);
        let mut whole = self.studio.render().unwrap();
        self.cover_what_changes(&mut whole, labels);
        if let Ok(out) = std::env::var("STUDIO_SHOTS") {
            whole.save(format!("{out}/{name}.png")).unwrap();
        }
        whole
    }

    /// As [`Test::shot`], but for what is at these labels.
    pub fn shot_without(&mut self, name: &str, labels: &[&str]) {
        let whole = self.look(name, labels);
        let (width, height) = whole.dimensions();
        let half = resize(&whole, width / 2, height / 2, FilterType::Triangle);
        let options = SnapshotOptions::new()
            .output_path("tests/snapshots/window")
            // Other processors and devices smooth edges in their own way; what moves changes thousands.
            .max_failed_pixels(OsThreshold::new(400).macos(2000).windows(2000));
        if let Err(difference) = try_image_snapshot_options(&half, name, &options) {
            panic!("{name}: {difference}");
        }
    }
}
