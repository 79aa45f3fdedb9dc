//! Gemma 3 sees: a tiny vision projector before a recorded text model, number for number against
//! transformers.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde::Deserialize;
use vokenboard::llm::{CacheType, CausalLm, GgufLm, LanguageModelOptions, likeliest};
use vokenboard::pipeline::{ContextPanel, LoadOptions, loader};
use vokenboard::story::PanelId;
use vokenboard::vision::Projector;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

#[derive(Deserialize)]
struct Told {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Which pictures it holds, in order.
    pictures: Vec<usize>,
    /// The prompt's ids; -1 for each embedding of a picture.
    ids: Vec<i64>,
    greedy: Vec<u32>,
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn file(name: &str) -> PathBuf {
    fixtures().join("vision/gemma3").join(name)
}

pub fn text_model() -> PathBuf {
    fixtures().join("writers/gemma3-linear/model.gguf")
}

fn told() -> Told {
    serde_json::from_slice(&std::fs::read(file("case.json")).unwrap()).unwrap()
}

fn recorded(name: &str) -> Vec<f32> {
    let all = candle_core::safetensors::load(file("vectors.safetensors"), &Device::Cpu).unwrap();
    all[name].flatten_all().unwrap().to_vec1().unwrap()
}

fn off(found: &[f32], want: &[f32]) -> f32 {
    assert_eq!(found.len(), want.len());
    let size = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(want);
    pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / size
}

/// The embeddings of both pictures.
fn seen(mmproj: &str) -> Vec<Vec<f32>> {
    let projector = Projector::open(&file(mmproj), None).unwrap();
    let see = |number: usize| {
        let picture = image::open(file(&format!("picture-{number}.png"))).unwrap();
        let seen = projector.see(&picture.to_rgba8(), &mut || GO_ON).unwrap();
        seen.unwrap()
    };
    vec![see(0), see(1)]
}

#[test]
fn a_projectors_embeddings_are_those_of_transformers_in_every_spelling_of_its_file() {
    let want = recorded("features");
    for mmproj in ["mmproj.gguf", "mmproj-legacy.gguf", "merged.gguf"] {
        let off = off(&seen(mmproj).concat(), &want);
        assert!(off < 1e-4, "{mmproj}: {off}");
    }
    let projector = Projector::open(&file("mmproj.gguf"), None).unwrap();
    let picture = image::RgbaImage::new(3, 200);
    let cancelled = projector.see(&picture, &mut || ControlFlow::Break(()));
    assert!(cancelled.unwrap().is_none());
}

#[test]
fn a_text_with_pictures_is_read_as_transformers_reads_it_and_stays_in_the_cache() {
    let embeddings = seen("mmproj.gguf");
    let options = LanguageModelOptions {
        context: 512,
        cache: CacheType::F32,
    };
    let mut lm = GgufLm::open(&text_model(), &options).unwrap();
    lm.make_exact();
    let pictures: Vec<_> = embeddings
        .into_iter()
        .map(|embeddings| lm.take_picture(embeddings).unwrap())
        .collect();
    for (number, case) in told().cases.iter().enumerate() {
        let mut shown = case.pictures.iter().flat_map(|at| pictures[*at].clone());
        let mut ids: Vec<u32> = case
            .ids
            .iter()
            .map(|id| u32::try_from(*id).unwrap_or_else(|_| shown.next().unwrap()))
            .collect();
        let want = recorded(&format!("logits_{number}"));
        let want = &want[want.len() - lm.vocabulary()..];
        let mut logits = Vec::new();
        lm.read(&ids, &mut logits, &mut || GO_ON).unwrap().unwrap();
        assert!(off(&logits, want) < 1e-4, "{}", off(&logits, want));
        for greedy in &case.greedy {
            let next = likeliest(&logits);
            assert_eq!(next, *greedy, "case {number}");
            ids.push(next);
            lm.read(&ids, &mut logits, &mut || GO_ON).unwrap().unwrap();
        }
        // What stands before and in a picture is not read again, and a picture never in part.
        let cut = case.ids.iter().position(|id| *id < 0).unwrap() + 7;
        let mut other = ids[..cut - 7].to_vec();
        other.extend(pictures[case.pictures[0]].clone());
        other.push(ids[2]);
        assert_eq!(lm.shared(&other), other.len() - 1);
        let mut again = Vec::new();
        lm.read(&other, &mut again, &mut || GO_ON).unwrap().unwrap();
        lm.forget();
        lm.read(&other, &mut logits, &mut || GO_ON)
            .unwrap()
            .unwrap();
        assert!(off(&again, &logits) < 1e-5);
        assert!(lm.read(&ids[..cut], &mut logits, &mut || GO_ON).is_err());
        // Broken off while it looks: what was read before stays right.
        let mut left = 9;
        lm.forget();
        let broken = lm.read(&ids, &mut logits, &mut || {
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                GO_ON
            }
        });
        assert!(broken.unwrap().is_none());
        lm.read(&other, &mut logits, &mut || GO_ON)
            .unwrap()
            .unwrap();
        assert!(off(&again, &logits) < 1e-5);
    }
    lm.drop_picture(&pictures[0]);
    let gone: Vec<u32> = pictures[0].clone().collect();
    assert!(lm.read(&gone, &mut Vec::new(), &mut || GO_ON).is_err());
    assert!(lm.take_picture(vec![0.0; 65]).is_err());
}

/// A folder with the text model and, where wanted, its projector beside it.
fn folder(beside: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(text_model(), dir.path().join("gemma.gguf")).unwrap();
    if beside {
        std::fs::copy(file("mmproj.gguf"), dir.path().join("mmproj-F16.gguf")).unwrap();
    }
    dir
}

#[test]
fn a_projector_is_named_and_added_with_its_model() {
    let identify = |path: &Path| {
        let mut command = super::vokenboard();
        command.args(["models", "identify"]).arg(path);
        command
    };
    identify(&file("mmproj.gguf")).assert().success().stdout(
        contains("mmproj")
            .and(contains("Gemma 3"))
            .and(contains("--mmproj")),
    );
    let models = tempfile::tempdir().unwrap();
    let add = |path: &Path, more: &[&str]| {
        let mut command = super::vokenboard();
        let command_line = command
            .args(["models", "add", "--models"])
            .arg(models.path());
        command_line.arg(path).args(more);
        command
    };
    let path = file("mmproj.gguf");
    let mmproj = path.to_str().unwrap();
    // Named, beside the model, and a folder of both.
    let (alone, both) = (folder(false), folder(true));
    let model = alone.path().join("gemma.gguf");
    add(&model, &[])
        .assert()
        .success()
        .stdout(contains("sees").not());
    let sees =
        |assert: assert_cmd::assert::Assert| assert.success().stdout(contains("sees pictures"));
    sees(add(&model, &["--mmproj", mmproj]).assert());
    sees(add(&both.path().join("gemma.gguf"), &[]).assert());
    sees(add(both.path(), &[]).assert());
    // Within the model's own file, as Ollama has it.
    sees(add(&file("merged.gguf"), &[]).assert());
    // By the id of one that was added by itself.
    add(&path, &[])
        .assert()
        .success()
        .stdout(contains("added mmproj"));
    sees(add(&model, &["--mmproj", "mmproj"]).assert());
    // What does not belong together.
    let qwen = fixtures().join("writers/qwen2/model.gguf");
    for (path, projector, says) in [
        (qwen.as_path(), mmproj, "does not belong to"),
        (
            model.as_path(),
            qwen.to_str().unwrap(),
            "no vision projector",
        ),
        (model.as_path(), "gone.gguf", "gone.gguf"),
    ] {
        let assert = add(path, &["--mmproj", projector]).assert().failure();
        assert.stderr(contains(says));
    }
}

#[test]
fn what_the_board_shows_changes_what_a_seeing_writer_says() {
    let models = tempfile::tempdir().unwrap();
    crate::common::write_tiny_models(models.path());
    let both = folder(true);
    let options = LoadOptions {
        models: Some(models.path().to_path_buf()),
        model: Some("tiny".to_string()),
        writer: Some(both.path().join("gemma.gguf").to_str().unwrap().to_string()),
        ..LoadOptions::default()
    };
    let mut pipeline = loader(options)(&mut |_| {}).unwrap();
    assert!(pipeline.describe().writer.sees);
    let mut likely = |picture: Option<usize>| {
        let picture = picture.map(|number| {
            let picture = image::open(file(&format!("picture-{number}.png"))).unwrap();
            Arc::new(picture.to_rgba8())
        });
        let context = [ContextPanel {
            id: PanelId(1),
            text: "A fox walked home.".to_string(),
            picture,
        }];
        pipeline
            .log_probabilities(&context, "The owl slept.")
            .unwrap()
    };
    let said = [None, Some(0), Some(1), Some(0)].map(&mut likely);
    assert!(said[0].len() > 2 && said[0].iter().all(|p| p.is_finite()));
    assert_ne!(said[0], said[1]);
    assert_ne!(said[1], said[2]);
    let near = said[1]
        .iter()
        .zip(&said[3])
        .all(|(a, b)| (a - b).abs() < 0.05);
    assert!(near, "{said:?}");
}
