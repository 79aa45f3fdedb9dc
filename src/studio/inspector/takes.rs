//! The takes of the selected panel: every picture and text that was made for it.

use egui::{Image, Key, Rect, Response, Sense, Stroke, Ui, Vec2, WidgetInfo};

use crate::story::{PanelId, PictureTake};
use crate::studio::actions::Action;
use crate::studio::icons::{self, Icon};
use crate::studio::sheets::Sheet;
use crate::studio::state::State;
use crate::studio::textures::Textures;
use crate::studio::{menus, theme, widgets};

/// Side of the square that a thumbnail lies in, in points.
const THUMBNAIL: f32 = 54.0;

pub(super) fn pictures(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    id: PanelId,
) {
    let Some(panel) = state.panel(id) else { return };
    let pictures = panel.pictures.items();
    let Some((shown, take)) = panel.pictures.active_index().zip(panel.picture()) else {
        return;
    };
    let words = match pictures.len() {
        1 => "1 take".to_owned(),
        n => format!("{n} takes: click the one to show"),
    };
    widgets::line(
        ui,
        "take buttons",
        |ui, _| widgets::caption(ui, &words),
        |ui| {
            let (icon, name) = if take.starred {
                (Icon::Star, "Unstar take")
            } else {
                (Icon::StarOutline, "Star take")
            };
            if widgets::icon_button(ui, icon, name, true).clicked() {
                actions.push(Action::Star(id, shown, !take.starred));
            }
            if widgets::icon_button(ui, Icon::Trash, "Delete take", true)
                .on_hover_text("Delete while a take has the focus; undo brings it back")
                .clicked()
            {
                actions.push(Action::DeletePicture(id, shown));
            }
        },
    );
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = Vec2::splat(6.0);
        for (index, take) in pictures.iter().enumerate() {
            let active = index == shown;
            let response = thumbnail(ui, state, textures, take, index, active);
            if response.has_focus() && ui.input(|i| i.key_pressed(Key::Delete)) {
                actions.push(Action::DeletePicture(id, index));
            }
            if response.clicked() {
                actions.push(Action::PictureTake(id, index));
            }
            response.context_menu(|ui| {
                menus::take(ui, state, actions, (id, index), active, take.starred);
            });
        }
    });
}

fn thumbnail(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    take: &PictureTake,
    index: usize,
    active: bool,
) -> Response {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(THUMBNAIL), Sense::click());
    let name = if active {
        format!("Take {} (shown)", index + 1)
    } else {
        format!("Take {}", index + 1)
    };
    response.widget_info(|| WidgetInfo::selected(egui::Role::Button, true, active, &name));
    ui.painter().rect_filled(rect, 8.0, p.blank);
    if let Some(picture) = state.board.images.shown(&take.image) {
        let texture = textures.thumbnail(ui.ctx(), &take.image, &picture);
        let place = widgets::fitted(texture.size_vec2(), rect);
        let square = (place.width() - place.height()).abs() < 1.0;
        Image::from_texture((texture.id(), place.size()))
            .corner_radius(if square { 8 } else { 0 })
            .paint_at(ui, place);
    }
    let edge = if active {
        Stroke::new(2.5, p.accent)
    } else if response.hovered() {
        Stroke::new(1.5, p.faint_ink)
    } else {
        Stroke::NONE
    };
    ui.painter()
        .rect_stroke(rect, 8.0, edge, egui::StrokeKind::Outside);
    widgets::focus_ring(ui, &response, rect.expand(2.0));
    if take.starred {
        let corner = rect.right_top() + egui::vec2(-10.0, 10.0);
        ui.painter().circle_filled(corner, 9.0, p.accent);
        icons::image(ui.ctx(), Icon::Star, 12.0)
            .tint(p.on_accent)
            .paint_at(ui, Rect::from_center_size(corner, Vec2::splat(12.0)));
    }
    let words = take.record.as_ref().map_or(name.clone(), |r| {
        format!(
            "{name}: guidance {:.1}, {} steps, seed {}",
            r.settings.guidance, r.settings.steps, r.settings.seed
        )
    });
    response.on_hover_text(words)
}

pub(super) fn texts(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId) {
    let Some(panel) = state.panel(id) else { return };
    let texts = panel.texts.items().len();
    if texts < 2 {
        return;
    }
    let at = panel.texts.active_index().unwrap_or(0);
    let previous = |ui: &mut Ui, actions: &mut Vec<Action>| {
        if widgets::icon_button(ui, Icon::Left, "Previous text", at > 0).clicked() {
            actions.push(Action::TextTake(id, at.saturating_sub(1)));
        }
        ui.label(format!("Text {} of {texts}", at + 1));
        if widgets::icon_button(ui, Icon::Right, "Next text", at + 1 < texts).clicked() {
            actions.push(Action::TextTake(id, at + 1));
        }
    };
    let (mut deleted, mut compared) = (false, false);
    widgets::line(
        ui,
        "text buttons",
        |ui, _| previous(ui, actions),
        |ui| {
            deleted = widgets::icon_button(ui, Icon::Trash, "Delete text", true).clicked();
            compared =
                widgets::icon_button(ui, Icon::Compare, "Texts side by side", true).clicked();
        },
    );
    if deleted {
        actions.push(Action::DeleteText(id, at));
    }
    if compared {
        actions.push(Action::Show(Some(Sheet::Versions(id))));
    }
}
