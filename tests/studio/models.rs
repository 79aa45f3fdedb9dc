//! The author's own models are added where they lie, and chosen.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use egui_kittest::kittest::{NodeT as _, Queryable as _};
use vokenboard::studio::models::{ModelLibrary, offered_models};
use vokenboard::studio::state::Readiness;

use vokenboard::pipeline::{self, LoadOptions};
use vokenboard::studio::state::ModelChoice;

use crate::window::{open, open_with};

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
    let library = ModelLibrary::new(models.clone(), Vec::new(), Arc::new(|| {}));
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
    let offer = offered_models(&models, &t.state().models.choice);
    assert_eq!(offer.writers.len(), 0);
    assert_eq!(offer.away.len(), 2);
    let library = ModelLibrary::new(models, offer.away, Arc::new(|| {}));
    t.studio.state_mut().state.models.library = Some(library);
    t.studio.run_steps(2);
    t.click(MENU);
    let away = t.studio.get_by_label("second, away");
    assert!(away.accesskit_node().is_disabled());
}

/// A tiny Stable Diffusion of the author's own, in one file: added, chosen, and asked for a picture
/// of another size.
#[test]
fn a_picture_is_drawn_with_a_model_of_the_authors_own() {
    let temp = tempfile::tempdir().unwrap();
    let (models, disk) = (temp.path().join("models"), temp.path().join("disk"));
    crate::common::write_tiny_models(&models);
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/09b-sd1-ckpt-legacy");
    copy(&from.join("config"), &disk.join("config"));
    fs::copy(from.join("model.ckpt"), disk.join("ink.ckpt")).unwrap();
    let known = models.clone();
    let mut t = open_with(1280.0, 1000.0, egui::Theme::Light, |parts| {
        let load = parts.loader_for.clone();
        parts.loader_for = Arc::new(move |choice: &ModelChoice| match &*choice.model {
            "doodle" => load(choice),
            model => pipeline::loader(LoadOptions {
                models: Some(known.clone()),
                model: Some(model.to_owned()),
                writer: Some("tiny-writer".into()),
                ..LoadOptions::default()
            }),
        });
    });
    let library = ModelLibrary::new(models, Vec::new(), Arc::new(|| {}));
    t.studio.state_mut().state.models.library = Some(library);
    t.studio.run_steps(2);
    t.answers
        .paths
        .lock()
        .unwrap()
        .push_back(disk.join("ink.ckpt"));
    t.click(MENU);
    t.click("Add a model…");
    let added = |state: &vokenboard::studio::state::State| {
        let mut known = state.models.storytellers.iter();
        known.any(|known| known.model == "ink")
    };
    t.until("the model is added", |s| added(&s.state().state));
    t.click(MENU);
    t.click("ink");
    t.until("the model is ready", |s| {
        let readiness = &s.state().state.models.readiness;
        matches!(readiness, Readiness::Ready(about) if about.model == "ink")
    });
    t.write("A fox in the snow.");
    t.idle();
    let shown = |t: &crate::window::Test| {
        let take = t.state().panels()[0].pictures.active().unwrap();
        let made = take.record.clone().unwrap();
        ((take.width, take.height), made)
    };
    let (usual, made) = shown(&t);
    assert_eq!(made.model, "ink");
    // What is further down than the inspector is high comes into view first.
    t.studio.get_by_label("Picture size").scroll_to_me();
    t.studio.run_steps(8);
    t.click("Picture size");
    let wide = t.studio.get_by(|node| {
        let label = node.label();
        label.is_some_and(|label| label.starts_with("16:9, "))
    });
    wide.click();
    t.studio.run_steps(3);
    for label in ["LCM, 4 steps", "Regenerate image"] {
        t.studio.get_by_label(label).scroll_to_me();
        t.studio.run_steps(8);
        t.click(label);
    }
    t.idle();
    let (wide, made) = shown(&t);
    assert!(wide.0 > wide.1 && wide != usual, "{wide:?}");
    assert_eq!(
        (made.settings.steps, made.settings.scheduler.as_str()),
        (4, "lcm")
    );
    assert_eq!(t.takes(0), 2);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}
