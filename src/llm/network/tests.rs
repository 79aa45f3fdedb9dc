//! What the recorded cases do not show: that a text may be read in pieces, taken back, stopped and
//! kept in fewer bits.

use crate::llm::{
    CacheType, CausalLm, GgufLm, Hyperparameters, LanguageModelOptions, LlmError, LlmMemory,
    likeliest,
};
use crate::weights::GgufHeader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn file(case: &str) -> PathBuf {
    let path = format!("tests/fixtures/writers/{case}/model.gguf");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn open(case: &str, cache: CacheType) -> GgufLm {
    let context = 4096;
    GgufLm::open(&file(case), &LanguageModelOptions { context, cache }).unwrap()
}

fn text(lm: &GgufLm, tokens: usize) -> Vec<u32> {
    let size = lm.vocabulary();
    (0..tokens)
        .map(|i| ((i * 7919 + i / 3) % size) as u32)
        .collect()
}

fn after(lm: &mut GgufLm, ids: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    let go_on = &mut || ControlFlow::Continue(());
    lm.read(ids, &mut logits, go_on).unwrap().unwrap();
    logits
}

fn near(found: &[f32], want: &[f32], most: f32) {
    let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off = found
        .iter()
        .zip(want)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off <= most * size, "{} of {most}", off / size);
}

const CASES: [&str; 4] = ["llama32-tied", "gemma2", "gpt-oss", "phi35-long"];

#[test]
fn what_a_text_shares_with_the_last_one_is_not_read_again() {
    for case in CASES {
        let mut lm = open(case, CacheType::F32);
        lm.make_exact();
        let ids = text(&lm, 400);
        lm.expect(410);
        let whole = after(&mut lm, &ids);
        let mut other = ids[..300].to_vec();
        other.extend([7, 8, 9]);
        assert_eq!(lm.shared(&other), 300);
        let gone_on = after(&mut lm, &other);
        let again = after(&mut lm, &ids);
        near(&again, &whole, 1e-5);
        lm.forget();
        near(&after(&mut lm, &other), &gone_on, 1e-5);
        for id in [3, 4, 5] {
            other.push(id);
            after(&mut lm, &other);
        }
        let written = after(&mut lm, &other);
        lm.forget();
        near(&after(&mut lm, &other), &written, 1e-5);
    }
}

#[test]
fn a_long_text_stays_while_another_is_read_as_far_as_the_planned_memory_goes() {
    for case in ["llama32-tied", "gemma2", "phi35-long"] {
        let options = LanguageModelOptions {
            context: 1400,
            cache: CacheType::F32,
        };
        let mut lm = GgufLm::open(&file(case), &options).unwrap();
        lm.make_exact();
        lm.expect(900);
        let story = text(&lm, 800);
        let whole = after(&mut lm, &story);
        // An early panel is told anew, and then the story goes on.
        let mut early = story[..300].to_vec();
        early.extend((0..50).map(|id| (id % 7) + 3));
        assert_eq!(lm.shared(&early), 300, "{case}");
        let early_logits = after(&mut lm, &early);
        assert_eq!(lm.shared(&story), 800, "{case}");
        near(&after(&mut lm, &story), &whole, 1e-5);
        assert_eq!(lm.shared(&early), 350, "{case}");
        near(&after(&mut lm, &early), &early_logits, 1e-5);
        // What was shared is written to by neither.
        lm.forget();
        assert_eq!(lm.shared(&story), 0);
        near(&after(&mut lm, &early), &early_logits, 1e-5);
        near(&after(&mut lm, &story), &whole, 1e-5);
        // Texts that don't fit beside each other make room, the oldest first.
        let other: Vec<u32> = text(&lm, 1100).into_iter().rev().collect();
        after(&mut lm, &other[..300]);
        assert_eq!(lm.shared(&story), 800, "{case}");
        after(&mut lm, &other);
        assert!(lm.shared(&story) < 800, "{case}");
    }
}

#[test]
fn a_text_taken_back_behind_what_windows_keep_is_read_anew() {
    let mut lm = open("gemma2", CacheType::F16);
    let ids = text(&lm, 1600);
    let short = after(&mut lm, &ids[..40]);
    after(&mut lm, &ids);
    near(&after(&mut lm, &ids[..40]), &short, 1e-5);
}

#[test]
fn long_texts_are_read_with_their_own_factors_from_the_first_token_on() {
    let mut lm = open("phi35-long", CacheType::F32);
    lm.make_exact();
    let ids = text(&lm, 60);
    let short = after(&mut lm, &ids[..20]);
    let long = after(&mut lm, &ids);
    lm.forget();
    near(&after(&mut lm, &ids), &long, 1e-6);
    lm.expect(60);
    let begun = after(&mut lm, &ids[..20]);
    let differs = begun.iter().zip(&short).any(|(a, b)| (a - b).abs() > 1e-3);
    assert!(differs, "the factors change nothing");
    near(&after(&mut lm, &ids), &long, 1e-6);
    lm.expect(20);
    near(&after(&mut lm, &ids[..20]), &short, 1e-6);
}

#[test]
fn reading_stops_within_a_layer_and_leaves_what_was_there() {
    let mut lm = open("llama32-tied", CacheType::F16);
    let ids = text(&lm, 200);
    let want = after(&mut lm, &ids);
    lm.forget();
    let first = after(&mut lm, &ids[..10]);
    for stop in 0..9 {
        let (mut calls, mut logits) = (0, Vec::new());
        let go_on = &mut || {
            calls += 1;
            match calls > stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        assert!(lm.read(&ids, &mut logits, go_on).unwrap().is_none());
        assert_eq!(calls, stop + 1);
        near(&after(&mut lm, &ids[..10]), &first, 1e-5);
    }
    near(&after(&mut lm, &ids), &want, 2e-2);
}

#[test]
fn smaller_caches_move_logits_little() {
    // A rounding can send a token of a mixture to another expert.
    for case in CASES.into_iter().filter(|case| *case != "gpt-oss") {
        let mut whole = open(case, CacheType::F32);
        whole.make_exact();
        let ids = text(&whole, 200);
        let want = after(&mut whole, &ids);
        for (cache, most) in [(CacheType::F16, 5e-3), (CacheType::Q8, 8e-2)] {
            let mut lm = open(case, cache);
            lm.make_exact();
            near(&after(&mut lm, &ids), &want, most);
        }
    }
}

#[test]
fn a_text_longer_than_it_was_trained_for_is_refused() {
    let options = LanguageModelOptions {
        context: 1 << 30,
        cache: CacheType::F16,
    };
    let mut lm = GgufLm::open(&file("phi35-long"), &options).unwrap();
    assert_eq!(lm.context_length(), 2048);
    let (mut logits, ids) = (Vec::new(), vec![1; 2049]);
    let go_on = &mut || ControlFlow::Continue(());
    let refused = lm.read(&ids, &mut logits, go_on);
    assert!(matches!(
        refused,
        Err(LlmError::TooLong { limit: 2048, .. })
    ));
    assert!(matches!(
        lm.read(&[], &mut logits, go_on),
        Err(LlmError::NoTokens)
    ));
    let unknown = lm.read(&[1, 1 << 20], &mut logits, go_on);
    assert!(matches!(unknown, Err(LlmError::UnknownToken { .. })));
    assert!(after(&mut lm, &[1, 2]).iter().all(|x| x.is_finite()));
}

#[test]
fn a_plan_counts_weights_cache_and_buffers() {
    let bytes = std::fs::read(file("gemma2")).unwrap();
    let header = GgufHeader::read(&bytes).unwrap();
    let hyper = Hyperparameters::from_gguf(&header).unwrap();
    let plan = LlmMemory::of(&header, &hyper, 8192, CacheType::F16);
    assert!(plan.weights < bytes.len() as u64 && plan.weights > 900_000);
    assert_eq!(plan.read_for_a_token, plan.weights);
    // Two layers see all, two 12 tokens and what is kept behind them.
    let row = 2 * 2 * 32 * 2;
    assert_eq!(
        plan.cache,
        row * 2 * (8192 + 12 + super::super::cache::BEHIND_WINDOW as u64)
    );
    let smaller = LlmMemory::of(&header, &hyper, 8192, CacheType::Q8);
    assert!(smaller.cache * 10 < plan.cache * 6);
    // What fits decides on bits first, and then on the length of texts.
    let within = |budget| {
        let options = LanguageModelOptions::within(&header, &hyper, budget);
        (options.context, options.cache)
    };
    assert_eq!(within(u64::MAX), (8192, CacheType::F16));
    assert_eq!(within(plan.total()), (8192, CacheType::F16));
    assert_eq!(within(plan.total() - 1), (8192, CacheType::Q8));
    assert_eq!(within(smaller.total() - 1), (4096, CacheType::F16));
    assert_eq!(within(0), (2048, CacheType::Q8));
    let bytes = std::fs::read(file("qwen3moe")).unwrap();
    let header = GgufHeader::read(&bytes).unwrap();
    let hyper = Hyperparameters::from_gguf(&header).unwrap();
    let plan = LlmMemory::of(&header, &hyper, 512, CacheType::F16);
    assert!(plan.read_for_a_token < plan.weights * 2 / 3);
}

#[test]
fn a_split_file_is_read_whole_and_a_part_that_is_missing_is_named() {
    use candle_core::quantized::gguf_file::{Content, Value, write};
    let mut bytes = std::fs::File::open(file("llama32-tied")).unwrap();
    let content = Content::read(&mut bytes).unwrap();
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let dir = tempfile::tempdir().unwrap();
    let path = |part: usize| dir.path().join(format!("tiny-{part:05}-of-00002.gguf"));
    for (part, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let mut said = content.metadata.clone();
        if part > 0 {
            said.retain(|key, _| key == "general.architecture");
        }
        said.insert("split.no".to_string(), Value::U16(part as u16));
        said.insert("split.count".to_string(), Value::U16(2));
        let read = |name: &String| {
            let device = candle_core::Device::Cpu;
            let mut bytes = std::fs::File::open(file("llama32-tied")).unwrap();
            content.tensor(&mut bytes, name, &device).unwrap()
        };
        let tensors: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), read(name)))
            .collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, t)| (*name, t)).collect();
        let said: Vec<(&str, &Value)> = said.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let mut to = std::fs::File::create(path(part + 1)).unwrap();
        write(&mut to, &said, &tensors).unwrap();
    }
    let options = LanguageModelOptions {
        context: 512,
        cache: CacheType::F32,
    };
    let mut whole = open("llama32-tied", CacheType::F32);
    let ids = text(&whole, 20);
    let mut split = GgufLm::open(&path(1), &options).unwrap();
    let found = after(&mut split, &ids);
    assert_eq!(likeliest(&found), likeliest(&after(&mut whole, &ids)));
    near(&found, &after(&mut whole, &ids), 1e-6);
    drop(split);
    let refused = |path: &Path| match GgufLm::open(path, &options) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    assert!(refused(&path(2)).contains("part 2 of 2"));
    std::fs::remove_file(path(2)).unwrap();
    let message = refused(&path(1));
    assert!(
        message.contains("00002-of-00002") && message.contains("part 2 of 2"),
        "{message}"
    );
}
