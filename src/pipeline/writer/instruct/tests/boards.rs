//! Two hundred boards with a model that misbehaves in every way that models do: what reaches a board,
//! a plan or a painter is clean, or an error says what to do.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::models::{header, scripted};
use super::*;

/// What a misbehaving model makes of a good sentence.
fn misbehaved(kind: u32, good: &str, told: &str, other: &str) -> String {
    match kind {
        0 => good.to_string(),
        1 => told.to_string(),
        2 => format!("{good} {}", "la la la ".repeat(40)),
        3 => format!("# Panel 2\n\n**{good}**\n\n- *The end*\n\n---\n`code`"),
        4 => format!(
            "```json\n{{\"panel\": 2, \"text\": \"{}\"}}\n```",
            good.replace('"', "'")
        ),
        5 => format!("{{\"story\": \"{}", good.replace('"', "'")),
        6 => format!("<think>\nI should write about a fox.\n</think>\n\n{good}"),
        7 => format!("The user wants more. Let me think.\n</think>\n{good}"),
        8 => "<think>I think and think and never".to_string(),
        9 => other.to_string(),
        10 => format!("{good}<|im_end|>\n<|im_start|>user\nMore!"),
        11 => format!("<|im_start|>assistant\n{good}<tool_call>{{}}</tool_call>"),
        12 => format!("Sure! Here is the next panel:\n\n\"{good}\"\n\nLet me know if you like it."),
        13 => "As an AI language model, I cannot continue this story.".to_string(),
        14 => String::new(),
        15 => format!("{good}\u{fffd}\u{fffd} [IMG0][IMG1] ### Human: more"),
        16 => format!("{told} {good}"),
        17 => format!("{good}\n\n{good}\n\n{good}"),
        18 => "and then and then and then and then ".repeat(30),
        19 => format!("1. {good}\n2. {good}\n3. {other}"),
        20 => format!(
            "<|channel|>analysis<|message|>A fox, again.<|end|><|start|>assistant<|channel|>final<|message|>{good}<|return|>"
        ),
        21 => format!("✨ **Panel 3:** {good} 🦊❤️"),
        22 => format!("{good} {other}"),
        23 => format!("Assistant: {good}\nUser: And then?\nAssistant: {good}"),
        _ => format!("<b>{good}</b> <|eot_id|></s>[/INST]"),
    }
}

/// Ways in which [`misbehaved`] does so.
const KINDS: u32 = 25;

/// A board, what is good on it, and in what language it is not told.
struct Board {
    rng: ChaCha8Rng,
    told: Vec<String>,
    pool: &'static [&'static str],
    foreign: &'static [&'static str],
    length: TextLength,
}

impl Board {
    fn new(number: u64) -> Board {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let (opening, pool) = *STORIES.choose(&mut rng).unwrap();
        let others: Vec<_> = STORIES
            .iter()
            .filter(|(other, _)| *other != opening)
            .collect();
        let (_, foreign) = **others.choose(&mut rng).unwrap();
        let lengths = [
            TextLength::Line,
            TextLength::Sentences,
            TextLength::Paragraph,
        ];
        Board {
            length: *lengths.choose(&mut rng).unwrap(),
            told: vec![opening.to_string()],
            rng,
            pool,
            foreign,
        }
    }

    /// A model that answers badly, more often than not: what it says in turn is made of `good`.
    fn writer(&mut self, tokenizer: &Tokenizer, good: &[String]) -> InstructWriter {
        let rng = &mut self.rng;
        let last = &self.told[self.told.len() - 1];
        let answers = (0..5).map(|_| {
            let kind = rng.random_range(0..KINDS);
            let good = good.choose(rng).unwrap();
            let said = misbehaved(kind, good, last, self.foreign.choose(rng).unwrap());
            let mut ids = match kind {
                // Only these write real control tokens.
                10 | 11 => tokenizer.encode_prompt(&said),
                _ => tokenizer.encode(&said),
            };
            if rng.random_range(0..4) == 0 {
                // Half a character.
                ids.push(tokenizer.encode("狐")[0]);
            }
            ids
        });
        let answers = answers.collect();
        let endless = rng.random_range(0..3) == 0;
        scripted(answers, endless)
    }

    fn request(&self, number: u64) -> Request {
        let texts: Vec<&str> = self.told.iter().map(String::as_str).collect();
        let mut request = request(&texts);
        request.settings.length = Some(self.length);
        request.settings.seed = number;
        request
    }
}

/// Whether an error is one sentence that says what to do.
fn assert_helps(error: &PipelineError) {
    let said = error.to_string();
    assert!(said.contains("--writer") && said.contains("seed"), "{said}");
    assert!(!said.contains('\n'), "{said}");
}

/// Nothing of a chat, of markup or of what is no text.
fn assert_plain(text: &str) {
    let bad =
        |c: char| "*_#`|<>{}[]\\~\n\u{fffd}🦊✨❤".contains(c) || c.is_control() || c == '\u{fe0f}';
    assert!(!text.contains(bad), "{text:?}");
    for word in [
        "think",
        "Panel",
        "Sure",
        "im_end",
        "IMG",
        "Human:",
        "json",
        "AI ",
        "User",
        "Assistant",
        "analysis",
        "INST",
    ] {
        assert!(!text.contains(word), "{text:?}");
    }
    assert!(text.chars().any(char::is_alphanumeric), "{text:?}");
}

pub(super) fn assert_clean(text: &str, told: &[String], length: TextLength) {
    assert_plain(text);
    let (most, longest) = limits(length);
    assert!(
        sentences(text).len() <= most && words(text) <= longest,
        "{text:?}"
    );
    assert!(sentences::is_whole(text), "{text:?}");
    let prints: Vec<SentenceKey> = sentences(text)
        .into_iter()
        .filter_map(SentenceKey::of)
        .collect();
    for told in told
        .iter()
        .flat_map(|told| sentences(told))
        .filter_map(SentenceKey::of)
    {
        assert!(!prints.iter().any(|print| print.is_same(&told)), "{text:?}");
    }
    assert!(
        TextLanguage::of(&told.join(" ")).unwrap().allows(text),
        "{text:?}"
    );
}

#[test]
fn what_reaches_two_hundred_boards_is_clean_or_says_what_to_do() {
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let (mut clean, mut refused) = (0, 0);
    for number in 0..200u64 {
        let mut board = Board::new(number);
        for panel in 0..board.rng.random_range(1..4) {
            let good = board.pool[(number as usize + panel) % board.pool.len()];
            let mut writer = board.writer(&tokenizer, &[good.to_string()]);
            let mut pieces = String::new();
            let written = writer.continue_story(&board.request(number), &mut |piece| {
                pieces.push_str(piece);
                GO_ON
            });
            let shown = ['\u{fffd}', '*', '`', '<', '{', '✨'];
            assert!(!pieces.contains(shown), "{pieces:?}");
            match written {
                Ok(written) => {
                    let text = written.expect("nobody cancelled").text;
                    assert_clean(&text, &board.told, board.length);
                    board.told.push(text);
                    clean += 1;
                }
                Err(error) => {
                    assert_helps(&error);
                    refused += 1;
                }
            }
        }
    }
    assert!(clean > 200 && refused > 0, "{clean} {refused}");
}

#[test]
fn what_a_misbehaving_model_rewrites_is_clean_and_another_text_or_says_what_to_do() {
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let (mut clean, mut refused) = (0, 0);
    for number in 0..200u64 {
        let mut board = Board::new(number);
        let place = number as usize % (board.pool.len() - 1);
        let (before, good) = (board.pool[place], board.pool[place + 1]);
        let own = [good.to_string(), before.to_string()];
        let mut writer = board.writer(&tokenizer, &own);
        let order = board.request(number).rewriting(before, "spookier", 1);
        match writer.rewrite(&order, "spookier", &mut |_| GO_ON) {
            Ok(written) => {
                let text = written.expect("nobody cancelled").text;
                assert_plain(&text);
                assert_ne!(text, before);
                assert!(sentences::is_whole(&text), "{text:?}");
                clean += 1;
            }
            Err(error) => {
                assert_helps(&error);
                refused += 1;
            }
        }
    }
    assert!(clean > 100 && refused > 0, "{clean} {refused}");
}

#[test]
fn what_a_misbehaving_model_plans_has_a_clean_line_for_each_panel_or_says_what_to_do() {
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let (mut clean, mut refused) = (0, 0);
    for number in 0..200u64 {
        let mut board = Board::new(number);
        let panels = 2 + number as usize % 3;
        let lines = board.pool[..panels].iter().enumerate();
        let listed: Vec<String> = lines
            .map(|(n, line)| format!("{}. {line}", n + 1))
            .collect();
        let bold = listed.iter().map(|line| format!("- **{line}**"));
        let bold: Vec<String> = bold.collect();
        let good = [
            listed.join("\n"),
            board.pool[..panels].join("\n\n"),
            bold.join("\n"),
        ];
        let mut writer = board.writer(&tokenizer, &good);
        match writer.plan(&board.request(number), panels, &mut |_| GO_ON) {
            Ok(plan) => {
                let plan = plan.expect("nobody cancelled");
                assert_eq!(plan.len(), panels, "{plan:?}");
                let language = TextLanguage::of(&board.told.join(" ")).unwrap();
                for (at, line) in plan.iter().enumerate() {
                    assert_plain(line);
                    assert!(language.allows(line), "{line:?}");
                    assert!(!plan[..at].contains(line) && !board.told.contains(line));
                    assert!(!line.starts_with(|c: char| c.is_ascii_digit()), "{line:?}");
                }
                clean += 1;
            }
            Err(error) => {
                assert_helps(&error);
                refused += 1;
            }
        }
    }
    assert!(clean > 60 && refused > 0, "{clean} {refused}");
}

#[test]
fn what_a_misbehaving_model_says_of_a_picture_is_clean_or_the_text_itself_is_drawn() {
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let (mut own, mut text_alone) = (0, 0);
    for number in 0..200u64 {
        let mut board = Board::new(number);
        let text = board.pool[number as usize % board.pool.len()];
        let (style, good) = match number % 2 {
            0 => (
                PromptStyle::Tags,
                "fox, red fur, snowy forest, glowing lantern, soft evening light",
            ),
            _ => (
                PromptStyle::Sentences,
                "A small red fox carries a glowing lantern through a snowy forest. Soft evening light.",
            ),
        };
        let mut writer = board.writer(&tokenizer, &[good.to_string()]);
        let request = board.request(number);
        let written = writer.picture_prompt(&request, text, style, &mut |_| GO_ON);
        let prompt = written.unwrap().expect("nobody cancelled").text;
        if prompt == text {
            text_alone += 1;
            continue;
        }
        assert_plain(&prompt);
        assert!(words(&prompt) <= 90, "{prompt:?}");
        let letters = prompt.chars().filter(|c| c.is_alphabetic()).count();
        let english = prompt.chars().filter(char::is_ascii_alphabetic).count();
        assert!(english * 10 >= letters * 8, "{prompt:?}");
        own += 1;
    }
    assert!(own > 100 && text_alone > 0, "{own} {text_alone}");
}
