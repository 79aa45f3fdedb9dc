//! The right side of the window: takes and settings of the selected panel, or of new ones.

use egui::{
    ComboBox, DragValue, Frame, Image, Key, Margin, Panel, Response, RichText, ScrollArea, Sense,
    Slider, Stroke, Ui, Vec2, WidgetInfo,
};

use super::actions::{Action, Setting};
use super::icons::{self, Icon};
use super::state::State;
use super::textures::Textures;
use super::{theme, widgets};
use crate::diffusion::SchedulerKind;
use crate::story::{PanelId, SchedulerName};

pub fn show(ui: &mut Ui, state: &State, textures: &mut Textures, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let width = if ui.available_width() < 1000.0 {
        250.0
    } else {
        288.0
    };
    Panel::right("inspector")
        .exact_size(width)
        .resizable(false)
        .show_separator_line(false)
        .frame(
            Frame::NONE
                .fill(p.paper)
                .inner_margin(Margin::symmetric(16, 12)),
        )
        .show(ui, |ui| {
            ScrollArea::vertical()
                .id_salt("inspector")
                .auto_shrink(false)
                .show(ui, |ui| {
                    ui.set_max_width(width - 36.0);
                    let selected = state
                        .selected
                        .and_then(|id| Some((id, state.index_of(id)?)));
                    match selected {
                        Some((id, index)) => {
                            ui.heading(format!("Panel {}", index + 1));
                            takes(ui, state, textures, actions, id);
                        }
                        None => {
                            ui.heading("New panels");
                            widgets::caption(ui, "Select a panel to change its picture or text.");
                        }
                    }
                    ui.add_space(8.0);
                    picture_settings(ui, state, actions);
                    let busy = selected.is_some_and(|(id, _)| state.work.on(id).is_some());
                    if let Some((id, _)) = selected {
                        ui.add_space(4.0);
                        if wide(ui, Icon::Picture, "Regenerate image", true, !busy) {
                            actions.push(Action::DrawPicture(id));
                        }
                    }
                    ui.add_space(14.0);
                    text_settings(ui, state, actions);
                    if let Some((id, _)) = selected {
                        ui.add_space(4.0);
                        if wide(ui, Icon::Pencil, "Rewrite text", false, !busy) {
                            actions.push(Action::RewriteText(id));
                        }
                        record(ui, state, id);
                    }
                });
        });
}

fn wide(ui: &mut Ui, icon: Icon, words: &str, primary: bool, enabled: bool) -> bool {
    ui.vertical_centered_justified(|ui| {
        if primary {
            widgets::primary_button(ui, icon, words, enabled).clicked()
        } else {
            widgets::button(ui, icon, words, enabled).clicked()
        }
    })
    .inner
}

fn takes(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    id: PanelId,
) {
    let p = theme::palette(ui);
    let Some(panel) = state.panel(id) else { return };
    let pictures = panel.pictures.items();
    if !pictures.is_empty() {
        ui.horizontal(|ui| {
            let words = match pictures.len() {
                1 => "1 take".to_owned(),
                n => format!("{n} takes: click the one to show"),
            };
            widgets::caption(ui, &words);
            let shown = panel.pictures.active_index().zip(panel.pictures.active());
            if let Some((index, take)) = shown {
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let (icon, name) = if take.starred {
                        (Icon::Star, "Unstar take")
                    } else {
                        (Icon::StarOutline, "Star take")
                    };
                    if widgets::icon_button(ui, Icon::Trash, "Delete take", true)
                        .on_hover_text("Delete while a take has the focus; undo brings it back")
                        .clicked()
                    {
                        actions.push(Action::DeletePicture(id, index));
                    }
                    if widgets::icon_button(ui, icon, name, true).clicked() {
                        actions.push(Action::Star(id, index, !take.starred));
                    }
                });
            }
        });
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = Vec2::splat(6.0);
            for (i, take) in pictures.iter().enumerate() {
                let active = panel.pictures.active_index() == Some(i);
                let (rect, response) = ui.allocate_exact_size(Vec2::splat(54.0), Sense::click());
                let name = if active {
                    format!("Take {} (shown)", i + 1)
                } else {
                    format!("Take {}", i + 1)
                };
                response
                    .widget_info(|| WidgetInfo::selected(egui::Role::Button, true, active, &name));
                if let Some(picture) = state.images.shown(&take.image) {
                    let texture = textures.thumbnail(ui.ctx(), &take.image, &picture);
                    Image::from_texture((texture.id(), rect.size()))
                        .corner_radius(8)
                        .paint_at(ui, rect);
                } else {
                    ui.painter().rect_filled(rect, 8.0, p.blank);
                }
                if active {
                    let edge = Stroke::new(2.5, p.accent);
                    ui.painter()
                        .rect_stroke(rect, 8.0, edge, egui::StrokeKind::Outside);
                } else if response.hovered() || response.has_focus() {
                    let edge = Stroke::new(1.5, p.faint_ink);
                    ui.painter()
                        .rect_stroke(rect, 8.0, edge, egui::StrokeKind::Outside);
                }
                if take.starred {
                    let corner = rect.right_top() + egui::vec2(-10.0, 10.0);
                    ui.painter().circle_filled(corner, 9.0, p.accent);
                    let star = egui::Rect::from_center_size(corner, Vec2::splat(12.0));
                    icons::image(ui.ctx(), Icon::Star, 12.0)
                        .tint(p.on_accent)
                        .paint_at(ui, star);
                }
                let words = take.record.as_ref().map_or(name.clone(), |r| {
                    format!(
                        "{name}: guidance {:.1}, {} steps, seed {}",
                        r.settings.guidance, r.settings.steps, r.settings.seed
                    )
                });
                if response.has_focus() && ui.input(|i| i.key_pressed(Key::Delete)) {
                    actions.push(Action::DeletePicture(id, i));
                }
                if response.on_hover_text(words).clicked() {
                    actions.push(Action::PictureTake(id, i));
                }
            }
        });
    }
    let texts = panel.texts.items().len();
    if texts > 1 {
        let at = panel.texts.active_index().unwrap_or(0);
        ui.horizontal(|ui| {
            if widgets::icon_button(ui, Icon::Left, "Previous text", at > 0).clicked() {
                actions.push(Action::TextTake(id, at.saturating_sub(1)));
            }
            ui.label(format!("Text {} of {texts}", at + 1));
            if widgets::icon_button(ui, Icon::Right, "Next text", at + 1 < texts).clicked() {
                actions.push(Action::TextTake(id, at + 1));
            }
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                if widgets::icon_button(ui, Icon::Trash, "Delete text", true).clicked() {
                    actions.push(Action::DeleteText(id, at));
                }
            });
        });
    }
}

/// What a slider does, but not over its neighbours while it is moved.
fn explain(slider: &Response, words: &str) {
    if !slider.dragged() {
        slider.clone().on_hover_text(words);
    }
}

fn picture_settings(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let mut s = state.shown().clone();
    let slider = Slider::new(&mut s.guidance, 1.0..=15.0).step_by(0.1);
    let response = widgets::named_slider(
        ui,
        "Guidance",
        format!("{:.1}", state.shown().guidance),
        slider,
    );
    explain(
        &response,
        "How closely the picture follows the words: 1 is loose, 15 is strict",
    );
    if response.changed() {
        actions.push(Action::Set(Setting::Guidance(
            s.guidance,
            response.dragged(),
        )));
    }
    if response.drag_stopped() {
        actions.push(Action::Set(Setting::GuidanceReleased));
    }
    let slider = Slider::new(&mut s.steps, 4..=60);
    let response = widgets::named_slider(ui, "Steps", state.shown().steps.to_string(), slider);
    if response.changed() {
        actions.push(Action::Set(Setting::Steps(s.steps)));
    }
    seed(ui, state, actions);
    ui.horizontal(|ui| {
        ui.label("Scheduler");
        let response = ComboBox::from_id_salt("scheduler")
            .selected_text(scheduler_label(&s.scheduler))
            .width(ui.available_width())
            .icon(|ui, rect, visuals, _| {
                icons::image(ui.ctx(), Icon::Down, 14.0)
                    .tint(visuals.fg_stroke.color)
                    .paint_at(
                        ui,
                        egui::Rect::from_center_size(rect.center(), Vec2::splat(14.0)),
                    );
            })
            .show_ui(ui, |ui| {
                for kind in SchedulerKind::ALL {
                    let name = SchedulerName::from(kind.name());
                    let label = scheduler_label(&name);
                    if ui.selectable_label(name == s.scheduler, label).clicked() {
                        actions.push(Action::Set(Setting::Scheduler(name)));
                    }
                }
            })
            .response;
        response.accessible_name("Scheduler");
    });
}

/// A scheduler's name for people; one that only an engine elsewhere knows keeps its own.
fn scheduler_label(name: &SchedulerName) -> &str {
    match name.as_str().parse::<SchedulerKind>() {
        Ok(kind) => kind.label(),
        Err(_) => name.as_str(),
    }
}

fn seed(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let mut seed = state.shown().seed;
    ui.horizontal(|ui| {
        ui.label("Seed");
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if widgets::icon_button(ui, Icon::Dice, "Roll a new seed", true).clicked() {
                actions.push(Action::Set(Setting::Dice));
            }
            let (icon, name) = if state.seed_locked {
                (Icon::Lock, "Unlock seed")
            } else {
                (Icon::Unlock, "Lock seed")
            };
            let lock = widgets::icon_button(ui, icon, name, true).on_hover_text(
                "A locked seed is used again; otherwise every picture gets a new one",
            );
            if lock.clicked() {
                actions.push(Action::Set(Setting::LockSeed(!state.seed_locked)));
            }
            let value = DragValue::new(&mut seed)
                .speed(1.0)
                .range(0..=u64::from(u32::MAX));
            let size = egui::vec2(ui.available_width(), 30.0);
            if ui.add_sized(size, value).accessible_name("Seed").changed() {
                actions.push(Action::Set(Setting::Seed(seed)));
            }
        });
    });
}

fn text_settings(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let mut s = state.shown().clone();
    let slider = Slider::new(&mut s.temperature, 0.0..=1.5).step_by(0.05);
    let response = widgets::named_slider(
        ui,
        "Temperature",
        format!("{:.2}", state.shown().temperature),
        slider,
    );
    explain(&response, "How adventurous the words are");
    if response.changed() {
        actions.push(Action::Set(Setting::Temperature(s.temperature)));
    }
    let slider = Slider::new(&mut s.top_p, 0.1..=1.0).step_by(0.05);
    let response =
        widgets::named_slider(ui, "Top-p", format!("{:.2}", state.shown().top_p), slider);
    explain(
        &response,
        "How many unlikely words are left out: 1 leaves out none",
    );
    if response.changed() {
        actions.push(Action::Set(Setting::TopP(s.top_p)));
    }
}

/// How the shown picture was made.
fn record(ui: &mut Ui, state: &State, id: PanelId) {
    let Some(record) = state
        .panel(id)
        .and_then(|p| p.pictures.active())
        .and_then(|take| take.record.as_ref())
    else {
        return;
    };
    ui.add_space(12.0);
    let words = format!(
        "Drawn by {} on {} in {:.1} s: guidance {:.1}, {} steps, seed {}.",
        record.model,
        record.device,
        record.seconds,
        record.settings.guidance,
        record.settings.steps,
        record.settings.seed
    );
    ui.add(
        egui::Label::new(
            RichText::new(words)
                .size(12.0)
                .color(theme::palette(ui).faint_ink),
        )
        .wrap(),
    )
    .on_hover_text(&record.prompt);
}
