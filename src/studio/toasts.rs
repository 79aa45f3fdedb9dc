//! Short messages over the board: what went wrong and what to do, or what was done.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use egui::{Align2, Area, Frame, Margin, Order, RichText, Stroke, Ui};

use super::icons::{self, Icon};
use super::{plain, theme, widgets};

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Something was done.
    Note,
    /// Something went wrong.
    Error,
}

/// One sentence for the author.
#[derive(Clone, Debug)]
pub struct Toast {
    /// Whether something was done or went wrong.
    pub kind: MessageKind,
    /// The message.
    pub sentence: String,
    until: Instant,
}

/// Reasons may begin in the middle of a sentence; what the author reads does not.
pub fn sentence(words: String) -> String {
    let mut letters = words.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// A message that was shown, kept to be read again.
#[derive(Clone, Debug)]
pub struct LoggedMessage {
    /// Whether something was done or went wrong.
    pub kind: MessageKind,
    /// When it was shown.
    pub at: SystemTime,
    /// The message.
    pub sentence: String,
    /// What the system said, for whoever helps the author.
    pub detail: Option<String>,
}

/// So many messages are kept.
const KEPT: usize = 200;

/// The messages now shown, oldest first, and those shown before.
#[derive(Clone, Debug, Default)]
pub struct Toasts {
    shown: Vec<Toast>,
    history: VecDeque<LoggedMessage>,
}

impl Toasts {
    /// Shows that something was done, for four seconds.
    pub fn note(&mut self, sentence: impl Into<String>, now: Instant) {
        self.push(
            MessageKind::Note,
            sentence.into(),
            now + Duration::from_secs(4),
        );
    }

    /// Says what went wrong in an author's words; those of the system are kept beside them.
    pub fn error(&mut self, sentence: impl Into<String>, now: Instant) {
        self.push(
            MessageKind::Error,
            sentence.into(),
            now + Duration::from_secs(20),
        );
    }

    /// All messages that were shown, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &LoggedMessage> {
        self.history.iter()
    }

    /// A sentence that is already shown is shown longer, not twice.
    fn push(&mut self, kind: MessageKind, words: String, until: Instant) {
        let (plain, detail) = plain::words(&words);
        let sentence = sentence(plain);
        if !self.shown.iter().any(|toast| toast.sentence == sentence) {
            self.history.push_back(LoggedMessage {
                kind,
                at: SystemTime::now(),
                sentence: sentence.clone(),
                detail,
            });
            let surplus = self.history.len().saturating_sub(KEPT);
            self.history.drain(..surplus);
        }
        self.shown.retain(|t| t.sentence != sentence);
        self.shown.push(Toast {
            kind,
            sentence,
            until,
        });
        let surplus = self.shown.len().saturating_sub(4);
        self.shown.drain(..surplus);
    }

    /// Drops what has been shown long enough; returns how long the next is shown yet.
    pub fn expire(&mut self, now: Instant) -> Option<Duration> {
        self.shown.retain(|t| t.until > now);
        self.shown.iter().map(|t| t.until - now).min()
    }

    /// Messages that are shown now, oldest first.
    pub fn all(&self) -> &[Toast] {
        &self.shown
    }
}

/// Draws the messages so far above the lower edge of the window, in points.
pub fn show(ui: &mut Ui, toasts: &mut Toasts, above: f32) {
    if toasts.shown.is_empty() {
        return;
    }
    let p = theme::palette(ui);
    let mut dismissed = None;
    let width = (ui.ctx().content_rect().width() - 140.0).min(520.0);
    Area::new(egui::Id::unique("toasts"))
        .order(Order::Foreground)
        .anchor(Align2::CENTER_BOTTOM, egui::vec2(0.0, -above - 12.0))
        .show(ui.ctx(), |ui| {
            for (i, toast) in toasts.shown.iter().enumerate() {
                let (icon, ink, edge) = match toast.kind {
                    MessageKind::Note => (Icon::Check, p.accent, p.line),
                    MessageKind::Error => (Icon::Warning, p.error, p.error),
                };
                Frame::NONE
                    .fill(p.paper)
                    .stroke(Stroke::new(1.0, edge))
                    .corner_radius(10)
                    .shadow(theme::card_shadow(p, true))
                    .inner_margin(Margin::symmetric(12, 6))
                    .show(ui, |ui| {
                        ui.horizontal(|ui| {
                            ui.add(icons::image(ui.ctx(), icon, 18.0).tint(ink));
                            let words = RichText::new(&toast.sentence);
                            ui.scope(|ui| {
                                ui.set_max_width(width);
                                ui.add(egui::Label::new(words).wrap());
                            });
                            if widgets::icon_button(ui, Icon::Close, "Dismiss message", true)
                                .clicked()
                            {
                                dismissed = Some(i);
                            }
                        });
                    });
            }
        });
    if let Some(i) = dismissed {
        toasts.shown.remove(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_after_their_time_and_are_not_shown_twice() {
        let now = Instant::now();
        let mut toasts = Toasts::default();
        toasts.note("Saved.", now);
        toasts.error("The disk is full; free some space and save again.", now);
        toasts.note("Saved.", now);
        assert_eq!(toasts.all().len(), 2);
        assert!(toasts.expire(now + Duration::from_secs(5)).is_some());
        assert_eq!(toasts.all()[0].kind, MessageKind::Error);
        assert_eq!(toasts.expire(now + Duration::from_secs(60)), None);
        assert!(toasts.all().is_empty());
    }
}
