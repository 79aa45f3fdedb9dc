//! The empty board: how to begin, and what the model can draw.

use egui::text::{LayoutJob, TextWrapping};
use egui::{
    Align, FontId, Frame, Label, Layout, Margin, Rect, RichText, ScrollArea, Sense, Stroke,
    StrokeKind, Ui, WidgetInfo,
};

use super::actions::Action;
use super::composer::{self, WordGroup};
use super::icons::{self, Icon};
use super::recent::RecentStory;
use super::state::{DrawableWordLists, Readiness, State};
use super::textures::Textures;
use super::{dates, theme, widgets};
use crate::storyworld::library::DrawingId;

/// Openings of which the built-in model draws all that they name, with every seed that was tried.
pub(super) const OPENINGS: [&str; 3] = [
    "A fox finds a glowing lantern in the snowy forest.",
    "An owl and a rabbit share a cake in the garden.",
    "A little robot is alone on the moon.",
];

pub(super) fn show(
    ui: &mut Ui,
    state: &mut State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
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
                rescued(ui, state, actions);
                recent(ui, state, textures, actions);
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
                ui.add_space(14.0);
                let folder = state.folder().display();
                widgets::caption(ui, &format!("New stories are kept in {folder}"));
                ui.add_space(14.0);
            });
        });
}

/// Stories of an earlier session that could not be saved: their copies are offered.
fn rescued(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    for (index, copy) in state.stories.rescued.iter().enumerate() {
        let title = match copy.title.as_str() {
            "" => "A story",
            title => title,
        };
        let from = match copy.from.as_str() {
            "" => String::new(),
            from => format!(" in {from}"),
        };
        let words = format!("{title} could not be saved{from}. A copy was kept.");
        ui.add(Label::new(RichText::new(words).color(p.error)).wrap());
        ui.horizontal(|ui| {
            ui.add_space((ui.available_width() - 330.0).max(0.0) / 2.0);
            let open = widgets::button(ui, Icon::Folder, "Open the copy", true);
            if open
                .accessible_name(format!("Open the copy of {title}"))
                .clicked()
            {
                actions.push(Action::OpenStory(copy.dir.clone()));
            }
            let throw = widgets::button(ui, Icon::Trash, "Throw it away", true);
            if throw
                .accessible_name(format!("Throw away the copy of {title}"))
                .clicked()
            {
                actions.push(Action::ForgetRescued(index));
            }
        });
        ui.add_space(8.0);
    }
}

/// The stories that were open last, the very last one first.
fn recent(ui: &mut Ui, state: &State, textures: &mut Textures, actions: &mut Vec<Action>) {
    let Some(last) = state.stories.recent.first() else {
        return;
    };
    let words = format!("Continue “{}”", shortened(&last.title));
    if widgets::primary_button(ui, Icon::Book, &words, true).clicked() {
        actions.push(Action::OpenStory(last.dir.clone()));
    }
    ui.add_space(8.0);
    let wide = 290.0_f32.min(ui.available_width());
    let columns = ((ui.available_width() + 8.0) / (wide + 8.0))
        .floor()
        .max(1.0) as usize;
    for (row, stories) in state.stories.recent.chunks(columns).enumerate() {
        // The row lies in the middle of the page.
        let used = stories.len() as f32 * (wide + 8.0) - 8.0;
        let (rect, _) = ui.allocate_exact_size(egui::vec2(used, 84.0), Sense::hover());
        for (column, story) in stories.iter().enumerate() {
            let left = rect.left() + column as f32 * (wide + 8.0);
            let place = Rect::from_min_size(egui::pos2(left, rect.top()), egui::vec2(wide, 84.0));
            let id = ui.scope_id().with(("recent", row, column));
            if story_card(ui, state, textures, story, place, id).clicked() {
                actions.push(Action::OpenStory(story.dir.clone()));
            }
        }
        ui.add_space(8.0);
    }
    ui.add_space(10.0);
}

/// A story with its first picture, title, size, day and folder.
fn story_card(
    ui: &Ui,
    state: &State,
    textures: &mut Textures,
    story: &RecentStory,
    place: Rect,
    id: egui::Id,
) -> egui::Response {
    let p = theme::palette(ui);
    let response = ui
        .interact(place, id, Sense::click())
        .on_hover_text(story.dir.display().to_string());
    response.widget_info(|| {
        WidgetInfo::labeled(egui::Role::Button, true, format!("Open {}", story.title))
    });
    let hot = response.hovered() || response.has_focus();
    let edge = Stroke::new(
        if hot { 2.0 } else { 1.0 },
        if hot { p.accent } else { p.line },
    );
    ui.painter().rect_filled(place, 10.0, p.card);
    ui.painter()
        .rect_stroke(place, 10.0, edge, StrokeKind::Inside);
    let face = Rect::from_min_size(place.min + egui::vec2(8.0, 8.0), egui::vec2(68.0, 68.0));
    ui.painter().rect_filled(face, 6.0, p.blank);
    match &story.picture {
        Some((image, picture)) => {
            let texture = textures.thumbnail(ui.ctx(), image, picture);
            let shown = widgets::fitted(texture.size_vec2(), face);
            egui::Image::from_texture((texture.id(), shown.size()))
                .corner_radius(6)
                .paint_at(ui, shown);
        }
        None => icons::image(ui.ctx(), Icon::Book, 28.0)
            .tint(p.faint_ink)
            .paint_at(
                ui,
                Rect::from_center_size(face.center(), egui::Vec2::splat(28.0)),
            ),
    }
    let left = face.right() + 10.0;
    let room = place.right() - 8.0 - left;
    let day = story.changed.map_or_else(String::new, |changed| {
        dates::day(changed, &state.preferences.dates)
    });
    let size = match story.panels {
        1 => "1 panel".to_owned(),
        n => format!("{n} panels"),
    };
    let folder = story
        .dir
        .parent()
        .map_or_else(String::new, |dir| dir.display().to_string());
    let title = match story.title.as_str() {
        "" => "Untitled story",
        title => title,
    };
    let lines = [
        (title.to_owned(), 15.0, p.ink),
        (format!("{size} · {day}"), 12.5, p.faint_ink),
        (folder, 12.0, p.faint_ink),
    ];
    let mut top = place.top() + 12.0;
    for (words, size, ink) in lines {
        let mut job = LayoutJob::simple_singleline(words, FontId::proportional(size), ink);
        job.wrap = TextWrapping::truncate_at_width(room);
        let galley = ui.painter().layout_job(job);
        let height = galley.size().y;
        ui.painter().galley(egui::pos2(left, top), galley, ink);
        top += height + 3.0;
    }
    response
}

fn shortened(title: &str) -> String {
    const LONGEST: usize = 44;
    match title.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", title[..end].trim_end()),
        None => title.to_owned(),
    }
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
    if let Readiness::Failed(reason) = &state.models.readiness {
        ui.add(Label::new(RichText::new(reason).color(p.error)).wrap());
        return;
    }
    let words = state.words();
    let line = match state.draws_from_library() {
        true => draws_most(&state.model_name()),
        false => can_draw(&state.model_name(), words),
    };
    if line.is_empty() {
        return;
    }
    ui.label(RichText::new(line).color(p.faint_ink));
    ui.add_space(4.0);
    let groups = composer::groups(words);
    let mut shown = state.view.words_shown;
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
                let group: &WordGroup<'_> = &groups[shown.min(2)];
                composer::chips(ui, group, actions);
            });
        });
    state.view.words_shown = shown;
}

/// Of a model that draws from the library: its words are some of many.
fn draws_most(model: &str) -> String {
    let drawings = DrawingId::all().count();
    format!(
        "{model} has one of {drawings} drawings for most nouns, and draws your own characters from their pictures. Click a word to use it."
    )
}

fn can_draw(model: &str, words: DrawableWordLists<'_>) -> String {
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
        let mut words = DrawableWordLists {
            characters: &characters,
            ..DrawableWordLists::default()
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
        assert_eq!(can_draw("X", DrawableWordLists::default()), "");
    }
}
