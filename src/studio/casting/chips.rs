//! Who is in a panel, on its card: found from its text, put right by the author.

use egui::{Rect, ScrollArea, Ui, UiBuilder};

use super::{CastAction, called, paint_face, pill};
use crate::studio::actions::Action;
use crate::studio::card::CardPosition;
use crate::studio::state::State;
use crate::studio::textures::Textures;
use crate::studio::widgets::{menu_item, roomy};

/// Height of the row in points.
pub const HEIGHT: f32 = 30.0;

/// What cards are taller by while the story has a cast.
pub fn height(state: &State) -> f32 {
    match state.story().cast.is_empty() {
        true => 0.0,
        false => HEIGHT,
    }
}

/// Draws them into `rect`, below the picture.
pub fn show(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    drawn: CardPosition,
    rect: Rect,
) {
    let Some(panel) = state.panel(drawn.id) else {
        return;
    };
    let story = state.story();
    let there = story.in_panel(panel);
    let number = drawn.index + 1;
    ui.scope_builder(UiBuilder::new().max_rect(rect).id_salt("chips"), |ui| {
        ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(2.0)));
        ScrollArea::horizontal()
            .id_salt("chips")
            .auto_shrink(false)
            .scroll_bar_visibility(egui::scroll_area::ScrollBarVisibility::AlwaysHidden)
            .show(ui, |ui| {
                ui.horizontal_centered(|ui| {
                    ui.spacing_mut().item_spacing.x = 4.0;
                    for member in there.iter().filter_map(|id| story.member(*id)) {
                        let name = called(member);
                        let words = format!("Take {name} out of panel {number}");
                        let chip = pill(ui, name, &words, 24.0, |ui, rect| {
                            paint_face(ui, state, textures, member, rect);
                        });
                        if chip.clicked() {
                            let out = CastAction::Into(drawn.id, member.id, false);
                            actions.push(Action::Cast(out));
                        }
                        chip.on_hover_text(words);
                    }
                    if there.len() == story.cast.len() {
                        return;
                    }
                    ui.spacing_mut().button_padding = egui::vec2(7.0, 2.0);
                    let more = ui.menu_button("+", |ui| {
                        roomy(ui);
                        for member in &story.cast {
                            if !there.contains(&member.id)
                                && menu_item(ui, called(member), "", true)
                            {
                                let into = CastAction::Into(drawn.id, member.id, true);
                                actions.push(Action::Cast(into));
                            }
                        }
                    });
                    more.response
                        .accessible_name(format!("Who else is in panel {number}"))
                        .on_hover_text("Who else is in this panel");
                });
            });
    });
}
