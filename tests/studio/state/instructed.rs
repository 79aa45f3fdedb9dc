//! With a writer that follows instructions: the cast, plans, rewriting, picture prompts.

use std::ops::ControlFlow;

use vokenboard::engine::{Description, Output, Pipeline, Progress, Request};
use vokenboard::story::Member;

use super::*;

/// A pipeline whose writer follows instructions, and which says what it was asked for.
struct Scribe(Description);

impl Scribe {
    fn loader() -> Loader {
        Box::new(|_| {
            let mut description = Description::default();
            description.writer.instructs = true;
            Ok(Box::new(Scribe(description)))
        })
    }
}

impl Pipeline for Scribe {
    fn describe(&self) -> &Description {
        &self.0
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let mut output = Output::default();
        let told = request.context.len();
        match request.make {
            Make::Plan(panels) => {
                let line = |at| format!("after {told}: {at}");
                output.plan = Some((0..panels).map(line).collect());
            }
            Make::Cast => {
                let ann = Member {
                    name: "Ann".into(),
                    description: "blue coat".into(),
                    ..Default::default()
                };
                output.cast = Some(vec![ann]);
            }
            Make::Prompt => {
                output.prompt = request.text.as_ref().map(|t| format!("picture of {t}"));
            }
            Make::Picture => {}
            Make::Text | Make::Both => {
                let how = request.instruction.clone().unwrap_or_default();
                let length = request.settings.length;
                for take in 0..request.candidates.max(1) {
                    let text = format!("{how} {take} {length:?} {}.", request.board.direction);
                    let done = Progress::TextDone(text, Box::default());
                    if sink(done).is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(output))
    }
}

#[test]
fn the_writer_proposes_members_whom_the_author_accepts_or_dismisses() {
    use vokenboard::studio::casting::CastAction;

    let mut d = desk_with(Scribe::loader);
    d.until("ready", |s| s.is_instructed());
    d.writes("A girl runs.");
    d.idle();
    assert!(d.state.proposals().is_empty());
    d.does(Action::Cast(CastAction::Ask));
    d.until("who is there", |s| !s.proposals().is_empty());
    let panels = d.state.panels().len();
    assert_eq!(panels, 1, "it is no panel");
    d.does(Action::Cast(CastAction::Accept("Ann".into())));
    let ann = d.state.story().cast[0].clone();
    assert_eq!((&*ann.name, &*ann.description), ("Ann", "blue coat"));
    assert!(d.state.proposals().is_empty(), "she is there now");
    d.does(Action::Undo);
    d.until("proposed again", |s| !s.proposals().is_empty());
    d.does(Action::Cast(CastAction::Dismiss("Ann".into())));
    assert!(d.state.proposals().is_empty());
    assert_eq!(d.state.story().dismissed, ["Ann"]);
}

#[test]
fn a_writer_that_follows_instructions_plans_rewrites_and_says_what_pictures_show() {
    use vokenboard::story::{Edit, TextLength};
    use vokenboard::studio::work::Rewrite;

    let mut d = desk_with(Scribe::loader);
    d.until("ready", |s| s.is_instructed());
    d.writes("A fox sleeps.");
    d.idle();
    let id = d.state.panels()[0].id;
    d.does(Action::Select(Some(id)));
    d.does(Action::Plan(2));
    d.idle();
    assert_eq!(d.state.story().plan, ["", "after 1: 0", "after 1: 1"]);
    // It can be edited, and undone.
    let plan = vec![String::new(), "mine".into(), "after 1: 1".into()];
    d.does(Action::Apply(Box::new(Edit::SetPlan(plan))));
    assert_eq!(d.state.story().plan[1], "mine");
    d.does(Action::Undo);
    assert_eq!(d.state.story().plan[1], "after 1: 0");

    d.does(Action::Set(InspectorControl::Length(Some(
        TextLength::Line,
    ))));
    d.does(Action::Apply(Box::new(Edit::SetDirection("calm".into()))));
    let rewrite = Rewrite {
        instruction: "shorter".into(),
        candidates: 3,
    };
    d.does(Action::Rewrite(id, rewrite));
    d.idle();
    let texts: Vec<&str> = d.state.panels()[0]
        .texts
        .items()
        .iter()
        .map(|t| t.text.as_str())
        .collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert_eq!(texts[3], "shorter 2 Some(Line) calm.");
    d.does(Action::WritePrompt(id));
    d.idle();
    let prompt = d.state.panels()[0].prompt.clone();
    assert!(prompt.is_some_and(|prompt| prompt.starts_with("picture of shorter")));
    // Five panels with nothing planned for them are planned first.
    d.does(Action::Apply(Box::new(Edit::SetPlan(Vec::new()))));
    d.does(Action::TellFive);
    d.idle();
    assert_eq!(d.state.story().plan.len(), 6);
    assert_eq!(d.state.panels().len(), 6);
}
