//! Saving, leaving, and stories that could not be saved.

use super::*;

/// Whether the author is asked what becomes of what is not saved.
fn asks_to_leave(state: &State) -> bool {
    let leaving = state.stories.leaving.as_ref();
    leaving.is_some_and(|leaving| leaving.asks)
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
    let dir = d.state.board.project.clone().unwrap();
    let id = d.state.panels()[0].id;
    d.state.open(dir);
    d.does(Action::Typed(id, "The owl sleeps.".into()));
    d.until("opened again", |s| !s.board.document.can_undo());
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
    let dir = d.state.board.project.clone().unwrap();
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
    d.until("the question", asks_to_leave);
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
    assert_eq!(d.state.stories.rescued.len(), 1);
    assert_eq!(d.state.stories.rescued[0].dir, copy);
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
    let home = d.state.board.project.clone().unwrap();
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
    assert_eq!(d.state.board.project.as_deref(), Some(home.as_path()));
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
    assert!(asks_to_leave(&d.state));
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
    assert!(asks_to_leave(&d.state));
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
            .stories
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

#[test]
fn both_versions_are_kept_where_another_program_has_changed_the_story() {
    let mut d = desk(0);
    d.state.view.composer = "A fox sleeps.".into();
    d.does(Action::Tell(Make::Text));
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let theirs = d.state.board.project.clone().unwrap();
    let file = theirs.join("story.json");
    let changed = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, changed.replace("sleeps", "wakes")).unwrap();
    let id = d.state.panels()[0].id;
    d.does(Action::Typed(id, "A fox dreams.".into()));
    d.until("the refusal", |s| s.board.autosave.changed_elsewhere());
    d.does(Action::KeepBoth);
    d.until("saved", |s| s.saved_words() == Some("saved"));
    let ours = d.state.board.project.clone().unwrap();
    assert_ne!(ours, theirs);
    let text = |dir: &std::path::Path| Project::read(dir).unwrap().0.story().panels[0].text.clone();
    assert_eq!(text(&theirs), "A fox wakes.");
    assert_eq!(text(&ours), "A fox dreams.");
}
