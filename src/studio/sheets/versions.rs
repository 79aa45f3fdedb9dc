//! The texts of a panel side by side, as after a rewriting into several: the one that is to stay is
//! chosen by a click.

use egui::{Frame, Margin, RichText, Stroke, Ui};

use super::note;
use crate::story::PanelId;
use crate::studio::actions::Action;
use crate::studio::icons::Icon;
use crate::studio::state::State;
use crate::studio::{theme, widgets};

/// Texts that stand beside each other.
const COLUMNS: usize = 3;
/// Room between them, in points.
const GAP: f32 = 10.0;

pub(super) fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId) {
    let Some(panel) = state.panel(id) else {
        return;
    };
    let takes = panel.texts.items();
    let shown = panel.texts.active_index().unwrap_or(0);
    // The newest first, so that what was just written stands above.
    let order: Vec<usize> = (0..takes.len()).rev().collect();
    let width = (ui.available_width() - GAP * (COLUMNS - 1) as f32) / COLUMNS as f32;
    let inner = width - 2.0 * GAP;
    for row in order.chunks(COLUMNS) {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for &at in row {
                let p = theme::palette(ui);
                let active = at == shown;
                let edge = if active {
                    Stroke::new(2.0, p.accent)
                } else {
                    Stroke::new(1.0, p.line)
                };
                Frame::new()
                    .fill(p.card)
                    .stroke(edge)
                    .corner_radius(theme::RADIUS)
                    .inner_margin(Margin::same(GAP as i8))
                    .show(ui, |ui| {
                        ui.vertical(|ui| {
                            ui.set_width(inner);
                            one(ui, actions, id, at, takes[at].text.trim(), active);
                            let record = takes[at].record.as_ref();
                            let asked = record.map_or("", |record| record.instruction.trim());
                            if !asked.is_empty() {
                                note(ui, asked);
                            }
                        });
                    });
            }
        });
        ui.add_space(GAP);
    }
}

fn one(ui: &mut Ui, actions: &mut Vec<Action>, id: PanelId, at: usize, text: &str, active: bool) {
    let words = if active {
        format!("Text {} (shown)", at + 1)
    } else {
        format!("Text {}", at + 1)
    };
    widgets::caption(ui, &words);
    ui.add(
        egui::Label::new(RichText::new(text))
            .wrap()
            .selectable(true),
    );
    ui.add_space(6.0);
    ui.horizontal(|ui| {
        let use_it = widgets::button(ui, Icon::Check, "Use", !active);
        if use_it
            .accessible_name(format!("Use text {}", at + 1))
            .clicked()
        {
            actions.push(Action::TextTake(id, at));
        }
        let name = format!("Delete text {}", at + 1);
        if widgets::icon_button(ui, Icon::Trash, &name, true).clicked() {
            actions.push(Action::DeleteText(id, at));
        }
    });
}
