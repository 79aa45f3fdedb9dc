//! Two versions of a story: another program's, and the one on the board.

use egui::{Label, Ui};

use crate::studio::actions::Action;
use crate::studio::icons::Icon;
use crate::studio::state::State;
use crate::studio::widgets;

pub(super) fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    ui.add(Label::new(state.why_unsaved()).wrap());
    ui.add_space(6.0);
    let words = "Keep both: theirs stays where it is, yours goes into a folder beside it.";
    ui.add(Label::new(words).wrap());
    ui.add_space(6.0);
    if widgets::primary_button(ui, Icon::Duplicate, "Keep both", true).clicked() {
        actions.push(Action::KeepBoth);
    }
}
