//! How long the studio's own work in a frame takes, measured without a screen.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Rgba, RgbaImage};

use super::actions::Action;
use super::app::App;
use super::dialogs::{DialogAnswer, DialogRequest, Dialogs};
use super::preferences::Preferences;
use super::state::{ModelChoice, State, StudioParts};
use crate::engine::{
    Description, Loader, Make, Output, Pipeline, PipelineError, Progress, Request,
};
use crate::pipeline::new_seed;

/// Frame times of a studio with many panels while one is made.
#[derive(Clone, Copy, Debug)]
pub struct UiBench {
    /// Panels on the board.
    pub panels: usize,
    /// Frames that were drawn.
    pub frames: u32,
    /// Quantiles of the time a frame took, in milliseconds: all work but the graphics card's.
    pub p50_ms: f64,
    /// 99 of 100 frames took no longer, in milliseconds.
    pub p99_ms: f64,
    /// The longest frame, in milliseconds.
    pub longest_ms: f64,
}

/// Draws `frames` frames of a studio of 1280 × 800 points with `panels` panels, scrolling and
/// selecting, while the engine streams words and previews at a far higher pace than a model.
/// Nothing is saved.
///
/// # Errors
/// When a folder for the run cannot be made, or the engine made no panels in a minute.
pub fn bench_ui(panels: usize, frames: u32) -> Result<UiBench, String> {
    let folder =
        tempfile::tempdir().map_err(|e| format!("no temporary folder can be made ({e})"))?;
    let parts = StudioParts {
        loader_for: Arc::new(|_| -> Loader { Box::new(|_| Ok(Box::new(Metronome::default()))) }),
        choice: ModelChoice {
            model: "metronome".to_owned(),
            ..ModelChoice::default()
        },
        models: Vec::new(),
        writers: Vec::new(),
        wake: Arc::new(|| {}),
        dialogs: Box::new(NoDialogs),
        projects: folder.path().to_path_buf(),
        rescues: Vec::new(),
        preferences: Preferences::default(),
        preferences_file: None,
        seeds: new_seed,
    };
    let ctx = egui::Context::default();
    let mut app = App::new(&ctx, State::new(parts));
    let mut stage = HeadlessWindow { ctx, time: 0.0 };

    // The board is filled by the engine itself, as an author would.
    let patience = Instant::now() + Duration::from_secs(60);
    while app.state.panels().len() < panels || !app.state.work.is_idle() {
        if app.state.work.is_idle() {
            app.state.perform(Action::Tell(Make::Both), Instant::now());
        }
        app.state.tick(Instant::now());
        if Instant::now() > patience {
            return Err("the engine made no panels; report this with the output above".to_owned());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    for _ in 0..5 {
        stage.frame(&mut app, Vec::new());
    }
    app.forget_frame_times();
    for frame in 0..frames {
        if app.state.work.waiting() < 2 {
            app.state.perform(Action::TellFive, Instant::now());
        }
        // Up and down the whole board, with the selection going along now and then.
        let down = if (frame / 60) % 2 == 0 { -1.0 } else { 1.0 };
        let mut events = vec![
            egui::Event::PointerMoved(egui::pos2(400.0 + f32::from(frame as u8), 300.0)),
            egui::Event::MouseWheel {
                unit: egui::MouseWheelUnit::Point,
                delta: egui::vec2(0.0, 240.0 * down),
                source: egui::MouseWheelSource::Wheel,
                phase: egui::TouchPhase::Move,
                modifiers: egui::Modifiers::NONE,
            },
        ];
        if frame % 20 == 0 {
            events.clear();
            app.state.perform(Action::Step(1), Instant::now());
        }
        stage.frame(&mut app, events);
        std::thread::sleep(Duration::from_millis(2));
    }
    app.state.perform(Action::Cancel, Instant::now());
    let times = app.frame_times();
    Ok(UiBench {
        panels: app.state.panels().len(),
        frames: times.count(),
        p50_ms: times.quantile_ms(0.5),
        p99_ms: times.quantile_ms(0.99),
        longest_ms: times.longest_ms(),
    })
}

/// A window that is not there.
struct HeadlessWindow {
    ctx: egui::Context,
    time: f64,
}

impl HeadlessWindow {
    fn frame(&mut self, app: &mut App, events: Vec<egui::Event>) {
        self.time += 1.0 / 60.0;
        let size = egui::vec2(1280.0, 800.0);
        let input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(self.time),
            events,
            ..egui::RawInput::default()
        };
        let start = Instant::now();
        let output = self.ctx.run_ui(input, |ui| app.frame(ui));
        // Triangles are the studio's work too; drawing them is the graphics card's.
        let triangles = self.ctx.tessellate(output.shapes, output.pixels_per_point);
        app.record_frame_time(start.elapsed());
        drop(triangles);
    }
}

struct NoDialogs;

impl Dialogs for NoDialogs {
    fn ask(&mut self, _: DialogRequest) {}

    fn answer(&mut self) -> Option<DialogAnswer> {
        None
    }
}

/// A pipeline that does nothing but tell: words and previews in the sizes of the real ones.
#[derive(Default)]
struct Metronome {
    description: Description,
    beat: u8,
}

impl Pipeline for Metronome {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        self.beat = self.beat.wrapping_add(37);
        let record = crate::story::Record {
            model: "metronome".to_owned(),
            weights: String::new(),
            pipeline: "bench".to_owned(),
            device: "CPU".to_owned(),
            settings: request.settings.clone(),
            prompt: String::new(),
            context: request.context.iter().map(|p| p.id).collect(),
            seconds: 0.0,
            created: "2000-01-01T00:00:00Z".to_owned(),
            ..crate::story::Record::default()
        };
        let text = format!(
            "Beat {} sounds through the hall, and everyone in it stops to listen.",
            self.beat
        );
        for word in text.split_inclusive(' ') {
            if sink(Progress::TextPiece(word.to_owned())).is_break() {
                return Ok(None);
            }
        }
        for step in 1..=25 {
            let shade = Rgba([self.beat, (step * 10) as u8, 128, 255]);
            let preview = Arc::new(RgbaImage::from_pixel(64, 64, shade));
            if sink(Progress::Step {
                step,
                steps: 25,
                preview,
            })
            .is_break()
            {
                return Ok(None);
            }
            // A step of the real model takes some hundred milliseconds.
            if request.context.len() >= 100 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let beat = self.beat;
        let picture = RgbaImage::from_fn(256, 256, |x, y| Rgba([x as u8, y as u8, beat, 255]));
        let text = request.text.is_none().then(|| (text, record.clone()));
        Ok(Some(Output {
            text,
            picture: Some((picture, record)),
            ..Output::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_measures_the_frames_it_draws() {
        let result = bench_ui(12, 30).expect("the bench runs");
        assert_eq!(result.frames, 30);
        assert!(result.panels >= 12);
        assert!(result.p50_ms > 0.0 && result.p99_ms >= result.p50_ms);
    }
}
