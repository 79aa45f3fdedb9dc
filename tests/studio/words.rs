//! The words of the story: length, tone, directions, the plan, a rewriting into several takes and the
//! picture prompt, with a writer that follows instructions.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egui::{Key, Modifiers, Role, Theme};
use egui_kittest::kittest::Queryable as _;
use vokenboard::engine::{
    Description, Loader, Make, Output, Pipeline, PipelineError, Progress, Request,
};
use vokenboard::story::{Record, TextLength};

use crate::studio_support::Doodle;
use crate::window::{FOX, Test, open_with};

/// Follows instructions by saying them, and notes what it is asked.
struct Scribe {
    doodle: Doodle,
    description: Description,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Pipeline for Scribe {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        self.asked.lock().unwrap().push(request.clone());
        let mut output = Output::default();
        match (request.make, &request.instruction) {
            (Make::Plan(panels), _) => {
                let lines = (1..=panels).map(|number| format!("Turn {number}."));
                output.plan = Some(lines.collect());
            }
            (Make::Prompt, _) => output.prompt = Some("a red fox, lantern light".to_owned()),
            (Make::Text, Some(instruction)) => {
                for number in 1..=request.candidates.max(1) {
                    let record = Record {
                        instruction: instruction.clone(),
                        ..Record::default()
                    };
                    let text = format!("{instruction}, version {number}.");
                    let done = Progress::TextDone(text.clone(), Box::new(record.clone()));
                    if sink(done).is_break() {
                        return Ok(None);
                    }
                    output.text = Some((text, record));
                }
            }
            _ => return self.doodle.generate(request, sink),
        }
        Ok(Some(output))
    }
}

/// A studio with a panel, and what its writer is asked.
fn with_a_scribe() -> (Test, Arc<Mutex<Vec<Request>>>) {
    let asked = Arc::<Mutex<Vec<Request>>>::default();
    let noted = asked.clone();
    let mut t = open_with(1280.0, 1400.0, Theme::Light, |parts| {
        parts.loader_for = Arc::new(move |_| -> Loader {
            let asked = noted.clone();
            Box::new(move |_| {
                let doodle = Doodle::new(Duration::from_millis(1));
                let mut description = doodle.describe().clone();
                description.writer.model = "scribe".to_owned();
                description.writer.instructs = true;
                Ok(Box::new(Scribe {
                    doodle,
                    description,
                    asked,
                }))
            })
        });
    });
    t.write(FOX);
    t.idle();
    (t, asked)
}

fn fill(t: &mut Test, label: &str, text: &str) {
    // The name stands above the field, too.
    let field = (Role::TextInput, label);
    t.studio.get_by_role_and_label(field.0, field.1).focus();
    t.studio.run_steps(2);
    let found = t.studio.get_by_role_and_label(field.0, field.1);
    found.type_text(text);
    t.studio.run_steps(2);
    t.key(Modifiers::NONE, Key::Tab);
}

#[test]
fn length_tone_and_directions_reach_the_writer() {
    let (mut t, asked) = with_a_scribe();
    fill(&mut t, "Tone and audience", "calm, for children");
    fill(&mut t, "For all panels", "nobody is hurt");
    fill(&mut t, "For this panel", "she must not open the door yet");
    let length = t.studio.get_by_role_and_label(Role::ComboBox, "Length");
    length.click();
    t.studio.run_steps(3);
    t.click("A paragraph");
    t.shot("words-of-an-instructed-writer");
    t.click("Rewrite text");
    t.idle();
    let request = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(request.make, Make::Text);
    assert_eq!(request.settings.tone, "calm, for children");
    assert_eq!(request.settings.length, Some(TextLength::Paragraph));
    assert_eq!(request.board.direction, "nobody is hurt");
    assert_eq!(request.direction, "she must not open the door yet");
}

#[test]
fn an_instruction_gives_three_versions_side_by_side_as_takes() {
    let (mut t, asked) = with_a_scribe();
    fill(&mut t, "Instruction", "spookier");
    t.click("Three versions");
    t.idle();
    let request = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(request.instruction.as_deref(), Some("spookier"));
    assert_eq!(
        (request.candidates, request.text.as_deref()),
        (3, Some(FOX))
    );
    let texts = &t.state().panels()[0].texts;
    let all: Vec<&str> = texts
        .items()
        .iter()
        .map(|take| take.text.as_str())
        .collect();
    let versions = [1, 2, 3].map(|number| format!("spookier, version {number}."));
    assert_eq!(all[0], FOX);
    assert_eq!(all[1..], versions);
    // They stand beside each other in a sheet, the newest first, and a click takes one.
    t.studio.run_steps(4);
    let at = |t: &Test, text: &str| {
        let found = t.studio.get_all_by_label(text);
        let mut places = found
            .map(|node| node.rect())
            .filter(|rect| rect.width() < 300.0);
        places.next().unwrap()
    };
    let places = versions.each_ref().map(|text| at(&t, text));
    assert!(
        (places[0].top() - places[2].top()).abs() < 2.0,
        "{places:?}"
    );
    assert!(places[2].right() < places[1].left() && places[1].right() < places[0].left());
    t.shot("three-versions");
    t.click("Use text 3");
    assert_eq!(t.state().panels()[0].text, versions[1]);
    t.studio.run_steps(3);
    t.studio.get_by_label("Text 3 (shown)");
    t.click("Delete text 2");
    assert_eq!(t.state().panels()[0].texts.items().len(), 3);
    t.click("Close Versions of the text");
    t.click("Undo");
    t.click("Texts side by side");
    t.studio.run_steps(3);
    t.studio.get_by_label("Use text 4");
    t.click("Close Versions of the text");
    t.click("Rewrite by instruction");
    t.idle();
    assert_eq!(asked.lock().unwrap().last().unwrap().candidates, 1);
    assert_eq!(t.state().panels()[0].texts.items().len(), 5);
}

#[test]
fn the_plan_is_made_seen_and_edited_and_told_by() {
    let (mut t, asked) = with_a_scribe();
    t.click("Plan 5 panels");
    t.idle();
    for number in 2..=6 {
        let name = format!("Planned panel {number}");
        t.studio.get_by_role_and_label(Role::TextInput, &name);
    }
    t.shot("plan");
    fill(&mut t, "Planned panel 3", " And it snows.");
    let plan = t.state().story().plan.clone();
    assert_eq!(plan.len(), 6);
    assert!(plan[2].contains("it snows"), "{plan:?}");
    // Telling several takes the plan that there is.
    t.click("Tell 5 panels");
    t.idle();
    let asked = asked.lock().unwrap();
    let plans = asked.iter().filter(|r| matches!(r.make, Make::Plan(_)));
    assert_eq!(plans.count(), 1);
    let third = asked.iter().find(|r| r.place == 2).unwrap();
    assert!(third.board.plan[2].contains("it snows"));
}

#[test]
fn the_picture_prompt_is_written_and_edited() {
    let (mut t, asked) = with_a_scribe();
    t.click("Write picture prompt");
    t.idle();
    let prompt = |t: &Test| t.state().panels()[0].prompt.clone();
    assert_eq!(prompt(&t).as_deref(), Some("a red fox, lantern light"));
    fill(&mut t, "Picture prompt", ", snow");
    assert!(prompt(&t).unwrap().contains("snow"));
    t.click("Regenerate image");
    t.idle();
    let request = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(request.prompt, prompt(&t));
}
