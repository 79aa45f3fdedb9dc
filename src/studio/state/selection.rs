//! Which panels are chosen, and which of them the board shows.

use std::time::Instant;

use super::State;
use crate::story::{Edit, PanelId};

impl State {
    /// Whether the panel is the selected one or chosen with it.
    pub fn is_chosen(&self, id: PanelId) -> bool {
        self.view.selected == Some(id) || self.view.also.contains(&id)
    }

    /// All chosen panels, in the order of the board.
    pub fn chosen(&self) -> Vec<PanelId> {
        let ids = self.panels().iter().map(|panel| panel.id);
        ids.filter(|&id| self.is_chosen(id)).collect()
    }

    pub(super) fn select(&mut self, id: Option<PanelId>) {
        let id = id.filter(|&id| self.index_of(id).is_some());
        self.view.also.clear();
        if self.view.selected == id {
            return;
        }
        self.forget_glimpse();
        self.view.selected = id;
        self.load_settings();
    }

    pub(super) fn toggle(&mut self, id: PanelId) {
        let mut others = std::mem::take(&mut self.view.also);
        if self.view.selected == Some(id) {
            let next = others.pop_first();
            self.select(next);
        } else if !others.remove(&id) {
            others.extend(self.view.selected);
            self.select(Some(id));
        }
        self.view.also = others;
    }

    /// Chooses all from the selected panel to `id`, which is selected then.
    pub(super) fn extend(&mut self, id: PanelId) {
        let from = self.view.selected.and_then(|id| self.index_of(id));
        let (Some(from), Some(to)) = (from, self.index_of(id)) else {
            return self.select(Some(id));
        };
        let range = &self.panels()[from.min(to)..=from.max(to)];
        self.view.also = range.iter().map(|panel| panel.id).collect();
    }

    pub(super) fn select_all(&mut self) {
        if self.view.selected.is_none() {
            let first = self.panels().first().map(|panel| panel.id);
            self.select(first);
        }
        self.view.also = self.panels().iter().map(|panel| panel.id).collect();
    }

    pub(super) fn step(&mut self, step: isize) {
        let last = self.panels().len().checked_sub(1);
        let Some(last) = last else { return };
        let here = self.view.selected.and_then(|id| self.index_of(id));
        let to = match here {
            Some(index) => index.saturating_add_signed(step).min(last),
            None if step == isize::MIN || (step > 0 && step < isize::MAX) => 0,
            None => last,
        };
        let id = self.panels()[to].id;
        self.select(Some(id));
        self.view.scroll_to = Some(id);
        if self.view.large.is_some() && self.view.large != Some(id) {
            self.enlarge(Some(id));
        }
    }

    pub(super) fn enlarge(&mut self, id: Option<PanelId>) {
        self.view.large = id;
        self.framing.drop_tool();
        self.view.compare = None;
        if id.is_some() {
            self.select(id);
        } else {
            self.view.focus_composer = self.view.composer.is_empty();
        }
    }

    /// Deletes the panels in one step of undo and selects the one that comes after.
    pub(super) fn delete(&mut self, ids: &[PanelId], now: Instant) {
        let places = ids.iter().filter_map(|&id| self.index_of(id));
        let Some(first) = places.min() else { return };
        let edits = ids.iter().map(|&id| Edit::DeletePanel(id)).collect();
        self.edit(Edit::Together(edits), now);
        self.view.also.retain(|id| !ids.contains(id));
        if self.view.selected.is_some_and(|id| ids.contains(&id)) {
            let panels = self.panels();
            let beside = panels.get(first).or(panels.last()).map(|p| p.id);
            self.select(beside);
        }
    }

    /// The panel that what is told now comes behind: the selected one, unless it is the last.
    pub fn place(&self) -> Option<PanelId> {
        let last = self.panels().last()?.id;
        self.view.selected.filter(|&id| id != last)
    }

    /// The index of a new panel behind `after`, or at the end.
    pub(super) fn index_behind(&self, after: Option<PanelId>) -> usize {
        let behind = after.and_then(|id| self.index_of(id)).map(|at| at + 1);
        behind.unwrap_or(self.panels().len())
    }
}
