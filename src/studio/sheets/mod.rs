//! What opens over the window: help, messages, preferences, about, questions before something is
//! lost, and the file chooser for desktops that have none.

mod about;
mod changed;
mod chooser;
mod engine;
mod help;
mod leaving;
mod libraries;
mod messages;
mod preferences;
mod versions;

use egui::{Frame, Id, Modal, ModalResponse, ScrollArea, Ui};

use super::actions::Action;
use super::casting::sheet as member;
use super::state::State;
use super::textures::Textures;
use super::theme;
use crate::story::{MemberId, PanelId};

pub use chooser::FileChooser;

/// What opens over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sheet {
    /// What keys and buttons do.
    Help,
    /// Messages that were shown.
    Messages,
    /// Preferences.
    Preferences,
    /// Version, licences and the model.
    About,
    /// An engine elsewhere is added.
    Engine,
    /// Another program has changed the story.
    Changed,
    /// A member of the cast.
    Member(MemberId),
    /// The texts of a panel side by side.
    Versions(PanelId),
}

/// Draws what is open.
pub fn show(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Vec<Action>) {
    if state
        .stories
        .leaving
        .as_ref()
        .is_some_and(|leaving| leaving.asks)
    {
        leaving::show(ui, state, actions);
    }
    if state.view.chooser.is_some() {
        chooser::show(ui, state, actions);
    }
    let Some(sheet) = state.view.sheet else {
        return;
    };
    let (name, width) = match sheet {
        Sheet::Help => ("Keyboard and mouse", 660.0),
        Sheet::Messages => ("Messages", 620.0),
        Sheet::Preferences => ("Preferences", 480.0),
        Sheet::Engine => ("Add an engine", 520.0),
        Sheet::About => ("About Vokenboard", 520.0),
        Sheet::Changed => ("Changed by another program", 460.0),
        Sheet::Member(_) => ("Member of the cast", 520.0),
        Sheet::Versions(_) => ("Versions of the text", 860.0),
    };
    let closed = modal(ui, name, width, |ui| match sheet {
        Sheet::Help => help::show(ui),
        Sheet::Messages => messages::show(ui, state),
        Sheet::Preferences => preferences::show(ui, state, actions),
        Sheet::Engine => engine::show(ui, state, actions),
        Sheet::About => about::show(ui, state),
        Sheet::Changed => changed::show(ui, state, actions),
        Sheet::Member(id) => member::show(ui, state, textures, actions, id),
        Sheet::Versions(id) => versions::show(ui, state, actions, id),
    });
    if closed {
        actions.push(Action::Show(None));
    }
}

/// A sheet with a heading over the dimmed window; true when it is to close.
fn modal(ui: &Ui, name: &str, width: f32, add: impl FnOnce(&mut Ui)) -> bool {
    let window = ui.ctx().content_rect().size();
    let response = centred(ui, ("sheet", name), |ui| {
        ui.set_width(width.min(window.x - 80.0));
        ui.heading(name);
        ui.add_space(4.0);
        ScrollArea::vertical()
            .id_salt(name)
            .max_height((window.y - 190.0).max(80.0))
            .auto_shrink([false, true])
            .show(ui, |ui| {
                // The bar floats over what lies at the edge.
                ui.set_max_width(ui.available_width() - 16.0);
                add(ui);
            });
        ui.add_space(6.0);
        let close = ui.button("Close").accessible_name(format!("Close {name}"));
        close.clicked()
    });
    response.inner || response.should_close()
}

/// A sheet in the middle of the window, with room around what stands on it.
fn centred<T>(
    ui: &Ui,
    id: impl std::hash::Hash + std::fmt::Debug,
    add: impl FnOnce(&mut Ui) -> T,
) -> ModalResponse<T> {
    let (ctx, id) = (ui.ctx(), Id::unique(id));
    let before = ctx.memory(|m| m.area_rect(id));
    let frame = Frame::popup(ui.style()).inner_margin(18);
    let shown = Modal::new(id).frame(frame).show(ctx, |ui| {
        // What scrolls in it may grow at once, and not by a line in each frame.
        ui.set_max_height(ctx.content_rect().height());
        add(ui)
    });
    let after = ctx.memory(|m| m.area_rect(id));
    // It is placed by the size that it had before: its buttons would lie elsewhere for a frame,
    // and a click on them would be lost.
    if let (Some(before), Some(after)) = (before, after)
        && (before.size() - after.size()).abs().max_elem() > 0.5
    {
        ctx.request_discard("a sheet has another size");
    }
    shown
}

/// Quiet words that may be long.
fn note(ui: &mut Ui, words: impl Into<String>) {
    let words = egui::RichText::new(words).size(13.0);
    ui.add(egui::Label::new(words.color(theme::palette(ui).faint_ink)).wrap());
}
