//! Drawings of the library to choose from in the sheet of a member.

use std::sync::Arc;

use egui::{Image, Sense, TextEdit, Ui, Vec2, WidgetInfo};
use image::RgbaImage;

use super::CastAction;
use crate::story::{ImageId, Member};
use crate::storyworld::library::{DrawingId, drawing, drawings_called};
use crate::studio::actions::Action;
use crate::studio::inspector::label;
use crate::studio::textures::Textures;
use crate::studio::{theme, widgets};

/// Side of a drawing in points.
const SIDE: f32 = 58.0;
/// Most that are shown.
const MOST: usize = 12;
/// Pixels along the longer side of a small one.
const SMALL: u32 = 116;

/// A field to look for drawings in, and those that were found.
pub(super) fn choose(
    ui: &mut Ui,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    member: &Member,
) {
    const NAME: &str = "Look for a drawing";
    label(ui, "Or a drawing of the library in place of its pictures");
    let kept = ui.scope_id().with(NAME);
    let mut text = ui
        .data_mut(|data| data.get_temp::<String>(kept))
        .unwrap_or_default();
    let edit = TextEdit::singleline(&mut text)
        .hint_text("dog, wizard, teapot")
        .desired_width(f32::INFINITY);
    if ui.add(edit).accessible_name(NAME).changed() {
        ui.data_mut(|data| data.insert_temp(kept, text.clone()));
    }
    let found = drawings_called(&text);
    if found.is_empty() {
        if !text.trim().is_empty() {
            widgets::caption(ui, "There is none; bring a drawing of your own");
        }
        return;
    }
    ui.horizontal_wrapped(|ui| {
        for id in found.into_iter().take(MOST) {
            if small(ui, textures, id) {
                actions.push(Action::Cast(CastAction::Drawn(member.id, id)));
            }
        }
    });
}

/// One of them; true where it was pressed.
fn small(ui: &mut Ui, textures: &mut Textures, id: DrawingId) -> bool {
    let p = theme::palette(ui);
    let noun = id.get().noun();
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(SIDE), Sense::click());
    response.widget_info(|| {
        WidgetInfo::labeled(egui::Role::Button, true, format!("Drawing of: {noun}"))
    });
    let fill = match response.hovered() || response.has_focus() {
        true => p.accent_soft,
        false => p.blank,
    };
    ui.painter().rect_filled(rect, 8.0, fill);
    let kept = egui::Id::unique("drawing of the library").with(id);
    let (image, picture) = ui.data_mut(|data| {
        data.get_temp_mut_or_insert_with(kept, || {
            let picture = Arc::new(drawing(id, SMALL));
            (ImageId::of(&picture), picture) as (ImageId, Arc<RgbaImage>)
        })
        .clone()
    });
    let texture = textures.thumbnail(ui.ctx(), &image, &picture);
    let place = widgets::fitted(texture.size_vec2(), rect.shrink(4.0));
    Image::from_texture((texture.id(), place.size())).paint_at(ui, place);
    widgets::focus_ring(ui, &response, rect.expand(1.0));
    response.on_hover_text(noun).clicked()
}
