//! Adding an engine elsewhere: its kind, address and key, and for ComfyUI a workflow of the author's.

use egui::{Label, RichText, TextEdit, Ui};

use super::note;
use crate::studio::actions::Action;
use crate::studio::icons::Icon;
use crate::studio::models::EngineKind;
use crate::studio::state::State;
use crate::studio::{theme, widgets};

pub(super) fn show(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) {
    let Some(library) = &mut state.models.library else {
        return;
    };
    let busy = library.looking.clone();
    let form = &mut library.engine;
    note(
        ui,
        "Another program or machine computes, and Vokenboard speaks to no other address than the one that you name.",
    );
    ui.add_space(6.0);
    ui.horizontal_wrapped(|ui| {
        for kind in EngineKind::ALL {
            ui.radio_value(&mut form.kind, kind, kind.label());
        }
    });
    ui.add_space(6.0);
    ui.label("Address");
    let address = TextEdit::singleline(&mut form.address)
        .hint_text(form.kind.example())
        .desired_width(f32::INFINITY);
    ui.add_enabled(busy.is_none(), address)
        .accessible_name("Address of the engine");
    ui.label("Key, where it wants one");
    let key = TextEdit::singleline(&mut form.key)
        .password(true)
        .desired_width(f32::INFINITY);
    ui.add_enabled(busy.is_none(), key)
        .accessible_name("Key of the engine");
    if form.kind == EngineKind::Pictures {
        ui.horizontal(|ui| {
            if ui.button("Choose a workflow…").clicked() {
                actions.push(Action::AskWorkflow);
            }
            if let Some(file) = &form.workflow {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                ui.label(name);
                if ui.button("Without it").clicked() {
                    form.workflow = None;
                }
            } else {
                note(ui, "else its checkpoints are added");
            }
        });
        if form.workflow.is_some() {
            ui.label("Inputs bound by hand, where titles of nodes don't say it");
            let hand = TextEdit::singleline(&mut form.bindings)
                .hint_text("prompt=6.text seed=3.seed output=9")
                .desired_width(f32::INFINITY);
            ui.add_enabled(busy.is_none(), hand)
                .accessible_name("Inputs bound by hand");
        }
    }
    ui.add_space(6.0);
    if let Some(trouble) = &form.trouble {
        let words = RichText::new(trouble).color(theme::palette(ui).error);
        ui.add(Label::new(words).wrap());
    }
    if let Some(place) = busy {
        ui.horizontal(|ui| {
            ui.spinner();
            ui.label(format!("Asking {place} what it has…"));
        });
        return;
    }
    let named = !form.address.trim().is_empty();
    if widgets::primary_button(ui, Icon::Plus, "Add the engine", named).clicked() {
        actions.push(Action::AddEngine);
    }
}
