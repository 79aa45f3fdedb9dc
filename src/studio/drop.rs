//! Files dragged onto the window: pictures join the story or the panel that waits for one, a
//! story's folder is opened.

use std::path::PathBuf;

use egui::{Align2, CornerRadius, FontId, Id, LayerId, Order, Stroke, StrokeKind, Ui};

use super::actions::Action;
use super::sheets::Sheet;
use super::state::State;
use super::theme;
use crate::story::PanelId;

/// Seconds that files wait for where they were let go.
const PATIENCE: f64 = 0.25;

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
            draw_notice(ui, "Drop pictures to add them to this member of the cast");
        }
        return;
    }
    let bare = aim(ui, state);
    let now = ui.input(|i| i.time);
    let kept = Id::unique("files let go over the window");
    let waiting = ui.data_mut(|data| data.remove_temp::<(Vec<PathBuf>, f64)>(kept));
    let waiting = match dropped.is_empty() {
        true => waiting,
        false => Some((dropped, now)),
    };
    if let Some((paths, since)) = waiting {
        // Some systems tell where the pointer is only once the files were let go.
        let known = ui.input(|i| i.pointer.hover_pos()).is_some() || state.view.large.is_some();
        if known || now - since >= PATIENCE {
            let into = bare.filter(|_| paths.len() == 1);
            actions.push(Action::Drop(paths, into));
        } else {
            ui.data_mut(|data| data.insert_temp(kept, (paths, since)));
            ui.request_repaint();
        }
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
    draw_notice(ui, &words);
}

/// The panel that a picture is for: the one that is open large, or under the pointer; where no system
/// says where that is, the selected one that has none.
fn aim(ui: &Ui, state: &State) -> Option<PanelId> {
    if state.view.large.is_some() {
        return state.view.large;
    }
    let Some(at) = ui.input(|i| i.pointer.hover_pos()) else {
        let bare = |id: &PanelId| {
            let panel = state.panel(*id);
            panel.is_some_and(|panel| panel.pictures.is_empty())
        };
        return state.view.selected.filter(bare);
    };
    // They may be those of a board that is shown no more.
    let mut cards = state.view.cards.iter();
    let (id, _) = cards.find(|(_, rect)| rect.contains(at))?;
    state.index_of(*id).map(|_| *id)
}

fn draw_notice(ui: &Ui, words: &str) {
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
