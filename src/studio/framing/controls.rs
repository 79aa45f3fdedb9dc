//! The inspector's part: what a picture is begun from, varied by, made to follow, and enlarged to.

use egui::{ComboBox, Slider, Ui};

use super::{FrameAction, PictureUse, Tool};
use crate::pipeline::painter::Capabilities;
use crate::story::{FileUse, Likeness, PanelId, Settings};
use crate::studio::actions::{Action, InspectorControl};
use crate::studio::dialogs::WeightsFor;
use crate::studio::icons::Icon;
use crate::studio::inspector::{file_field, label};
use crate::studio::state::State;
use crate::studio::widgets;

const SCALES: [f32; 4] = [1.5, 2.0, 3.0, 4.0];

/// Draws the controls for the panel `id`.
pub fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId) {
    let Some(takes) = state.takes() else { return };
    let drawn = state
        .panel(id)
        .is_some_and(|panel| panel.picture().is_some());
    let idle = state.work.on(id).is_none();
    ui.push_id(("frame", id.0), |ui| {
        likeness(ui, state, actions, takes);
        if drawn && takes.init {
            from_this(ui, state, actions, id, idle);
        }
        if drawn && takes.variation {
            variations(ui, state, actions, id, idle);
        }
        if !takes.control.is_empty() {
            sketch(ui, state, actions, id, takes);
        }
        if drawn && takes.init {
            larger(ui, state, actions, id, idle);
        }
    });
}

fn change(actions: &mut Vec<Action>, settings: Settings) {
    actions.push(Action::Set(InspectorControl::Picture(Box::new(settings))));
}

/// How strongly the cast's pictures work.
fn likeness(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, takes: &Capabilities) {
    let mut cast = state.story().cast.iter();
    if takes.references == 0 || cast.all(|member| member.pictures.is_empty()) {
        return;
    }
    let shown = state.shown();
    let now = shown.likeness.clone().unwrap_or_default();
    let mut new = now.clone();
    ui.add_space(8.0);
    if takes.sees {
        // A model that sees reads a picture or it does not.
        let mut on = now.strength > 0.0;
        let hint = "The model sees the pictures of whoever is in the panel";
        let check = ui.checkbox(&mut on, "Show it the cast");
        if check.on_hover_text(hint).changed() {
            new.strength = if on {
                Likeness::default().strength
            } else {
                0.0
            };
        }
    } else {
        let value = format!("{:.2}", now.strength);
        let slider = Slider::new(&mut new.strength, 0.0..=1.0).step_by(0.05);
        let slider = widgets::named_slider(ui, "Likeness to the cast", value, slider);
        slider.on_hover_text("How closely the pictures of whoever is in the panel are kept to");
        for (name, share, hint) in [
            (
                "Likeness begins",
                &mut new.start,
                "Share of the steps after which they begin to work: 0 is at once",
            ),
            (
                "Likeness ends",
                &mut new.end,
                "Share of the steps after which the picture is left to itself: 1 is never",
            ),
        ] {
            let value = format!("{share:.2}");
            let slider = Slider::new(share, 0.0..=1.0).step_by(0.05);
            widgets::named_slider(ui, name, value, slider).on_hover_text(hint);
        }
        // What begins after its end would not work at all.
        match new.start.to_bits() == now.start.to_bits() {
            true => new.start = new.start.min(new.end),
            false => new.end = new.end.max(new.start),
        }
        for (name, file, what) in [
            ("IP-Adapter", &mut new.adapter, WeightsFor::Adapter),
            ("Its image encoder", &mut new.encoder, WeightsFor::Encoder),
        ] {
            let path = file.as_ref().map_or("", |used| &used.file).to_owned();
            let line = (name, path.as_str(), "none: the model itself");
            if let Some(path) = file_field(ui, actions, line, what) {
                *file = used(&path);
            }
        }
    }
    if new != now {
        let likeness = (new != Likeness::default()).then_some(new);
        change(
            actions,
            Settings {
                likeness,
                ..shown.clone()
            },
        );
    }
}

fn used(path: &str) -> Option<FileUse> {
    let file = path.trim().to_owned();
    (!file.is_empty()).then_some(FileUse {
        file,
        hash: String::new(),
    })
}

fn from_this(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId, idle: bool) {
    ui.add_space(8.0);
    let shown = state.panel(id).and_then(|panel| panel.picture());
    let words = match state.source_of(id) {
        Some(source) if shown.is_some_and(|take| take.image == source) => "the take shown",
        Some(_) if state.framing.has_source(id) => "a picture of yours",
        _ => "what the take shown began from",
    };
    label(ui, &format!("From this picture: {words}"));
    ui.horizontal_wrapped(|ui| {
        let scribble = Some(Tool::Scribble(PictureUse::Source));
        for (words, name, action) in [
            (
                "The take",
                "From the take shown",
                FrameAction::FromShown(id),
            ),
            (
                "A picture…",
                "From a picture…",
                FrameAction::Ask(id, PictureUse::Source),
            ),
            (
                "A scribble",
                "From a scribble",
                FrameAction::Take(id, scribble),
            ),
        ] {
            if ui.button(words).accessible_name(name).clicked() {
                actions.push(Action::Frame(action));
            }
        }
    });
    let mut strength = state.framing.strength;
    let value = format!("{strength:.2}");
    let slider = Slider::new(&mut strength, 0.0..=1.0).step_by(0.05);
    let slider = widgets::named_slider(ui, "Strength", value, slider);
    if slider.changed() {
        let moved = FrameAction::Strength(strength, slider.dragged());
        actions.push(Action::Frame(moved));
    }
    if slider.drag_stopped() {
        actions.push(Action::Frame(FrameAction::StrengthReleased));
    }
    if !slider.dragged() {
        slider.on_hover_text("How much is drawn anew: 0 gives the picture back, 1 ignores it");
    }
    if widgets::button(ui, Icon::Picture, "Draw from it", idle).clicked() {
        actions.push(Action::Frame(FrameAction::Draw(id)));
    }
}

fn variations(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId, idle: bool) {
    ui.add_space(8.0);
    let mut strength = state.framing.variation;
    let value = format!("{strength:.2}");
    let slider = Slider::new(&mut strength, 0.0..=1.0).step_by(0.05);
    let slider = widgets::named_slider(ui, "Variation", value, slider);
    if slider.changed() {
        let strength = FrameAction::VariationStrength(strength);
        actions.push(Action::Frame(strength));
    }
    slider.on_hover_text("How far from the take shown: 0 is itself, 1 another picture");
    let shown = state.panel(id).and_then(|panel| panel.picture());
    let record = shown.and_then(|take| take.record.as_ref());
    let drawn = record.is_some_and(|record| record.is_drawn());
    if widgets::button(ui, Icon::Sparkle, "Four variations", idle && drawn).clicked() {
        actions.push(Action::Frame(FrameAction::Vary(id)));
    }
}

/// A picture whose shapes are followed, and the ControlNet that does it.
fn sketch(
    ui: &mut Ui,
    state: &State,
    actions: &mut Vec<Action>,
    id: PanelId,
    takes: &Capabilities,
) {
    ui.add_space(8.0);
    label(ui, "Follow a sketch");
    let shown = state.shown();
    let kind = state.framing.control_kind(takes);
    let response = ComboBox::from_id_salt("kind of sketch")
        .selected_text(kind)
        .show_ui(ui, |ui| {
            for other in &takes.control {
                if ui.selectable_label(other == kind, other).clicked() {
                    let kind = FrameAction::ControlKind(other.clone());
                    actions.push(Action::Frame(kind));
                }
            }
        })
        .response;
    response.accessible_name("Kind of sketch");
    ui.horizontal_wrapped(|ui| {
        let picture = ui.button("A picture…").accessible_name("Follow a picture…");
        if picture.clicked() {
            actions.push(Action::Frame(FrameAction::Ask(id, PictureUse::Control)));
        }
        let drawn = state
            .panel(id)
            .is_some_and(|panel| panel.picture().is_some());
        if kind == "scribble" && drawn {
            let scribble = ui.button("A scribble").accessible_name("Follow a scribble");
            if scribble.clicked() {
                let tool = Some(Tool::Scribble(PictureUse::Control));
                actions.push(Action::Frame(FrameAction::Take(id, tool)));
            }
        }
    });
    let line = ("ControlNet", state.framing.controlnet.as_str(), "its file");
    if let Some(file) = file_field(ui, actions, line, WeightsFor::Controlnet) {
        let file = FrameAction::Controlnet(file.trim().to_owned());
        actions.push(Action::Frame(file));
    }
    let Some(control) = shown.control.first() else {
        return;
    };
    let mut new = control.clone();
    let value = format!("{:.2}", control.strength);
    let slider = Slider::new(&mut new.strength, 0.0..=2.0).step_by(0.05);
    let name = format!("How strictly the {} is followed", control.kind);
    let moved = widgets::named_slider(ui, &name, value, slider).changed();
    let gone = widgets::button(ui, Icon::Close, "Follow nothing", true).clicked();
    if moved || gone {
        let control = Some(new).filter(|_| !gone).into_iter().collect();
        change(
            actions,
            Settings {
                control,
                ..shown.clone()
            },
        );
    }
}

fn larger(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId, idle: bool) {
    ui.add_space(8.0);
    label(ui, "Larger");
    ui.horizontal_wrapped(|ui| {
        for scale in SCALES {
            let on = (state.framing.scale - scale).abs() < 1e-3;
            let button = ui.selectable_label(on, format!("{scale}×"));
            let button = button.accessible_name(format!("{scale} times as large"));
            if button.clicked() {
                actions.push(Action::Frame(FrameAction::Scale(scale)));
            }
        }
    });
    let hint = "none: drawn over in tiles";
    let line = (
        "Upscaler (Real-ESRGAN)",
        state.framing.upscaler.as_str(),
        hint,
    );
    if let Some(file) = file_field(ui, actions, line, WeightsFor::Upscaler) {
        let file = FrameAction::Upscaler(file.trim().to_owned());
        actions.push(Action::Frame(file));
    }
    if widgets::button(ui, Icon::Picture, "Make it larger", idle).clicked() {
        actions.push(Action::Frame(FrameAction::Enlarge(id)));
    }
}
