//! Edits, and what undo and redo make of them.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vokenboard::story::{
    Document, Edit, EditError, Images, Member, MemberId, Panel, PanelId, Story, TextTake,
};

use crate::{put, record, sample};

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
    prop::collection::vec((0u8..27, 0usize..6, 0usize..4, "[a-c]{0,3}"), 1..60)
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
        17 => Edit::SetNegative(text),
        18 => Edit::SetDirection(text),
        19 => Edit::SetPlan(vec![text; take]),
        20 => Edit::AddMember {
            at: place,
            member: Member {
                name: text,
                ..Member::new(document.fresh_member_id())
            },
        },
        21 => Edit::SetMember(Member {
            description: text,
            ..Member::new(MemberId(place as u64))
        }),
        22 => Edit::RemoveMember(MemberId(place as u64)),
        23 => Edit::SetPrompt {
            panel,
            prompt: (take > 0).then_some(text),
        },
        24 => Edit::SetPanelDirection {
            panel,
            direction: text,
        },
        25 => Edit::SetPanelCast {
            panel,
            cast: (take > 0).then(|| vec![MemberId(place as u64)]),
        },
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
