use super::*;
use crate::pipeline::ContextPanel;
use crate::story::{ImageId, PanelId};

fn request(told: &[&str]) -> Request {
    let context = told.iter().map(|text| ContextPanel {
        id: PanelId(1),
        text: (*text).to_owned(),
        picture: None,
    });
    Request {
        context: context.collect(),
        ..Request::default()
    }
}

#[test]
fn nouns_stand_from_left_to_right_and_places_behind_them() {
    let alone = request(&[]);
    assert_eq!(
        alone.composition_prompt("My grandmother kept bees in the garden."),
        "grandmother on the left and bees on the right in the garden on a sunny day"
    );
    let none = alone.composition_prompt("A knight and a pony meet a queen at night.");
    assert!(
        none.starts_with("knight on the left, pony in the middle and queen on the right "),
        "{none}"
    );
    assert!(none.ends_with("at night"), "{none}");
    let four = alone.composition_prompt("A fox, an owl, a rabbit and a bear sit by the river.");
    assert!(four.starts_with("fox, owl, rabbit and bear "), "{four}");
}

#[test]
fn a_prompt_means_when_it_is_read_what_it_meant_when_it_was_written() {
    let alone = request(&[]);
    let text = "An owl, a mountain and a knight, at the top of the tower at night.";
    let prompt = alone.composition_prompt(text);
    assert_eq!(
        prompt,
        "owl on the left, mountain in the middle and knight on the right in the tower at night"
    );
    assert_eq!(alone.composition_prompt(&prompt), prompt);
}

#[test]
fn one_of_several_is_whoever_they_are_in_the_cast() {
    let mut story = request(&["My grandmother kept bees."]);
    story.board.cast = vec![Member {
        kind: MemberKind::Character,
        name: "bees".into(),
        ..Member::new(MemberId(1))
    }];
    assert_eq!(
        story.composition_prompt("A bee and a wolf sleep in the garden."),
        "bees on the left and wolf on the right in the garden on a sunny day"
    );
}

#[test]
fn whoever_has_a_given_name_is_still_called_by_the_noun() {
    let mut story = request(&["A monkey called Ben sleeps."]);
    story.board.cast = vec![Member {
        kind: MemberKind::Character,
        name: "Ben".into(),
        description: "monkey".into(),
        pictures: vec![ImageId::of(&RgbaImage::new(2, 2))],
        ..Member::new(MemberId(1))
    }];
    assert_eq!(
        story.composition_prompt("The monkey meets an owl in the garden."),
        "Ben on the left and owl on the right in the garden on a sunny day"
    );
    let other = story.composition_prompt("Another monkey and Ben sit in the garden.");
    assert!(
        other.starts_with("monkey on the left and Ben on the right "),
        "{other}"
    );
}

#[test]
fn who_and_where_is_carried_over() {
    let before = request(&["A wizard finds an egg in the cave."]);
    assert_eq!(
        before.composition_prompt("It was warm."),
        "wizard on the left and egg on the right in the cave by day"
    );
    assert_eq!(
        before.composition_prompt("She carried a lamp to the castle."),
        "wizard on the left and lamp on the right in the castle yard on a sunny day"
    );
}

#[test]
fn whom_a_text_gives_a_name_joins_the_cast_by_it_and_friends_are_known() {
    let alone = request(&[]);
    let text = "A brave doctor called Mia meets Otto the fox in the garden.";
    let prompt = alone.composition_prompt(text);
    let new = alone.newcomers(text, &prompt);
    let named = |i: usize| (new[i].0.name.as_str(), new[i].0.description.as_str());
    assert_eq!(named(0), ("Mia", "doctor"));
    assert_eq!(named(1), ("Otto", "fox"));
    let mut later = request(&[text]);
    let ids = (1..).zip(new);
    later.board.cast = ids
        .map(|(id, (member, _))| Member {
            id: MemberId(id),
            pictures: vec![ImageId::of(&RgbaImage::new(2, 2))],
            ..member
        })
        .collect();
    assert_eq!(
        later.composition_prompt("Mia waits for her friend."),
        "Mia in the garden on a sunny day"
    );
}

/// Vokens say who is there, the author's choice goes before that, and what the text says of
/// place and time before what they say.
#[test]
fn scores_say_who_is_shown_and_where() {
    let mut request = request(&["A wizard finds an egg in the cave."]);
    let member = |id, name: &str| Member {
        name: name.into(),
        pictures: vec![ImageId::of(&RgbaImage::new(2, 2))],
        ..Member::new(MemberId(id))
    };
    request.board.cast = vec![member(1, "wizard"), member(2, "egg")];
    let text = "She carried a lamp at night.";
    let setting = SceneSetting::all()
        .find(|setting| setting.location == Location::Story(Place::Beach))
        .unwrap();
    let prompt = |request: &Request, scores: &[(f32, f32)]| {
        let all = request.candidates_of(text);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].name(), "lamp");
        request.composition_of(text, all, scores, setting)
    };
    // The lamp is named, which weighs more than a little doubt.
    assert_eq!(
        prompt(&request, &[(-1.0, 0.9), (3.0, -0.8), (-2.0, 0.0)]).unwrap(),
        "wizard on the left and lamp on the right on the beach at night"
    );
    assert_eq!(prompt(&request, &[(-6.0, 0.0); 3]), None);
    // "They" are two at least, of those who act.
    let together = |request: &Request| {
        let all = request.candidates_of("They rest.");
        request.composition_of("They rest.", all, &[(-1.0, 0.5), (2.0, -0.5)], setting)
    };
    assert_eq!(
        together(&request).unwrap(),
        "egg on the left and wizard on the right on the beach on a sunny day"
    );
    request.board.cast[0].kind = MemberKind::Thing;
    assert_eq!(
        together(&request).unwrap(),
        "egg on the beach on a sunny day"
    );
    request.cast = Some(vec![MemberId(2)]);
    assert_eq!(
        prompt(&request, &[(-9.0, 0.9), (3.0, -0.8), (-2.0, 0.0)]).unwrap(),
        "egg on the beach at night"
    );
}

#[test]
fn the_cast_is_called_by_name_and_newcomers_join_it() {
    let mut request = request(&[]);
    let text = "Milo and his dog find a key in the forest.";
    let new = |request: &Request, prompt: &str| -> Vec<String> {
        let all = request.newcomers(text, prompt).into_iter();
        all.map(|(member, _)| member.name).collect()
    };
    let prompt = request.composition_prompt(text);
    assert_eq!(new(&request, &prompt), ["dog", "key"]);
    let mut milo = Member {
        name: "Milo".into(),
        ..Member::new(MemberId(1))
    };
    milo.description = "a small fox with a scarf".into();
    request.board.cast.push(milo);
    let prompt = request.composition_prompt(text);
    assert!(
        prompt.starts_with("fox on the left, dog in the middle"),
        "{prompt}"
    );
    request.board.cast[0].pictures = vec![ImageId::of(&RgbaImage::new(2, 2))];
    let prompt = request.composition_prompt(text);
    assert_eq!(
        prompt,
        "Milo on the left, dog in the middle and key on the right in the forest on a sunny day"
    );
    assert_eq!(new(&request, &prompt), ["dog", "key"]);
    // Whom the author took out is not drawn.
    request.cast = Some(Vec::new());
    assert!(
        request
            .composition_prompt(text)
            .starts_with("dog on the left")
    );
}
