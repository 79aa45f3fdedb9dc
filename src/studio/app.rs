//! One frame: take in what happened, draw, carry out what the author did.

use std::time::{Duration, Instant};

use egui::{CentralPanel, Frame, Key, KeyboardShortcut, Margin, Modifiers, Ui};

use super::actions::Action;
use super::frame_times::FrameTimes;
use super::state::State;
use super::textures::Textures;
use super::{board, card, composer, drop, header, inspector, theme, viewer, welcome};

/// Frames while something is made, at most so many a second.
const PACE: Duration = Duration::from_millis(66);

pub struct App {
    pub state: State,
    textures: Textures,
    actions: Vec<Action>,
    times: FrameTimes,
    title: String,
    /// What had the keyboard when the last frame ended.
    focused: Option<egui::Id>,
}

impl App {
    pub fn new(ctx: &egui::Context, state: State) -> App {
        theme::install(ctx);
        App {
            state,
            textures: Textures::default(),
            actions: Vec::new(),
            times: FrameTimes::default(),
            title: String::new(),
            focused: None,
        }
    }

    /// How long the studio's work in each frame so far took.
    pub fn frame_times(&self) -> &FrameTimes {
        &self.times
    }

    pub(super) fn forget_frame_times(&mut self) {
        self.times = FrameTimes::default();
    }

    pub(super) fn record_frame_time(&mut self, time: Duration) {
        self.times.record(time);
    }

    /// Draws one frame and carries out what the author did in it.
    pub fn frame(&mut self, ui: &mut Ui) {
        let start = Instant::now();
        let focus = ui.memory(|m| m.focused());
        let text = self.state.selected.map(card::field);
        self.state.editing = text.is_some() && focus == text;
        let again = self.state.tick(start);
        self.shortcuts(ui);
        let Self {
            state,
            textures,
            actions,
            ..
        } = self;
        header::show(ui, state, actions);
        composer::show(ui, state, actions);
        let empty = state.panels().is_empty() && state.work.is_idle();
        if !empty {
            inspector::show(ui, state, textures, actions);
        }
        let table = theme::palette(ui).table;
        CentralPanel::default()
            .frame(
                Frame::NONE
                    .fill(table)
                    .inner_margin(Margin::symmetric(18, 0)),
            )
            .show(ui, |ui| match state.large {
                Some(id) => viewer::show(ui, id, state, textures, actions),
                None if empty => welcome::show(ui, state, actions),
                None => board::show(ui, state, textures, actions),
            });
        drop::show(ui, actions);
        let acted = !actions.is_empty();
        for action in std::mem::take(actions) {
            state.perform(action, start);
        }
        textures.end_frame();
        self.focused = ui.memory(|m| m.focused());
        if acted {
            // What the actions changed is drawn, and what they ordered is started, at once.
            ui.ctx().request_repaint();
        } else if let Some(again) = again {
            ui.ctx()
                .request_repaint_after(again.max(Duration::from_millis(1)));
        }
        if state.work.running().is_some() {
            ui.ctx().request_repaint_after(4 * PACE);
        }
        self.name_window(ui);
    }

    fn name_window(&mut self, ui: &Ui) {
        let title = match self.state.story().title.as_str() {
            "" => "Vokenboard".to_owned(),
            title => format!("{title} — Vokenboard"),
        };
        if title != self.title {
            ui.ctx()
                .send_viewport_cmd(egui::ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    fn shortcuts(&mut self, ui: &Ui) {
        let ctrl = Modifiers::COMMAND;
        let shift = Modifiers::COMMAND | Modifiers::SHIFT;
        let pressed = |modifiers, key| {
            ui.input_mut(|i| i.consume_shortcut(&KeyboardShortcut::new(modifiers, key)))
        };
        let mut keep_writing = false;
        let state = &self.state;
        let actions = &mut self.actions;
        for (modifiers, key, action) in [
            (shift, Key::S, Action::AskSaveAs),
            (ctrl, Key::S, Action::Save),
            (ctrl, Key::O, Action::AskOpen),
            (ctrl, Key::N, Action::New),
        ] {
            if pressed(modifiers, key) {
                actions.push(action);
            }
        }

        let focus = ui.memory(|m| m.focused());
        let in_composer = focus == Some(composer::field());
        // A field in which something was typed undoes its own typing.
        let typing = (in_composer && !state.composer.is_empty())
            || (focus == Some(header::title_field()) && state.title != state.story().title);
        if !typing {
            if pressed(shift, Key::Z) || pressed(ctrl, Key::Y) {
                actions.push(Action::Redo);
            } else if pressed(ctrl, Key::Z) {
                actions.push(Action::Undo);
            }
        }
        // An open menu has the keys to itself.
        if egui::Popup::is_any_open(ui.ctx()) {
            return;
        }
        if pressed(Modifiers::NONE, Key::Escape) {
            // The focus is gone already when Esc is seen here, so what had it decides.
            let left = self.focused;
            let in_panel = left.is_some() && left == state.selected.map(card::field);
            if state.large.is_some() {
                actions.push(Action::Enlarge(None));
            } else if in_panel || left == Some(header::title_field()) {
                actions.push(Action::Committed);
            } else if !state.work.is_idle() {
                actions.push(Action::Cancel);
                keep_writing = left == Some(composer::field());
            } else {
                actions.push(Action::Select(None));
            }
        }
        self.state.focus_composer |= keep_writing;
        let state = &self.state;
        if let Some(id) = state.selected
            && pressed(ctrl, Key::D)
        {
            actions.push(Action::Duplicate(id));
        }
        // The board has the keys unless a field or a control of the inspector does.
        let at_board = focus.is_none() || (in_composer && state.composer.is_empty());
        if !at_board || state.panels().is_empty() {
            return;
        }
        let row = state.columns.max(1) as isize;
        for (key, step) in [
            (Key::ArrowLeft, -1),
            (Key::ArrowRight, 1),
            (Key::ArrowUp, -row),
            (Key::ArrowDown, row),
        ] {
            if pressed(Modifiers::NONE, key) {
                actions.push(Action::Step(step));
            }
        }
        if let Some(id) = state.selected {
            if pressed(Modifiers::NONE, Key::Delete) {
                actions.push(Action::Delete(id));
            }
            if pressed(Modifiers::NONE, Key::F2) {
                ui.memory_mut(|m| m.request_focus(card::field(id)));
            }
            if pressed(Modifiers::NONE, Key::Space) && focus.is_none() {
                actions.push(Action::Enlarge(Some(id)));
            }
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let start = Instant::now();
        self.frame(ui);
        self.times.record(start.elapsed());
    }

    fn on_exit(&mut self) {
        self.state.finish();
    }
}
