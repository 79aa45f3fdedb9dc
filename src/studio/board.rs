//! The timeline: panel cards in rows, dragged to reorder.

use egui::{
    CursorIcon, DragAndDrop, Frame, Pos2, Rect, ScrollArea, Sense, Stroke, Ui, UiBuilder, Vec2,
    WidgetInfo,
};

use super::actions::Action;
use super::card::{self, CardPosition};
use super::casting;
use super::icons::{self, Icon};
use super::script;
use super::state::State;
use super::textures::Textures;
use super::theme::{self, GAP};
use super::widgets;
use crate::story::PanelId;

/// Cards are this wide at most, in points.
const CARD_WIDTH: f32 = 300.0;
/// Share of that to which they may shrink.
const NARROWEST: f32 = 0.787;
/// In a low window a card is as wide as so much of its height, so that its text is seen too.
const OF_HEIGHT: f32 = 0.62;

/// Where cards lie: equal columns, rows as tall as their longest text.
struct CardGrid {
    columns: usize,
    card: Vec2,
    left: f32,
    /// The top of each row and, last, the end.
    tops: Vec<f32>,
}

impl CardGrid {
    /// Cards are `largest` wide at most.
    /// `more` is what they are taller by than their picture, text and margins.
    fn new(width: f32, largest: f32, more: f32, text_heights: &[f32], slots: usize) -> CardGrid {
        let narrowest = largest * NARROWEST;
        let fit = |card: f32| (width + GAP) / (card + GAP);
        let columns = fit(largest).round().min(fit(narrowest).floor()).max(1.0) as usize;
        let wide = (width - GAP * (columns - 1) as f32) / columns as f32;
        let card_width = wide.clamp(120.0, largest + 20.0);
        let used = card_width * columns as f32 + GAP * (columns - 1) as f32;
        let mut tops = vec![GAP];
        for row in 0..slots.div_ceil(columns) {
            let texts = text_heights.iter().skip(row * columns).take(columns);
            let text = texts.fold(card::SHORTEST_TEXT, |a, &b| a.max(b));
            let text = text.min(card::LONGEST_TEXT);
            tops.push(tops[row] + card_width + more + text + card::MARGINS + GAP);
        }
        CardGrid {
            columns,
            card: Vec2::splat(card_width),
            left: ((width - used) / 2.0).max(0.0),
            tops,
        }
    }

    fn height(&self) -> f32 {
        self.tops.last().copied().unwrap_or(GAP)
    }

    fn rect(&self, origin: Pos2, index: usize) -> Rect {
        let (row, column) = (index / self.columns, index % self.columns);
        let left = self.left + column as f32 * (self.card.x + GAP);
        let min = origin + egui::vec2(left, self.tops[row]);
        let height = self.tops[row + 1] - self.tops[row] - GAP;
        Rect::from_min_size(min, egui::vec2(self.card.x, height))
    }

    /// The index before which a card dropped at `pos` goes.
    fn slot(&self, origin: Pos2, pos: Pos2, panels: usize) -> usize {
        let at = pos - origin;
        let row = self.tops[1..].iter().position(|&bottom| at.y < bottom);
        let row = row.unwrap_or(self.tops.len().saturating_sub(2));
        let across = (at.x - self.left + GAP / 2.0) / (self.card.x + GAP) + 0.5;
        let column = (across.max(0.0) as usize).min(self.columns);
        (row * self.columns + column).min(panels)
    }
}

pub(super) fn show(
    ui: &mut Ui,
    state: &mut State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
    let width = ui.available_width() - 12.0;
    let count = state.panels().len();
    let largest = (ui.available_height() * OF_HEIGHT).clamp(150.0, CARD_WIDTH);
    let more = casting::chips::height(state);
    let heights = card::text_heights(
        ui,
        state,
        CardGrid::new(width, largest, more, &[], 0).card.x,
    );
    let grid = CardGrid::new(width, largest, more, &heights, count + 1);
    state.view.cards.clear();
    state.view.columns = grid.columns;
    let scroll = state
        .view
        .scroll_to
        .take()
        .and_then(|id| state.index_of(id));
    ScrollArea::vertical()
        .id_salt("board")
        .auto_shrink(false)
        .show_viewport(ui, |ui, viewport| {
            let origin = ui.max_rect().min;
            ui.set_height(grid.height());
            if let Some(index) = scroll {
                let mut rect = grid.rect(origin, index).expand(GAP);
                // Of a card taller than the view the picture matters most.
                rect.set_height(rect.height().min(viewport.height()));
                ui.scroll_to_rect(rect, None);
            }
            let background = ui.interact(
                Rect::from_min_size(
                    origin,
                    egui::vec2(width, grid.height().max(viewport.height())),
                ),
                ui.scope_id().with("table"),
                Sense::click(),
            );
            if background.clicked() {
                actions.push(Action::Committed);
                actions.push(Action::Select(None));
            }
            let seen = viewport.translate(origin.to_vec2());
            let row = grid.tops.get(1).map_or(1.0, |top| top - grid.tops[0]);
            state.view.rows = (viewport.height() / row).floor().max(1.0) as usize;
            let first = grid
                .tops
                .iter()
                .position(|&t| origin.y + t > seen.top())
                .unwrap_or(1);
            let start = (first.saturating_sub(1) * grid.columns).min(count);
            for index in start..count {
                let rect = grid.rect(origin, index);
                if rect.top() > seen.bottom() {
                    break;
                }
                let id = state.panels()[index].id;
                let in_view = rect.intersect(ui.clip_rect());
                state.view.cards.push((id, in_view));
                ui.scope_builder(UiBuilder::new().max_rect(rect).id_salt(id), |ui| {
                    card::show(
                        ui,
                        state,
                        textures,
                        actions,
                        CardPosition { id, index, rect },
                    );
                });
            }
            let rect = grid.rect(origin, count);
            if rect.top() <= seen.bottom() {
                add_card(
                    ui,
                    rect.with_max_y(rect.top() + grid.card.x),
                    state,
                    actions,
                );
            }
            drag(ui, state, textures, actions, &grid, origin, count);
        });
}

/// The dashed place where the next panel comes.
fn add_card(ui: &mut Ui, rect: Rect, state: &State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let response = ui
        .interact(rect, ui.scope_id().with("add panel"), Sense::click())
        .on_hover_cursor(CursorIcon::PointingHand)
        .on_hover_text("An empty panel, to write in");
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, "Add panel"));
    let hot = response.hovered() || response.has_focus();
    let ink = if hot {
        p.accent
    } else {
        p.faint_ink.gamma_multiply(0.7)
    };
    let edge = rect.shrink(1.0);
    let corner = 14.0;
    let mut outline = Vec::new();
    // The corners are quarter circles, clockwise from the top left.
    for (centre, turn) in [
        (edge.left_top() + egui::vec2(corner, corner), 2.0),
        (edge.right_top() + egui::vec2(-corner, corner), 3.0),
        (edge.right_bottom() + egui::vec2(-corner, -corner), 0.0),
        (edge.left_bottom() + egui::vec2(corner, -corner), 1.0),
    ] {
        for i in 0..=6 {
            let angle = (turn + i as f32 / 6.0) * std::f32::consts::FRAC_PI_2;
            outline.push(centre + corner * egui::vec2(angle.cos(), angle.sin()));
        }
    }
    outline.push(outline[0]);
    ui.painter().extend(egui::Shape::dashed_line(
        &outline,
        Stroke::new(1.5, ink),
        7.0,
        6.0,
    ));
    let centre = rect.center();
    icons::image(ui.ctx(), Icon::Plus, 34.0)
        .tint(ink)
        .paint_at(ui, Rect::from_center_size(centre, Vec2::splat(34.0)));
    let waiting = state.work.panels_to_come();
    if waiting > 0 {
        let words = format!("{waiting} more to come");
        let at = centre + egui::vec2(0.0, 36.0);
        let font = egui::FontId::proportional(13.5);
        ui.painter()
            .text(at, egui::Align2::CENTER_CENTER, words, font, p.faint_ink);
    }
    if response.clicked() {
        actions.push(Action::AddPanel);
    }
}

/// The card in the hand, and the line where it would go.
fn drag(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    grid: &CardGrid,
    origin: Pos2,
    count: usize,
) {
    let Some(dragged) = DragAndDrop::payload::<PanelId>(ui.ctx()) else {
        return;
    };
    let Some(pointer) = ui.ctx().pointer_interact_pos() else {
        return;
    };
    let p = theme::palette(ui);
    let slot = grid.slot(origin, pointer, count);
    let beside = grid.rect(origin, slot.min(count.saturating_sub(1)));
    let x = if slot < count {
        beside.left() - GAP / 2.0
    } else {
        beside.right() + GAP / 2.0
    };
    let line = Rect::from_x_y_ranges(x - 2.0..=x + 2.0, beside.y_range());
    ui.painter().rect_filled(line, 2.0, p.accent);

    // Near an edge the board scrolls under the card.
    let view = ui.clip_rect();
    let reach = 60.0;
    let speed = if pointer.y < view.top() + reach {
        view.top() + reach - pointer.y
    } else if pointer.y > view.bottom() - reach {
        view.bottom() - reach - pointer.y
    } else {
        0.0
    };
    if speed != 0.0 {
        ui.scroll_with_delta_animation(
            egui::vec2(0.0, speed.clamp(-reach, reach) * 0.3),
            egui::style::ScrollAnimation::none(),
        );
        ui.ctx().request_repaint();
    }

    ui.ctx().set_cursor_icon(CursorIcon::Grabbing);
    let size = Vec2::splat(grid.card.x * 0.55);
    egui::Area::new(egui::Id::unique("dragged card"))
        .order(egui::Order::Tooltip)
        .interactable(false)
        .fixed_pos(pointer - size / 2.0)
        .show(ui.ctx(), |ui| {
            Frame::NONE
                .fill(p.card)
                .corner_radius(theme::RADIUS)
                .shadow(theme::card_shadow(p, true))
                .inner_margin(6)
                .show(ui, |ui| {
                    ui.set_opacity(0.92);
                    if let Some(picture) = state.picture_of(*dragged) {
                        let texture = textures.panel(ui.ctx(), *dragged, &picture);
                        let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
                        let shown = widgets::fitted(texture.size_vec2(), rect);
                        egui::Image::from_texture((texture.id(), shown.size()))
                            .corner_radius(10)
                            .paint_at(ui, shown);
                    } else {
                        let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
                        ui.painter().rect_filled(rect, 10, p.blank);
                        let text = state.text_of(*dragged);
                        let (font, width) = (theme::story_font(), size.x - 20.0);
                        let galley = script::layout(ui, text, &font, p.ink, width);
                        let left = script::origin(text, rect.left() + 10.0, width);
                        let painter = ui.painter_at(rect.shrink(10.0));
                        painter.galley(egui::pos2(left, rect.top() + 10.0), galley, p.ink);
                    }
                });
        });
    if ui.input(|i| i.pointer.any_released()) {
        DragAndDrop::clear_payload(ui.ctx());
        actions.push(Action::Move(*dragged, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_fill_the_usual_windows_without_overlap() {
        for width in [330.0, 600.0, 612.0, 960.0, 1600.0] {
            let grid = CardGrid::new(width, CARD_WIDTH, 0.0, &[500.0, 20.0], 8);
            assert!(
                grid.card.x >= 200.0 && grid.card.x <= 330.0,
                "{width}: {}",
                grid.card.x
            );
            let rects: Vec<Rect> = (0..8).map(|i| grid.rect(Pos2::ZERO, i)).collect();
            for (i, a) in rects.iter().enumerate() {
                assert!(a.left() >= 0.0 && a.right() <= width + 0.5, "{width}: {a}");
                assert!(rects[i + 1..].iter().all(|b| !a.intersects(*b)), "{width}");
            }
        }
        assert_eq!(CardGrid::new(960.0, CARD_WIDTH, 0.0, &[], 3).columns, 3);
        assert_eq!(CardGrid::new(600.0, CARD_WIDTH, 0.0, &[], 3).columns, 2);
    }

    #[test]
    fn a_card_dropped_on_a_half_goes_to_that_side() {
        let grid = CardGrid::new(960.0, CARD_WIDTH, 0.0, &[], 6);
        for index in 0..5 {
            let rect = grid.rect(Pos2::ZERO, index);
            let near = |x| Pos2::new(x, rect.center().y);
            assert_eq!(grid.slot(Pos2::ZERO, near(rect.left() + 5.0), 5), index);
            assert_eq!(
                grid.slot(Pos2::ZERO, near(rect.right() - 5.0), 5),
                index + 1
            );
        }
        assert_eq!(grid.slot(Pos2::ZERO, Pos2::new(-50.0, -50.0), 5), 0);
        assert_eq!(grid.slot(Pos2::ZERO, Pos2::new(5000.0, 5000.0), 5), 5);
    }
}
