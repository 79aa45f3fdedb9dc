//! What a picture model of the author's own takes: size, prompts, LoRAs, clip skip. The painter
//! says which of these there are.

use egui::{Checkbox, ComboBox, DragValue, Slider, Ui};

use super::words::{field, file_field, label};
use crate::catalogue::file_of;
use crate::pipeline::painter::{Capabilities, PRESETS, Preset, SHAPES};
use crate::story::{Edit, FileUse, LoraUse, SchedulerName, Settings, Size};
use crate::studio::actions::{Action, InspectorControl};
use crate::studio::dialogs::WeightsFor;
use crate::studio::icons::Icon;
use crate::studio::state::{Readiness, State};
use crate::studio::widgets;
use crate::weights::models_dir;

pub(super) fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let Readiness::Ready(about) = &state.models.readiness else {
        return;
    };
    let takes = &about.takes;
    // A model of one size and without LoRAs is one of ours, which has no more to say.
    if takes.sizes.is_none() && !takes.loras {
        return;
    }
    let shown = state.shown();
    let change = |actions: &mut Vec<Action>, settings: Settings| {
        actions.push(Action::Set(InspectorControl::Picture(Box::new(settings))));
    };
    ui.add_space(10.0);
    if let Some(size) = size(ui, takes, shown.size) {
        let size = (size != takes.size).then_some(size);
        change(
            actions,
            Settings {
                size,
                ..shown.clone()
            },
        );
    }
    let story = state.story();
    if let Some(style) = field(
        ui,
        "Style of all pictures",
        &story.style,
        "watercolour, soft light",
    ) {
        actions.push(Action::Apply(Box::new(Edit::SetStyle(style))));
    }
    if takes.negative {
        let all = "Not in any picture";
        if let Some(words) = field(ui, all, &story.negative, "text, blurry") {
            actions.push(Action::Apply(Box::new(Edit::SetNegative(words))));
        }
        let one = "Not in this picture";
        if let Some(negative) = field(ui, one, &shown.negative, "crowd") {
            let settings = Settings {
                negative,
                ..shown.clone()
            };
            change(actions, settings);
        }
    }
    if !state.is_instructed() {
        prompt(ui, state, actions);
    }
    if takes.clip_skip {
        ui.horizontal(|ui| {
            ui.label("Clip skip");
            let mut skip = shown.clip_skip.unwrap_or(1);
            let value = ui.add(DragValue::new(&mut skip).range(1..=12));
            if value.accessible_name("Clip skip").changed() {
                let settings = Settings {
                    clip_skip: (skip > 1).then_some(skip),
                    ..shown.clone()
                };
                change(actions, settings);
            }
        });
    }
    if takes.vae {
        let vae = shown.vae.as_ref().map(|used| used.file.as_str());
        let hint = "the model's own; a file or id";
        let field = ("VAE", vae.unwrap_or_default(), hint);
        if let Some(text) = file_field(ui, actions, field, WeightsFor::Vae) {
            let vae = Some(used(&text)).filter(|_| !text.trim().is_empty());
            change(
                actions,
                Settings {
                    vae,
                    ..shown.clone()
                },
            );
        }
    }
    if takes.prediction {
        let mut bf16 = shown.bf16;
        let can = takes.bf16 || bf16;
        let check = Checkbox::new(&mut bf16, "Quicker, in bf16");
        let about = match takes.bf16 {
            true => "The UNet multiplies in bf16, and the picture differs by very little",
            false => "This processor or GPU does not multiply in bf16",
        };
        let check = ui.add_enabled(can, check);
        if check.on_hover_text(about).changed() {
            let settings = Settings {
                bf16,
                ..shown.clone()
            };
            change(actions, settings);
        }
    }
    let fits = |preset: &&Preset| {
        let scheduler = SchedulerName::from(preset.scheduler);
        takes.schedulers.contains(&scheduler)
    };
    for preset in PRESETS.iter().filter(fits) {
        if ui.button(preset.label).clicked() {
            change(actions, preset.apply_to(shown.clone()));
        }
    }
    if takes.loras
        && let Some(loras) = loras(ui, actions, &shown.loras)
    {
        let settings = Settings {
            loras,
            ..shown.clone()
        };
        change(actions, settings);
    }
}

/// The picture prompt of the selected panel, where no writer makes one.
fn prompt(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let Some(id) = state.view.selected else {
        return;
    };
    let Some(panel) = state.panel(id) else { return };
    ui.push_id(id.0, |ui| {
        let prompt = panel.prompt.as_deref().unwrap_or_default();
        if let Some(words) = field(ui, "Picture prompt", prompt, "style and text") {
            let prompt = Some(words).filter(|words| !words.trim().is_empty());
            actions.push(Action::Apply(Box::new(Edit::SetPrompt {
                panel: id,
                prompt,
            })));
        }
    });
}

/// A shape at the size that the model draws best, or any size; the new one where it is changed.
fn size(ui: &mut Ui, takes: &Capabilities, chosen: Option<Size>) -> Option<Size> {
    let range = takes.sizes.as_ref()?;
    let now = chosen.unwrap_or(takes.size);
    let words = |size: Size| format!("{} x {}", size.width, size.height);
    let mut new = None;
    ui.horizontal(|ui| {
        ui.label("Size");
        let response = ComboBox::from_id_salt("picture size")
            .selected_text(words(now))
            .width(ui.available_width())
            .show_ui(ui, |ui| {
                for (wide, high) in SHAPES {
                    let size = range.in_shape(wide, high);
                    let label = format!("{wide}:{high}, {}", words(size));
                    if ui.selectable_label(size == now, label).clicked() {
                        new = Some(size);
                    }
                }
            })
            .response;
        response.accessible_name("Picture size");
    });
    ui.horizontal(|ui| {
        let mut own = now;
        for (side, name) in [(&mut own.width, "Width"), (&mut own.height, "Height")] {
            let value = DragValue::new(side)
                .range(range.least..=range.most)
                .speed(f64::from(range.step));
            ui.label(name);
            if ui.add(value).accessible_name(name).changed() {
                *side = (*side / range.step * range.step).max(range.least);
            }
        }
        if own != now {
            new = Some(own);
        }
    });
    new
}

/// The file that was named, by its path or by the id under which it was added.
fn used(text: &str) -> FileUse {
    let text = text.trim();
    let known = models_dir(None).ok();
    let file = known.and_then(|models| file_of(&models, text).ok());
    FileUse {
        file: file.map_or(text.to_owned(), |file| file.to_string_lossy().into_owned()),
        hash: String::new(),
    }
}

/// The LoRAs with their weights, and a line for another's file; the new list where it is changed.
fn loras(ui: &mut Ui, actions: &mut Vec<Action>, chosen: &[LoraUse]) -> Option<Vec<LoraUse>> {
    let mut new = None;
    label(ui, "LoRAs");
    for (at, lora) in chosen.iter().enumerate() {
        let file = std::path::Path::new(&lora.file);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut weight = lora.weight;
        let slider = Slider::new(&mut weight, -1.0..=2.0).step_by(0.05);
        let named = format!("Weight of {name}");
        if widgets::named_slider(ui, &named, format!("{:.2}", lora.weight), slider).changed() {
            let mut loras = chosen.to_vec();
            loras[at].weight = weight;
            new = Some(loras);
        }
        let words = format!("Without {name}");
        if widgets::button(ui, Icon::Close, &words, true).clicked() {
            let mut loras = chosen.to_vec();
            loras.remove(at);
            new = Some(loras);
        }
    }
    let line = ("Add a LoRA", "", "its file or id");
    if let Some(text) = file_field(ui, actions, line, WeightsFor::Lora) {
        let mut loras = chosen.to_vec();
        let FileUse { file, hash } = used(&text);
        loras.push(LoraUse {
            file,
            hash,
            weight: 1.0,
            member: None,
        });
        new = Some(loras);
    }
    new
}
