//! What this program is, of which version, and under whose terms.

use std::sync::Arc;

use egui::{CollapsingHeader, Label, RichText, Ui};

use super::{libraries, note};
use crate::studio::state::{Readiness, State};

const LICENCES: [(&str, &str); 5] = [
    ("Vokenboard: MIT", include_str!("../../../LICENSE-MIT")),
    (
        "Vokenboard: Apache-2.0, at your choice",
        include_str!("../../../LICENSE-APACHE"),
    ),
    (
        "Nunito, the font: SIL Open Font License",
        include_str!("../../../assets/fonts/Nunito-OFL.txt"),
    ),
    (
        "Fluent Emoji, the clip art of the storyworld: MIT",
        include_str!("../../../assets/clipart/LICENSE-fluent-emoji.txt"),
    ),
    (
        "The list of nouns: WordNet 3.0",
        include_str!("../../../assets/words/LICENSE-wordnet.txt"),
    ),
];

pub(super) fn show(ui: &mut Ui, state: &State) {
    let versions = versions(state);
    ui.label("A storyboard studio that writes and draws on your own machine.");
    ui.add(Label::new(&versions).wrap().selectable(true));
    if ui.button("Copy versions").clicked() {
        ui.ctx().copy_text(versions);
    }
    ui.add_space(8.0);
    ui.label(RichText::new("Licences").strong());
    let models = state.models.storytellers.iter();
    for model in models.filter(|model| !model.manifest.licence.is_empty()) {
        let manifest = &model.manifest;
        note(
            ui,
            format!("{}, a model: {}", manifest.name, manifest.licence),
        );
    }
    for (name, text) in LICENCES {
        CollapsingHeader::new(name).show(ui, |ui| {
            let text = RichText::new(text).monospace().size(11.5);
            ui.add(Label::new(text).wrap());
        });
    }
    CollapsingHeader::new("The libraries that it is built from").show(ui, |ui| {
        let list = ui.ctx().data_mut(|data| {
            let made = egui::Id::unique("list of libraries");
            let list: Arc<str> = data
                .get_temp_mut_or_insert_with(made, || Arc::<str>::from(libraries::list()))
                .clone();
            list
        });
        let words = RichText::new(&*list).monospace().size(11.5);
        ui.add(Label::new(words).wrap().selectable(true));
    });
}

fn versions(state: &State) -> String {
    let model = match &state.models.readiness {
        Readiness::Ready(d) => format!("{} ({}) on {}", state.model_name(), d.pipeline, d.device),
        Readiness::Loading(_) | Readiness::Failed(_) => {
            format!("{}, not loaded", state.model_name())
        }
    };
    format!(
        "Vokenboard {}, story format {}, {} on {}; model: {model}",
        env!("CARGO_PKG_VERSION"),
        crate::story::SCHEMA_VERSION,
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
