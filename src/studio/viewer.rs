//! A picture opened large, over the board; the inspector stays beside it.

use egui::{
    Align, CornerRadius, Frame, Image, Label, Layout, Margin, Rect, RichText, Sense, Ui, Vec2,
    WidgetInfo,
};

use super::actions::Action;
use super::icons::Icon;
use super::state::State;
use super::textures::Textures;
use super::{theme, widgets};
use crate::story::PanelId;

pub fn show(
    ui: &mut Ui,
    id: PanelId,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
    let p = theme::palette(ui);
    let Some(index) = state.index_of(id) else {
        actions.push(Action::Enlarge(None));
        return;
    };
    let whole = ui.max_rect();
    let behind = ui.interact(whole, ui.scope_id().with("behind"), Sense::click());
    if behind.clicked() {
        actions.push(Action::Enlarge(None));
    }
    ui.horizontal(|ui| {
        ui.add_space(8.0);
        ui.label(
            RichText::new(format!("Panel {} of {}", index + 1, state.panels().len()))
                .color(p.faint_ink),
        );
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::icon_button(ui, Icon::Close, "Close picture", true)
                .on_hover_text("Esc")
                .clicked()
            {
                actions.push(Action::Enlarge(None));
            }
        });
    });
    let caption_height = 84.0;
    let space = Rect::from_min_max(
        egui::pos2(whole.left() + 52.0, ui.cursor().top()),
        whole.max - egui::vec2(52.0, caption_height + 12.0),
    );
    let running = state.work.on(id).filter(|r| r.make.picture());
    let picture = running
        .and_then(|r| r.preview.clone())
        .or_else(|| state.picture_of(id));
    if let Some(picture) = picture {
        let size = Vec2::new(picture.width() as f32, picture.height() as f32);
        let scale = (space.width() / size.x).min(space.height() / size.y);
        let rect = Rect::from_center_size(space.center(), size * scale);
        let radius = CornerRadius::same(theme::RADIUS);
        ui.painter()
            .add(theme::card_shadow(p, true).as_shape(rect, radius));
        let texture = textures.panel(ui.ctx(), id, &picture);
        Image::from_texture((texture.id(), rect.size()))
            .corner_radius(radius)
            .paint_at(ui, rect);
        let response = ui.interact(rect, ui.scope_id().with("large"), Sense::click());
        response.widget_info(|| {
            WidgetInfo::labeled(
                egui::Role::Image,
                true,
                format!("Large picture {}", index + 1),
            )
        });
        if response.clicked() {
            actions.push(Action::Enlarge(None));
        }
        if let Some(r) = running {
            let line = Rect::from_min_max(rect.left_bottom() - egui::vec2(0.0, 5.0), rect.max);
            widgets::progress_line(ui, line, r.step as f32 / r.steps.max(1) as f32);
        }
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
    let below = Rect::from_min_max(egui::pos2(space.left(), space.bottom() + 12.0), whole.max);
    ui.scope_builder(egui::UiBuilder::new().max_rect(below), |ui| {
        Frame::NONE
            .inner_margin(Margin::symmetric(8, 0))
            .show(ui, |ui| {
                egui::ScrollArea::vertical()
                    .id_salt("caption")
                    .max_height(caption_height)
                    .show(ui, |ui| {
                        ui.vertical_centered(|ui| {
                            let text = RichText::new(state.seen_text(id)).font(theme::story_font());
                            ui.add(Label::new(text).wrap());
                        });
                    });
            });
    });
}
