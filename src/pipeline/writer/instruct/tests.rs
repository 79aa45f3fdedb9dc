//! The recipe with a scripted model that misbehaves, behind a real tokenizer and template.

mod boards;
mod cache;
mod models;

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::*;
use crate::llm::Tokenizer;
use crate::llm::chat::{ChatTemplate, LocalChat, Message, MessagePart};
use crate::pipeline::{BoardContext, ContextPanel};
use crate::story::PanelId;
use boards::assert_clean;
use models::{Scripted, Seeing, header, writer};

fn request(told: &[&str]) -> Request {
    let panels = told.iter().zip(1..);
    Request {
        place: told.len(),
        context: panels
            .map(|(text, id)| ContextPanel {
                id: PanelId(id),
                text: text.to_string(),
                picture: None,
            })
            .collect(),
        ..Request::default()
    }
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

const STORIES: [(&str, &[&str]); 4] = [
    (
        "A little fox found a glowing lantern in the snowy forest and carried it home.",
        &[
            "The owl opened one eye and asked whose lantern it was.",
            "Nobody in the village had ever seen such a light.",
            "Together they followed the footprints down to the frozen lake.",
            "Under the ice something moved, slow and very large.",
            "The lantern grew warm in her paws, and the ice began to sing.",
            "At last an old turtle put its head out and smiled.",
            "\"Thank you,\" it said, \"I have looked for it all winter.\"",
            "So the fox went home in the dark, and was not afraid.",
        ],
    ),
    (
        "Ein kleiner Fuchs fand im verschneiten Wald eine leuchtende Laterne und trug sie nach Hause.",
        &[
            "Die Eule öffnete ein Auge und fragte, wem die Laterne gehöre.",
            "Niemand im Dorf hatte jemals ein solches Licht gesehen.",
            "Gemeinsam folgten sie den Spuren hinunter zum gefrorenen See.",
            "Unter dem Eis bewegte sich etwas, langsam und sehr groß.",
            "Die Laterne wurde warm, und das Eis fing leise an zu singen.",
            "Endlich steckte eine alte Schildkröte den Kopf heraus und lächelte.",
        ],
    ),
    (
        "一只小狐狸在雪林里发现了一盏发光的灯，把它带回了家。",
        &[
            "猫头鹰睁开一只眼睛，问这是谁的灯。",
            "村里没有人见过这样的光。",
            "他们一起沿着脚印走到了结冰的湖边。",
            "冰下面有什么东西在慢慢移动。",
            "灯变得温暖，冰开始轻轻地歌唱。",
            "最后，一只老乌龟伸出头来笑了。",
        ],
    ),
    (
        "Una pequeña zorra encontró un farol brillante en el bosque nevado y lo llevó a su casa.",
        &[
            "El búho abrió un ojo y preguntó de quién era aquel farol.",
            "Nadie en el pueblo había visto jamás una luz como esa.",
            "Juntos siguieron las huellas hasta el lago helado.",
            "Bajo el hielo se movía algo lento y muy grande.",
            "El farol se puso tibio y el hielo empezó a cantar.",
            "Por fin una vieja tortuga sacó la cabeza y sonrió.",
        ],
    ),
];

#[test]
fn a_story_is_continued_in_its_language_and_length_after_its_plan_and_directions() {
    for (opening, pool) in STORIES {
        let said = pool[..3].join(" ");
        for length in [
            TextLength::Line,
            TextLength::Sentences,
            TextLength::Paragraph,
        ] {
            let mut request = request(&[opening]);
            request.settings.length = Some(length);
            let mut writer = writer(&[&said], false);
            let written = writer
                .continue_story(&request, &mut |_| GO_ON)
                .unwrap()
                .unwrap();
            assert_clean(&written.text, &[opening.to_string()], length);
        }
    }
    let mut request = request(&[STORIES[2].0]);
    request.board = BoardContext {
        direction: "for small children".into(),
        plan: vec!["one".into(), "two".into(), "three".into()],
        ..BoardContext::default()
    };
    request.settings.tone = "gentle".into();
    request.direction = "she must not open the door yet".into();
    let mut writer = writer(&[STORIES[2].1[0]], false);
    let written = writer
        .continue_story(&request, &mut |_| GO_ON)
        .unwrap()
        .unwrap();
    for part in [
        "Chinese",
        "for small children",
        "gentle",
        "not open the door yet",
        "in it: two",
        "yet: three",
    ] {
        assert!(written.prompt.contains(part), "{part}: {}", written.prompt);
    }
    assert!(!written.prompt.contains("last panel"));
}

#[test]
fn a_text_is_rewritten_by_an_instruction_and_never_to_itself() {
    let mut request = request(&[STORIES[0].0]);
    request.text = Some("The owl opened one eye and asked whose it was.".to_string());
    let answers = [
        "The owl opened one eye and asked whose it was.",
        "\"Whose?\" hooted the owl.",
    ];
    let mut writer = writer(&answers, false);
    let written = writer
        .rewrite(&request, "shorter", &mut |_| GO_ON)
        .unwrap()
        .unwrap();
    assert_eq!(written.text, "\"Whose?\" hooted the owl.");
    assert!(written.prompt.contains("shorter"));
    // Another language may be asked for.
    let mut other = self::writer(&[STORIES[2].1[0]], false);
    let written = other
        .rewrite(&request, "in Chinese", &mut |_| GO_ON)
        .unwrap()
        .unwrap();
    assert_eq!(written.text, STORIES[2].1[0]);
}

#[test]
fn a_plan_has_a_line_for_each_panel_and_keeps_the_end() {
    let request = request(&[STORIES[0].0]);
    let plan = |answer: &str| {
        let mut writer = writer(&[answer], false);
        writer.plan(&request, 3, &mut |_| GO_ON).map(Option::unwrap)
    };
    let wanted = ["The owl asks.", "They search.", "They find it."];
    for answer in [
        "1. The owl asks.\n2. They search.\n3. They find it.",
        "Here is the plan:\n\n**Panel 1:** The owl asks.\n**Panel 2:** They search.\n**Panel 3:** They find it.\n\nLet me know!",
        "[\"The owl asks.\", \"They search.\", \"They find it.\"]",
        "- The owl asks.\n- They search.\n- They wait.\n- They find it.",
        "1. The owl asks. 2. They search. 3. They find it.",
        "The owl asks. They search. They find it.",
    ] {
        assert_eq!(plan(answer).unwrap(), wanted, "{answer}");
    }
    assert!(
        plan("1. The owl asks.")
            .unwrap_err()
            .to_string()
            .contains("a line for each")
    );
    let mut writer = writer(&["x"], false);
    assert!(writer.plan(&request, 0, &mut |_| GO_ON).is_err());
}

#[test]
fn a_picture_prompt_is_in_the_terms_of_the_painter() {
    let request = request(&[STORIES[2].0]);
    let prompt = |answer: &str, style| {
        let mut writer = writer(&[answer], false);
        let written = writer.picture_prompt(&request, "狐狸跑了。", style, &mut |_| GO_ON);
        written.unwrap().unwrap().text
    };
    assert_eq!(
        prompt(
            "Tags: fox, red fur, Snow,\nforest, fox, soft light.",
            PromptStyle::Tags
        ),
        "fox, red fur, snow, forest, soft light"
    );
    assert_eq!(
        prompt(
            "**Prompt:** A small red fox runs through snow. Soft evening light.\nNegative prompt: blurry",
            PromptStyle::Sentences
        ),
        "A small red fox runs through snow. Soft evening light."
    );
    // Where the model can't say it, the words themselves are drawn.
    assert_eq!(prompt("狐狸。", PromptStyle::Sentences), "狐狸跑了。");
}

#[test]
fn cancelling_is_obeyed_at_the_next_token() {
    for after in [0, 1, 5, 20] {
        let mut writer = writer(
            &["The owl opened one eye and asked whose lantern it was."],
            true,
        );
        let mut calls = 0;
        let written = writer.continue_story(&request(&[STORIES[0].0]), &mut |_| {
            calls += 1;
            match calls > after {
                true => ControlFlow::Break(()),
                false => GO_ON,
            }
        });
        assert!(written.unwrap().is_none());
        assert_eq!(calls, after + 1);
    }
}

#[test]
fn the_same_request_gives_the_same_text_and_a_long_story_is_shortened_in_steps() {
    let long: Vec<String> = (0..240)
        .map(|at| {
            format!("Day {at}: the fox walked on through valley {at} and met a {at} year old tree.")
        })
        .collect();
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let answers = [
        "The fox walked far.",
        "The fox met many trees.",
        "It went on.",
        "Then the sea lay before her.",
    ];
    let ask = |writer: &mut InstructWriter, told: usize| {
        let request = request(&texts[..told]);
        writer
            .continue_story(&request, &mut |_| GO_ON)
            .unwrap()
            .unwrap()
    };
    let mut first = writer(&answers, false);
    let written = ask(&mut first, 240);
    assert!(written.prompt.contains("in short") && written.prompt.contains("Day 239"));
    assert!(!written.prompt.contains("Day 3:"), "{}", written.prompt);
    // The beginning stays for many panels, so that the cache holds.
    let mut begins: HashMap<String, usize> = HashMap::new();
    for told in 200..240 {
        let mut writer = writer(&answers, false);
        let prompt = ask(&mut writer, told).prompt;
        let day = prompt
            .split("Day ")
            .nth(1)
            .unwrap()
            .split(':')
            .next()
            .unwrap();
        *begins.entry(day.to_string()).or_default() += 1;
    }
    assert!(begins.len() <= 3, "{begins:?}");
}

#[test]
fn a_summary_is_the_model_s_own_and_else_sentences_of_the_story() {
    let long: Vec<String> = (0..240)
        .map(|at| {
            format!("Day {at}: the fox walked on through valley {at} and met a {at} year old tree.")
        })
        .collect();
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let last = "Then the sea lay before her.";
    let ask = |answers: &[&str]| {
        let request = request(&texts);
        let mut writer = writer(answers, false);
        let mut sink = |_: &str| GO_ON;
        let written = writer.continue_story(&request, &mut sink);
        written.unwrap().unwrap()
    };
    // What follows from one summary is in the next one's order.
    let own = [
        "The fox walked far.",
        "She met trees.",
        "She went on.",
        last,
    ];
    let written = ask(&own);
    assert!(
        written.prompt.contains("in short:\n\nShe went on."),
        "{}",
        written.prompt
    );
    assert_eq!(written.text, last);
    // Each is asked for four times at most; then the story says it itself.
    let refusal = "I'm sorry, but I can't help with that.";
    let refusals = [refusal; 12].into_iter().chain([last]);
    let written = ask(&refusals.collect::<Vec<_>>());
    let short = written.prompt.split("in short:\n\n").nth(1).unwrap();
    assert!(short.starts_with("Day "), "{short}");
    assert_eq!(written.text, last);
}

#[test]
fn a_model_that_says_the_order_again_is_asked_again() {
    let mut writer = writer(
        &[
            "Something new happens in it.",
            "At the end of each message stands an order: answer with what it asks for and nothing else.",
            "The owl opened one eye.",
        ],
        false,
    );
    let request = request(&[STORIES[0].0]);
    let mut sink = |_: &str| GO_ON;
    let written = writer.continue_story(&request, &mut sink);
    assert_eq!(written.unwrap().unwrap().text, "The owl opened one eye.");
}

#[test]
fn a_model_without_a_template_goes_on_with_the_text() {
    let mut header = header();
    header.metadata.remove("tokenizer.chat_template");
    let crate::weights::GgufValue::Strings(tokens) =
        header.metadata.get_mut("tokenizer.ggml.tokens").unwrap()
    else {
        panic!()
    };
    let start = tokens
        .iter()
        .position(|token| token == "<|im_start|>")
        .unwrap();
    tokens[start] = "<|begin|>".to_string();
    let tokenizer = Tokenizer::from_header(&header).unwrap();
    let template = ChatTemplate::from_header(&header, &tokenizer).unwrap();
    assert!(template.is_none());
    let answer = tokenizer.encode("The owl woke up.\n\nThe fox");
    let network = Scripted::new(&tokenizer, vec![answer], false);
    let chat = LocalChat::new(Box::new(network), tokenizer, None);
    let mut writer = InstructWriter::new(Box::new(chat), WriterDescription::default());
    assert!(!writer.describe().instructs);
    let request = request(&[STORIES[0].0]);
    let written = writer
        .continue_story(&request, &mut |_| GO_ON)
        .unwrap()
        .unwrap();
    assert_eq!(written.text, "The owl woke up. The fox.");
    assert!(written.prompt.starts_with(STORIES[0].0));
    let said = writer
        .rewrite(&request, "shorter", &mut |_| GO_ON)
        .unwrap_err();
    assert!(said.to_string().contains("instruct model"));
}

/// What a model of so many tokens a picture is asked for a panel behind `panels` with pictures.
fn asked_with_pictures(each: Option<usize>, panels: u8) -> Message {
    let asked = std::sync::Arc::default();
    let seeing = Seeing {
        asked: std::sync::Arc::clone(&asked),
        each,
        small: false,
    };
    let mut writer = InstructWriter::new(Box::new(seeing), WriterDescription::default());
    assert_eq!(writer.describe().sees, each.is_some());
    let picture =
        |shade| std::sync::Arc::new(image::RgbaImage::from_pixel(2, 2, [shade; 4].into()));
    let texts: Vec<String> = (0..panels)
        .map(|n| format!("Panel {n} was told."))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut order = request(&texts);
    for (panel, shade) in order.context.iter_mut().zip(0..) {
        panel.picture = Some(picture(shade));
    }
    order.picture = Some(picture(255));
    let written = writer
        .continue_story(&order, &mut |_| GO_ON)
        .unwrap()
        .unwrap();
    assert_eq!(written.prompt.contains("[a picture]"), each.is_some());
    let asked = asked.lock().unwrap();
    asked.last().unwrap().clone()
}

#[test]
fn a_model_that_sees_is_shown_the_board_s_pictures_in_their_places() {
    let shades = |message: &Message| {
        let shown = message.parts.iter().filter_map(|part| match part {
            MessagePart::Picture(picture) => Some(picture.get_pixel(0, 0).0[0]),
            MessagePart::Text(_) => None,
        });
        shown.collect::<Vec<u8>>()
    };
    let message = asked_with_pictures(Some(100), 2);
    assert_eq!(shades(&message), [0, 1, 255]);
    let MessagePart::Text(before) = &message.parts[2] else {
        panic!("{message:?}");
    };
    assert_eq!(before.trim(), "Panel 1 was told.");
    // Of many the last few; texts stay.
    let message = asked_with_pictures(Some(600), 9);
    let shown = shades(&message);
    assert!(
        (1..=4).contains(&shown.len()) && shown.ends_with(&[8, 255]),
        "{shown:?}"
    );
    assert!(message.text().contains("Panel 0 was told."));
    // Pictures that don't fit, and a model that sees none.
    assert_eq!(
        shades(&asked_with_pictures(Some(3000), 3)).last(),
        Some(&255)
    );
    assert!(shades(&asked_with_pictures(None, 3)).is_empty());
}

#[test]
fn a_small_model_is_given_the_story_as_its_own_and_asked_what_happens_next() {
    let story = PromptStory {
        texts: vec!["A fox ran.".to_string(), "It slept.".to_string()],
        language: Some("English"),
        directions: vec!["for children".to_string(), String::new()],
        cast: vec!["Mila: a red fox".to_string()],
        ..PromptStory::default()
    };
    let panel = PromptPanel {
        plan: Some("It wakes up.".to_string()),
        last: true,
        direction: "it is cold".to_string(),
        ..PromptPanel::default()
    };
    let messages = story.next_briefly(&panel, TextLength::Line);
    let said: Vec<(&str, String)> = messages
        .iter()
        .map(|message| (message.role.name(), message.text()))
        .collect();
    assert_eq!(said.len(), 4);
    assert_eq!(said[2], ("assistant", "A fox ran. It slept.".to_string()));
    for part in [
        "for children",
        "Mila: a red fox.",
        "What happens next",
        "twelve words",
        "wakes up",
        "the end",
        "it is cold",
    ] {
        assert!(said[3].1.contains(part), "{part}: {}", said[3].1);
    }
    let first = PromptStory::default().next_briefly(&PromptPanel::default(), TextLength::Sentences);
    assert_eq!(first.len(), 2);
    assert!(first[1].text().starts_with("Begin the story"));
}

#[test]
fn a_small_model_reads_the_end_of_a_long_story_and_sentences_of_what_came_before() {
    let asked = std::sync::Arc::default();
    let chat = Seeing {
        asked: std::sync::Arc::clone(&asked),
        each: None,
        small: true,
    };
    let mut writer = InstructWriter::new(Box::new(chat), WriterDescription::default());
    let long: Vec<String> = (0..300)
        .map(|at| format!("On day {at} the fox went on. It slept under a {at} year old tree."))
        .collect();
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let written = writer.continue_story(&request(&texts), &mut |_| GO_ON);
    assert_eq!(
        written.unwrap().unwrap().text,
        "A red kite sailed over the roofs."
    );
    let asked: Vec<Message> = asked.lock().unwrap().clone();
    let told = asked[2].text();
    // Nothing was asked for before: these are sentences of the story.
    assert!(
        told.contains("tree.") && told.contains("On day 299 "),
        "{told}"
    );
    assert!(
        !told.contains("On day 150 the fox went on. It slept"),
        "{told}"
    );
    assert!(told.len() / 4 < SMALL_WINDOW, "{}", told.len());
    assert!(told.starts_with("On day "), "{told}");
}
