//! One frame: take in what happened, draw, carry out what the author did.

use std::time::{Duration, Instant};

use egui::{Frame, Id, Margin, Rect, Ui, UiBuilder, pos2};

use super::actions::Action;
use super::frame_times::FrameTimes;
use super::preferences::ColourMode;
use super::state::State;
use super::textures::Textures;
use super::{
    board, card, casting, composer, drop, header, inspector, keys, sheets, theme, toasts, viewer,
    welcome,
};

/// Frames while something is made, at most so many a second.
const PACE: Duration = Duration::from_millis(66);

/// The window's content: the state, what is drawn of it, and what the author does.
pub struct App {
    /// The studio without its window.
    pub state: State,
    textures: Textures,
    actions: Vec<Action>,
    times: FrameTimes,
    title: String,
    theme: ColourMode,
    /// How large everything is drawn, as last seen.
    scale: f32,
    /// What had the keyboard when the last frame ended.
    focused: Option<egui::Id>,
}

impl App {
    /// A window's content, with fonts and theme installed in `ctx`.
    pub fn new(ctx: &egui::Context, state: State) -> App {
        theme::install(ctx);
        let theme = state.preferences.theme;
        ctx.set_theme(theme.preference());
        App {
            theme,
            scale: ctx.zoom_factor(),
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
        let focus = ui.memory(egui::Memory::focused);
        let text = self.state.view.selected.map(card::field);
        self.state.view.editing = text.is_some() && focus == text;
        let again = self.state.tick(start);
        self.close(ui, start);
        self.prefer(ui.ctx());
        keys::take(ui, &mut self.state, self.focused, &mut self.actions);
        self.rooms(ui);
        let Self {
            state,
            textures,
            actions,
            ..
        } = self;
        drop::show(ui, state, actions);
        sheets::show(ui, state, textures, actions);
        let acted = !actions.is_empty();
        for action in std::mem::take(actions) {
            state.perform(action, start);
        }
        self.textures.end_frame();
        self.focused = ui.memory(egui::Memory::focused);
        if acted {
            // What the actions changed is drawn, and what they ordered is started, at once.
            ui.ctx().request_repaint();
        } else if let Some(again) = again {
            ui.ctx()
                .request_repaint_after(again.max(Duration::from_millis(1)));
        }
        if self.state.work.running().is_some() {
            ui.ctx().request_repaint_after(4 * PACE);
        }
        self.name_window(ui);
    }

    /// Header, board, inspector and composer, in the order in which they are read, which is that
    /// in which the focus goes through them.
    fn rooms(&mut self, ui: &mut Ui) {
        let Self {
            state,
            textures,
            actions,
            ..
        } = self;
        header::show(ui, state, actions);
        let known = Id::unique("height of the composer");
        let before: Option<f32> = ui.ctx().data(|d| d.get_temp(known));
        let rest = ui.available_rect_before_wrap();
        let low = rest.bottom() - before.unwrap_or(100.0);
        let empty = state.panels().is_empty() && state.work.is_idle();
        let side = match empty {
            true => 0.0,
            false => inspector::width(state, rest.width()),
        };
        let middle = Rect::from_min_max(rest.min, pos2(rest.right() - side, low));
        ui.painter()
            .rect_filled(middle, 0.0, theme::palette(ui).table);
        ui.scope_builder(room(middle, "board"), |ui| {
            ui.shrink_clip_rect(middle);
            Frame::NONE
                .inner_margin(Margin::symmetric(18, 0))
                .show(ui, |ui| match state.view.large {
                    Some(id) => viewer::show(ui, id, state, textures, actions),
                    None if empty => welcome::show(ui, state, textures, actions),
                    None => {
                        casting::strip::show(ui, state, textures, actions);
                        board::show(ui, state, textures, actions);
                    }
                });
        });
        if side > 0.0 {
            let right =
                Rect::from_min_max(pos2(middle.right(), rest.top()), pos2(rest.right(), low));
            ui.scope_builder(room(right, "inspector"), |ui| {
                ui.shrink_clip_rect(right);
                inspector::show(ui, state, textures, actions);
            });
        }
        let below = Rect::from_min_max(pos2(rest.left(), low), rest.max);
        let height = ui
            .scope_builder(room(below, "composer"), |ui| {
                composer::show(ui, state, actions)
            })
            .inner;
        if before.is_none_or(|before| (before - height).abs() > 0.5) {
            ui.ctx().data_mut(|d| d.insert_temp(known, height));
            ui.ctx().request_discard("the composer has another height");
        }
        toasts::show(ui, &mut state.toasts, height);
    }

    /// The window may close when nothing is lost by it; else the author is asked.
    fn close(&mut self, ui: &Ui, now: Instant) {
        let asked = ui.input(|i| i.viewport().close_requested());
        if asked && !self.state.may_close() {
            ui.ctx()
                .send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.state.perform(Action::Close, now);
        }
        if !asked && self.state.may_close() {
            ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close);
        }
    }

    /// Draws as the author prefers it; what the keys have zoomed to is preferred from then on.
    fn prefer(&mut self, ctx: &egui::Context) {
        let preferences = &mut self.state.preferences;
        if preferences.theme != self.theme {
            self.theme = preferences.theme;
            ctx.set_theme(self.theme.preference());
        }
        if (preferences.scale - self.scale).abs() > 1e-3 {
            self.scale = preferences.scale;
            ctx.set_zoom_factor(self.scale);
        } else if (ctx.zoom_factor() - self.scale).abs() > 1e-3 {
            self.scale = ctx.zoom_factor();
            preferences.scale = self.scale;
        }
    }

    fn name_window(&mut self, ui: &Ui) {
        let title = match self.state.called().as_str() {
            "" => "Vokenboard".to_owned(),
            title => format!("{title} — Vokenboard"),
        };
        if title != self.title {
            ui.ctx()
                .send_viewport_cmd(egui::ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }
}

fn room(rect: Rect, name: &str) -> UiBuilder {
    UiBuilder::new().max_rect(rect).id_salt(name)
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let start = Instant::now();
        self.state.preferences.window.follow(ui);
        self.frame(ui);
        self.times.record(start.elapsed());
    }

    fn on_exit(&mut self) {
        self.state.finish();
    }
}
