//! The cast above the board: who is in the story, and who may be.

use egui::{Rect, ScrollArea, Ui, UiBuilder};

use super::{CastAction, ReferencePlace, called, paint_face, pill};
use crate::story::Member;
use crate::studio::actions::Action;
use crate::studio::icons::{self, Icon};
use crate::studio::state::State;
use crate::studio::textures::Textures;
use crate::studio::theme;
use crate::studio::widgets::{self, menu_item, roomy};

/// Its height in points.
const HEIGHT: f32 = 36.0;
/// In a low window.
const LOW: f32 = 30.0;
/// Below this the window is low.
const LOW_WINDOW: f32 = 560.0;

/// Draws the strip.
pub fn show(ui: &mut Ui, state: &State, textures: &mut Textures, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let low = ui.ctx().content_rect().height() < LOW_WINDOW;
    let height = if low { LOW } else { HEIGHT };
    ui.add_space(if low { 4.0 } else { 8.0 });
    let top = ui.cursor().min;
    let rect = Rect::from_min_size(top, egui::vec2(ui.available_width(), height));
    ui.scope_builder(UiBuilder::new().max_rect(rect).id_salt("cast"), |ui| {
        ScrollArea::horizontal()
            .id_salt("cast strip")
            .auto_shrink(false)
            .scroll_bar_visibility(egui::scroll_area::ScrollBarVisibility::AlwaysHidden)
            .show(ui, |ui| {
                ui.horizontal_centered(|ui| {
                    ui.spacing_mut().item_spacing.x = 6.0;
                    ui.label(egui::RichText::new("Cast").color(p.faint_ink));
                    for member in &state.story().cast {
                        self::member(ui, state, textures, actions, member, height);
                    }
                    for member in state.proposals() {
                        proposed(ui, actions, member, height);
                    }
                    let add = ui.add(egui::Button::new("+").min_size(egui::vec2(height, height)));
                    let add = add
                        .accessible_name("Add to the cast")
                        .on_hover_text("A character, a place or a thing that comes back");
                    if add.clicked() {
                        actions.push(Action::Cast(CastAction::New(ReferencePlace::Nowhere)));
                    }
                    let has_story = !state.panels().is_empty() && state.work.is_idle();
                    if state.is_instructed()
                        && widgets::icon_button(
                            ui,
                            Icon::Sparkle,
                            "Ask the writer who comes back",
                            has_story,
                        )
                        .clicked()
                    {
                        actions.push(Action::Cast(CastAction::Ask));
                    }
                    if state.story().cast.is_empty() {
                        widgets::caption(ui, "who comes back, and looks the same in every picture");
                    }
                });
            });
    });
}

fn member(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    member: &Member,
    height: f32,
) {
    let name = called(member);
    let response = pill(ui, name, &format!("Cast: {name}"), height, |ui, rect| {
        paint_face(ui, state, textures, member, rect);
    });
    if response.clicked() {
        actions.push(Action::Cast(CastAction::Open(member.id)));
    }
    response.context_menu(|ui| {
        roomy(ui);
        if menu_item(ui, "Edit…", "", true) {
            actions.push(Action::Cast(CastAction::Open(member.id)));
        }
        if menu_item(ui, "Add a picture…", "", true) {
            actions.push(Action::Cast(CastAction::AskPicture(member.id)));
        }
        if menu_item(ui, "Take out of the cast", "", true) {
            actions.push(Action::Cast(CastAction::Remove(member.id)));
        }
    });
    if !member.description.trim().is_empty() {
        response.on_hover_text(&member.description);
    }
}

/// Somebody who may belong to the cast.
fn proposed(ui: &mut Ui, actions: &mut Vec<Action>, member: &Member, height: f32) {
    let p = theme::palette(ui);
    let name = member.name.as_str();
    let accept = pill(
        ui,
        &format!("{name}?"),
        &format!("Add {name} to the cast"),
        height,
        |ui, rect| {
            let place = rect.shrink(rect.width() * 0.2);
            icons::image(ui.ctx(), Icon::Plus, place.width())
                .tint(p.accent)
                .paint_at(ui, place);
        },
    );
    if accept.clicked() {
        actions.push(Action::Cast(CastAction::Accept(name.to_owned())));
    }
    accept.on_hover_text(match member.description.as_str() {
        "" => "The story names somebody who is not in the cast",
        looks => looks,
    });
    let words = format!("{name} is nobody of the cast");
    if widgets::icon_button(ui, Icon::Close, &words, true).clicked() {
        actions.push(Action::Cast(CastAction::Dismiss(name.to_owned())));
    }
}
