//! A picture opened large, over the board, alone or beside another take; the inspector stays.

use std::sync::Arc;

use egui::{CornerRadius, Image, Rect, RichText, Sense, Slider, Ui, Vec2, WidgetInfo};
use image::RgbaImage;

use super::actions::Action;
use super::framing;
use super::icons::Icon;
use super::state::State;
use super::textures::Textures;
use super::{menus, script, theme, widgets};
use crate::story::PanelId;

/// Room at either side for the buttons that turn the page, in points.
const SIDE: f32 = 52.0;
/// Height of the slider below two takes.
const DIVIDER: f32 = 48.0;

pub(super) fn show(
    ui: &mut Ui,
    id: PanelId,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
    let Some(index) = state.index_of(id) else {
        actions.push(Action::Enlarge(None));
        return;
    };
    let whole = ui.max_rect();
    let behind = ui.interact(whole, ui.scope_id().with("behind"), Sense::click());
    // A stroke that misses the picture doesn't throw away what was painted.
    if behind.clicked() && state.framing.tool.is_none() {
        actions.push(Action::Enlarge(None));
    }
    head(ui, id, index, state, actions);
    framing::bar(ui, id, state, actions);
    let caption = (whole.height() * 0.2).clamp(28.0, 84.0);
    let space = Rect::from_min_max(
        egui::pos2(whole.left() + SIDE, ui.cursor().top()),
        whole.max - egui::vec2(SIDE, caption + 12.0),
    );
    let running = state.work.on(id).filter(|r| r.make.picture());
    let picture = running
        .and_then(|r| r.preview.clone())
        .or_else(|| state.picture_of(id));
    let other = state.view.compare.and_then(|take| {
        let picture = state.panel(id)?.pictures.items().get(take)?;
        Some((take, state.board.images.shown(&picture.image)?))
    });
    let divider = state.view.divider;
    let pictures = match &other {
        Some(_) => space.with_max_y(space.bottom() - DIVIDER),
        None => space,
    };
    let (left, right) = match &other {
        Some(_) if divider > 0.0 => (pictures, pictures),
        Some(_) => pictures.split_left_right_at_fraction(0.5),
        None => (pictures, Rect::NOTHING),
    };
    if let Some(picture) = picture {
        let place = if other.is_some() {
            left.shrink(6.0)
        } else {
            framing::room(state, left)
        };
        let texture = textures.panel(ui.ctx(), id, &picture);
        let name = format!("Large picture {}", index + 1);
        let rect = framed(ui, texture.id(), &picture, place);
        let held = state.framing.tool.is_some() && running.is_none();
        let sense = match held {
            true => Sense::click_and_drag(),
            false => Sense::click(),
        };
        let response = ui.interact(rect, ui.scope_id().with("large"), sense);
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &name));
        let take = state.panel(id).and_then(|panel| panel.picture());
        if let Some(take) = take.filter(|_| held) {
            let size = (take.width, take.height);
            framing::over(ui, (rect, &response), size, state, textures, actions);
        } else if response.clicked() {
            actions.push(Action::Enlarge(None));
        }
        response.context_menu(|ui| menus::panel(ui, state, actions, id));
        if let Some(r) = running {
            let line = Rect::from_min_max(rect.left_bottom() - egui::vec2(0.0, 5.0), rect.max);
            widgets::progress_line(ui, line, r.step as f32 / r.steps.max(1) as f32);
        }
    }
    if let Some((take, picture)) = other {
        let texture = textures.beside(ui.ctx(), &picture);
        let name = format!("Take {} beside it", take + 1);
        let rect = match divider > 0.0 {
            true => over(ui, texture.id(), &picture, right.shrink(6.0), divider),
            false => framed(ui, texture.id(), &picture, right.shrink(6.0)),
        };
        divide(ui, space.with_min_y(pictures.bottom()), divider, actions);
        let response = ui.interact(rect, ui.scope_id().with("beside"), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &name));
    }
    for (icon, name, step, x) in [
        (Icon::Left, "Previous picture", -1, whole.left() + 24.0),
        (Icon::Right, "Next picture", 1, whole.right() - 24.0),
    ] {
        let rect = Rect::from_center_size(egui::pos2(x, space.center().y), Vec2::splat(36.0));
        if widgets::floating_button(ui, rect, icon, name, 1.0).clicked() {
            actions.push(Action::Step(step));
        }
    }
    let below = Rect::from_min_max(
        egui::pos2(space.left(), space.bottom() + 12.0),
        egui::pos2(space.right(), whole.bottom()),
    );
    ui.scope_builder(egui::UiBuilder::new().max_rect(below), |ui| {
        egui::ScrollArea::vertical()
            .id_salt("caption")
            .max_height(caption)
            .auto_shrink(false)
            .show(ui, |ui| {
                // Each line in the middle, whichever way it is read.
                let (text, ink) = (state.seen_text(id), theme::palette(ui).ink);
                let font = theme::story_font();
                let laid = script::layout(ui, text, &font, ink, ui.available_width());
                let mut job = egui::text::LayoutJob::clone(&laid.job);
                job.halign = egui::Align::Center;
                let galley = ui.painter().layout_job(job);
                let size = egui::vec2(ui.available_width(), galley.size().y);
                let (rect, caption) = ui.allocate_exact_size(size, Sense::hover());
                caption.widget_info(|| WidgetInfo::labeled(egui::Role::Label, true, text));
                ui.painter().galley(rect.center_top(), galley, ink);
            });
    });
}

/// Which panel this is, and what can be done with its takes.
fn head(ui: &mut Ui, id: PanelId, index: usize, state: &State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let takes = state.panel(id).map(|panel| &panel.pictures);
    let shown = takes.and_then(|takes| takes.active_index());
    let left = |ui: &mut Ui, _| {
        ui.add_space(8.0);
        let mut words = format!("Panel {} of {}", index + 1, state.panels().len());
        if let Some((shown, other)) = shown.zip(state.view.compare) {
            words.push_str(&format!(": take {} and take {}", shown + 1, other + 1));
        }
        ui.label(RichText::new(words).color(p.faint_ink));
    };
    widgets::line(ui, "viewer", left, |ui| {
        if let Some((takes, shown)) = takes.zip(shown).filter(|(takes, _)| takes.len() > 1) {
            match state.view.compare {
                None => {
                    // The take before the one shown, or the one after the first.
                    let other = shown.checked_sub(1).unwrap_or(1);
                    if widgets::button(ui, Icon::Compare, "Compare takes", true).clicked() {
                        actions.push(Action::Compare(Some(other)));
                    }
                }
                Some(other) => {
                    let next = (1..=takes.len()).map(|step| (other + step) % takes.len());
                    let next = next.into_iter().find(|&take| take != shown);
                    if widgets::button(ui, Icon::Right, "Another take", takes.len() > 2).clicked() {
                        actions.push(Action::Compare(next));
                    }
                    if widgets::button(ui, Icon::Check, "Show the right one", true).clicked() {
                        actions.push(Action::PictureTake(id, other));
                        actions.push(Action::Compare(Some(shown)));
                    }
                    if widgets::button(ui, Icon::Compare, "One alone", true).clicked() {
                        actions.push(Action::Compare(None));
                    }
                }
            }
        }
        if widgets::icon_button(ui, Icon::Close, "Close picture", true)
            .on_hover_text("Esc")
            .clicked()
        {
            actions.push(Action::Enlarge(None));
        }
    });
}

/// The slider with which one take is drawn over the other.
fn divide(ui: &mut Ui, place: Rect, divider: f32, actions: &mut Vec<Action>) {
    ui.scope_builder(egui::UiBuilder::new().max_rect(place), |ui| {
        let mut share = divider;
        let words = match divider > 0.0 {
            true => format!("{:.0} %", 100.0 * divider),
            false => "side by side".to_owned(),
        };
        let slider = Slider::new(&mut share, 0.0..=1.0).step_by(0.01);
        if widgets::named_slider(ui, "Divider", words, slider).changed() {
            actions.push(Action::Divide(share));
        }
    });
}

/// Draws what lies to the right of the divider over another picture in the same place, and returns where
/// that is.
fn over(
    ui: &Ui,
    texture: egui::TextureId,
    picture: &Arc<RgbaImage>,
    place: Rect,
    divider: f32,
) -> Rect {
    let size = Vec2::new(picture.width() as f32, picture.height() as f32);
    let rect = widgets::fitted(size, place);
    let at = rect.left() + divider * rect.width();
    let seen = rect.with_min_x(at);
    let painter = ui.painter().with_clip_rect(seen.intersect(ui.clip_rect()));
    let whole = Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
    painter.image(texture, rect, whole, egui::Color32::WHITE);
    let line = egui::Stroke::new(2.0, theme::palette(ui).accent);
    ui.painter().vline(at, rect.y_range(), line);
    seen
}

/// Draws a picture whole in its place and returns where it lies.
fn framed(ui: &Ui, texture: egui::TextureId, picture: &Arc<RgbaImage>, place: Rect) -> Rect {
    let p = theme::palette(ui);
    let size = Vec2::new(picture.width() as f32, picture.height() as f32);
    let rect = widgets::fitted(size, place);
    let radius = CornerRadius::same(theme::RADIUS);
    ui.painter()
        .add(theme::card_shadow(p, true).as_shape(rect, radius));
    Image::from_texture((texture, rect.size()))
        .corner_radius(radius)
        .paint_at(ui, rect);
    rect
}
