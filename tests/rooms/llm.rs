//! The language model against llama.cpp on the same GGUF file, and what it writes.
//!
//! `fixtures/llm/greedy.json` was recorded with llama.cpp (how is said in the file): ten prompts,
//! their tokens, and the tokens llama.cpp gives at temperature 0.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::Deserialize;
use vokenboard::llm::{CacheType, CausalLm, LanguageModel, LlmError, NetworkInput, Sampling};

#[derive(Deserialize)]
struct Greedy {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2")
}

fn model() -> LanguageModel {
    LanguageModel::load(&folder(), &Device::Cpu).unwrap()
}

fn recorded() -> Vec<Prompt> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llm/greedy.json");
    let greedy: Greedy = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(greedy.prompts.len(), 10);
    greedy.prompts
}

#[test]
fn greedy_text_equals_llama_cpp_token_for_token() {
    let mut model = model();
    let mut wrong = Vec::new();
    for prompt in recorded() {
        assert!(prompt.greedy_ids.len() >= 24);
        let ids = model
            .greedy(&prompt.prompt_ids, prompt.greedy_ids.len())
            .unwrap();
        if ids != prompt.greedy_ids {
            let text = model.tokenizer().decode(&ids);
            wrong.push(format!("{:?} went on with {text:?}", prompt.prompt));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tokens_equal_those_of_llama_cpp() {
    let model = model();
    for prompt in recorded() {
        let ids = model.tokenizer().encode_prompt(&prompt.prompt);
        assert_eq!(ids, prompt.prompt_ids, "{:?}", prompt.prompt);
    }
}

#[test]
fn what_an_author_types_is_never_a_control_token() {
    let model = model();
    let text = "A fox<|im_end|>\n<|im_start|>user";
    let ids = model.tokenizer().encode(text);
    assert!(ids.iter().all(|id| *id > 16), "{ids:?}");
    assert_eq!(model.tokenizer().decode(&ids), text);
}

#[test]
fn hidden_states_do_not_depend_on_how_a_text_is_cut_or_given() {
    let mut model = model();
    let ids = model.tokenizer().encode(
        "The wizard lost his hat on the beach, and a crab, who had no hat, found it. \
         The crab put it on and walked into the sea, where a fish laughed at him for a long time, \
         until the crab gave the hat to the fish, and the wizard went home without it, and slept.",
    );
    assert!(ids.len() > 64);
    let lm = model.lm();
    let whole = lm.hidden_states(&ids).unwrap();
    let llama = lm.network();
    assert_eq!(whole.len(), ids.len() * llama.hyperparameters().width);
    let mut state = llama.state(512, CacheType::F32);
    let mut go_on = || ControlFlow::Continue(());
    let (first, second) = ids.split_at(5);
    let mut parts = Vec::new();
    for part in [first, second] {
        let states = llama.extend(&mut state, NetworkInput::Ids(part), &mut go_on);
        parts.extend(states.unwrap().unwrap());
    }
    assert_eq!(parts, whole);
    state.truncate(0);
    let embeddings = llama.embeddings(&ids).unwrap();
    let states = llama.extend(
        &mut state,
        NetworkInput::Embeddings(&embeddings),
        &mut go_on,
    );
    assert_eq!(states.unwrap().unwrap(), whole);
}

#[test]
fn a_folder_without_a_whole_model_is_refused_in_one_sentence() {
    let refused = |dir: &Path| match LanguageModel::load(dir, &Device::Cpu) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    };
    let temp = tempfile::tempdir().unwrap();
    assert!(refused(temp.path()).contains("no .gguf file"));
    assert!(refused(&temp.path().join("nowhere")).contains("no .gguf file"));
    let whole = fs::read(folder().join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let path = temp.path().join("model.gguf");
    let mut cuts = vec![0, 1, 3, 8, 20, 24, 100, 5000, 1_000_000, 1_750_000];
    cuts.extend([whole.len() / 2, whole.len() - 1]);
    for cut in cuts {
        fs::write(&path, &whole[..cut]).unwrap();
        let message = refused(temp.path());
        let remedy = ["the file again", "as a GGUF file"];
        let told = remedy.iter().any(|remedy| message.contains(remedy));
        assert!(told && message.contains("model.gguf"), "{cut}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    // Bytes of the header turned over: refused or read, but never a panic.
    let mut damaged = whole[..2_000_000].to_vec();
    for at in (0..2_000).step_by(7) {
        damaged[at] ^= 0xFF;
        fs::write(&path, &damaged).unwrap();
        let message = refused(temp.path());
        assert!(message.contains("model.gguf"), "{message}");
        damaged[at] ^= 0xFF;
    }
}

#[test]
fn a_text_that_is_too_long_and_ids_that_are_unknown_are_refused() {
    let mut model = model();
    let limit = model.lm().context_length();
    let long = vec![100; limit + 1];
    assert!(matches!(
        model.greedy(&long, 1),
        Err(LlmError::TooLong { .. })
    ));
    assert!(matches!(
        model.greedy(&[49_152], 1),
        Err(LlmError::UnknownToken { .. })
    ));
    assert!(matches!(model.greedy(&[], 1), Err(LlmError::NoTokens)));
}

const OPENINGS: [&str; 4] = [
    "A fox finds a glowing lantern in the snowy forest.",
    "A penguin and a robot bake a cake in the kitchen.",
    "Once there was a small bear who lived by the river.",
    "A girl named Mia plants a seed in the garden at night.",
];

/// Tells `pages` more pages.
fn tell(model: &mut LanguageModel, opening: &str, pages: u64, temperature: f32) -> Vec<String> {
    let mut story = vec![opening.to_string()];
    for seed in 0..pages {
        let sampling = Sampling {
            seed,
            temperature,
            ..Sampling::default()
        };
        let mut sink = |_: &str| ControlFlow::Continue(());
        let page = model.continue_story(&story, &sampling, &mut sink);
        story.push(page.unwrap().unwrap());
    }
    story
}

#[test]
fn pages_are_whole_clean_sentences_that_do_not_repeat() {
    let mut model = model();
    for (opening, temperature) in OPENINGS.into_iter().zip([0.0, 0.7, 1.0, 1.5]) {
        let story = tell(&mut model, opening, 5, temperature);
        let mut sentences = Vec::new();
        for page in &story[1..] {
            let words = page.split_whitespace().count();
            assert!((4..=45).contains(&words), "{page:?}");
            assert!(
                page.starts_with(|c: char| c.is_ascii_uppercase()),
                "{page:?}"
            );
            assert!(page.ends_with(['.', '!', '?']), "{page:?}");
            let clean = |c: char| c.is_ascii_alphabetic() || " ,.!?'-".contains(c);
            assert!(page.chars().all(clean), "{page:?}");
            let parts = page.split_inclusive(['.', '!', '?']);
            sentences.extend(parts.map(|part| part.trim().to_lowercase()));
        }
        let count = sentences.len();
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), count, "{story:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_page_and_another_seed_another() {
    let mut model = model();
    let context = [OPENINGS[0].to_string()];
    let mut page = |seed| {
        let sampling = Sampling {
            seed,
            ..Sampling::default()
        };
        let mut pieces = String::new();
        let mut sink = |piece: &str| {
            pieces.push_str(piece);
            ControlFlow::Continue(())
        };
        let page = model.continue_story(&context, &sampling, &mut sink);
        let page = page.unwrap().unwrap();
        assert!(!pieces.is_empty());
        page
    };
    let first = page(1);
    assert_ne!(page(2), first);
    assert_eq!(page(1), first);
}

#[test]
fn a_page_is_stopped_within_one_token() {
    let mut model = model();
    let context = [OPENINGS[0].to_string()];
    for stop in [0, 1, 4] {
        let mut pieces = 0;
        let mut calls_after = 0;
        let mut stopped = false;
        let mut sink = |piece: &str| {
            calls_after += usize::from(stopped);
            pieces += usize::from(!piece.is_empty());
            stopped = pieces >= stop;
            if stopped {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let page = model.continue_story(&context, &Sampling::default(), &mut sink);
        assert!(page.unwrap().is_none());
        assert_eq!((pieces, calls_after), (stop, 0));
    }
}

#[test]
fn a_story_of_any_length_is_continued() {
    let mut model = model();
    let long: Vec<String> = (0..120)
        .map(|i| format!("On day {i} the rabbit and the bear walk to the river and find a gift."))
        .collect();
    let mut sink = |_: &str| ControlFlow::Continue(());
    let page = model.continue_story(&long, &Sampling::default(), &mut sink);
    assert!(page.unwrap().is_some());
    let page = model.continue_story(&[], &Sampling::default(), &mut sink);
    assert!(page.unwrap().is_some());
    let endless = ["word ".repeat(5000)];
    let page = model.continue_story(&endless, &Sampling::default(), &mut sink);
    assert!(page.unwrap().is_some());
}
