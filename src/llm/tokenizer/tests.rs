//! Against llama.cpp's ids, and properties that hold for every tokenizer.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    random: Vec<Random>,
    bos: Option<u32>,
    add_bos: bool,
    eog: Vec<u32>,
}

#[derive(Deserialize)]
struct Random {
    text: String,
    ids: Vec<u32>,
    prompt_ids: Vec<u32>,
}

struct Recorded {
    name: String,
    tokenizer: Tokenizer,
    case: Case,
}

/// Every recorded tokenizer.
static RECORDED: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let mut recorded = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let dir = entry.unwrap().path();
        let Ok(json) = std::fs::read(dir.join("case.json")) else {
            continue;
        };
        let file = std::fs::read(dir.join("tokenizer.gguf")).unwrap();
        let header = GgufHeader::read(&file).unwrap();
        recorded.push(Recorded {
            name: dir.file_name().unwrap().to_string_lossy().into_owned(),
            tokenizer: Tokenizer::from_header(&header).unwrap(),
            case: serde_json::from_slice(&json).unwrap(),
        });
    }
    assert_eq!(recorded.len(), 21);
    recorded
});

#[test]
fn ids_are_llama_cpps() {
    for Recorded {
        name,
        tokenizer,
        case,
    } in RECORDED.iter()
    {
        for (text, ids) in case.texts.iter().zip(&case.ids) {
            assert_eq!(&tokenizer.encode(text), ids, "{name} {text:?}");
            assert_eq!(&tokenizer.decode(ids), text, "{name}");
        }
        for Random {
            text,
            ids,
            prompt_ids,
        } in &case.random
        {
            assert_eq!(&tokenizer.encode(text), ids, "{name} {text:?}");
            let prompt = tokenizer.encode_prompt(text);
            assert_eq!(&prompt, prompt_ids, "{name} {text:?}");
        }
        assert_eq!(tokenizer.bos(), case.bos, "{name}");
        assert_eq!(tokenizer.adds_bos(), case.add_bos, "{name}");
        assert_eq!(tokenizer.end_tokens(), case.eog, "{name}");
    }
}

/// Texts of all scripts, with what tokenizers stumble over and the marks of chats.
fn texts() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "<|im_end|>",
        "<|im_start|>",
        "</s>",
        "<s>",
        "[INST]",
        "<end_of_turn>",
        "<think>",
        "</think>",
        "<|eot_id|>",
        "<|end|>",
        "<|channel|>",
        "<0x0A>",
        "\u{2581}",
        "<｜User｜>",
        "<bos>",
        "\u{fdd0}",
        "  ",
        "\n\n\n",
        "\r\n",
        "'ll",
        "中文",
        "한국어",
        "नमस्ते",
        "👩‍👩‍👧",
        "مرحبا",
        "e\u{301}",
        "12345",
        "²",
        "ǅ",
    ];
    let piece = prop_oneof![
        3 => proptest::sample::select(PIECES).prop_map(str::to_owned),
        3 => "\\PC{0,6}",
        1 => any::<char>().prop_map(String::from),
        2 => "[ a-zA-Z0-9.,!?'\n\t]{0,8}",
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// A text as a tokenizer can give it back: SentencePiece writes spaces as a letter that a text may
/// hold, too, and which comes back as a space.
fn back(tokenizer: &Tokenizer, text: &str) -> String {
    match tokenizer.model {
        TokenizerModel::Bpe(_) => text.to_string(),
        TokenizerModel::SentencePiece { .. } => text.replace('\u{2581}', " "),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn decoding_gives_the_text_back(text in texts()) {
        for Recorded { name, tokenizer, .. } in RECORDED.iter() {
            let ids = tokenizer.encode(&text);
            prop_assert_eq!(tokenizer.decode(&ids), back(tokenizer, &text), "{}", name);
            prop_assert!(!ids.iter().any(|id| tokenizer.is_control(*id) || tokenizer.is_end_token(*id)));
        }
    }

    #[test]
    fn what_an_author_types_never_acts_in_a_prompt(text in texts()) {
        for Recorded { name, tokenizer, .. } in RECORDED.iter() {
            let around = [("", ""), ("<", ">"), ("<|im_", "|>"), ("</", "s>")];
            // Around no words at all it would be the template that spells a token.
            for (before, after) in around.into_iter().take(if text.is_empty() { 1 } else { 4 }) {
                let prompt = format!("{before}{}{after}", tokenizer.shield(&text));
                let ids = tokenizer.encode_prompt(&prompt);
                let own = usize::from(tokenizer.adds_bos());
                let acts = ids.iter().skip(own).any(|id| tokenizer.is_special_token(*id));
                prop_assert!(!acts, "{} {:?}", name, ids);
                let told = tokenizer.decode(&ids);
                let wanted = format!("{before}{}{after}", text.replace(SHIELD, "\u{fffd}"));
                prop_assert_eq!(told, back(tokenizer, &wanted), "{}", name);
            }
        }
    }

    #[test]
    fn a_stream_has_no_half_characters(text in texts(), cut in 0usize..40) {
        for Recorded { tokenizer, .. } in RECORDED.iter() {
            let ids = tokenizer.encode(&text);
            let mut decoder = tokenizer.decoder();
            let mut told = String::new();
            for id in ids.iter().take(cut) {
                told.push_str(&decoder.push(tokenizer, *id));
            }
            let whole = back(tokenizer, &text);
            prop_assert!(whole.starts_with(&told), "{:?} {:?}", whole, told);
        }
    }
}

#[test]
fn a_tokenizer_that_is_not_known_or_damaged_is_one_sentence() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/qwen3");
    let file = std::fs::read(dir.join("tokenizer.gguf")).unwrap();
    let header = GgufHeader::read(&file).unwrap();
    let said = |key: &str, value: Option<GgufValue>| {
        let mut header = header.clone();
        match value {
            Some(value) => header.metadata.insert(key.to_string(), value),
            None => header.metadata.remove(key),
        };
        match Tokenizer::from_header(&header) {
            Ok(_) => panic!("{key} was taken"),
            Err(said) => said,
        }
    };
    let text = |text: &str| Some(GgufValue::String(text.to_string()));
    assert!(said("tokenizer.ggml.pre", text("falcon")).contains("\"falcon\""));
    assert!(said("tokenizer.ggml.model", text("t5")).contains("\"t5\""));
    assert!(said("tokenizer.ggml.tokens", None).contains("no list of tokens"));
    assert!(said("tokenizer.ggml.merges", None).contains("no merges"));
    let merges = |merge: &str| Some(GgufValue::Strings(vec![merge.to_string()]));
    assert!(said("tokenizer.ggml.merges", merges("ab")).contains("no pair"));
    assert!(said("tokenizer.ggml.merges", merges("a zzzz")).contains("not of tokens"));
    let kinds = Some(GgufValue::Wholes(vec![1]));
    assert!(said("tokenizer.ggml.token_type", kinds).contains("a kind for each token"));
}

#[test]
fn an_empty_added_token_is_never_found() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/qwen3");
    let file = std::fs::read(dir.join("tokenizer.gguf")).unwrap();
    let mut header = GgufHeader::read(&file).unwrap();
    let Some(GgufValue::Strings(tokens)) = header.metadata.get_mut("tokenizer.ggml.tokens") else {
        panic!()
    };
    let last = tokens.iter().position(|token| token == "<think>").unwrap();
    tokens[last].clear();
    let tokenizer = Tokenizer::from_header(&header).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("a fox")), "a fox");
}

#[test]
fn a_kind_that_is_not_read_is_told_before_the_lists_are() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tokenizers/llama32/tokenizer.gguf");
    let mut header = GgufHeader::read(&std::fs::read(file).unwrap()).unwrap();
    assert!(Tokenizer::check_kind(&header).is_ok());
    for (key, value) in [
        ("tokenizer.ggml.pre", "superbpe"),
        ("tokenizer.ggml.model", "rwkv"),
    ] {
        let text = GgufValue::String(value.to_string());
        header.metadata.insert(key.to_string(), text);
        let said = Tokenizer::check_kind(&header).unwrap_err();
        assert!(said.contains(value), "{said}");
    }
}
