//! What was said in this session, to be read again and copied.

use std::sync::{Arc, OnceLock};

use egui::{CollapsingHeader, Id, Label, RichText, Ui};

use super::note;
use crate::logging;
use crate::studio::dates;
use crate::studio::plain;
use crate::studio::state::State;
use crate::studio::theme;
use crate::studio::toasts::{LoggedMessage, MessageKind};

/// Bytes of the log's end that are shown.
const SHOWN: u64 = 48 << 10;

pub(super) fn show(ui: &mut Ui, state: &State) {
    let p = theme::palette(ui);
    let history: Vec<&LoggedMessage> = state.toasts.history().rev().collect();
    if history.is_empty() {
        note(ui, "Nothing has been said in this session yet.");
    }
    for (index, message) in history.into_iter().enumerate() {
        let ink = match message.kind {
            MessageKind::Note => p.ink,
            MessageKind::Error => p.error,
        };
        ui.horizontal_top(|ui| {
            let time = RichText::new(dates::time(message.at)).monospace();
            ui.label(time.color(p.faint_ink));
            let words = RichText::new(&message.sentence).color(ink);
            ui.add(Label::new(words).wrap().selectable(true));
        });
        let detail = message.detail.as_deref().unwrap_or(&message.sentence);
        if message.kind == MessageKind::Error {
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
    log(ui);
}

/// The end of the log, read by a thread when the author wants to see it.
fn log(ui: &mut Ui) {
    let Some(path) = logging::path() else { return };
    let id = Id::unique("end of the log");
    let shown = CollapsingHeader::new("The log").show(ui, |ui| {
        note(
            ui,
            format!("What was loaded, made and asked, in {}.", path.display()),
        );
        let read: Arc<OnceLock<String>> = ui.ctx().data_mut(|data| match data.get_temp(id) {
            Some(known) => known,
            None => {
                let read = Arc::new(OnceLock::new());
                data.insert_temp(id, Arc::clone(&read));
                read_into(Arc::clone(&read), ui.ctx().clone());
                read
            }
        });
        let Some(text) = read.get() else {
            return note(ui, "It is being read…");
        };
        if ui.button("Copy the log").clicked() {
            ui.ctx().copy_text(text.clone());
        }
        let words = RichText::new(text).monospace().size(11.5);
        ui.add(
            Label::new(words.color(theme::palette(ui).faint_ink))
                .wrap()
                .selectable(true),
        );
    });
    if shown.body_returned.is_none() {
        // Opened again, it is read again.
        ui.ctx()
            .data_mut(|data| data.remove::<Arc<OnceLock<String>>>(id));
    }
}

fn read_into(read: Arc<OnceLock<String>>, ctx: egui::Context) {
    let work = move || {
        let end = logging::end(SHOWN);
        let text =
            end.unwrap_or_else(|error| plain::words(&format!("It can't be read: {error}.")).0);
        let _ = read.set(text);
        ctx.request_repaint();
    };
    // Where there is no thread to be had, there is no log to be seen.
    let _ = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(work);
}
