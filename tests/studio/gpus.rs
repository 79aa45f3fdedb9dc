//! A GPU is woken by nothing but a model that is to compute there.

use std::io;
use std::sync::{Arc, Mutex};

use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::Queryable as _;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use vokenboard::nn::gpu::{Gpu, GpuOptions, adapters};
use vokenboard::pipeline::{self, LoadOptions};
use vokenboard::studio::state::ModelChoice;
use vokenboard::weights::{DeviceChoice, DeviceKind};

use crate::window::open_with;

/// What the log says of some threads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Has whatever this thread says from now on written here.
    fn listen(&self) {
        // Other tests of this program have threads and GPUs of their own.
        std::mem::forget(tracing::subscriber::set_default(self.subscriber()));
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + 'static {
        let all = tracing_subscriber::fmt().with_ansi(false);
        all.with_writer(self.clone()).finish()
    }

    fn says(&self, what: &str) -> bool {
        let said = self.0.lock().unwrap();
        String::from_utf8_lossy(&said).contains(what)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

/// The studio lists GPUs, opens a story and draws with the processor; all of that opens none.
#[test]
fn drawing_with_the_processor_wakes_no_gpu_that_the_menu_lists() {
    let temp = tempfile::tempdir().unwrap();
    let models = temp.path().join("models");
    crate::common::write_tiny_models(&models);
    let log = Log::default();
    log.listen();
    let heard = log.clone();
    let cpu = DeviceChoice::Only(DeviceKind::Cpu);
    let mut t = open_with(1280.0, 1000.0, Theme::Light, |parts| {
        parts.choice.device = cpu;
        parts.loader_for = Arc::new(move |choice: &ModelChoice| {
            let load = pipeline::loader(LoadOptions {
                models: Some(models.clone()),
                model: Some("tiny".into()),
                writer: Some("tiny-writer".into()),
                device: choice.device,
                ..LoadOptions::default()
            });
            let heard = heard.clone();
            // On the thread that loads and computes.
            Box::new(move |progress| {
                heard.listen();
                load(progress)
            })
        });
    });
    let all = adapters();
    t.state().models.gpus.set(all.clone()).unwrap();
    let menu = t.studio.get_by(|node| {
        let label = node.label();
        label.is_some_and(|label| label.starts_with("Model and device: "))
    });
    menu.click();
    t.studio.run_steps(3);
    for gpu in &all {
        let name = format!("{} ({})", gpu.name, gpu.backend);
        t.studio.get_by_label(&name);
    }
    t.key(Modifiers::NONE, Key::Escape);

    t.write("A fox finds a lantern in the forest.");
    t.idle();
    t.key(Modifiers::COMMAND, Key::S);
    t.saved();
    let dir = t.state().board.project.clone().unwrap();
    t.key(Modifiers::COMMAND, Key::N);
    t.until("a new story", |s| s.state().state.panels().is_empty());
    t.answers.paths.lock().unwrap().push_back(dir);
    t.key(Modifiers::COMMAND, Key::O);
    t.until("opened", |s| s.state().state.panels().len() == 1);
    t.write("The owl is in the forest.");
    t.idle();
    assert_eq!((t.takes(0), t.takes(1)), (1, 1));

    assert!(log.says("computing on CPU") && log.says("job done"));
    assert!(!log.says("opening"), "no GPU is opened");
    if let Some(gpu) = all.first() {
        Gpu::open(Some(gpu.index), GpuOptions::default()).unwrap();
        assert!(log.says("opening") && log.says(&gpu.name), "one is heard");
    }
}
