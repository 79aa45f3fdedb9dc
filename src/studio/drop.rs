//! Files dragged onto the window: pictures join the story, a story's folder is opened.

use std::path::PathBuf;

use egui::{Align2, CornerRadius, FontId, Id, LayerId, Order, Stroke, StrokeKind, Ui};

use super::actions::Action;
use super::theme;

/// Says what letting go will do while files hang over the window, and takes those let go.
pub fn show(ui: &Ui, actions: &mut Vec<Action>) {
    let (hovering, dropped) = ui.input(|i| {
        let dropped = i.raw.dropped_files.iter();
        let paths: Vec<PathBuf> = dropped.map(|file| file.path().to_owned()).collect();
        (!i.raw.hovered_files.is_empty(), paths)
    });
    if !dropped.is_empty() {
        actions.push(Action::Drop(dropped));
    }
    if !hovering {
        return;
    }
    let p = theme::palette(ui);
    let layer = LayerId::new(Order::Foreground, Id::unique("files over the window"));
    let painter = ui.ctx().layer_painter(layer);
    let whole = ui.ctx().content_rect().shrink(10.0);
    let radius = CornerRadius::same(theme::RADIUS);
    painter.rect_filled(whole, radius, p.card.gamma_multiply(0.9));
    painter.rect_stroke(
        whole,
        radius,
        Stroke::new(3.0, p.accent),
        StrokeKind::Inside,
    );
    painter.text(
        whole.center(),
        Align2::CENTER_CENTER,
        "Drop pictures to add them to the story, or a story's folder to open it",
        FontId::proportional(20.0),
        p.ink,
    );
}
