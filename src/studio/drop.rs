//! Files dragged onto the window: pictures join the story or the panel that waits for one, a
//! story's folder is opened.

use std::path::PathBuf;

use egui::{Align2, CornerRadius, FontId, Id, LayerId, Order, Stroke, StrokeKind, Ui};

use super::actions::Action;
use super::sheets::Sheet;
use super::state::State;
use super::theme;
use crate::story::PanelId;

/// Says what letting go will do while files hang over the window, and takes those let go.
pub(super) fn show(ui: &Ui, state: &State, actions: &mut Vec<Action>) {
    let (hovering, dropped) = ui.input(|i| {
        let dropped = i.raw.dropped_files.iter();
        let paths: Vec<PathBuf> = dropped.map(|file| file.path().to_owned()).collect();
        (i.raw.hovered_files.len(), paths)
    });
    if let Some(Sheet::Member(id)) = state.view.sheet {
        if !dropped.is_empty() {
            actions.push(Action::DropLooks(dropped, id));
        }
        if hovering > 0 {
            say(ui, "Drop pictures to add them to this member of the cast");
        }
        return;
    }
    // Where the pointer is while files are dragged is not told on every system, so the panel
    // that a picture is for is the one that is open large, or the selected one that has none.
    let waits = |id: &PanelId| {
        let panel = state.panel(*id);
        panel.is_some_and(|panel| panel.pictures.is_empty())
    };
    let bare = state.view.large.or(state.view.selected.filter(waits));
    if !dropped.is_empty() {
        let into = bare.filter(|_| dropped.len() == 1);
        actions.push(Action::Drop(dropped, into));
    }
    if hovering == 0 {
        return;
    }
    let place = bare
        .filter(|_| hovering == 1)
        .and_then(|id| state.index_of(id));
    let words = match place {
        Some(index) => format!("Drop a picture to put it into panel {}", index + 1),
        None => "Drop pictures to add them to the story, or a story's folder to open it".to_owned(),
    };
    say(ui, &words);
}

fn say(ui: &Ui, words: &str) {
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
        words,
        FontId::proportional(20.0),
        p.ink,
    );
}
