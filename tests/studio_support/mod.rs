//! A small pipeline whose words and pictures are computed from the request, and the studio's
//! parts around it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image::{Rgba, RgbaImage};
use vokenboard::engine::{
    Description, Loader, Make, Output, Pipeline, PipelineError, Progress, Request,
};
use vokenboard::story::{Record, Settings};
use vokenboard::studio::dialogs::{Answer, Ask, Dialogs};
use vokenboard::studio::state::Parts;
use vokenboard::weights::DeviceChoice;

/// Writes a sentence from the story's last one and draws a scene whose colours and places follow
/// from the text, seed and guidance.
pub struct Doodle {
    description: Description,
    pace: Duration,
    pub made: Arc<AtomicUsize>,
}

impl Doodle {
    pub fn new(pace: Duration) -> Doodle {
        let words = |list: &str| list.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Doodle {
            description: Description {
                model: "doodle".into(),
                pipeline: "test".into(),
                weights: "none".into(),
                device: "CPU".into(),
                width: 256,
                height: 256,
                characters: words(
                    "fox owl bear rabbit robot wizard princess dragon penguin cat dog mouse frog lion elephant turtle hedgehog astronaut pirate ghost deer monkey pig duck",
                ),
                things: words(
                    "lantern key tent castle boat balloon cake umbrella guitar book crown rocket apple gift kite drum map star-wand snowman pumpkin clock telescope mushroom teapot",
                ),
                places: words(
                    "forest beach kitchen city mountain desert moon snowfield garden river village bedroom",
                ),
                default_settings: Settings {
                    steps: 8,
                    ..Settings::default()
                },
            },
            pace,
            made: Arc::default(),
        }
    }

    fn sentence(request: &Request) -> String {
        let before = request.context.last().map_or("Once", |p| p.text.as_str());
        let seed = request.settings.seed as usize + before.len();
        let who = [
            "The fox",
            "A little owl",
            "The old bear",
            "Their friend the rabbit",
        ][seed % 4];
        let does = [
            "hurries through the snow",
            "lifts the lantern high",
            "hears a song from the river",
            "asks the moon for help",
        ][(seed / 4) % 4];
        let end = [
            "and everyone smiles",
            "but the night is cold",
            "and the path grows bright",
            "while the stars look on",
        ][(seed / 16) % 4];
        format!("{who} {does}, {end}.")
    }

    fn draw(text: &str, settings: &Settings, done: f32, size: u32) -> RgbaImage {
        let mut hash = settings.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        let unit = |shift: u32| (hash >> shift & 255) as f32 / 255.0;
        let strength = 0.4 + 0.6 * (settings.guidance / 15.0).clamp(0.0, 1.0);
        let balls = [
            (
                0.25 + 0.5 * unit(0),
                0.62,
                0.2,
                [unit(8), unit(16), unit(24)],
            ),
            (
                0.2 + 0.6 * unit(32),
                0.74,
                0.11,
                [unit(40), unit(48), unit(56)],
            ),
            (0.15 + 0.7 * unit(20), 0.16, 0.07, [1.0, 0.95, 0.6]),
        ];
        RgbaImage::from_fn(size, size, |px, py| {
            let (x, y) = (px as f32 / size as f32, py as f32 / size as f32);
            let mut rgb = if y < 0.66 {
                [0.55 + 0.3 * y, 0.7 + 0.25 * y, 0.95]
            } else {
                [
                    0.93 - 0.4 * unit(12),
                    0.95 - 0.2 * unit(28),
                    0.8 - 0.3 * unit(44),
                ]
            };
            for (cx, cy, r, color) in balls {
                if (x - cx).powi(2) + (y - cy).powi(2) < r * r {
                    rgb = color;
                }
            }
            let noise = ((px.wrapping_mul(7919) ^ py.wrapping_mul(104_729)) % 255) as f32 / 255.0;
            let channel = |v: f32| {
                let v = 0.5 + (v - 0.5) * (0.6 + 0.4 * strength);
                ((done * v + (1.0 - done) * noise) * 255.0) as u8
            };
            Rgba([channel(rgb[0]), channel(rgb[1]), channel(rgb[2]), 255])
        })
    }

    fn record(&self, request: &Request, prompt: &str) -> Record {
        Record {
            model: self.description.model.clone(),
            weights: self.description.weights.clone(),
            pipeline: self.description.pipeline.clone(),
            device: self.description.device.clone(),
            settings: request.settings.clone(),
            prompt: prompt.to_owned(),
            context: request.context.iter().map(|p| p.id).collect(),
            seconds: 0.1,
            created: "2026-01-01T00:00:00Z".into(),
        }
    }
}

impl Pipeline for Doodle {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let mut output = Output::default();
        let mut text = request.text.clone().unwrap_or_default();
        if request.make != Make::Picture {
            text = Doodle::sentence(request);
            for piece in text.split_inclusive(' ') {
                std::thread::sleep(self.pace);
                if sink(Progress::TextPiece(piece.to_owned())).is_break() {
                    return Ok(None);
                }
            }
            if sink(Progress::TextDone(text.clone())).is_break() {
                return Ok(None);
            }
            output.text = Some((text.clone(), self.record(request, &text)));
        }
        if request.make != Make::Text {
            let steps = request.settings.steps;
            for step in 1..=steps {
                std::thread::sleep(self.pace);
                let done = step as f32 / steps as f32;
                let preview = Arc::new(Doodle::draw(&text, &request.settings, done, 32));
                if sink(Progress::Step {
                    step,
                    steps,
                    preview,
                })
                .is_break()
                {
                    return Ok(None);
                }
            }
            let picture = Doodle::draw(&text, &request.settings, 1.0, 256);
            output.picture = Some((picture, self.record(request, &text)));
        }
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(Some(output))
    }
}

/// Dialogs that answer from a list, as an author who knows what they want.
#[derive(Clone, Default)]
pub struct Answers {
    pub paths: Arc<Mutex<VecDeque<PathBuf>>>,
    waiting: Arc<Mutex<VecDeque<Answer>>>,
}

impl Dialogs for Answers {
    fn ask(&mut self, ask: Ask) {
        if let Some(path) = self.paths.lock().unwrap().pop_front() {
            self.waiting.lock().unwrap().push_back(Answer { ask, path });
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        self.waiting.lock().unwrap().pop_front()
    }
}

/// Parts of a studio that keeps its stories in `projects`.
pub fn parts(projects: PathBuf, pace: Duration) -> (Parts, Answers, Arc<AtomicUsize>) {
    let answers = Answers::default();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let parts = Parts {
        loader_for: Arc::new(move |_| {
            let count = Arc::clone(&count);
            let loader: Loader = Box::new(move |_| {
                let mut doodle = Doodle::new(pace);
                doodle.made = count;
                Ok(Box::new(doodle))
            });
            loader
        }),
        device: DeviceChoice::Auto,
        wake: Arc::new(|| {}),
        dialogs: Box::new(answers.clone()),
        projects,
    };
    (parts, answers, made)
}
