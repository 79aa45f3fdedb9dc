//! The right side of the window: takes and settings of the selected panel, or of new ones.

mod frame;
mod settings;
mod takes;
mod words;

pub(super) use words::{field, file_field, label};

use egui::{Frame, Margin, RichText, ScrollArea, Ui};

use super::actions::Action;
use super::framing;
use super::icons::Icon;
use super::state::State;
use super::textures::Textures;
use super::{theme, widgets};
use crate::story::PanelId;

/// Windows narrower than this have no room for it beside the board, unless the author wants it.
const NARROW: f32 = 960.0;

/// How wide it is in a window so wide; 0 where it is folded away.
pub(super) fn width(state: &State, window: f32) -> f32 {
    if !is_open(state, window) {
        0.0
    } else if window < 1000.0 {
        250.0
    } else {
        288.0
    }
}

pub(super) fn is_open(state: &State, window: f32) -> bool {
    state.view.inspector.unwrap_or(window >= NARROW)
}

pub(super) fn show(ui: &mut Ui, state: &State, textures: &mut Textures, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let width = ui.available_width();
    ui.painter().rect_filled(ui.max_rect(), 0.0, p.paper);
    Frame::NONE
        .inner_margin(Margin::symmetric(16, 12))
        .show(ui, |ui| {
            ScrollArea::vertical()
                .id_salt("inspector")
                .auto_shrink(false)
                .show(ui, |ui| {
                    ui.set_max_width(width - 46.0);
                    let chosen = state.chosen().len();
                    if chosen > 1 {
                        return several(ui, chosen, actions);
                    }
                    let selected = state
                        .view
                        .selected
                        .and_then(|id| Some((id, state.index_of(id)?)));
                    match selected {
                        Some((id, index)) => {
                            ui.heading(format!("Panel {}", index + 1));
                            takes::pictures(ui, state, textures, actions, id);
                            takes::texts(ui, state, actions, id);
                        }
                        None => {
                            ui.heading("New panels");
                            widgets::caption(ui, "Select a panel to change its picture or text.");
                        }
                    }
                    ui.add_space(8.0);
                    settings::picture(ui, state, actions);
                    let busy = selected.is_some_and(|(id, _)| state.work.on(id).is_some());
                    if let Some((id, _)) = selected {
                        ui.add_space(4.0);
                        if wide(ui, Icon::Picture, "Regenerate image", true, !busy) {
                            actions.push(Action::DrawPicture(id));
                        }
                        framing::controls(ui, state, actions, id);
                    }
                    ui.add_space(14.0);
                    settings::text(ui, state, actions);
                    words::show(ui, state, actions);
                    frame::show(ui, state, actions);
                    if let Some((id, _)) = selected {
                        ui.add_space(4.0);
                        if wide(ui, Icon::Pencil, "Rewrite text", false, !busy) {
                            actions.push(Action::RewriteText(id));
                        }
                        record(ui, state, id);
                    }
                });
        });
}

/// What can be done with several panels at once.
fn several(ui: &mut Ui, count: usize, actions: &mut Vec<Action>) {
    ui.heading(format!("{count} panels"));
    widgets::caption(ui, "Each picture is drawn again with its own settings.");
    ui.add_space(8.0);
    if wide(ui, Icon::Picture, "Redraw pictures", true, true) {
        actions.push(Action::RedrawChosen);
    }
    if wide(ui, Icon::Trash, "Delete panels", false, true) {
        actions.push(Action::DeleteChosen);
    }
}

fn wide(ui: &mut Ui, icon: Icon, words: &str, primary: bool, enabled: bool) -> bool {
    ui.vertical_centered_justified(|ui| {
        if primary {
            widgets::primary_button(ui, icon, words, enabled).clicked()
        } else {
            widgets::button(ui, icon, words, enabled).clicked()
        }
    })
    .inner
}

/// How the shown picture was made.
fn record(ui: &mut Ui, state: &State, id: PanelId) {
    let Some(record) = state
        .panel(id)
        .and_then(|p| p.pictures.active())
        .and_then(|take| take.record.as_ref())
    else {
        return;
    };
    ui.add_space(12.0);
    let retouched: Vec<&str> = record
        .retouched
        .iter()
        .map(|done| done.how.words())
        .collect();
    let retouched = match retouched.is_empty() {
        true => String::new(),
        false => format!("Changed by hand: {}.", retouched.join(", ")),
    };
    if !record.is_drawn() {
        return note(ui, &retouched);
    }
    let words = format!(
        "Drawn by {} on {} in {:.1} s: guidance {:.1}, {} steps, seed {}.",
        record.model,
        record.device,
        record.seconds,
        record.settings.guidance,
        record.settings.steps,
        record.settings.seed
    );
    let words = RichText::new(words).size(12.0);
    ui.add(egui::Label::new(words.color(theme::palette(ui).faint_ink)).wrap())
        .on_hover_text(&record.prompt);
    if !retouched.is_empty() {
        note(ui, &retouched);
    }
}

fn note(ui: &mut Ui, words: &str) {
    let words = RichText::new(words).size(12.0);
    ui.add(egui::Label::new(words.color(theme::palette(ui).faint_ink)).wrap());
}
