//! What is asked of the engine, and what becomes of its results.

use super::*;

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
    let mut d = desk_with(|| {
        Box::new(|_| {
            Err(PipelineError::Request(
                "The model is missing; restore it.".into(),
            ))
        })
    });
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
        d.state.stories.leaving.is_some(),
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
