//! What was said in this session, to be read again and copied.

use egui::{Label, RichText, Ui};

use super::note;
use crate::studio::dates;
use crate::studio::state::State;
use crate::studio::theme;
use crate::studio::toasts::{Kind, Message};

pub fn show(ui: &mut Ui, state: &State) {
    let p = theme::palette(ui);
    let history: Vec<&Message> = state.toasts.history().rev().collect();
    if history.is_empty() {
        return note(ui, "Nothing has been said in this session yet.");
    }
    for (index, message) in history.into_iter().enumerate() {
        let ink = match message.kind {
            Kind::Note => p.ink,
            Kind::Error => p.error,
        };
        ui.horizontal_top(|ui| {
            let time = RichText::new(dates::time(message.at)).monospace();
            ui.label(time.color(p.faint_ink));
            let words = RichText::new(&message.sentence).color(ink);
            ui.add(Label::new(words).wrap().selectable(true));
        });
        let detail = message.detail.as_deref().unwrap_or(&message.sentence);
        if message.kind == Kind::Error {
            if message.detail.is_some() {
                let words = RichText::new(detail).monospace().size(12.0);
                ui.add(Label::new(words.color(p.faint_ink)).wrap().selectable(true));
            }
            let copy = ui.small_button("Copy details");
            if copy
                .accessible_name(format!("Copy details of message {}", index + 1))
                .clicked()
            {
                ui.ctx().copy_text(format!(
                    "Vokenboard {} on {}: {detail}",
                    env!("CARGO_PKG_VERSION"),
                    std::env::consts::OS
                ));
            }
        }
        ui.separator();
    }
}
