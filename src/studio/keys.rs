//! The keyboard: what a shortcut does, and who has the keys.

use egui::{Event, Key, Modifiers, Ui};

use super::actions::Action;
use super::framing::FrameAction;
use super::sheets::Sheet;
use super::state::State;
use super::{card, composer, header};

/// Takes the shortcuts pressed in this frame. `left` had the keyboard when the last one ended.
pub(super) fn take(ui: &Ui, state: &mut State, left: Option<egui::Id>, actions: &mut Vec<Action>) {
    let ctrl = Modifiers::COMMAND;
    let shift = Modifiers::COMMAND | Modifiers::SHIFT;
    let presses = |modifiers, key| ui.input_mut(|i| i.count_and_consume_key(modifiers, key));
    let pressed = |modifiers, key| presses(modifiers, key) > 0;
    // What lies over the window has the keys, and closes by Esc.
    if state.view.sheet.is_some() || state.view.chooser.is_some() || state.stories.leaving.is_some()
    {
        return;
    }
    for (modifiers, key, action) in [
        (Modifiers::NONE, Key::F1, Action::Show(Some(Sheet::Help))),
        (ctrl, Key::Comma, Action::Show(Some(Sheet::Preferences))),
        (shift, Key::S, Action::AskSaveAs),
        (ctrl, Key::S, Action::Save),
        (ctrl, Key::O, Action::AskOpen),
        (ctrl, Key::N, Action::New),
    ] {
        if pressed(modifiers, key) {
            actions.push(action);
        }
    }

    let focus = ui.memory(egui::Memory::focused);
    let in_composer = focus == Some(composer::field());
    // A field in which something was typed undoes its own typing.
    let typing = (in_composer && !state.view.composer.is_empty())
        || (focus == Some(header::title_field()) && state.board.title != state.story().title);
    if !typing {
        // A slow frame may hold several presses; each is a step.
        let redo = presses(shift, Key::Z) + presses(ctrl, Key::Y);
        let undo = presses(ctrl, Key::Z);
        if state.framing.is_painting() && undo > 0 {
            actions.push(Action::Frame(FrameAction::UndoStroke));
            return;
        }
        actions.extend(std::iter::repeat_n(Action::Undo, undo));
        actions.extend(std::iter::repeat_n(Action::Redo, redo));
    }
    // An open menu has the keys to itself.
    if egui::Popup::is_any_open(ui.ctx()) {
        return;
    }
    if pressed(Modifiers::NONE, Key::Escape) {
        escape(state, left, actions);
    }
    if let Some(id) = state.view.selected {
        if pressed(ctrl, Key::D) {
            actions.push(Action::Duplicate(id));
        }
        if pressed(ctrl, Key::Enter) {
            actions.push(Action::InsertAfter(id));
        }
    }
    // The board has the keys unless a field or a control of the inspector does.
    let on_card = focus.is_some() && focus == state.view.selected.map(card::picture);
    // Somebody who types fast, or pastes, gives several letters in a frame: those are a sentence.
    let typing = |event: &Event| match event {
        Event::Text(text) => !matches!(text.trim(), "" | "?"),
        _ => false,
    };
    let typing = ui.input(|i| i.events.iter().any(typing));
    let at_board = focus.is_none() || (in_composer && state.view.composer.is_empty() && !typing);
    if !at_board && !on_card {
        return;
    }
    paste(ui, state, actions);
    // A space is a key of the board here, and no sentence begins with one.
    ui.input_mut(|i| {
        i.events
            .retain(|e| !matches!(e, Event::Text(t) if t == " "));
    });
    let asked = |event: &Event| matches!(event, Event::Text(text) if text == "?");
    if ui.input(|i| i.events.iter().any(asked)) {
        ui.input_mut(|i| i.events.retain(|event| !asked(event)));
        actions.push(Action::Show(Some(Sheet::Help)));
    }
    // The arrows take the focus from one card to the next by themselves.
    if at_board && !state.panels().is_empty() {
        walk(&presses, state, actions);
        if pressed(ctrl, Key::A) {
            actions.push(Action::SelectAll);
        }
    }
    let Some(id) = state.view.selected else {
        return;
    };
    if pressed(Modifiers::NONE, Key::Space) {
        // The composer would take the space as well.
        ui.input_mut(|i| {
            i.events
                .retain(|e| !matches!(e, Event::Text(t) if t == " "));
        });
        actions.push(Action::Enlarge(
            Some(id).filter(|_| state.view.large.is_none()),
        ));
    }
    // What the viewer hides is neither deleted nor written in by a key.
    if state.view.large.is_none() {
        if pressed(Modifiers::NONE, Key::Delete) {
            actions.push(Action::DeleteChosen);
        }
        if pressed(Modifiers::NONE, Key::F2) {
            ui.memory_mut(|m| m.request_focus(card::field(id)));
        }
    }
}

/// From card to card, by rows and pages, and to either end.
fn walk(presses: &dyn Fn(Modifiers, Key) -> usize, state: &State, actions: &mut Vec<Action>) {
    let row = state.view.columns.max(1) as isize;
    let page = row * state.view.rows.max(1) as isize;
    for (key, step) in [
        (Key::ArrowLeft, -1),
        (Key::ArrowRight, 1),
        (Key::ArrowUp, -row),
        (Key::ArrowDown, row),
        (Key::PageUp, -page),
        (Key::PageDown, page),
        (Key::Home, isize::MIN),
        (Key::End, isize::MAX),
    ] {
        let count = presses(Modifiers::NONE, key);
        actions.extend(std::iter::repeat_n(Action::Step(step), count));
    }
}

/// What is in front closes first; only then is work cancelled, and the selection left.
fn escape(state: &mut State, left: Option<egui::Id>, actions: &mut Vec<Action>) {
    // The focus is gone already when Esc is seen here, so what had it decides.
    let in_panel = left.is_some() && left == state.view.selected.map(card::field);
    if let Some(id) = state.view.large {
        actions.push(match state.framing.tool {
            Some(_) => Action::Frame(FrameAction::Take(id, None)),
            None => Action::Enlarge(None),
        });
    } else if in_panel || left == Some(header::title_field()) {
        actions.push(Action::Committed);
    } else if !state.work.is_idle() {
        actions.push(Action::Cancel);
        state.view.focus_composer |= left == Some(composer::field());
    } else {
        actions.push(Action::Select(None));
    }
}

/// A picture from the clipboard becomes a take of the selected panel, or a panel.
fn paste(ui: &Ui, state: &State, actions: &mut Vec<Action>) {
    let pasted = ui.input(|i| {
        i.events.iter().find_map(|event| match event {
            Event::PasteImage(image) => Some(image.clone()),
            _ => None,
        })
    });
    if let Some(image) = pasted {
        actions.push(Action::Paste(image, state.view.selected));
    }
}
