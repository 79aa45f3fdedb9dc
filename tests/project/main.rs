//! A story is edited, undone, saved, opened, and never lost.

mod field;
mod history;
mod schema;

use std::fs;
use std::path::Path;

use image::{Rgba, RgbaImage};
use vokenboard::story::{
    Document, Edit, Images, PanelId, PictureTake, Project, ProjectError, Record, Settings, Story,
    TextTake, read_record,
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
        ..Record::default()
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
        .create(true)
        .truncate(false)
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
