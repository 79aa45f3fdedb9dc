//! What holds for all stories.

use egui::{ComboBox, RichText, Ui};

use super::note;
use crate::studio::actions::Action;
use crate::studio::dates;
use crate::studio::preferences::ColourMode;
use crate::studio::state::State;

const SCALES: [f32; 8] = [0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0];

pub(super) fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let mut set = state.preferences.clone();
    let part = |ui: &mut Ui, words: &str| {
        ui.add_space(6.0);
        ui.label(RichText::new(words).strong());
    };
    part(ui, "Theme");
    ui.horizontal(|ui| {
        for (look, words) in [
            (ColourMode::System, "As the system"),
            (ColourMode::Light, "Light"),
            (ColourMode::Dark, "Dark"),
        ] {
            ui.radio_value(&mut set.theme, look, words)
                .accessible_name(format!("Theme: {words}"));
        }
    });
    part(ui, "Size of everything");
    ComboBox::from_id_salt("scale")
        .selected_text(percent(set.scale))
        .show_ui(ui, |ui| {
            for scale in SCALES {
                ui.selectable_value(&mut set.scale, scale, percent(scale));
            }
        })
        .response
        .accessible_name("Size of everything");
    part(ui, "Where new stories are kept");
    note(ui, state.folder().display().to_string());
    ui.horizontal(|ui| {
        if ui.button("Choose a folder…").clicked() {
            actions.push(Action::AskFolder);
        }
        let usual = ui.add_enabled(set.folder.is_some(), egui::Button::new("The usual place"));
        if usual.clicked() {
            set.folder = None;
        }
    });
    part(ui, "Saving");
    ui.checkbox(
        &mut set.autosave,
        "Save by itself, a second after each change",
    );
    part(ui, "Language of dates");
    let language = dates::LANGUAGES.iter().find(|(tag, _)| *tag == set.dates);
    ComboBox::from_id_salt("dates")
        .selected_text(language.map_or(set.dates.as_str(), |(_, name)| name))
        .show_ui(ui, |ui| {
            for (tag, name) in dates::LANGUAGES {
                ui.selectable_value(&mut set.dates, tag.to_owned(), name);
            }
        })
        .response
        .accessible_name("Language of dates");
    note(ui, dates::day(std::time::SystemTime::now(), &set.dates));
    if set != state.preferences {
        actions.push(Action::Prefer(Box::new(set)));
    }
}

fn percent(scale: f32) -> String {
    format!("{:.0} %", scale * 100.0)
}
