//! The bottom of the window: the sentence to come, what to make of it, and the queue.

use std::time::Instant;

use egui::{Frame, Key, Margin, Modifiers, RichText, Stroke, TextEdit, Ui};

use super::actions::{Action, DrawableWord};
use super::icons::{self, Icon};
use super::state::{DrawableWordLists, Readiness, State};
use super::{theme, widgets};
use crate::engine::Make;

/// The composer's text field.
pub(super) fn field() -> egui::Id {
    egui::Id::unique("composer")
}

/// Windows lower than this have room for one row of buttons only.
const LOW: f32 = 520.0;

/// Draws it and returns its height.
pub(super) fn show(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) -> f32 {
    let p = theme::palette(ui);
    let window = ui.ctx().content_rect();
    ui.painter().rect_filled(ui.max_rect(), 0.0, p.paper);
    let response = Frame::NONE
        .inner_margin(Margin::symmetric(16, 10))
        .show(ui, |ui| {
            let low = window.height() < LOW;
            if ui.available_width() < 1100.0 && !low {
                sentence(ui, state, actions);
                ui.horizontal(|ui| buttons(ui, state, false, actions));
            } else {
                // The sentence takes what the buttons left in the frame before.
                let known = ui.scope_id().with("buttons' width");
                let used = ui.ctx().data(|d| d.get_temp::<f32>(known)).unwrap_or(450.0);
                ui.horizontal(|ui| {
                    let left = ui.available_width() - used - ui.spacing().item_spacing.x;
                    ui.scope(|ui| {
                        ui.set_max_width(left);
                        sentence(ui, state, actions);
                    });
                    let buttons = ui
                        .scope(|ui| buttons(ui, state, low, actions))
                        .response
                        .rect;
                    ui.ctx().data_mut(|d| d.insert_temp(known, buttons.width()));
                });
            }
            notice(ui, state);
            ui.horizontal(|ui| {
                place(ui, state, actions);
                words(ui, state, actions);
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    queue(ui, state, actions);
                });
            });
        })
        .response;
    response.rect.height()
}

/// What the model cannot draw of the sentence that is being written, or what it draws for it.
fn notice(ui: &mut Ui, state: &State) {
    if let Some(words) = state.unknown_words() {
        let words = RichText::new(words).size(13.0);
        ui.add(egui::Label::new(words.color(theme::palette(ui).error)).wrap());
    }
    if let Some(words) = state.drawn_from_library() {
        let words = RichText::new(words).size(13.0);
        ui.add(egui::Label::new(words.color(theme::palette(ui).faint_ink)).wrap());
    }
}

fn sentence(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let place = state.place().and_then(|id| state.index_of(id));
    let hint = match place {
        _ if state.panels().is_empty() => "How does your story begin?".to_owned(),
        Some(index) => format!("What happens after panel {}?", index + 1),
        None => "What happens next? Leave it empty and press Enter to let the model go on.".into(),
    };
    let focused = ui.memory(|m| m.has_focus(field()));
    // Taken before the field sees it: the field must keep the cursor after Enter.
    let enter = focused && ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let edge = if focused { p.accent } else { p.line };
    let mut composer = std::mem::take(&mut state.view.composer);
    let mut layouter = |ui: &Ui, buffer: &dyn egui::TextBuffer, _: f32| {
        let text = buffer.as_str();
        let found = state.unknown_in(text);
        let job = widgets::marked(ui, text, &found, &theme::story_font(), f32::INFINITY);
        ui.fonts_mut(|fonts| fonts.layout_job(job))
    };
    let response = ui
        .add(
            TextEdit::singleline(&mut composer)
                .layouter(&mut layouter)
                .id(field())
                .font(theme::story_font())
                .hint_text(hint)
                .margin(Margin::symmetric(12, 8))
                .frame(
                    Frame::NONE
                        .fill(p.card)
                        .stroke(Stroke::new(1.5, edge))
                        .corner_radius(10)
                        .inner_margin(Margin::symmetric(12, 8)),
                )
                .desired_width(f32::INFINITY),
        )
        .accessible_name("Composer");
    state.view.composer = composer;
    if state.view.focus_composer {
        response.request_focus();
        state.view.focus_composer = false;
    }
    if enter {
        actions.push(Action::Enter);
    }
}

/// What can be made of the sentence; all but the first in a menu where there is little room.
fn buttons(ui: &mut Ui, state: &State, few: bool, actions: &mut Vec<Action>) {
    let able = !matches!(state.models.readiness, Readiness::Failed(_));
    if widgets::primary_button(ui, Icon::Sparkle, "Text + image", able)
        .on_hover_text("Enter")
        .clicked()
    {
        actions.push(Action::Tell(Make::Both));
    }
    let others = [
        (Icon::Text, "Text", Action::Tell(Make::Text)),
        (Icon::Picture, "Image", Action::Tell(Make::Picture)),
        (Icon::Book, "Tell 5 panels", Action::TellFive),
    ];
    if few {
        let down = icons::image(ui.ctx(), Icon::Down, 16.0);
        let button = egui::Button::image(down).image_tint_follows_text_color(true);
        let menu = egui::containers::menu::MenuButton::from_button(button).ui(ui, |ui| {
            widgets::roomy(ui);
            for (_, name, action) in others {
                if widgets::menu_item(ui, name, "", able) {
                    actions.push(action);
                }
            }
        });
        menu.0.accessible_name("More to make");
        return;
    }
    for (icon, name, action) in others {
        if widgets::button(ui, icon, name, able).clicked() {
            actions.push(action);
        }
    }
}

/// Where the next panel goes, if that is not the end of the story.
fn place(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let Some(index) = state.place().and_then(|id| state.index_of(id)) else {
        return;
    };
    let words = format!("Goes after panel {}", index + 1);
    let close = icons::image(ui.ctx(), Icon::Close, 12.0);
    let button = egui::Button::new((RichText::new(&words).size(13.0), close))
        .image_tint_follows_text_color(true)
        .corner_radius(13);
    if ui
        .add(button)
        .accessible_name(words)
        .on_hover_text("Click to go on at the end of the story instead")
        .clicked()
    {
        actions.push(Action::Select(None));
    }
}

/// What the model can draw, a click away.
fn words(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    for group in groups(state.words()) {
        if group.words.is_empty() {
            continue;
        }
        let button =
            egui::Button::new(RichText::new(group.name).size(13.0)).frame_when_inactive(false);
        let (response, _) = egui::containers::menu::MenuButton::from_button(button)
            .config(
                egui::containers::menu::MenuConfig::new()
                    .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside),
            )
            .ui(ui, |ui| {
                ui.set_max_width(420.0);
                widgets::caption(ui, "Click a word to put it in your sentence");
                chips(ui, &group, actions);
            });
        response.accessible_name(group.name);
    }
}

/// Words of one kind.
pub(super) struct WordGroup<'a> {
    pub name: &'static str,
    pub words: &'a [String],
    pub make: fn(String) -> DrawableWord,
}

pub(super) fn groups(words: DrawableWordLists<'_>) -> [WordGroup<'_>; 3] {
    [
        WordGroup {
            name: "Characters",
            words: words.characters,
            make: DrawableWord::Character,
        },
        WordGroup {
            name: "Things",
            words: words.things,
            make: DrawableWord::Thing,
        },
        WordGroup {
            name: "Places",
            words: words.places,
            make: DrawableWord::Place,
        },
    ]
}

pub(super) fn chips(ui: &mut Ui, group: &WordGroup<'_>, actions: &mut Vec<Action>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(6.0, 6.0);
        ui.spacing_mut().button_padding = egui::vec2(10.0, 2.0);
        ui.spacing_mut().interact_size.y = 26.0;
        for word in group.words {
            if widgets::chip(ui, word).clicked() {
                actions.push(Action::Insert((group.make)(word.clone())));
            }
        }
    });
}

/// One line about the running job and those that wait.
fn queue(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    match &state.models.readiness {
        Readiness::Failed(reason) => {
            ui.add(icons::image(ui.ctx(), Icon::Warning, 17.0).tint(p.error));
            ui.add(egui::Label::new(RichText::new(reason).color(p.error)).truncate())
                .on_hover_text(reason);
            return;
        }
        Readiness::Loading(words) => {
            widgets::caption(ui, words);
            ui.add(egui::Spinner::new().size(16.0).color(p.accent));
            return;
        }
        Readiness::Ready(_) => {}
    }
    let Some(running) = state.work.running() else {
        widgets::caption(ui, "Ready");
        return;
    };
    if widgets::button(ui, Icon::Stop, "Cancel", !running.cancelled)
        .on_hover_text("Esc")
        .clicked()
    {
        actions.push(Action::Cancel);
    }
    if state.work.waiting() > 0 {
        widgets::caption(ui, &format!("{} waiting", state.work.waiting()));
    }
    let line = egui::vec2(90.0, 5.0);
    let (rect, _) = ui.allocate_exact_size(line, egui::Sense::hover());
    widgets::progress_line(ui, rect, running.step as f32 / running.steps.max(1) as f32);
    ui.label(RichText::new(queue_words(state, Instant::now())).size(13.5));
}

/// Such as "panel 3 · step 14/25 · 1.2 s left".
fn queue_words(state: &State, now: Instant) -> String {
    let Some(running) = state.work.running() else {
        return String::new();
    };
    let mut words = match state.index_of(running.panel) {
        Some(index) => format!("panel {}", index + 1),
        None => "a deleted panel".to_owned(),
    };
    if running.cancelled {
        words.push_str(" · stopping");
    } else if let Some(part) = &running.loading {
        words.push_str(&format!(" · loading the {part}"));
    } else if !running.text_done {
        words.push_str(" · writing");
    } else {
        words.push_str(&format!(" · step {}/{}", running.step, running.steps));
    }
    if let Some(left) = state.work.seconds_left(now).filter(|_| !running.cancelled) {
        words.push_str(&format!(" · {left:.1} s left"));
    }
    words
}
