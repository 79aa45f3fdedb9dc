//! What is read for a panel is about what is new in it, however long the story is: counted in
//! tokens, since a clock would say something about the machine as well.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::models::{counting, header};
use super::{GO_ON, request};
use crate::llm::Tokenizer;
use crate::pipeline::painter::PromptStyle;
use crate::pipeline::writer::Writer;
use crate::pipeline::{BoardContext, Request};
use crate::story::{Member, MemberId};

/// The text of a panel, unlike any other's.
fn told(panel: usize) -> String {
    let who = [
        "owl", "miller", "captain", "witch", "gardener", "twins", "bear",
    ][panel % 7];
    let does = ["hid", "mended", "sold", "painted", "lost"][panel % 5];
    let what = ["a rusty key", "the blue boat", "an old map", "nine candles"][panel % 4];
    let place = ["mill", "harbour", "tower", "cellar", "orchard", "bridge"][panel % 6];
    let sky = [
        "rained",
        "snowed",
        "was hot",
        "grew dark",
        "hailed",
        "cleared up",
        "froze",
        "thawed",
    ];
    let sky = sky[panel / 3 % 8];
    format!("It {sky} when the {who} {does} {what} near the {place} in week {panel}.")
}

/// The order for the panel behind `story`: its cast has grown, and its direction is its own.
fn order(story: &[String]) -> Request {
    let texts: Vec<&str> = story.iter().map(String::as_str).collect();
    let cast = (1..=story.len() / 4).map(|n| Member {
        name: format!("Person {n}"),
        description: format!("hat number {n}"),
        ..Member::new(MemberId(n as u64))
    });
    Request {
        board: BoardContext {
            direction: format!("more cheerful, {}", story.len()),
            cast: cast.collect(),
            ..BoardContext::default()
        },
        direction: format!("it is {} o'clock", story.len()),
        ..request(&texts)
    }
}

#[test]
fn a_panel_of_a_long_story_is_read_in_no_more_tokens_than_one_of_a_short_one() {
    const PANELS: usize = 24;
    let answers = (1..=PANELS + 2).flat_map(|panel| {
        let prompt = format!("A hill, a house and {panel} trees in soft light.");
        [told(panel), prompt]
    });
    let (mut writer, read) = counting(&answers.collect::<Vec<_>>(), 8192, false);
    let mut story = vec![told(0)];
    let mut counts = Vec::new();
    for _ in 0..PANELS {
        let before = read.load(Ordering::Relaxed);
        let order = order(&story);
        let text = writer.continue_story(&order, &mut |_| GO_ON);
        let text = text.unwrap().unwrap().text;
        let style = PromptStyle::Sentences;
        writer
            .picture_prompt(&order, &text, style, &mut |_| GO_ON)
            .unwrap()
            .unwrap();
        assert_eq!(text, told(story.len()));
        story.push(text);
        counts.push(read.load(Ordering::Relaxed) - before);
    }
    // The cast is said with each order, so a member more is a line more, and nothing else grows but
    // for the number of a day.
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let cast = order(&story).board.cast;
    let lines = cast.iter().map(|member| {
        let line = format!("- {}: {}\n", member.name, member.description);
        2 * tokenizer.encode(&line).len()
    });
    let most = counts[2] + lines.sum::<usize>() + 40;
    assert!(counts[PANELS - 1] <= most, "{counts:?}");
    let all: usize = story.iter().map(|text| tokenizer.encode(text).len()).sum();
    assert!(
        all > counts[2],
        "a story that could be read each time: {all}"
    );
    // An early panel is told otherwise, and the story goes on as if it had not been.
    let early = order(&story[..5]).rewriting(&told(5), "shorter", 1);
    let _ = writer.rewrite(&early, "shorter", &mut |_| GO_ON);
    let before = read.load(Ordering::Relaxed);
    let mut written = writer.continue_story(&order(&story), &mut |_| ControlFlow::Continue(()));
    assert!(written.as_mut().is_ok_and(|text| text.is_some()));
    let last = read.load(Ordering::Relaxed) - before;
    assert!(last < most, "{last} {counts:?}");
}

#[test]
fn where_the_window_is_short_the_beginning_of_what_is_read_stays_for_many_panels() {
    const PANELS: usize = 80;
    let answers: Vec<String> = (1..=PANELS).map(told).collect();
    let (mut writer, read) = counting(&answers, 2048, true);
    let mut story = vec![told(0)];
    let mut counts = Vec::new();
    for _ in 0..PANELS {
        let before = read.load(Ordering::Relaxed);
        let texts: Vec<&str> = story.iter().map(String::as_str).collect();
        let written = writer.continue_story(&request(&texts), &mut |_| GO_ON);
        story.push(written.unwrap().unwrap().text);
        counts.push(read.load(Ordering::Relaxed) - before);
    }
    let usual = counts[2] + 16;
    let long = counts.iter().filter(|count| **count > usual).count();
    assert!((1..=8).contains(&long), "{long} of {counts:?}");
}
