//! The empty board: how to begin, and what the model can draw.

use egui::{Align, Frame, Label, Layout, Margin, RichText, ScrollArea, Stroke, Ui};

use super::actions::Action;
use super::composer::{self, Group};
use super::icons::{self, Icon};
use super::state::{Readiness, State};
use super::{theme, widgets};
use crate::engine::Description;

/// Openings that the built-in model draws well.
pub const OPENINGS: [&str; 3] = [
    "A fox finds a glowing lantern in the snowy forest.",
    "An owl and a rabbit share a cake in the garden.",
    "A little robot is alone on the moon and dreams of a friend.",
];

pub fn show(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) {
    ScrollArea::vertical()
        .id_salt("welcome")
        .auto_shrink(false)
        .show(ui, |ui| {
            let width = ui.available_width().min(720.0);
            ui.add_space((ui.available_height() * 0.07).clamp(8.0, 64.0));
            ui.vertical_centered(|ui| {
                ui.set_max_width(width);
                ui.label(
                    RichText::new("What story shall we tell?")
                        .heading()
                        .size(30.0),
                );
                widgets::caption(
                    ui,
                    "Write how it begins below and press Enter, or start with one of these:",
                );
                ui.add_space(10.0);
                for opening in OPENINGS {
                    sample(ui, opening, actions);
                }
                ui.add_space(22.0);
                able(ui, state, actions);
            });
        });
}

fn sample(ui: &mut Ui, opening: &'static str, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let image = icons::image(ui.ctx(), Icon::Sparkle, 18.0).tint(p.accent);
    let words = RichText::new(opening).font(theme::story_font());
    let button = egui::Button::image_and_text(image, words)
        .fill(p.card)
        .stroke(Stroke::new(1.0, p.line))
        .corner_radius(12)
        .min_size(egui::vec2(ui.available_width().min(560.0), 46.0));
    if ui.add(button).accessible_name(opening).clicked() {
        actions.push(Action::Open(opening));
    }
}

/// A line saying what the model can draw, and its words.
fn able(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let description = match &state.readiness {
        Readiness::Ready(description) => description.clone(),
        Readiness::Loading(words) => {
            widgets::caption(ui, words);
            return;
        }
        Readiness::Failed(reason) => {
            ui.add(Label::new(RichText::new(reason).color(p.error)).wrap());
            return;
        }
    };
    let line = can_draw(&state.model_name(), &description);
    if line.is_empty() {
        return;
    }
    ui.label(RichText::new(line).color(p.faint_ink));
    ui.add_space(4.0);
    Frame::NONE
        .fill(p.paper)
        .stroke(Stroke::new(1.0, p.line))
        .corner_radius(theme::RADIUS)
        .inner_margin(Margin::same(14))
        .show(ui, |ui| {
            ui.with_layout(Layout::top_down(Align::Min), |ui| {
                let groups = composer::groups(&description);
                ui.horizontal(|ui| {
                    for (i, group) in groups
                        .iter()
                        .enumerate()
                        .filter(|(_, g)| !g.words.is_empty())
                    {
                        let name = format!("{} ({})", group.name, group.words.len());
                        let tab = ui.selectable_label(state.words_shown == i, name);
                        if tab
                            .accessible_name(format!("Show {}", group.name.to_lowercase()))
                            .clicked()
                        {
                            state.words_shown = i;
                        }
                    }
                });
                ui.add_space(4.0);
                let group: &Group<'_> = &groups[state.words_shown.min(2)];
                composer::chips(ui, group, actions);
            });
        });
}

fn can_draw(model: &str, d: &Description) -> String {
    let counts = [
        (d.characters.len(), "characters"),
        (d.things.len(), "things"),
        (d.places.len(), "places"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    match parts.as_slice() {
        [] => String::new(),
        [one] => format!("{model} can draw {one}. Click a word to use it."),
        [rest @ .., last] => {
            format!(
                "{model} can draw {} and {last}. Click a word to use it.",
                rest.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_what_the_model_knows() {
        let mut d = Description {
            characters: vec!["fox".into(); 24],
            ..Description::default()
        };
        assert_eq!(
            can_draw("Sprout", &d),
            "Sprout can draw 24 characters. Click a word to use it."
        );
        d.things = vec!["lantern".into()];
        d.places = vec!["forest".into(); 12];
        assert_eq!(
            can_draw("Sprout", &d),
            "Sprout can draw 24 characters, 1 things and 12 places. Click a word to use it."
        );
        assert_eq!(can_draw("X", &Description::default()), "");
    }
}
