//! The top of the window: the story's title, file menu, device, undo and redo, export.

use egui::text::{LayoutJob, TextWrapping};
use egui::{Frame, Margin, Panel, RichText, TextEdit, Ui};

use super::actions::Action;
use super::icons::{self, Icon};
use super::preferences::{ColourMode, Preferences};
use super::sheets::Sheet;
use super::state::{Readiness, State};
use super::{inspector, models, theme, widgets};
use crate::export::{EXPORTERS, Exporter};
use crate::weights::{DeviceChoice, DeviceKind};

/// In windows narrower than this the buttons go without their words.
const NARROW: f32 = 860.0;

pub(super) fn show(ui: &mut Ui, state: &mut State, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    let narrow = ui.ctx().content_rect().width() < NARROW;
    Panel::top("header")
        .show_separator_line(false)
        .frame(
            Frame::NONE
                .fill(p.paper)
                .inner_margin(Margin::symmetric(16, 9)),
        )
        .show(ui, |ui| {
            // Both sides need the state, one after the other.
            let state = std::cell::RefCell::new(state);
            let actions = std::cell::RefCell::new(actions);
            let left = |ui: &mut Ui, room: f32| {
                let (state, actions) = (&mut *state.borrow_mut(), &mut *actions.borrow_mut());
                ui.add(icons::image(ui.ctx(), Icon::Book, 24.0).tint(p.accent));
                title(ui, state, room - 40.0, actions);
                saved(ui, state);
            };
            widgets::line(ui, "header", left, |ui| {
                let (state, actions) = (&mut *state.borrow_mut(), &mut *actions.borrow_mut());
                device(ui, state, narrow, actions);
                let undo =
                    widgets::icon_button(ui, Icon::Undo, "Undo", state.board.document.can_undo());
                if undo.on_hover_text("Ctrl+Z").clicked() {
                    actions.push(Action::Undo);
                }
                let redo =
                    widgets::icon_button(ui, Icon::Redo, "Redo", state.board.document.can_redo());
                if redo.on_hover_text("Ctrl+Shift+Z").clicked() {
                    actions.push(Action::Redo);
                }
                export(ui, state, narrow, actions);
                files(ui, state, narrow, actions);
                side(ui, state);
                help(ui, actions);
                looks(ui, state, actions);
            });
        });
}

/// Folds the inspector away, or brings it back.
fn side(ui: &mut Ui, state: &mut State) {
    if state.panels().is_empty() && state.work.is_idle() {
        return;
    }
    let open = inspector::is_open(state, ui.ctx().content_rect().width());
    let name = if open {
        "Hide inspector"
    } else {
        "Show inspector"
    };
    if widgets::icon_button(ui, Icon::Side, name, true).clicked() {
        state.view.inspector = Some(!open);
    }
}

fn help(ui: &mut Ui, actions: &mut Vec<Action>) {
    menu(ui, Icon::Help, "Help", true, |ui| {
        for (words, keys, sheet) in [
            ("Keyboard and mouse", "F1", Sheet::Help),
            ("Messages", "", Sheet::Messages),
            ("Preferences…", "Ctrl+,", Sheet::Preferences),
            ("About Vokenboard", "", Sheet::About),
        ] {
            if widgets::menu_item(ui, words, keys, true) {
                actions.push(Action::Show(Some(sheet)));
            }
        }
    });
}

/// The field of the story's title.
pub(super) fn title_field() -> egui::Id {
    egui::Id::unique("story title")
}

fn title(ui: &mut Ui, state: &mut State, room: f32, actions: &mut Vec<Action>) {
    let p = theme::palette(ui);
    // The words on saving stand behind it in wide windows.
    let room = room
        - if ui.ctx().content_rect().width() < SAVED {
            0.0
        } else {
            90.0
        };
    let room = room.clamp(60.0, 760.0);
    // A story without a title goes by its opening.
    let hint = match state.called().as_str() {
        "" => "Untitled story".to_owned(),
        called => called.to_owned(),
    };
    let font = theme::title_font();
    let whole = ui.painter().layout_no_wrap(
        match state.board.title.is_empty() {
            true => hint.clone(),
            false => state.board.title.clone(),
        },
        font.clone(),
        p.ink,
    );
    // As wide as its words, so that what follows stands beside them.
    let width = (whole.size().x + 12.0).min(room);
    let typed = ui.memory(|m| m.has_focus(title_field()));
    let mut shortened = |ui: &Ui, text: &dyn egui::TextBuffer, _: f32| {
        let mut job = LayoutJob::simple_singleline(text.as_str().into(), font.clone(), p.ink);
        if !typed {
            job.wrap = TextWrapping::truncate_at_width(width);
        }
        ui.fonts_mut(|fonts| fonts.layout_job(job))
    };
    let response = ui
        .add(
            TextEdit::singleline(&mut state.board.title)
                .id(title_field())
                .font(theme::title_font())
                .text_color(p.ink)
                .hint_text(hint)
                .layouter(&mut shortened)
                .frame(Frame::NONE)
                .min_size(egui::vec2(0.0, 30.0))
                .align(egui::Align2::LEFT_CENTER)
                .desired_width(width),
        )
        .on_hover_text("Click to rename the story")
        .accessible_name("Story title");
    widgets::focus_ring(ui, &response, response.rect.expand(3.0));
    if response.lost_focus() {
        actions.push(Action::Committed);
    }
}

/// Windows narrower than this do not say whether the story is saved.
const SAVED: f32 = 1000.0;

/// Where the story is kept and whether all of it is.
fn saved(ui: &mut Ui, state: &State) {
    if ui.ctx().content_rect().width() < SAVED {
        return;
    }
    if let Some(words) = state.saved_words() {
        widgets::caption(ui, words);
    }
}

fn device(ui: &mut Ui, state: &State, narrow: bool, actions: &mut Vec<Action>) {
    let words = match &state.models.readiness {
        Readiness::Ready(d) => format!("{} · {}", state.model_name(), d.device),
        Readiness::Loading(_) => format!("{} · loading…", state.model_name()),
        Readiness::Failed(_) => format!("{} · not loaded", state.model_name()),
    };
    let chip = icons::image(ui.ctx(), Icon::Chip, 17.0);
    let down = icons::image(ui.ctx(), Icon::Down, 14.0);
    let chosen = state.models.choice.device;
    let menu = egui::containers::menu::MenuButton::from_button(
        match narrow {
            true => egui::Button::new((chip, down)),
            false => egui::Button::new((chip, words.as_str(), down)),
        }
        .image_tint_follows_text_color(true),
    )
    .ui(ui, |ui| {
        widgets::roomy(ui);
        ui.set_min_width(220.0);
        if state.models.storytellers.len() > 1 {
            widgets::caption(ui, "The pictures");
            for model in &state.models.storytellers {
                let words = model.manifest.name.as_str();
                if ui
                    .selectable_label(model.is(&state.models.choice), words)
                    .on_hover_text(model.manifest.summary.as_str())
                    .clicked()
                {
                    actions.push(Action::Model(model.model.clone(), model.recipe));
                    ui.close();
                }
            }
            ui.separator();
        }
        if state.models.writers.len() > 1 {
            widgets::caption(ui, "The words");
            let own = std::iter::once((None, "The model's own"));
            let others = state.models.writers.iter();
            let others = others.map(|writer| (Some(&writer.id), writer.name.as_str()));
            for (writer, words) in own.chain(others) {
                let chosen = writer == state.models.choice.writer.as_ref();
                if ui.selectable_label(chosen, words).clicked() {
                    actions.push(Action::Writer(writer.cloned()));
                    ui.close();
                }
            }
            ui.separator();
        }
        models::menu(ui, state, actions);
        widgets::caption(ui, "Where the pictures and words are made");
        let kinds = DeviceKind::ALL.into_iter().filter(|kind| kind.compiled());
        let choices = std::iter::once((DeviceChoice::Auto, "Best device that works".to_owned()))
            .chain(kinds.map(|kind| (DeviceChoice::Only(kind), kind.to_string().to_uppercase())));
        let gpus = state.models.gpus.get().map_or(&[][..], Vec::as_slice);
        let (on_gpu, or_cpu) = match chosen {
            DeviceChoice::Gpu(number) => (Some(number), false),
            DeviceChoice::GpuOrCpu(number) => (Some(number), true),
            _ => (None, false),
        };
        let gpu_choice = |number, or_cpu| match or_cpu {
            true => DeviceChoice::GpuOrCpu(number),
            false => DeviceChoice::Gpu(number),
        };
        let choices = choices.chain(gpus.iter().map(|gpu| {
            let words = format!("{} ({})", gpu.name, gpu.backend);
            (gpu_choice(Some(gpu.index), or_cpu), words)
        }));
        for (choice, words) in choices {
            if ui.selectable_label(choice == chosen, words).clicked() {
                actions.push(Action::Device(choice));
                ui.close();
            }
        }
        if let Some(number) = on_gpu {
            let mut goes_on = or_cpu;
            let words = "The processor goes on where it fails";
            if ui.checkbox(&mut goes_on, words).changed() {
                actions.push(Action::Device(gpu_choice(number, goes_on)));
                ui.close();
            }
        }
        if let Readiness::Failed(reason) = &state.models.readiness {
            ui.separator();
            let reason = RichText::new(reason).color(theme::palette(ui).error);
            unjustified(ui, |ui| ui.label(reason));
        }
    });
    menu.0.accessible_name(format!("Model and device: {words}"));
}

fn menu<R>(ui: &mut Ui, icon: Icon, words: &str, narrow: bool, add: impl FnOnce(&mut Ui) -> R) {
    let image = icons::image(ui.ctx(), icon, 17.0);
    let (response, _) = egui::containers::menu::MenuButton::from_button(
        match narrow {
            true => egui::Button::image(image),
            false => egui::Button::image_and_text(image, words),
        }
        .image_tint_follows_text_color(true),
    )
    .ui(ui, |ui| {
        widgets::roomy(ui);
        ui.set_min_width(180.0);
        add(ui)
    });
    response.on_hover_text(words).accessible_name(words);
}

/// Sentences in a menu: the layout of its items would pull their words apart.
fn unjustified<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) {
    ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
        ui.set_max_width(260.0);
        add(ui)
    });
}

fn files(ui: &mut Ui, state: &State, narrow: bool, actions: &mut Vec<Action>) {
    menu(ui, Icon::Folder, "File", narrow, |ui| {
        if widgets::menu_item(ui, "New story", "Ctrl+N", true) {
            actions.push(Action::New);
        }
        if widgets::menu_item(ui, "Open…", "Ctrl+O", true) {
            actions.push(Action::AskOpen);
        }
        if widgets::menu_item(ui, "Add a picture…", "", true) {
            actions.push(Action::AskBring(None));
        }
        if widgets::menu_item(ui, "Save", "Ctrl+S", true) {
            actions.push(Action::Save);
        }
        if widgets::menu_item(ui, "Save as…", "Ctrl+Shift+S", true) {
            actions.push(Action::AskSaveAs);
        }
        ui.separator();
        let words = match &state.board.project {
            Some(dir) => format!("Kept in {}", dir.display()),
            None => format!("New stories are kept in {}", state.folder().display()),
        };
        unjustified(ui, |ui| widgets::caption(ui, &words));
    });
}

fn export(ui: &mut Ui, state: &State, narrow: bool, actions: &mut Vec<Action>) {
    let any = !state.panels().is_empty();
    menu(ui, Icon::Export, "Export", narrow, |ui| {
        for exporter in EXPORTERS {
            let enabled = match exporter.of_panel() {
                true => state.selected_with_picture().is_some(),
                false => any,
            };
            if exporter.choices().is_empty() {
                if widgets::menu_item(ui, exporter.label(), "", enabled) {
                    actions.push(Action::AskExport(exporter.id()));
                }
            } else {
                ui.add_enabled_ui(enabled, |ui| choices(ui, *exporter, state, actions));
            }
        }
    });
}

/// An exporter with choices is a menu of its own, which stays open while they are made.
fn choices(ui: &mut Ui, exporter: &dyn Exporter, state: &State, actions: &mut Vec<Action>) {
    use egui::containers::menu::{MenuConfig, SubMenuButton};
    let config = MenuConfig::new().close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside);
    let options = state
        .exports
        .get(exporter.id())
        .cloned()
        .unwrap_or_default();
    let (button, _) = SubMenuButton::new(exporter.label())
        .config(config)
        .ui(ui, |ui| {
            widgets::roomy(ui);
            ui.set_max_width(260.0);
            for choice in exporter.choices() {
                widgets::caption(ui, choice.label);
                ui.horizontal_wrapped(|ui| {
                    for &(value, words) in choice.values {
                        let chosen = options.get(choice) == value;
                        let button = ui.selectable_label(chosen, words);
                        let name = format!("{}: {words}", choice.label);
                        if button.accessible_name(name).clicked() {
                            let chosen = Action::ExportOption(exporter.id(), choice.id, value);
                            actions.push(chosen);
                        }
                    }
                });
            }
            ui.separator();
            if widgets::menu_item(ui, &format!("Export {}…", exporter.label()), "", true) {
                actions.push(Action::AskExport(exporter.id()));
            }
        });
    button.accessible_name(exporter.label());
}

/// Light or dark; the system decides until the author does.
fn looks(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let (icon, words, theme) = if ui.visuals().dark_mode {
        (Icon::Sun, "Light theme", ColourMode::Light)
    } else {
        (Icon::Moon, "Dark theme", ColourMode::Dark)
    };
    if widgets::icon_button(ui, icon, words, true).clicked() {
        actions.push(Action::Prefer(Box::new(Preferences {
            theme,
            ..state.preferences.clone()
        })));
    }
}
