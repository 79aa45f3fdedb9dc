//! The author's own models are added where they lie, and chosen.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use egui_kittest::kittest::{NodeT as _, Queryable as _};
use vokenboard::studio::models::{Library, offer};
use vokenboard::studio::state::Readiness;

use crate::window::open;

const MENU: &str = "Model and device: Doodle · CPU";

#[test]
fn models_are_added_where_they_lie_and_one_that_is_away_says_where_it_was() {
    let mut t = open();
    let models = t.dir.join("models");
    let disk = t.dir.join("disk");
    fs::create_dir(&models).unwrap();
    fs::create_dir_all(disk.join("more")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let put = |fixture: &str, name: &str| {
        let path = disk.join(name);
        fs::copy(fixtures.join(fixture), &path).unwrap();
        path
    };
    let own = put("writers/smollm2/model.gguf", "own.gguf");
    let page = put("refuse/html.gguf", "page.gguf");
    put("writers/qwen2/model.gguf", "more/second.gguf");
    put("refuse/state-space.gguf", "more/other.gguf");
    let library = Library::new(models.clone(), Vec::new(), Arc::new(|| {}));
    t.studio.state_mut().state.models.library = Some(library);
    t.studio.run_steps(2);

    t.answers.paths.lock().unwrap().push_back(own.clone());
    t.click(MENU);
    t.click("Add a model…");
    t.until("the model is added", |s| {
        s.state().state.models.writers.len() == 1
    });
    assert_eq!(t.state().models.writers[0].id, "own");
    assert!(own.exists());

    t.answers.paths.lock().unwrap().push_back(page);
    t.click(MENU);
    t.click("Add a model…");
    t.until("what it is instead is said", |s| {
        let mut said = s.state().state.toasts.history();
        said.any(|message| message.sentence.contains("web page"))
    });

    t.answers.paths.lock().unwrap().push_back(disk.join("more"));
    t.click(MENU);
    t.click("Add a folder of models…");
    t.until("the folder is gone through", |s| {
        s.state().state.models.writers.len() == 2
    });
    t.click(MENU);
    t.studio.get_by_label("second");
    t.studio.get_by_label("The words");
    t.click("own");
    t.until("the writer is chosen", |s| {
        let state = &s.state().state;
        state.models.choice.writer.as_deref() == Some("own")
            && matches!(state.models.readiness, Readiness::Ready(_))
    });

    fs::rename(&disk, t.dir.join("unplugged")).unwrap();
    let offer = offer(&models, &t.state().models.choice);
    assert_eq!(offer.writers.len(), 0);
    assert_eq!(offer.away.len(), 2);
    let library = Library::new(models, offer.away, Arc::new(|| {}));
    t.studio.state_mut().state.models.library = Some(library);
    t.studio.run_steps(2);
    t.click(MENU);
    let away = t.studio.get_by_label("second, away");
    assert!(away.accesskit_node().is_disabled());
}
