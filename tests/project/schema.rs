//! What `story.json` holds from schema to schema.

use std::fs;

use serde_json::{Value, json};
use vokenboard::story::{
    Control, Document, Edit, Images, InitImage, Member, MemberKind, PictureTake, Project, Record,
    Reference, Settings, Size, Story,
};

use super::{picture, record, saved};

fn read(dir: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("story.json")).unwrap()).unwrap()
}

#[test]
fn a_story_of_schema_1_is_read_and_saved_as_schema_2_with_nothing_else_changed() {
    let (dir, ..) = saved();
    let path = dir.path().join("story.json");
    let mut old = read(dir.path());
    assert_eq!(old["schema_version"], 2);
    old["schema_version"] = json!(1);
    fs::write(&path, serde_json::to_vec(&old).unwrap()).unwrap();
    let (mut project, document, images) = Project::open(dir.path()).unwrap();
    project.save(&document, &images).unwrap();
    old["schema_version"] = json!(2);
    assert_eq!(read(dir.path()), old);
    // None of the newer fields stands in a story that doesn't use them.
    let text = fs::read_to_string(&path).unwrap();
    for name in [
        "negative",
        "direction",
        "plan",
        "cast",
        "loras",
        "next_member",
    ] {
        assert!(!text.contains(&format!("\"{name}\"")), "{name} in {text}");
    }
}

#[test]
fn fields_that_this_version_does_not_know_survive_opening_and_saving() {
    let (dir, ..) = saved();
    let path = dir.path().join("story.json");
    let mut file = read(dir.path());
    let extra = json!({"from": [1, "tomorrow", null, {"deep": 0.5}]});
    file["sound"] = extra.clone();
    file["cast"] = json!([{"id": 4, "name": "Milo", "voice": extra}]);
    let panel = &mut file["panels"][0];
    panel["camera"] = extra.clone();
    panel["pictures"]["order"] = extra.clone();
    let take = &mut panel["pictures"]["items"][0];
    take["note"] = extra.clone();
    take["record"]["queue"] = extra.clone();
    take["record"]["settings"]["lens"] = extra.clone();
    file["panels"][1]["texts"]["items"][0]["mood"] = extra;
    fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let (mut project, mut document, images) = Project::open(dir.path()).unwrap();
    let panel = document.story().panels[0].id;
    let edits = [
        Edit::SetTitle("Another".into()),
        Edit::ChoosePicture { panel, take: 1 },
        Edit::SetText {
            panel,
            text: "Changed.".into(),
        },
    ];
    document.apply(Edit::Together(edits.into())).unwrap();
    assert!(document.undo());
    project.save(&document, &images).unwrap();
    let mut now = read(dir.path());
    // The cast's next number is ours to keep.
    assert_eq!(now["next_member"], 5);
    now.as_object_mut().unwrap().remove("next_member");
    file["cast"][0]["kind"] = json!("character");
    assert_eq!(now, file);
}

#[test]
fn cast_plan_and_directions_are_saved_with_every_picture_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    let mut document = Document::new(Story::default());
    let panel = document.insert_panel(0);
    let [face, sketch, mask, before, drawn] = [1, 2, 3, 4, 5].map(|seed| images.put(picture(seed)));
    let id = document.fresh_member_id();
    let milo = Member {
        kind: MemberKind::Character,
        name: "Milo".into(),
        other_names: vec!["the boy".into()],
        description: "red scarf".into(),
        pictures: vec![face.clone()],
        ..Member::new(id)
    };
    let made = Record {
        settings: Settings {
            size: Some(Size {
                width: 12,
                height: 8,
            }),
            negative: "blurry".into(),
            init: Some(InitImage {
                image: before.clone(),
                strength: 0.6,
            }),
            mask: Some(mask.clone()),
            references: vec![Reference {
                image: face.clone(),
                strength: 0.8,
                start: 0.0,
                end: 1.0,
                prompt: String::new(),
                adapter: None,
                encoder: None,
                member: None,
            }],
            control: vec![Control {
                kind: "scribble".into(),
                image: sketch.clone(),
                strength: 1.0,
                start: 0.0,
                end: 0.5,
                file: None,
            }],
            ..Settings::default()
        },
        ..record(1)
    };
    let edits = vec![
        Edit::SetNegative("text, watermark".into()),
        Edit::SetDirection("for small children".into()),
        Edit::SetPlan(vec!["a door".into(), "it opens".into()]),
        Edit::AddMember {
            at: 0,
            member: milo.clone(),
        },
        Edit::SetPrompt {
            panel,
            prompt: Some("a boy at a door".into()),
        },
        Edit::SetPanelDirection {
            panel,
            direction: "she must not open the door yet".into(),
        },
        Edit::SetPanelCast {
            panel,
            cast: Some(vec![id]),
        },
        Edit::AddPicture {
            panel,
            take: PictureTake::new(drawn, 12, 8, Some(made)),
        },
    ];
    document.apply(Edit::Together(edits)).unwrap();
    let mut project = Project::create(dir.path()).unwrap();
    project.save(&document, &images).unwrap();
    drop(project);
    let (_, mut opened, kept) = Project::open(dir.path()).unwrap();
    assert_eq!(opened.story(), document.story());
    for image in [&face, &sketch, &mask, &before] {
        assert_eq!(kept.get(image), images.get(image));
    }
    // A member that is gone does not give its number to another.
    opened.apply(Edit::RemoveMember(id)).unwrap();
    assert!(opened.story().cast.is_empty());
    assert!(opened.fresh_member_id() > id);
    assert!(opened.apply(Edit::SetMember(milo.clone())).is_err());
    assert!(opened.undo());
    assert_eq!(opened.story().cast, [milo]);
}
