//! The empty board: how to begin, and what the model can draw.

use egui::{Align, Frame, Label, Layout, Margin, RichText, ScrollArea, Stroke, Ui};

use super::actions::Action;
use super::composer::{self, Group};
use super::icons::{self, Icon};
use super::state::{Readiness, State, Words};
use super::{theme, widgets};

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
    if let Readiness::Failed(reason) = &state.readiness {
        ui.add(Label::new(RichText::new(reason).color(p.error)).wrap());
        return;
    }
    let words = state.words();
    let line = can_draw(&state.model_name(), words);
    if line.is_empty() {
        return;
    }
    ui.label(RichText::new(line).color(p.faint_ink));
    ui.add_space(4.0);
    let groups = composer::groups(words);
    let mut shown = state.words_shown;
    Frame::NONE
        .fill(p.paper)
        .stroke(Stroke::new(1.0, p.line))
        .corner_radius(theme::RADIUS)
        .inner_margin(Margin::same(14))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.with_layout(Layout::top_down(Align::Min), |ui| {
                ui.horizontal(|ui| {
                    for (i, group) in groups
                        .iter()
                        .enumerate()
                        .filter(|(_, g)| !g.words.is_empty())
                    {
                        let name = format!("{} ({})", group.name, group.words.len());
                        let tab = ui.selectable_label(shown == i, name);
                        if tab
                            .accessible_name(format!("Show {}", group.name.to_lowercase()))
                            .clicked()
                        {
                            shown = i;
                        }
                    }
                });
                ui.add_space(4.0);
                let group: &Group<'_> = &groups[shown.min(2)];
                composer::chips(ui, group, actions);
            });
        });
    state.words_shown = shown;
}

fn can_draw(model: &str, words: Words<'_>) -> String {
    let counts = [
        (words.characters.len(), "character"),
        (words.things.len(), "thing"),
        (words.places.len(), "place"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}{}", if *n == 1 { "" } else { "s" }))
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
        let named = |name: &str, n| vec![name.to_owned(); n];
        let (characters, things, places) =
            (named("fox", 24), named("lantern", 1), named("forest", 12));
        let mut words = Words {
            characters: &characters,
            ..Words::default()
        };
        assert_eq!(
            can_draw("Sprout", words),
            "Sprout can draw 24 characters. Click a word to use it."
        );
        words.things = &things;
        words.places = &places;
        assert_eq!(
            can_draw("Sprout", words),
            "Sprout can draw 24 characters, 1 thing and 12 places. Click a word to use it."
        );
        assert_eq!(can_draw("X", Words::default()), "");
    }
}
