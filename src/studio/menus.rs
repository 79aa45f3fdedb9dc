//! What the secondary button offers on a panel and on a take.

use egui::Ui;

use super::actions::Action;
use super::casting::{self, ReferencePlace};
use super::state::State;
use super::widgets::{menu_item, roomy};
use crate::story::PanelId;

/// Of a panel, or of all that are chosen where it is one of several.
pub(super) fn panel(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId) {
    roomy(ui);
    ui.set_min_width(230.0);
    let Some(panel) = state.panel(id) else {
        return ui.close();
    };
    let chosen = state.chosen();
    if chosen.len() > 1 && chosen.contains(&id) {
        if menu_item(ui, &format!("Redraw {} pictures", chosen.len()), "", true) {
            actions.push(Action::RedrawChosen);
        }
        if menu_item(ui, &format!("Delete {} panels", chosen.len()), "Del", true) {
            actions.push(Action::DeleteChosen);
        }
        return;
    }
    let drawn = panel.picture().is_some();
    let has_text = !panel.text.trim().is_empty();
    let draw = if drawn {
        "Draw again"
    } else {
        "Draw a picture"
    };
    for (words, keys, enabled, action) in [
        ("Enlarge picture", "Space", drawn, Action::Enlarge(Some(id))),
        (draw, "", has_text, Action::DrawPicture(id)),
        (
            "Rewrite text",
            "",
            has_text || drawn,
            Action::RewriteText(id),
        ),
        ("Put a picture here…", "", true, Action::AskBring(Some(id))),
        ("Save picture as PNG…", "", drawn, Action::AskPicture(id)),
    ] {
        if menu_item(ui, words, keys, enabled) {
            actions.push(action);
        }
    }
    if let Some(take) = panel.pictures.active_index() {
        this_is(ui, state, actions, id, take);
    }
    ui.separator();
    for (words, keys, action) in [
        ("Insert panel after", "Ctrl+Enter", Action::InsertAfter(id)),
        ("Tell what comes after", "", Action::TellAfter(id)),
        ("Duplicate", "Ctrl+D", Action::Duplicate(id)),
        ("Delete", "Del", Action::Delete(id)),
    ] {
        if menu_item(ui, words, keys, true) {
            actions.push(action);
        }
    }
}

/// Of a picture of panel `id`; `shown` if it is the one that the panel shows.
pub(super) fn take(
    ui: &mut Ui,
    state: &State,
    actions: &mut Vec<Action>,
    (id, index): (PanelId, usize),
    shown: bool,
    starred: bool,
) {
    roomy(ui);
    ui.set_min_width(200.0);
    let star = if starred { "No favourite" } else { "Favourite" };
    if menu_item(ui, "Show this take", "", !shown) {
        actions.push(Action::PictureTake(id, index));
    }
    if menu_item(ui, "Compare with the one shown", "", !shown) {
        actions.push(Action::Enlarge(Some(id)));
        actions.push(Action::Compare(Some(index)));
    }
    if menu_item(ui, star, "", true) {
        actions.push(Action::Star(id, index, !starred));
    }
    this_is(ui, state, actions, id, index);
    if menu_item(ui, "Discard take", "Del", true) {
        actions.push(Action::DeletePicture(id, index));
    }
}

/// Who of the cast a take shows.
fn this_is(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId, take: usize) {
    ui.menu_button("This is", |ui| {
        roomy(ui);
        casting::who(ui, state, actions, &ReferencePlace::Take(id, take));
    });
}
