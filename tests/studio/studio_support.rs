//! A small pipeline whose words and pictures are computed from the request, and the studio's
//! parts around it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image::{Rgba, RgbaImage};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use vokenboard::engine::{
    Description, Loader, Make, Output, Pipeline, PipelineError, Progress, Request,
};
use vokenboard::pipeline::painter;
use vokenboard::story::{Record, Settings, Size};
use vokenboard::storyworld::{self, Place, Renderer, Scene, Time, Weather};
use vokenboard::studio::dialogs::{DialogAnswer, DialogRequest, Dialogs};
use vokenboard::studio::preferences::Preferences;
use vokenboard::studio::state::{ModelChoice, StudioParts};

/// Writes a sentence from the story's last one and draws a scene whose colours and places follow
/// from the text, seed and guidance.
pub struct Doodle {
    description: Description,
    pace: Duration,
    pub hold: Hold,
}

/// Keeps a doodle in the middle of its work, so that a test meets it there on any machine.
#[derive(Clone, Default)]
pub struct Hold(Arc<AtomicU8>);

const IN_THE_TEXT: u8 = 1;
const IN_THE_PICTURE: u8 = 2;
impl Hold {
    pub fn in_the_text(&self) {
        self.0.store(IN_THE_TEXT, Ordering::SeqCst);
    }

    pub fn in_the_picture(&self) {
        self.0.store(IN_THE_PICTURE, Ordering::SeqCst);
    }

    pub fn let_go(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

impl Hold {
    /// Waits while held at `place`; a doodle can be cancelled there.
    fn wait(
        &self,
        place: u8,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while self.0.load(Ordering::SeqCst) == place {
            std::thread::sleep(Duration::from_millis(2));
            sink(Progress::TextPiece(String::new()))?;
        }
        ControlFlow::Continue(())
    }
}

impl Doodle {
    pub fn new(pace: Duration) -> Doodle {
        let names = |all: &[storyworld::Subject]| all.iter().map(|s| s.name.to_owned()).collect();
        Doodle {
            description: Description {
                model: "doodle".into(),
                pipeline: "test".into(),
                weights: "none".into(),
                device: "CPU".into(),
                characters: names(&storyworld::CHARACTERS),
                things: names(&storyworld::THINGS),
                places: Place::ALL.iter().map(|p| p.name().to_owned()).collect(),
                default_settings: Settings {
                    steps: 8,
                    ..Settings::default()
                },
                takes: painter::Capabilities {
                    size: Size {
                        width: 256,
                        height: 256,
                    },
                    schedulers: ["ddim", "euler", "pndm", "dpm++"].map(Into::into).to_vec(),
                    ..painter::Capabilities::default()
                },
                ..Description::default()
            },
            pace,
            hold: Hold::default(),
        }
    }

    /// The same, asked for more.
    pub fn that_takes(mut self, change: impl FnOnce(&mut painter::Capabilities)) -> Doodle {
        change(&mut self.description.takes);
        self
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

    /// The scene that the text names; the seed sets it, guidance is its contrast, and what is
    /// not done is noise.
    fn draw(text: &str, settings: &Settings, done: f32, size: u32) -> RgbaImage {
        let named = storyworld::mentions(text);
        let mut rng = StdRng::seed_from_u64(settings.seed);
        let scene = Scene::compose(
            &mut rng,
            &named.subjects,
            named
                .place
                .unwrap_or(Place::ALL[settings.seed as usize % Place::COUNT]),
            named.time.unwrap_or(Time::Day),
            named.weather.unwrap_or(Weather::Clear),
        );
        let mut rgb = vec![0; (size * size * 3) as usize];
        Renderer::new(size).draw(&scene, &mut rgb);
        let contrast = 0.8 + 0.4 * settings.guidance / 15.0;
        RgbaImage::from_fn(size, size, |x, y| {
            let at = ((y * size + x) * 3) as usize;
            let channel = |c: usize| {
                let clean = 128.0 + (f32::from(rgb[at + c]) - 128.0) * contrast;
                let noise = (((x * 7919) ^ (y * 104_729)).wrapping_mul(c as u32 + 3) % 256) as f32;
                (done * clean + (1.0 - done) * noise) as u8
            };
            Rgba([channel(0), channel(1), channel(2), 255])
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
            ..Record::default()
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
            for (i, piece) in text.split_inclusive(' ').enumerate() {
                std::thread::sleep(self.pace);
                if sink(Progress::TextPiece(piece.to_owned())).is_break() {
                    return Ok(None);
                }
                if i == 3 && self.hold.wait(IN_THE_TEXT, sink).is_break() {
                    return Ok(None);
                }
            }
            let record = self.record(request, &text);
            let done = Progress::TextDone(text.clone(), Box::new(record.clone()));
            if sink(done).is_break() {
                return Ok(None);
            }
            output.text = Some((text.clone(), record));
        }
        if request.make != Make::Text {
            let steps = request.settings.steps;
            for step in 1..=steps {
                std::thread::sleep(self.pace);
                let done = step as f32 / steps as f32;
                let preview = Arc::new(Doodle::draw(&text, &request.settings, done, 64));
                if sink(Progress::Step {
                    step,
                    steps,
                    preview,
                })
                .is_break()
                {
                    return Ok(None);
                }
                if step == 3 && self.hold.wait(IN_THE_PICTURE, sink).is_break() {
                    return Ok(None);
                }
            }
            let picture = Doodle::draw(&text, &request.settings, 1.0, 256);
            output.picture = Some((picture, self.record(request, &text)));
        }
        Ok(Some(output))
    }
}

/// Dialogs that answer from a list, as an author who knows what they want.
#[derive(Clone, Default)]
pub struct Answers {
    pub paths: Arc<Mutex<VecDeque<PathBuf>>>,
    /// On a desktop without dialogs.
    pub none: Arc<Mutex<bool>>,
    waiting: Arc<Mutex<VecDeque<DialogAnswer>>>,
}

impl Dialogs for Answers {
    fn ask(&mut self, ask: DialogRequest) {
        if *self.none.lock().unwrap() {
            let answer = DialogAnswer { ask, path: None };
            self.waiting.lock().unwrap().push_back(answer);
        } else if let Some(path) = self.paths.lock().unwrap().pop_front() {
            self.waiting.lock().unwrap().push_back(DialogAnswer {
                ask,
                path: Some(path),
            });
        }
    }

    fn answer(&mut self) -> Option<DialogAnswer> {
        self.waiting.lock().unwrap().pop_front()
    }
}

/// The same seeds in every run of a test, in each its own thread.
fn counted() -> u64 {
    thread_local!(static LAST: Cell<u64> = const { Cell::new(100) });
    LAST.with(|last| {
        last.set(last.get() + 1);
        last.get()
    })
}

/// Parts of a studio that keeps its stories in `projects`.
pub fn parts(projects: PathBuf, pace: Duration) -> (StudioParts, Answers, Hold) {
    let hold = Hold::default();
    let held = hold.clone();
    let answers = Answers::default();
    let parts = StudioParts {
        loader_for: Arc::new(move |_| {
            let held = held.clone();
            let loader: Loader = Box::new(move |_| {
                let mut doodle = Doodle::new(pace);
                doodle.hold = held;
                Ok(Box::new(doodle))
            });
            loader
        }),
        choice: ModelChoice {
            model: "doodle".into(),
            ..ModelChoice::default()
        },
        models: Vec::new(),
        writers: Vec::new(),
        wake: Arc::new(|| {}),
        dialogs: Box::new(answers.clone()),
        rescues: vec![projects.with_file_name("rescued")],
        projects,
        preferences: Preferences::default(),
        preferences_file: None,
        seeds: counted,
    };
    (parts, answers, hold)
}
