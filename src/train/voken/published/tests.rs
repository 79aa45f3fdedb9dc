//! Both stages on the tiny weights in the public layouts: losses fall, exactly what the reference
//! trains changes, a run that was cut off goes on to the same weights, and what is written is read
//! back.

use super::*;
use crate::published::Published;
use crate::train::optimizer::linear_rate;
use crate::train::run_with;
use crate::weights::Checkpoint;
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::OnceLock;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/public")
        .join(name)
}

/// A story of two pictures, and a talk.
fn write_data(dir: &Path) {
    fs::create_dir_all(dir.join("images")).unwrap();
    for (name, colour) in [("a", [200, 30, 30]), ("b", [20, 60, 190])] {
        let picture = image::RgbImage::from_fn(40, 30, |x, _| match x < 20 {
            true => image::Rgb(colour),
            false => image::Rgb([240; 3]),
        });
        picture
            .save(dir.join(format!("images/{name}.png")))
            .unwrap();
    }
    let panel = |order: u32, photo: &str, text: &str| {
        format!(
            r#"[{{"story_id":"1","photo_flickr_id":"{photo}","worker_arranged_photo_order":{order},"original_text":"{text}"}}]"#
        )
    };
    let story = [
        panel(0, "a", "the kids played."),
        panel(1, "b", "then it was time to go home."),
    ];
    let story = format!(r#"{{"annotations":[{}]}}"#, story.join(","));
    fs::write(dir.join("sis.json"), story).unwrap();
    let talk = r#"[[{"__TEXT__":"look"}],[{"__TEXT__":"two boats"},{"__MEDIA__":"a"}]]"#;
    fs::write(dir.join("talk.jsonl"), talk).unwrap();
}

fn settings(dir: &Path, name: &str, model: &Path, steps: u64, every: u64) -> PathBuf {
    let path = dir.join(format!("{name}.toml"));
    let text = format!(
        "model = {model:?}\nseed = 5\nsteps = {steps}\nbatch = 3\nat_once = 2\nlearning_rate = 3e-4\n\
         warmup = 1\ncheckpoint_every = {every}\nsample_every = {every}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn run(stage: &str, config: &Path, name: &str, resume: bool) -> Result<()> {
    let dir = config.parent().unwrap();
    run_with(
        stage,
        config,
        &dir.join(name),
        resume,
        Some(&dir.join("data")),
    )
}

/// A folder with data and a finished first stage; made once.
fn aligned() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        write_data(&dir.join("data"));
        let config = settings(dir, "align", &fixture("checkpoint"), 50, 1000);
        run("align", &config, "align", false).unwrap();
        temp
    })
    .path()
}

fn state(path: &Path) -> HashMap<String, Tensor> {
    let file = Checkpoint::open(path).unwrap();
    let read = |name: &str| file.tensor(name, DType::F32, &Device::Cpu).unwrap();
    file.names()
        .map(|name| (name.to_string(), read(name)))
        .collect()
}

/// The names of a recorded checkpoint's tensors.
fn keys(name: &str) -> BTreeSet<String> {
    let all: BTreeMap<String, Vec<usize>> =
        serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap();
    all.into_keys().collect()
}

fn largest(t: &Tensor) -> f32 {
    let most = t.abs().unwrap().max_all().unwrap();
    most.to_scalar().unwrap()
}

fn off(a: &Tensor, b: &Tensor) -> f32 {
    largest(&(a - b).unwrap())
}

/// The first and the last mean of a column of the log.
fn fell(run: &Path, column: usize) -> (f64, f64) {
    let csv = fs::read_to_string(run.join("loss.csv")).unwrap();
    let values: Vec<f64> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(column).unwrap().parse().unwrap())
        .collect();
    (values[0], values[values.len() - 1])
}

/// Rows of old tokens only decay; those of the nine new ones learn, but for the row by which
/// `<ImageHere>`, never looked up, would be read.
fn only_new_rows_learnt(before: &Tensor, after: &Tensor, decay: f32, embedding: bool) {
    let rows = before.dim(0).unwrap();
    let old = |t: &Tensor| t.narrow(0, 0, rows - 9).unwrap();
    let decayed = (old(before) * f64::from(decay)).unwrap();
    assert!(off(&decayed, &old(after)) < 1e-5 * largest(before));
    for row in rows - 9..rows {
        let row_of = |t: &Tensor| t.narrow(0, row, 1).unwrap();
        let learnt = off(
            &(row_of(before) * f64::from(decay)).unwrap(),
            &row_of(after),
        ) > 1e-5;
        assert_eq!(learnt, !embedding || row < rows - 1, "row {row} of {rows}");
    }
}

/// What weight decay leaves of a number after a run of `settings` at its base rate.
fn decay(steps: u64) -> f32 {
    let rates = (0..steps).map(|step| linear_rate(3e-4, step, 1, steps));
    rates.map(|rate| 1.0 - 0.01 * rate).product::<f64>() as f32
}

#[test]
fn stage_one_goes_on_from_the_checkpoint_and_trains_what_the_reference_does() {
    let dir = aligned();
    let (first, last) = fell(&dir.join("align"), 1);
    assert!(last < first, "text {first} -> {last}");
    let (first, last) = fell(&dir.join("align"), 3);
    assert!(last < first, "caption {first} -> {last}");
    let before = state(&fixture("checkpoint/stage1_cc3m.ckpt"));
    let after = state(&dir.join("align/stage1.safetensors"));
    let names: BTreeSet<String> = after.keys().cloned().collect();
    assert_eq!(names, keys("stage1_cc3m.ckpt.keys.json"));
    for (name, was) in &before {
        assert!(off(was, &after[name]) > 0.0, "{name} did not change");
    }
    let tables = ["model.embed_tokens", "lm_head"].map(|n| format!("model.llama_model.{n}.weight"));
    for (name, embedding) in tables.iter().zip([true, false]) {
        only_new_rows_learnt(&before[name], &after[name], decay(50), embedding);
    }
    // It is a model of its own, whose other parts stay where they are; the second stage, which was
    // trained on the other first one, is not among them.
    let parts = PartPaths::read(&dir.join("align")).unwrap();
    assert_eq!(parts.stage2, None);
    assert_eq!(parts.eva_vit, fixture("checkpoint/eva_vit_g.pth"));
    assert!(crate::published::check(&parts).unwrap().is_good());
    for file in ["loss.png", "stories-000050.png", "stories-000050.txt"] {
        assert!(dir.join("align").join(file).is_file(), "{file}");
    }
}

#[test]
fn stage_two_begins_on_the_first_and_goes_on_after_a_kill_to_the_same_weights() {
    let dir = aligned();
    let config = settings(dir, "story", &dir.join("align"), 4, 2);
    run("story", &config, "whole", false).unwrap();
    // The run breaks off behind its checkpoint at step 2, since it cannot write its sample.
    let in_the_way = dir.join("cut/stories-000002.png");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    let head = "step,text,image,caption,grad,samples_per_second\n";
    fs::write(dir.join("cut/loss.csv"), head).unwrap();
    run("story", &config, "cut", false).unwrap_err();
    fs::remove_dir_all(in_the_way).unwrap();
    let error = run("story", &config, "cut", false).unwrap_err().to_string();
    assert!(error.contains("--resume"), "{error}");
    run("story", &config, "cut", true).unwrap();
    let file = |name: &str| dir.join(name).join("stage2.safetensors");
    assert!(fs::read(file("whole")).unwrap() == fs::read(file("cut")).unwrap());

    let first = state(&dir.join("align/stage1.safetensors"));
    let after = state(&file("whole"));
    let names: BTreeSet<String> = after.keys().cloned().collect();
    assert_eq!(names, keys("stage2_vist.ckpt.keys.json"));
    for (name, now) in &after {
        if let Some(was) = first.get(name) {
            assert!(off(was, now) > 0.0, "{name} did not change");
        }
        assert!(
            !name.contains("lora_B") || largest(now) > 0.0,
            "{name} is zero"
        );
    }
    let base = "model.llama_model.base_model.model";
    for (old, new) in [("model.embed_tokens", true), ("lm_head", false)] {
        let was = &first[&format!("model.llama_model.{old}.weight")];
        let now = &after[&format!("{base}.{old}.modules_to_save.default.weight")];
        only_new_rows_learnt(was, now, decay(4), new);
    }
    // It is read back as any published model, and computes what was trained.
    let parts = PartPaths::read(&dir.join("whole")).unwrap();
    assert_eq!(parts.stage1, dir.join("align/stage1.safetensors"));
    let nets = PublishedNetworks::read(
        parts.clone(),
        VokenStage::Story,
        Vec::new(),
        1,
        &Device::Cpu,
    )
    .unwrap();
    let read = Published::open(parts).unwrap();
    let target = crate::published::LoadTarget {
        device: Device::Cpu,
        held: DType::F32,
        gpu: None,
    };
    let language = read
        .read_language(&target, &(Arc::new(|_: &str| {}) as _))
        .unwrap();
    let hidden = |llama: &crate::llm::float::FloatLlama| {
        let ids = llama.embed_ids(&[5, 300, 601, 9]).unwrap();
        llama.forward(&ids, None).unwrap()
    };
    let (own, merged) = (hidden(&nets.model.llama), hidden(&language.llama));
    assert!(off(&own, &merged) < 1e-4 * largest(&own));
}

#[test]
fn a_second_stage_is_gone_on_with_and_drops_inputs_of_its_adapters() {
    let dir = aligned();
    let config = settings(dir, "on", &fixture("checkpoint"), 50, 1000);
    run("story", &config, "on", false).unwrap();
    let (first, last) = fell(&dir.join("on"), 1);
    assert!(last < first, "text {first} -> {last}");
    let (before, after) = (
        state(&fixture("checkpoint/stage2_vist.ckpt")),
        state(&dir.join("on/stage2.safetensors")),
    );
    for (name, was) in &before {
        assert!(off(was, &after[name]) > 0.0, "{name} did not change");
    }

    let s: PublishedSettings = read_config(&config).unwrap();
    let strips = datasets::read(&dir.join("data")).unwrap();
    let parts = PartPaths::of_folder(&fixture("checkpoint")).unwrap();
    let mut nets =
        PublishedNetworks::read(parts, VokenStage::Story, strips.clone(), 1, &Device::Cpu).unwrap();
    let items = learnable(&nets, &strips, VokenStage::Story, 1, &dir.join("data")).unwrap();
    let mut text = |step, dropout| {
        nets.published.sizes.lora.dropout = dropout;
        let (_, losses) = gradients(&mut nets, &items, &s, VokenStage::Story, step).unwrap();
        losses[0]
    };
    assert_eq!(text(1, 0.05), text(1, 0.05));
    assert_ne!(text(1, 0.05), text(1, 0.0));
}

#[test]
fn what_cannot_be_trained_is_told() {
    let dir = aligned();
    let said = |text: &str, data: Option<&Path>| {
        let config = dir.join("bad.toml");
        fs::write(&config, text).unwrap();
        let error = run_with("story", &config, &dir.join("bad"), false, data).unwrap_err();
        error.to_string()
    };
    let good = fs::read_to_string(settings(dir, "good", &fixture("checkpoint"), 1, 1)).unwrap();
    let data = dir.join("data");
    assert!(said(&good, None).contains("--data"));
    assert!(said(&good.replace("batch = 3", "batch = 0"), Some(&data)).contains("above 0"));
    assert!(said(&good.replace("seed", "sead"), Some(&data)).contains("bad.toml"));
    let plain = dir.join("plain");
    fs::create_dir_all(&plain).unwrap();
    fs::write(plain.join("talk.jsonl"), r#"[[{"__TEXT__":"alone"}]]"#).unwrap();
    let error = said(&good, Some(&plain));
    assert!(
        error.contains("none of its panels has a picture"),
        "{error}"
    );
    assert!(!dir.join("bad").exists());
}

#[test]
fn a_picture_that_goes_bad_while_a_run_is_on_is_left_out() {
    let dir = aligned();
    let data = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for number in 0..40 {
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([number * 6, 90, 30]));
        let name = format!("{number}.png");
        picture.save(data.path().join(&name)).unwrap();
        rows += &format!("two boats {number}\t{name}\n");
    }
    fs::write(data.path().join("train.tsv"), rows).unwrap();
    let strips = datasets::read(data.path()).unwrap();
    let parts = PartPaths::of_folder(&fixture("checkpoint")).unwrap();
    let mut nets =
        PublishedNetworks::read(parts, VokenStage::Align, strips.clone(), 5, &Device::Cpu).unwrap();
    let items = learnable(&nets, &strips, VokenStage::Align, 5, data.path()).unwrap();
    let config = settings(dir, "left-out", &fixture("checkpoint"), 1, 1);
    let settings: PublishedSettings = read_config(&config).unwrap();
    let mut step = |step| gradients(&mut nets, &items, &settings, VokenStage::Align, step);
    let drawn_from = |step| {
        let picked = pick(items.len(), 3, step, 5);
        picked
            .iter()
            .map(|at| items[*at].output.unwrap().0)
            .collect::<Vec<_>>()
    };
    step(0).unwrap();
    let file = |strip: usize| data.path().join(format!("{strip}.png"));
    fs::write(file(drawn_from(1)[1]), "").unwrap();
    let (_, losses) = step(1).unwrap();
    assert!(losses.iter().all(|loss| loss.is_finite()));
    for strip in drawn_from(2) {
        fs::write(file(strip), "").unwrap();
    }
    let error = step(2).err().unwrap().to_string();
    assert!(
        error.contains("train.tsv, line") && error.contains("of 40 pictures"),
        "{error}"
    );
}
