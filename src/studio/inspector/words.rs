//! The words of the story, where the writer follows instructions: length, tone and directions,
//! the plan, a rewriting by an instruction, and the picture prompt.

use egui::{ComboBox, Id, TextEdit, Ui};

use crate::story::{Edit, PanelId, TextLength};
use crate::studio::actions::{Action, InspectorControl};
use crate::studio::dialogs::WeightsFor;
use crate::studio::icons::Icon;
use crate::studio::state::State;
use crate::studio::widgets;
use crate::studio::work::Rewrite;

/// Most takes that a rewriting gives side by side.
const VERSIONS: u32 = 3;
/// Panels that are planned with one click.
const PLANNED: u32 = 5;

pub(super) fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    if !state.is_instructed() {
        return;
    }
    length(ui, state, actions);
    let shown = state.shown();
    if let Some(tone) = field(ui, "Tone and audience", &shown.tone, "gentle, for children") {
        actions.push(Action::Set(InspectorControl::Tone(tone)));
    }
    let story = state.story();
    let hint = "nobody is in danger";
    if let Some(words) = field(ui, "For all panels", &story.direction, hint) {
        actions.push(Action::Apply(Box::new(Edit::SetDirection(words))));
    }
    let selected = state.view.selected.filter(|id| state.panel(*id).is_some());
    if let Some(id) = selected {
        of_panel(ui, state, actions, id);
    }
    plan(ui, state, actions);
}

fn length(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let chosen = state.shown().length;
    let name = |length| match length {
        Some(TextLength::Line) => "A line",
        Some(TextLength::Paragraph) => "A paragraph",
        Some(TextLength::Sentences) | None => "A sentence or two",
    };
    ui.horizontal(|ui| {
        ui.label("Length");
        let all = [
            TextLength::Line,
            TextLength::Sentences,
            TextLength::Paragraph,
        ];
        let response = ComboBox::from_id_salt("length")
            .selected_text(name(chosen))
            .width(ui.available_width())
            .show_ui(ui, |ui| {
                for length in all.map(Some) {
                    if ui
                        .selectable_label(length == chosen, name(length))
                        .clicked()
                    {
                        actions.push(Action::Set(InspectorControl::Length(length)));
                    }
                }
            })
            .response;
        response.accessible_name("Length");
    });
}

fn of_panel(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, id: PanelId) {
    let Some(panel) = state.panel(id) else { return };
    let busy = state.work.on(id).is_some();
    let written = !panel.text.trim().is_empty();
    ui.push_id(id.0, |ui| {
        let hint = "she must not open the door yet";
        if let Some(direction) = field(ui, "For this panel", &panel.direction, hint) {
            let panel = id;
            actions.push(Action::Apply(Box::new(Edit::SetPanelDirection {
                panel,
                direction,
            })));
        }
        rewriting(ui, actions, id, written && !busy);
        let prompt = panel.prompt.as_deref().unwrap_or_default();
        if let Some(words) = field(ui, "Picture prompt", prompt, "made of the text") {
            let prompt = Some(words).filter(|words| !words.trim().is_empty());
            actions.push(Action::Apply(Box::new(Edit::SetPrompt {
                panel: id,
                prompt,
            })));
        }
        if widgets::button(ui, Icon::Pencil, "Write picture prompt", written && !busy).clicked() {
            actions.push(Action::WritePrompt(id));
        }
    });
}

/// An instruction and what it is carried out with.
fn rewriting(ui: &mut Ui, actions: &mut Vec<Action>, id: PanelId, enabled: bool) {
    let kept = ui.scope_id().with("instruction");
    let mut instruction = ui
        .data_mut(|data| data.get_temp::<String>(kept))
        .unwrap_or_default();
    label(ui, "Rewrite so that it is");
    let edit = TextEdit::singleline(&mut instruction)
        .hint_text("shorter, spookier, in rhyme")
        .desired_width(f32::INFINITY);
    ui.add(edit).accessible_name("Instruction");
    ui.data_mut(|data| data.insert_temp(kept, instruction.clone()));
    let enabled = enabled && !instruction.trim().is_empty();
    for (words, candidates) in [("Rewrite by instruction", 1), ("Three versions", VERSIONS)] {
        if widgets::button(ui, Icon::Pencil, words, enabled).clicked() {
            let instruction = instruction.trim().to_owned();
            let rewrite = Rewrite {
                instruction,
                candidates,
            };
            actions.push(Action::Rewrite(id, rewrite));
        }
    }
}

/// The lines of the plan for the panels to come, and a button that makes one.
fn plan(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let story = state.story();
    let written = story.panels.len();
    if story.plan.len() > written {
        label(ui, "The plan");
    }
    for (at, line) in story.plan.iter().enumerate().skip(written) {
        if let Some(line) = field(ui, &format!("Planned panel {}", at + 1), line, "") {
            let mut plan = story.plan.clone();
            plan[at] = line;
            actions.push(Action::Apply(Box::new(Edit::SetPlan(plan))));
        }
    }
    let words = format!("Plan {PLANNED} panels");
    if widgets::button(
        ui,
        Icon::Pencil,
        &words,
        written > 0 && state.work.is_idle(),
    )
    .clicked()
    {
        actions.push(Action::Plan(PLANNED));
    }
}

pub(crate) fn label(ui: &mut Ui, words: &str) {
    ui.add_space(4.0);
    widgets::caption(ui, words);
}

/// A [`field`] for a file, with a button that asks for it.
pub(crate) fn file_field(
    ui: &mut Ui,
    actions: &mut Vec<Action>,
    (name, value, hint): (&str, &str, &str),
    what: WeightsFor,
) -> Option<String> {
    label(ui, name);
    let row = |ui: &mut Ui| {
        let button = format!("Choose a file: {name}");
        if widgets::icon_button(ui, Icon::Folder, &button, true).clicked() {
            actions.push(Action::AskWeights(what));
        }
        edited(ui, name, value, hint)
    };
    ui.horizontal(row).inner
}

/// A line of text with its name above it; what the author made of it once it is left.
pub(crate) fn field(ui: &mut Ui, name: &str, value: &str, hint: &str) -> Option<String> {
    label(ui, name);
    edited(ui, name, value, hint)
}

/// The line of a [`field`].
fn edited(ui: &mut Ui, name: &str, value: &str, hint: &str) -> Option<String> {
    let kept: Id = ui.scope_id().with(name);
    let typed = ui.data_mut(|data| data.get_temp::<String>(kept));
    let mut text = typed.unwrap_or_else(|| value.to_owned());
    let edit = TextEdit::singleline(&mut text)
        .hint_text(hint)
        .desired_width(f32::INFINITY);
    let response = ui.add(edit).accessible_name(name);
    if response.has_focus() {
        ui.data_mut(|data| data.insert_temp(kept, text));
        return None;
    }
    ui.data_mut(|data| data.remove::<String>(kept));
    (response.lost_focus() && text != value).then_some(text)
}
