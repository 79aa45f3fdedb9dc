//! The studio without its window: what the author does, what the engine and the disk answer.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::studio_support::{Answers, Hold, parts};
use vokenboard::engine::{Loader, Make, PipelineError};
use vokenboard::story::{Document, Images, PictureTake, Project};
use vokenboard::studio::actions::{Action, InspectorControl};
use vokenboard::studio::state::{Readiness, State};

struct Desk {
    state: State,
    answers: Answers,
    hold: Hold,
    temp: tempfile::TempDir,
}

fn desk(pace: u64) -> Desk {
    let temp = tempfile::tempdir().unwrap();
    let (parts, answers, hold) = parts(temp.path().join("projects"), Duration::from_millis(pace));
    Desk {
        state: State::new(parts),
        answers,
        hold,
        temp,
    }
}

impl Desk {
    fn does(&mut self, action: Action) {
        self.state.perform(action, Instant::now());
    }

    fn until(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done(&self.state) {
            assert!(Instant::now() < end, "not in time: {what}");
            self.state.tick(Instant::now());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn idle(&mut self) {
        self.until("idle", |s| s.work.is_idle());
    }

    fn writes(&mut self, text: &str) {
        self.state.view.composer = text.to_owned();
        self.does(Action::Enter);
    }

    fn says(&self, part: &str) -> bool {
        let toasts = self.state.toasts.all();
        toasts.iter().any(|toast| toast.sentence.contains(part))
    }
}

#[test]
fn what_is_asked_for_before_the_model_is_loaded_is_made_then() {
    let mut d = desk(0);
    d.writes("A fox sleeps in the forest.");
    d.does(Action::Tell(Make::Both));
    assert!(matches!(d.state.models.readiness, Readiness::Loading(_)));
    d.idle();
    assert_eq!(d.state.panels().len(), 2);
    assert!(d.state.panels().iter().all(|p| p.picture().is_some()));
}

#[test]
fn without_a_model_the_story_is_written_by_hand() {
    let temp = tempfile::tempdir().unwrap();
    let (mut parts, _, _) = parts(temp.path().join("projects"), Duration::ZERO);
    parts.loader_for = Arc::new(|_| -> Loader {
        Box::new(|_| {
            Err(PipelineError::Request(
                "The model is missing; restore it.".into(),
            ))
        })
    });
    let mut d = Desk {
        state: State::new(parts),
        answers: Answers::default(),
        hold: Hold::default(),
        temp,
    };
    d.until("the failure", |s| {
        matches!(s.models.readiness, Readiness::Failed(_))
    });
    d.writes("A fox sleeps.");
    assert!(d.says("The model is missing"));
    assert_eq!(d.state.panels()[0].text, "A fox sleeps.");
    assert!(
        d.state.work.is_idle(),
        "nothing waits for a model that will not come"
    );
    d.until("saved", |s| s.saved_words() == Some("saved"));
}

#[test]
fn results_for_a_closed_board_do_not_reach_the_next() {
    let mut d = desk(5);
    d.writes("A fox sleeps in the forest.");
    d.until("denoising", |s| {
        s.work.running().is_some_and(|r| r.step > 0)
    });
    d.does(Action::New);
    assert!(
        d.state.leaving.is_some(),
        "the author is asked about the picture"
    );
    d.does(Action::LeaveNow);
    d.writes("A bear wakes in the garden.");
    d.idle();
    let panels = d.state.panels();
    assert_eq!(panels.len(), 1);
    let prompt = &panels[0].picture().unwrap().record.as_ref().unwrap().prompt;
    assert_eq!(prompt, "A bear wakes in the garden.");
}

#[test]
fn a_text_that_was_finished_outlives_its_cancelled_picture() {
    let mut d = desk(5);
    d.does(Action::Tell(Make::Both));
    d.until("denoising", |s| {
        s.work.running().is_some_and(|r| r.step > 0)
    });
    d.does(Action::Cancel);
    d.idle();
    let told = &d.state.panels()[0];
    assert!(told.text.ends_with('.') && told.picture().is_none());
    assert!(told.texts.active().unwrap().record.is_some());

    d.does(Action::Tell(Make::Both));
    d.until("writing", |s| {
        s.work.running().is_some_and(|r| r.text.len() > 5)
    });
    d.does(Action::Cancel);
    d.idle();
    assert_eq!(
        d.state.panels().len(),
        1,
        "an empty panel is not left behind"
    );
}

#[test]
fn of_two_slider_values_the_newest_is_drawn() {
    let mut d = desk(20);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    for value in [5.0, 9.0] {
        d.does(Action::Set(InspectorControl::Guidance(value, true)));
        d.until("it draws", |s| {
            s.work
                .running()
                .is_some_and(|r| r.live && r.step > 0 && r.settings.guidance == value)
        });
    }
    d.does(Action::Set(InspectorControl::GuidanceReleased));
    d.idle();
    d.until("the take", |s| s.panels()[0].pictures.len() > 1);
    let takes = d.state.panels()[0].pictures.items();
    let guidance: Vec<f32> = takes
        .iter()
        .map(|take| take.record.as_ref().unwrap().settings.guidance)
        .collect();
    assert_eq!(guidance[1..], [9.0]);
    assert_eq!(d.state.shown().guidance, 9.0);
}

#[test]
fn a_slider_let_go_elsewhere_in_the_frame_in_which_its_picture_is_done_gives_one_take() {
    let mut d = desk(2);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.does(Action::Set(InspectorControl::Guidance(5.0, true)));
    d.until("it draws", |s| {
        s.work.running().is_some_and(|r| r.live && r.step > 0)
    });
    // Long done, but the studio has not heard of it yet.
    std::thread::sleep(Duration::from_millis(400));
    d.does(Action::Set(InspectorControl::Guidance(6.0, true)));
    d.does(Action::Set(InspectorControl::GuidanceReleased));
    d.until("the take", |s| s.panels()[0].pictures.len() > 1);
    d.idle();
    let takes = d.state.panels()[0].pictures.items();
    let guidance = |take: &PictureTake| take.record.as_ref().unwrap().settings.guidance;
    let guidance: Vec<f32> = takes[1..].iter().map(guidance).collect();
    assert_eq!(guidance, [6.0]);
}

#[test]
fn undo_and_redo_cover_what_was_generated() {
    let mut d = desk(0);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.does(Action::Undo);
    assert!(d.state.panels()[0].picture().is_none());
    d.does(Action::Redo);
    assert!(d.state.panels()[0].picture().is_some());
    // A panel made by one wish is one step, with its text and picture.
    d.does(Action::Tell(Make::Both));
    d.idle();
    let both = d.state.panels().to_vec();
    assert!(!both[1].text.is_empty() && both[1].picture().is_some());
    d.does(Action::Undo);
    assert_eq!(d.state.panels(), &both[..1]);
    d.does(Action::Redo);
    assert_eq!(d.state.panels(), &both);
    d.does(Action::Undo);
    d.does(Action::Undo);
    d.does(Action::Undo);
    assert!(d.state.panels().is_empty());
}

#[test]
fn what_the_author_does_meanwhile_is_a_step_of_its_own() {
    let mut d = desk(5);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.does(Action::Tell(Make::Both));
    d.until("at work", |s| s.panels().len() == 2);
    let first = d.state.panels()[0].id;
    d.does(Action::Typed(first, "A bear sleeps.".into()));
    d.idle();
    assert!(d.state.panels()[1].picture().is_some());
    d.does(Action::Undo);
    let made = &d.state.panels()[1];
    assert!(made.text.is_empty() && made.picture().is_none());
    assert_eq!(d.state.text_of(first), "A bear sleeps.");
    d.does(Action::Undo);
    assert_eq!(d.state.text_of(first), "A fox sleeps in the forest.");
}

#[test]
fn a_text_is_edited_while_its_picture_is_drawn() {
    let mut d = desk(5);
    d.does(Action::Tell(Make::Both));
    d.until("denoising", |s| {
        s.work.running().is_some_and(|r| r.step > 0)
    });
    let panel = &d.state.panels()[0];
    let (id, told) = (panel.id, panel.text.clone());
    assert_eq!(d.state.seen_text(id), told);
    d.does(Action::Typed(id, "A bear sleeps.".into()));
    d.idle();
    let panel = &d.state.panels()[0];
    assert!(panel.picture().is_some());
    assert_eq!(panel.text, "A bear sleeps.");
    d.does(Action::Undo);
    assert!(d.state.panels()[0].picture().is_none());
    d.does(Action::Undo);
    assert_eq!(d.state.text_of(id), told);
    d.does(Action::Undo);
    assert!(d.state.panels().is_empty());
}

#[test]
fn a_picture_alone_is_for_the_panel_that_the_author_is_at() {
    let mut d = desk(0);
    d.until("ready", |s| {
        matches!(s.models.readiness, Readiness::Ready(_))
    });
    d.does(Action::Tell(Make::Picture));
    assert!(d.says("nothing to draw yet"));
    d.idle();
    assert!(d.state.panels().is_empty());
    d.writes("A fox sleeps.");
    d.idle();
    d.state.view.composer = "An owl wakes.".into();
    d.does(Action::Tell(Make::Text));
    let takes = |d: &Desk| -> Vec<usize> {
        let panels = d.state.panels().iter();
        panels.map(|panel| panel.pictures.len()).collect()
    };
    d.does(Action::Tell(Make::Picture));
    d.idle();
    assert_eq!(takes(&d), [1, 1]);
    let first = d.state.panels()[0].id;
    d.does(Action::Select(Some(first)));
    d.does(Action::Tell(Make::Picture));
    d.idle();
    assert_eq!(takes(&d), [2, 1]);
}

#[test]
fn a_failed_save_is_said_and_saving_elsewhere_keeps_the_story() {
    let mut d = desk(0);
    std::fs::write(d.temp.path().join("projects"), "in the way").unwrap();
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    d.until("the failure", |s| s.saved_words() == Some("not saved"));
    assert!(!d.state.toasts.all().is_empty());
    assert_eq!(d.state.panels().len(), 1);

    let dir = d.temp.path().join("elsewhere");
    d.answers.paths.lock().unwrap().push_back(dir.clone());
    d.does(Action::AskSaveAs);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let (_, document, _) = vokenboard::story::Project::open(&dir).unwrap();
    assert_eq!(document.story(), d.state.story());
}

#[test]
fn a_story_that_another_program_has_open_is_left_alone() {
    let mut d = desk(0);
    let dir = d.temp.path().join("theirs");
    let mut project = Project::create(&dir).unwrap();
    project
        .save(&Document::default(), &Images::default())
        .unwrap();
    drop(project);
    let other = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(".lock"))
        .unwrap();
    other.try_lock().unwrap();
    d.writes("A fox sleeps.");
    d.idle();
    d.until("saved", |s| s.saved_words() == Some("saved"));
    d.state.open(dir.clone());
    d.until("the refusal", |s| {
        s.toasts
            .all()
            .iter()
            .any(|toast| toast.sentence.contains("open in another Vokenboard"))
    });
    assert_eq!(d.state.panels().len(), 1, "the board stays");
    drop(other);
    d.state.open(dir);
    d.until("opened", |s| s.panels().is_empty());
}

#[test]
fn the_story_that_is_open_is_opened_again_with_what_was_just_typed() {
    let mut d = desk(0);
    d.does(Action::AddPanel);
    d.does(Action::Save);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let dir = d.state.project.clone().unwrap();
    let id = d.state.panels()[0].id;
    d.state.open(dir);
    d.does(Action::Typed(id, "The owl sleeps.".into()));
    d.until("opened again", |s| !s.document.can_undo());
    assert_eq!(d.state.panels()[0].text, "The owl sleeps.");
    d.does(Action::AddPanel);
    d.does(Action::Save);
    d.until("saved again", |s| s.saved_words() == Some("saved"));
    assert!(!d.says("changed by another program"));
}

#[test]
fn a_desktop_without_file_dialogs_gets_ours() {
    let mut d = desk(0);
    *d.answers.none.lock().unwrap() = true;
    d.does(Action::AskOpen);
    d.state.tick(Instant::now());
    assert!(d.state.view.chooser.is_some(), "our own chooser opens");
}

#[test]
fn the_end_of_the_program_saves_what_was_just_typed() {
    let mut d = desk(0);
    d.does(Action::AddPanel);
    let id = d.state.panels()[0].id;
    d.does(Action::Typed(id, "Once upon a time.".into()));
    d.state.finish();
    let dir = d.temp.path().join("projects").join("Once upon a time");
    let (_, document, _) = vokenboard::story::Project::open(dir).unwrap();
    assert_eq!(document.story().panels[0].text, "Once upon a time.");
}

#[test]
fn a_panel_that_was_only_begun_comes_back_neither_by_redo_nor_from_the_disk() {
    let mut d = desk(5);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.does(Action::Tell(Make::Both));
    d.until("writing", |s| {
        s.work.running().is_some_and(|r| r.text.len() > 5)
    });
    d.does(Action::Cancel);
    d.idle();
    d.does(Action::Redo);
    assert_eq!(d.state.panels().len(), 1, "redo brings no empty panel");

    d.hold.in_the_text();
    d.does(Action::Tell(Make::Both));
    d.until("writing", |s| {
        s.work.running().is_some_and(|r| r.text.len() > 5)
    });
    d.does(Action::Save);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let dir = d.state.project.clone().unwrap();
    let panels = || Project::read(&dir).unwrap().0.story().panels.len();
    assert_eq!(panels(), 1, "a killed studio leaves no empty panel");
    d.state.finish();
    assert_eq!(panels(), 1, "nor does one that is closed");
}

#[test]
fn a_board_that_cannot_be_saved_is_not_closed_without_a_question() {
    let mut d = desk(0);
    std::fs::write(d.temp.path().join("projects"), "in the way").unwrap();
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    d.does(Action::Close);
    d.until("the question", |s| {
        s.leaving.as_ref().is_some_and(|leaving| leaving.asks)
    });
    assert!(!d.state.may_close());
    assert!(!d.state.why_unsaved().contains("os error"));
    d.does(Action::Stay);
    assert_eq!(d.state.panels().len(), 1);
    // With a copy elsewhere it closes.
    d.does(Action::Close);
    let dir = d.temp.path().join("elsewhere");
    d.answers.paths.lock().unwrap().push_back(dir.clone());
    d.does(Action::AskSaveAs);
    d.until("closed", State::may_close);
    assert!(dir.join("story.json").is_file());
}

#[test]
fn what_could_not_be_saved_is_offered_at_the_next_start() {
    let mut d = desk(0);
    std::fs::write(d.temp.path().join("projects"), "in the way").unwrap();
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.until("the failure", |s| s.saved_words() == Some("not saved"));
    let copies = d.temp.path().join("rescued");
    let one = |dir: &std::path::Path| {
        let mut all = std::fs::read_dir(dir).unwrap();
        all.next().map(|entry| entry.unwrap().path())
    };
    let copy = one(&copies).unwrap();
    // It goes along with the story as long as that can't be saved.
    let id = d.state.panels()[0].id;
    d.does(Action::Typed(id, "A fox dreams.".into()));
    d.does(Action::Committed);
    let text = || {
        Project::read(&copy).unwrap().0.story().panels[0]
            .text
            .clone()
    };
    d.until("the copy", |_| text() == "A fox dreams.");
    let Desk { state, temp, .. } = d;
    drop(state);
    // The program was killed: the next one offers it, with its picture.
    let (parts, answers, hold) = parts(temp.path().join("projects"), Duration::ZERO);
    let mut d = Desk {
        state: State::new(parts),
        answers,
        hold,
        temp,
    };
    assert_eq!(d.state.rescued.len(), 1);
    assert_eq!(d.state.rescued[0].dir, copy);
    d.state.open(copy.clone());
    d.until("opened", |s| !s.panels().is_empty());
    assert!(d.state.picture_of(d.state.panels()[0].id).is_some());
    d.does(Action::New);
    d.until("left", |s| s.panels().is_empty());
    d.does(Action::ForgetRescued(0));
    assert_eq!(one(&copies), None);
}

#[test]
fn a_copy_that_cannot_be_made_elsewhere_is_kept_and_the_story_goes_on_where_it_was() {
    let mut d = desk(0);
    d.writes("A fox sleeps in the forest.");
    d.idle();
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let home = d.state.project.clone().unwrap();
    d.state.preferences.autosave = false;
    let id = d.state.panels()[0].id;
    d.does(Action::Typed(id, "A fox dreams.".into()));
    d.does(Action::Committed);
    let taken = d.temp.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    d.answers.paths.lock().unwrap().push_back(taken.clone());
    d.does(Action::AskSaveAs);
    d.until("the refusal", |s| s.saved_words() == Some("not saved"));
    assert!(d.says("a copy is kept in"), "{:?}", d.state.toasts.all());
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    // Nor into the files of a story.
    let inside = home.join("images").join("new");
    d.answers.paths.lock().unwrap().push_back(inside.clone());
    d.does(Action::AskSaveAs);
    d.until("the second", |s| {
        let mut all = s.toasts.history();
        all.any(|said| said.sentence.contains("inside the story"))
    });
    assert!(!inside.exists());
    d.does(Action::Save);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    assert_eq!(d.state.project.as_deref(), Some(home.as_path()));
    let (saved, _, _) = Project::read(&home).unwrap();
    assert_eq!(saved.story().panels[0].text, "A fox dreams.");
    let left = std::fs::read_dir(d.temp.path().join("rescued")).unwrap();
    assert_eq!(left.count(), 0, "the copy is not needed any more");
}

#[test]
fn words_that_are_in_no_panel_yet_are_not_closed_away() {
    let mut d = desk(0);
    d.state.view.composer = "My grandmother kept".into();
    d.does(Action::Close);
    assert!(d.state.leaving.as_ref().is_some_and(|leaving| leaving.asks));
    d.does(Action::Stay);
    assert!(!d.state.may_close());
    d.does(Action::Close);
    d.does(Action::LeaveNow);
    assert!(d.state.may_close());
}

#[test]
fn a_board_is_left_without_saving_only_when_the_author_says_so() {
    let mut d = desk(0);
    d.state.preferences.autosave = false;
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    assert_eq!(d.state.saved_words(), Some("changed"));
    d.does(Action::New);
    assert!(d.state.leaving.as_ref().is_some_and(|leaving| leaving.asks));
    d.does(Action::LeaveNow);
    assert!(d.state.panels().is_empty());
    d.state.finish();
    assert!(
        !d.temp.path().join("projects").exists(),
        "nothing was written"
    );
}

#[test]
fn a_saved_board_closes_at_once_and_one_that_is_being_saved_right_after() {
    let mut d = desk(0);
    d.does(Action::Close);
    assert!(d.state.may_close(), "there is nothing to lose");
    let mut d = desk(0);
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    d.does(Action::Close);
    assert!(
        d.state
            .leaving
            .as_ref()
            .is_some_and(|leaving| !leaving.asks)
    );
    d.until("closed", State::may_close);
    assert!(
        d.temp
            .path()
            .join("projects/A fox sleeps/story.json")
            .is_file()
    );
}

/// A pipeline whose writer follows instructions, and which says what it was asked for.
struct Scribe(vokenboard::engine::Description);

impl Scribe {
    fn loader() -> Loader {
        Box::new(|_| {
            let mut description = vokenboard::engine::Description::default();
            description.writer.instructs = true;
            Ok(Box::new(Scribe(description)))
        })
    }
}

impl vokenboard::engine::Pipeline for Scribe {
    fn describe(&self) -> &vokenboard::engine::Description {
        &self.0
    }

    fn generate(
        &mut self,
        request: &vokenboard::engine::Request,
        sink: &mut dyn FnMut(vokenboard::engine::Progress) -> std::ops::ControlFlow<()>,
    ) -> Result<Option<vokenboard::engine::Output>, PipelineError> {
        let mut output = vokenboard::engine::Output::default();
        let told = request.context.len();
        match request.make {
            Make::Plan(panels) => {
                let line = |at| format!("after {told}: {at}");
                output.plan = Some((0..panels).map(line).collect());
            }
            Make::Cast => {
                let ann = vokenboard::story::Member {
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
                    let done = vokenboard::engine::Progress::TextDone(text, Box::default());
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

    let temp = tempfile::tempdir().unwrap();
    let (mut parts, answers, _) = parts(temp.path().join("projects"), Duration::ZERO);
    parts.loader_for = Arc::new(|_| Scribe::loader());
    let mut d = Desk {
        state: State::new(parts),
        answers,
        hold: Hold::default(),
        temp,
    };
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

    let temp = tempfile::tempdir().unwrap();
    let (mut parts, answers, _) = parts(temp.path().join("projects"), Duration::ZERO);
    parts.loader_for = Arc::new(|_| Scribe::loader());
    let mut d = Desk {
        state: State::new(parts),
        answers,
        hold: Hold::default(),
        temp,
    };
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

#[test]
fn both_versions_are_kept_where_another_program_has_changed_the_story() {
    let mut d = desk(0);
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let theirs = d.state.project.clone().unwrap();
    let file = theirs.join("story.json");
    let changed = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, changed.replace("sleeps", "wakes")).unwrap();
    let id = d.state.panels()[0].id;
    d.does(Action::Typed(id, "A fox dreams.".into()));
    d.until("the refusal", |s| s.autosave.changed_elsewhere());
    d.does(Action::KeepBoth);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let ours = d.state.project.clone().unwrap();
    assert_ne!(ours, theirs);
    let text = |dir: &std::path::Path| Project::read(dir).unwrap().0.story().panels[0].text.clone();
    assert_eq!(text(&theirs), "A fox wakes.");
    assert_eq!(text(&ours), "A fox dreams.");
}
