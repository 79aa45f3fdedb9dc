//! The question before a board is closed that would lose something.

use egui::Ui;

use crate::studio::actions::Action;
use crate::studio::icons::Icon;
use crate::studio::state::{Leave, State};
use crate::studio::widgets;

pub(super) fn show(ui: &Ui, state: &State, actions: &mut Vec<Action>) {
    let Some(leaving) = &state.stories.leaving else {
        return;
    };
    let unsaved = state.loses_unsaved();
    let title = match leaving.to {
        Leave::Close => "Close Vokenboard?",
        Leave::New => "Begin a new story?",
        Leave::Open(_) => "Open another story?",
    };
    let width = 460.0_f32.min(ui.ctx().content_rect().width() - 80.0);
    let response = super::centred(ui, "leaving", |ui| {
        ui.set_width(width);
        ui.heading(title);
        let story = match state.called().as_str() {
            "" => "This story".to_owned(),
            called => format!("“{called}”"),
        };
        if unsaved {
            let why = state.why_unsaved();
            ui.add(egui::Label::new(format!("{story} is not saved. {why}")).wrap());
        }
        let coming = state.work.waiting() + state.work.all().count();
        if coming > 0 {
            let words = match coming {
                1 => "One thing is still being made and would not come.".to_owned(),
                n => format!("{n} things are still to be made and would not come."),
            };
            ui.add(egui::Label::new(words).wrap());
        }
        if state.loses_typed(&leaving.to) {
            let words = "What you typed below is in no panel yet and would be lost.";
            ui.add(egui::Label::new(words).wrap());
        }
        ui.add_space(10.0);
        ui.horizontal_wrapped(|ui| {
            let copy = widgets::primary_button(ui, Icon::Export, "Save a copy…", true);
            if copy.clicked() {
                actions.push(Action::AskSaveAs);
            }
            if state.board.autosave.changed_elsewhere()
                && widgets::button(ui, Icon::Duplicate, "Keep both", true).clicked()
            {
                actions.push(Action::KeepBoth);
            }
            let without = if unsaved {
                "Close without saving"
            } else {
                "Close without them"
            };
            if ui.button(without).clicked() {
                actions.push(Action::LeaveNow);
            }
            if ui
                .button("Cancel")
                .accessible_name("Cancel closing")
                .clicked()
            {
                actions.push(Action::Stay);
            }
        });
    });
    if response.should_close() {
        actions.push(Action::Stay);
    }
}
