//! A story is edited, undone, saved, opened, and never lost.

use std::fs;
use std::path::Path;

use image::{Rgba, RgbaImage};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vokenboard::story::{
    Document, Edit, EditError, Images, Panel, PanelId, PictureTake, Project, ProjectError, Record,
    Settings, Story, TextTake, read_record,
};

fn picture(seed: u8) -> RgbaImage {
    RgbaImage::from_fn(12, 8, |x, y| Rgba([seed, x as u8 * 9, y as u8 * 7, 255]))
}

fn record(seed: u64) -> Record {
    Record {
        model: "sprout".into(),
        weights: "abc".into(),
        pipeline: "caption".into(),
        device: "cpu".into(),
        settings: Settings {
            seed,
            ..Settings::default()
        },
        prompt: "A fox — \"glowing\" lantern 灯".into(),
        context: vec![PanelId(1)],
        seconds: 1.5,
        created: "2026-01-02T03:04:05Z".into(),
    }
}

fn put(images: &Images, seed: u8, record: Option<Record>) -> PictureTake {
    let image = picture(seed);
    let (width, height) = image.dimensions();
    PictureTake::new(images.put(image), width, height, record)
}

/// A story of two panels with takes of every kind.
fn sample() -> (Document, Images) {
    let images = Images::new();
    let mut document = Document::new(Story::default());
    let one = document.insert_panel(0);
    let two = document.insert_panel(1);
    let edits = [
        Edit::SetTitle("The lantern".into()),
        Edit::SetStyle("soft light".into()),
        Edit::SetText {
            panel: one,
            text: "A fox finds a lantern.".into(),
        },
        Edit::AddText {
            panel: two,
            take: TextTake::new("The owl watches.", Some(record(2))),
        },
        Edit::SetText {
            panel: two,
            text: "The owl sleeps.".into(),
        },
        Edit::AddPicture {
            panel: one,
            take: put(&images, 1, Some(record(3))),
        },
        Edit::AddPicture {
            panel: one,
            take: put(&images, 2, Some(record(4))),
        },
        Edit::ChoosePicture {
            panel: one,
            take: 0,
        },
        Edit::StarPicture {
            panel: one,
            take: 1,
            starred: true,
        },
    ];
    for edit in edits {
        document.apply(edit).unwrap();
    }
    (document, images)
}

fn saved() -> (tempfile::TempDir, Project, Document, Images) {
    let dir = tempfile::tempdir().unwrap();
    let (document, images) = sample();
    let mut project = Project::create(dir.path()).unwrap();
    project.save(&document, &images).unwrap();
    (dir, project, document, images)
}

#[test]
fn a_saved_story_opens_as_it_was_takes_included() {
    let (dir, _, document, images) = saved();
    let (project, opened, read) = Project::open(dir.path()).unwrap();
    assert_eq!(opened.story(), document.story());
    assert!(project.warnings().is_empty());
    for take in document.story().panels[0].pictures.items() {
        assert_eq!(read.get(&take.image), images.get(&take.image));
        assert!(read.get(&take.image).is_some());
    }
    assert!(!opened.can_undo());
}

#[test]
fn ids_of_deleted_panels_are_not_given_again_after_opening() {
    let (dir, mut project, mut document, images) = saved();
    let last = document.story().panels[1].id;
    document.apply(Edit::DeletePanel(last)).unwrap();
    project.save(&document, &images).unwrap();
    let (_, mut opened, _) = Project::open(dir.path()).unwrap();
    assert!(opened.fresh_id() > last);
}

#[test]
fn pictures_on_the_disk_carry_their_record_without_the_clock() {
    let (dir, _, document, _) = saved();
    let take = &document.story().panels[0].pictures.items()[0];
    let path = dir.path().join("images").join(take.image.file_name());
    let read = read_record(&path).unwrap().unwrap();
    let expected = Record {
        seconds: 0.0,
        created: String::new(),
        ..record(3)
    };
    assert_eq!(read, expected);
}

#[test]
fn saving_writes_only_what_is_new_and_leaves_unused_pictures() {
    let (dir, mut project, mut document, images) = saved();
    let one = document.story().panels[0].id;
    let old = document.story().panels[0].pictures.items()[1].image.clone();
    let path = dir.path().join("images").join(old.file_name());
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    document
        .apply(Edit::DeletePicture {
            panel: one,
            take: 1,
        })
        .unwrap();
    document
        .apply(Edit::AddPicture {
            panel: one,
            take: put(&images, 9, None),
        })
        .unwrap();
    project.save(&document, &images).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(dir.path().join("images")).unwrap().count(), 3);
    assert_eq!(
        Project::open(dir.path()).unwrap().1.story(),
        document.story()
    );
}

#[test]
fn a_failed_save_leaves_the_old_story() {
    let (dir, mut project, mut document, images) = saved();
    let before = fs::read(dir.path().join("story.json")).unwrap();
    let one = document.story().panels[0].id;
    let take = put(&images, 7, None);
    // A folder where the new picture belongs: its rename fails.
    fs::create_dir(dir.path().join("images").join(take.image.file_name())).unwrap();
    document.apply(Edit::SetTitle("Changed".into())).unwrap();
    document
        .apply(Edit::AddPicture { panel: one, take })
        .unwrap();
    let error = project.save(&document, &images).unwrap_err();
    assert!(matches!(error, ProjectError::Write { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("story.json")).unwrap(), before);
    let left: Vec<_> = fs::read_dir(dir.path().join("images"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.')
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn story_json_is_whole_at_every_moment_of_saving() {
    let (dir, mut project, mut document, images) = saved();
    let path = dir.path().join("story.json");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                let bytes = fs::read(&path).unwrap();
                serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
                reads += 1;
            }
        });
        for turn in 0..40 {
            let title = format!("Title {turn} {}", "long ".repeat(turn * 40));
            document.apply(Edit::SetTitle(title)).unwrap();
            project.save(&document, &images).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_story_changed_by_another_program_is_not_overwritten() {
    let (dir, mut first, document, images) = saved();
    let (mut second, mut other, read) = Project::open(dir.path()).unwrap();
    other.apply(Edit::SetTitle("Theirs".into())).unwrap();
    second.save(&other, &read).unwrap();
    let error = first.save(&document, &images).unwrap_err();
    assert!(matches!(error, ProjectError::ChangedOnDisk(_)));
    assert_eq!(Project::open(dir.path()).unwrap().1.story().title, "Theirs");
    // Saving elsewhere works, and takes the pictures along.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut copy = Project::create(elsewhere.path()).unwrap();
    copy.save(&document, &images).unwrap();
    let (project, opened, _) = Project::open(elsewhere.path()).unwrap();
    assert_eq!(opened.story(), document.story());
    assert!(project.warnings().is_empty());
}

/// What `images/` holds.
fn files_of(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("images")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn pictures_of_deleted_takes_stay_while_undo_may_want_them_and_go_at_the_next_opening() {
    let (dir, mut project, mut document, images) = saved();
    fs::write(dir.path().join("images").join("mine.png"), "not ours").unwrap();
    let one = document.story().panels[0].id;
    let kept = document.story().panels[0].pictures.items()[0].clone();
    let deleted = document.story().panels[0].pictures.items()[1].clone();
    let take = 1;
    document
        .apply(Edit::DeletePicture { panel: one, take })
        .unwrap();
    project.save(&document, &images).unwrap();
    assert_eq!(files_of(dir.path()).len(), 3);

    // Opened once more while the first is still open: undo there may want it.
    drop(Project::open(dir.path()).unwrap());
    assert_eq!(files_of(dir.path()).len(), 3);
    // Nor is it swept when the story has moved on to another folder.
    let elsewhere = tempfile::tempdir().unwrap();
    project = Project::create(elsewhere.path()).unwrap();
    project.save(&document, &images).unwrap();
    drop(Project::open(dir.path()).unwrap());
    assert_eq!(files_of(dir.path()).len(), 3);
    document.undo();
    project.save(&document, &images).unwrap();
    assert!(files_of(elsewhere.path()).contains(&deleted.image.file_name()));

    // An exported page shows it still.
    drop((project, images));
    let page = dir.path().join("story.md");
    fs::write(&page, format!("![](images/{})", deleted.image.file_name())).unwrap();
    drop(Project::open(dir.path()).unwrap());
    assert_eq!(files_of(dir.path()).len(), 3);
    fs::remove_file(page).unwrap();
    // Reading changes nothing.
    Project::read(dir.path()).unwrap();
    assert_eq!(files_of(dir.path()).len(), 3);
    drop(Project::open(dir.path()).unwrap());
    let mut left = [kept.image.file_name(), "mine.png".to_string()];
    left.sort();
    assert_eq!(files_of(dir.path()), left);
}

#[test]
fn a_story_that_another_program_has_open_is_not_opened_but_can_be_read() {
    let (dir, project, document, images) = saved();
    drop((project, images));
    // As another program would: a lock of the operating system through a file of its own.
    let other = fs::File::options()
        .write(true)
        .open(dir.path().join(".lock"))
        .unwrap();
    other.try_lock().unwrap();
    let error = Project::open(dir.path()).unwrap_err();
    assert!(matches!(error, ProjectError::InUse(_)), "{error}");
    let (read, ..) = Project::read(dir.path()).unwrap();
    assert_eq!(read.story(), document.story());
    drop(other);
    Project::open(dir.path()).unwrap();
}

fn error_of(json: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("story.json"), json).unwrap();
    Project::open(dir.path()).unwrap_err().to_string()
}

#[test]
fn stories_that_cannot_be_read_say_why() {
    let newer = error_of(r#"{"schema_version": 99, "chapters": []}"#);
    assert!(
        newer.contains("schema version 99") && newer.contains("newer"),
        "{newer}"
    );
    let broken = error_of("{ not json");
    assert!(
        broken.contains("story.json cannot be understood"),
        "{broken}"
    );
    let twice = error_of(
        r#"{"schema_version": 1, "title": "", "panels": [{"id": 1, "text": ""}, {"id": 1}]}"#,
    );
    assert!(twice.contains("two panels have the id 1"), "{twice}");
    let path = error_of(
        r#"{"schema_version": 1, "title": "", "panels": [{"id": 1, "pictures": {"items":
        [{"image": "../../etc/passwd", "width": 1, "height": 1}]}}]}"#,
    );
    assert!(path.contains("not the SHA-256"), "{path}");
}

#[test]
fn folders_that_are_no_project_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let none = Project::open(dir.path()).unwrap_err();
    assert!(matches!(none, ProjectError::NotAProject(_)));
    fs::write(dir.path().join("letter.txt"), "mine").unwrap();
    let error = Project::create(dir.path()).unwrap_err();
    assert!(matches!(error, ProjectError::NotEmpty(_)));
    let (dir, ..) = saved();
    let error = Project::create(dir.path()).unwrap_err();
    assert!(matches!(error, ProjectError::AlreadyAProject(_)));
}

fn opened_without(spoil: impl FnOnce(&Path)) {
    let (dir, _, document, images) = saved();
    let shown = document.story().panels[0].picture().unwrap().image.clone();
    let path = dir.path().join("images").join(shown.file_name());
    spoil(&path);
    let (mut project, mut opened, read) = Project::open(dir.path()).unwrap();
    assert_eq!(opened.story(), document.story());
    assert_eq!(project.warnings().len(), 1);
    assert!(project.warnings()[0].contains(&shown.file_name()));
    assert!(read.get(&shown).is_none());
    // The story can be saved without it, and made whole by putting the picture back.
    opened.apply(Edit::SetTitle("Still here".into())).unwrap();
    project.save(&opened, &read).unwrap();
    read.put(images.get(&shown).unwrap());
    project.save(&opened, &read).unwrap();
    assert!(Project::open(dir.path()).unwrap().0.warnings().is_empty());
}

#[test]
fn a_missing_picture_is_a_warning() {
    opened_without(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_damaged_picture_is_a_warning() {
    opened_without(|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    opened_without(|path| fs::write(path, "not a picture").unwrap());
}

#[test]
fn a_picture_never_put_in_is_an_error_not_a_hole() {
    let (_dir, mut project, mut document, images) = saved();
    let one = document.story().panels[0].id;
    let take = put(&Images::new(), 200, None);
    document
        .apply(Edit::AddPicture { panel: one, take })
        .unwrap();
    let error = project.save(&document, &images).unwrap_err();
    assert!(
        matches!(error, ProjectError::NoPixels { panel: 1, .. }),
        "{error}"
    );
}

#[test]
fn typing_is_one_step_until_it_ends_or_something_else_happens() {
    let mut document = Document::new(Story::default());
    let one = document.insert_panel(0);
    let two = document.insert_panel(1);
    let type_in = |document: &mut Document, text: &str| {
        document
            .apply(Edit::SetText {
                panel: one,
                text: text.into(),
            })
            .unwrap();
    };
    for text in ["A", "A f", "A fox"] {
        type_in(&mut document, text);
    }
    document.end_typing();
    type_in(&mut document, "A fox runs");
    // A result arrives elsewhere while the author types on.
    let take = TextTake::new("The owl.", Some(record(1)));
    document.apply(Edit::AddText { panel: two, take }).unwrap();
    type_in(&mut document, "A fox runs!");
    let mut seen = Vec::new();
    while document.undo() {
        let text = |id| document.story().panel(id).map(|p| p.text.clone());
        seen.push((text(one), text(two)));
    }
    let text = |s: &str| Some(s.to_string());
    assert_eq!(
        seen,
        [
            (text("A fox runs"), text("The owl.")),
            (text("A fox runs"), text("")),
            (text("A fox"), text("")),
            (text(""), text("")),
            (text(""), None),
            (None, None),
        ]
    );
}

#[test]
fn the_author_s_words_stand_beside_generated_ones() {
    let (document, _) = sample();
    let texts = &document.story().panels[1].texts;
    let all: Vec<&str> = texts
        .items()
        .iter()
        .map(|take| take.text.as_str())
        .collect();
    assert_eq!(all, ["The owl watches.", "The owl sleeps."]);
    assert_eq!(texts.active_index(), Some(1));
}

#[test]
fn a_result_for_a_deleted_panel_is_an_error_and_changes_nothing() {
    let (mut document, images) = sample();
    let one = document.story().panels[0].id;
    document.apply(Edit::DeletePanel(one)).unwrap();
    let before = document.story().clone();
    let take = put(&images, 5, None);
    let edits = vec![
        Edit::SetTitle("half".into()),
        Edit::AddPicture { panel: one, take },
    ];
    let error = document.apply(Edit::Together(edits)).unwrap_err();
    assert_eq!(error, EditError::NoPanel(one));
    assert_eq!(document.story(), &before);
    document.undo();
    assert!(document.story().panel(one).is_some());
}

/// Found by [`any_edits_are_undone_and_redone`]: a step of undo was left that changed nothing.
#[test]
fn edits_that_take_one_another_back_are_no_step_of_undo() {
    let mut document = Document::new(Story::default());
    let panel = document.insert_panel(0);
    let set = |text: &str| Edit::SetText {
        panel,
        text: text.into(),
    };
    document.apply(set("a")).unwrap();
    let before = document.story().clone();
    let revision = document.revision();
    // The author's own text goes and comes again.
    let edits = vec![Edit::DeleteText { panel, take: 0 }, set("a")];
    document.apply(Edit::Together(edits)).unwrap();
    assert_eq!(document.story(), &before);
    assert_eq!(document.revision(), revision);
    assert!(document.undo());
    assert_eq!(document.story().panels[0].text, "");
}

#[test]
fn typing_that_is_typed_back_leaves_nothing_behind() {
    let mut document = Document::new(Story::default());
    let panel = document.insert_panel(0);
    let take = TextTake::new("The owl.", Some(record(1)));
    document.apply(Edit::AddText { panel, take }).unwrap();
    let before = document.story().clone();
    for text in ["The owl.x", "The owl.xy", "The owl.x", "The owl."] {
        let text = text.into();
        document.apply(Edit::SetText { panel, text }).unwrap();
    }
    // The generated text again, not the same words as a take of the author's.
    assert_eq!(document.story(), &before);
    assert!(document.undo());
    assert_eq!(document.story().panels[0].text, "");
}

fn edits() -> impl Strategy<Value = Vec<(u8, usize, usize, String)>> {
    prop::collection::vec((0u8..18, 0usize..6, 0usize..4, "[a-c]{0,3}"), 1..60)
}

/// Turns numbers into an edit that mostly fits the story.
fn edit(document: &mut Document, images: &Images, step: &(u8, usize, usize, String)) -> Edit {
    let (kind, place, take, ref text) = *step;
    let text = text.clone();
    let panels = &document.story().panels;
    let panel = match panels.get(place % panels.len().max(1)) {
        Some(panel) => panel.id,
        None => PanelId(999),
    };
    let other = panels.last().map_or(PanelId(998), |panel| panel.id);
    match kind {
        0 => Edit::SetTitle(text),
        1 => Edit::SetStyle(text),
        2..=4 => Edit::InsertPanel {
            at: place,
            panel: Panel::with_text(document.fresh_id(), text),
        },
        5 => Edit::DeletePanel(panel),
        6 => Edit::DuplicatePanel {
            panel,
            copy: document.fresh_id(),
        },
        7 => Edit::MovePanel { panel, to: take },
        8 | 9 => Edit::SetText { panel, text },
        10 => Edit::AddText {
            panel,
            take: TextTake::new(text, Some(record(take as u64))),
        },
        11 => Edit::AddPicture {
            panel,
            take: put(images, take as u8, None),
        },
        12 => Edit::ChooseText { panel, take },
        13 => Edit::ChoosePicture { panel, take },
        14 => Edit::StarText {
            panel,
            take,
            starred: place % 2 == 0,
        },
        15 => Edit::StarPicture {
            panel,
            take,
            starred: place % 2 == 0,
        },
        16 => Edit::Together(vec![
            Edit::DeleteText { panel, take },
            Edit::MovePanel {
                panel: other,
                to: place,
            },
            Edit::SetText { panel: other, text },
        ]),
        _ => Edit::DeletePicture { panel, take },
    }
}

/// The same cases every time: CI fails because of a change, never by luck.
fn fixed_cases() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(20_231_003),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fixed_cases())]

    #[test]
    fn any_edits_are_undone_and_redone(steps in edits()) {
        let images = Images::new();
        let mut document = Document::new(Story::default());
        let mut states = vec![document.story().clone()];
        for step in &steps {
            let edit = edit(&mut document, &images, step);
            let before = document.story().clone();
            document.end_typing();
            if document.apply(edit).is_err() {
                prop_assert_eq!(document.story(), &before);
            }
            for panel in &document.story().panels {
                let active = panel.texts.active().map_or("", |take| take.text.as_str());
                prop_assert_eq!(&panel.text, active);
            }
            if document.story() != &before {
                states.push(document.story().clone());
            }
        }
        for state in states.iter().rev().skip(1) {
            prop_assert!(document.undo());
            prop_assert_eq!(document.story(), state);
        }
        prop_assert!(!document.can_undo());
        for state in states.iter().skip(1) {
            prop_assert!(document.redo());
            prop_assert_eq!(document.story(), state);
        }
        prop_assert!(!document.can_redo());
    }

    #[test]
    fn any_story_is_read_as_it_was_saved(steps in edits()) {
        let images = Images::new();
        let mut document = Document::new(Story::default());
        for step in &steps[..steps.len().min(20)] {
            let edit = edit(&mut document, &images, step);
            let _ = document.apply(edit);
        }
        let json = serde_json::to_string(document.story()).unwrap();
        let read: Story = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, document.story());
    }
}
