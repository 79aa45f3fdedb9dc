//! The settings of the selected panel, or of new ones: how its picture is drawn, how its text is
//! written.

use egui::{ComboBox, DragValue, Response, Slider, Ui, Vec2};

use crate::diffusion::SchedulerKind;
use crate::pipeline::painter::Capabilities;
use crate::story::SchedulerName;
use crate::studio::actions::{Action, InspectorControl};
use crate::studio::icons::{self, Icon};
use crate::studio::state::{Readiness, State};
use crate::studio::widgets;

/// More guidance than this no slider offers.
const MOST_GUIDANCE: f32 = 15.0;
/// More steps than these no slider offers.
const MOST_STEPS: u32 = 60;

/// What a slider does, but not over its neighbours while it is moved.
fn explain(slider: &Response, words: &str) {
    if !slider.dragged() {
        slider.clone().on_hover_text(words);
    }
}

/// Controls of how the picture is drawn.
pub(super) fn picture(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let mut s = state.shown().clone();
    let takes = taken(state);
    let guidance = *takes.guidance.start()..=takes.guidance.end().min(MOST_GUIDANCE);
    if guidance.start() < guidance.end() {
        let slider = Slider::new(&mut s.guidance, guidance).step_by(0.1);
        let value = format!("{:.1}", state.shown().guidance);
        let response = widgets::named_slider(ui, "Guidance", value, slider);
        explain(
            &response,
            "How closely the picture follows the words: 1 is loose, 15 is strict",
        );
        if response.changed() {
            actions.push(Action::Set(InspectorControl::Guidance(
                s.guidance,
                response.dragged(),
            )));
        }
        if response.drag_stopped() {
            actions.push(Action::Set(InspectorControl::GuidanceReleased));
        }
    }
    let steps = *takes.steps.start()..=*takes.steps.end().min(&MOST_STEPS);
    if steps.start() < steps.end() {
        let slider = Slider::new(&mut s.steps, steps);
        let response = widgets::named_slider(ui, "Steps", state.shown().steps.to_string(), slider);
        if response.changed() {
            actions.push(Action::Set(InspectorControl::Steps(s.steps)));
        }
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
                for name in schedulers(state) {
                    let label = scheduler_label(&name);
                    if ui.selectable_label(name == s.scheduler, label).clicked() {
                        actions.push(Action::Set(InspectorControl::Scheduler(name)));
                    }
                }
            })
            .response;
        response.accessible_name("Scheduler");
    });
}

/// What the model takes; while none is ready, what most do.
fn taken(state: &State) -> Capabilities {
    match &state.models.readiness {
        Readiness::Ready(about) => about.takes.clone(),
        _ => Capabilities::default(),
    }
}

/// Those that the model knows; while none is ready, our own.
fn schedulers(state: &State) -> Vec<SchedulerName> {
    if let Readiness::Ready(about) = &state.models.readiness
        && !about.takes.schedulers.is_empty()
    {
        return about.takes.schedulers.clone();
    }
    let all = SchedulerKind::ALL.iter();
    all.map(|kind| SchedulerName::from(kind.name())).collect()
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
        // The value takes what the two buttons beside it leave.
        let buttons = 2.0 * (30.0 + ui.spacing().item_spacing.x);
        let value = DragValue::new(&mut seed)
            .speed(1.0)
            .range(0..=u64::from(u32::MAX));
        let size = egui::vec2((ui.available_width() - buttons).max(40.0), 30.0);
        if ui.add_sized(size, value).accessible_name("Seed").changed() {
            actions.push(Action::Set(InspectorControl::Seed(seed)));
        }
        let locked = state.seed_locked();
        let (icon, name) = if locked {
            (Icon::Lock, "Unlock seed")
        } else {
            (Icon::Unlock, "Lock seed")
        };
        let lock = widgets::icon_button(ui, icon, name, true)
            .on_hover_text("A locked seed is used again; otherwise every picture gets a new one");
        if lock.clicked() {
            actions.push(Action::Set(InspectorControl::LockSeed(!locked)));
        }
        if widgets::icon_button(ui, Icon::Dice, "Roll a new seed", true).clicked() {
            actions.push(Action::Set(InspectorControl::Dice));
        }
    });
}

/// Controls of how the text is written.
pub(super) fn text(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
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
        actions.push(Action::Set(InspectorControl::Temperature(s.temperature)));
    }
    let slider = Slider::new(&mut s.top_p, 0.1..=1.0).step_by(0.05);
    let response =
        widgets::named_slider(ui, "Top-p", format!("{:.2}", state.shown().top_p), slider);
    explain(
        &response,
        "How many unlikely words are left out: 1 leaves out none",
    );
    if response.changed() {
        actions.push(Action::Set(InspectorControl::TopP(s.top_p)));
    }
}
