//! The head that says who is in a picture: its gradient, and that a run with it learns and goes on
//! after a kill to the same weights.

use super::data::{DataKind, StorySource};
use super::loss::composition_loss;
use super::stage::OF_WORDS;
use super::tests::{WIDTH, trained};
use crate::llm::float::GgufLlama;
use crate::nn::{Params, check_gradients, noise};
use crate::storyworld::{MENTION_FEATURES, words};
use crate::train;
use crate::voken::{CompositionHead, CompositionHeadConfig, VokenFolder};
use candle_core::{DType, Device};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn gradients_of_the_stage_head_are_the_slope_of_its_loss() {
    let device = Device::Cpu;
    let params = Params::init(3, &device);
    let config = CompositionHeadConfig { width: 6 };
    let head = CompositionHead::new(config, 10, 4, &params).unwrap();
    // Away from the kinks of the perceptron, whose slope no difference measures.
    for (name, var) in params.vars() {
        if name.starts_with("stage_head.mentions") && name.ends_with("bias") {
            var.set(&var.ones_like().unwrap()).unwrap();
        }
    }
    let states = noise(1, 0, &[2, 4, 10], &device).unwrap();
    let names = noise(1, 1, &[5, 10], &device).unwrap();
    let features = noise(1, 2, &[5 * MENTION_FEATURES], &device).unwrap();
    let features = (features * 0.1).unwrap().to_vec1().unwrap();
    let places = [Some(-1.0), None, Some(0.5), None, Some(1.0)];
    let loss = || {
        let scores = head.forward(&states, &names, &[0, 0, 0, 1, 1], &features);
        let by_words = head.by_words(&features, &device).unwrap();
        let both = composition_loss(&scores.unwrap(), &places).unwrap();
        (both + composition_loss(&by_words, &places).unwrap()).unwrap()
    };
    check_gradients(&params, (1e-2, 2e-3), |_| 2e-3, loss);
}

#[test]
fn stories_of_the_library_teach_who_is_shown_and_go_on_after_a_kill() {
    let dir = trained();
    let toml = |steps: u64| -> PathBuf {
        let path = dir.join(format!("library-{steps}.toml"));
        let text = format!(
            "model = \"model\"\nlanguage_model = \"lm\"\nvision = \"see/voken\"\n\
             init = \"align/voken\"\nseed = 4\nsteps = {steps}\nbatch = 2\nlearning_rate = 3e-3\n\
             warmup = 1\ndecay_from = 1.0\nstories = 2\ncheckpoint_every = 1000\n\
             sample_every = 1000\ndata = \"library\"\ntasks = [\"picture\"]\n\
             loss = {{ text = 0.1, image = 0.0, caption = 1.0 }}\nstage_head = {{ width = 8 }}\n"
        );
        fs::write(&path, text).unwrap();
        path
    };
    let run = |steps, name: &str, resume| {
        train::run("story", &toml(steps), &dir.join(name), resume).unwrap();
    };
    run(6, "library-whole", false);
    run(3, "library-cut", false);
    run(6, "library-cut", true);
    let weights = |name: &str| fs::read(dir.join(name).join("voken/model.safetensors")).unwrap();
    assert!(weights("library-whole") == weights("library-cut"));
    let folder = VokenFolder::new(dir.join("library-whole/voken"));
    let head = folder.read_config().unwrap().composition_head;
    assert_eq!(head, Some(CompositionHeadConfig { width: 8 }));
    let file = GgufLlama::find(&dir.join("lm")).unwrap();
    let model = folder.read_model(&file, &Device::Cpu).unwrap();
    assert!(model.composition_head.is_some());
    folder.read_tower(WIDTH, &Device::Cpu).unwrap();

    // Its part that reads words can learn alone, and nothing else changes then.
    let words = dir.join("library-words.toml");
    let settings = fs::read_to_string(toml(120)).unwrap();
    let settings = settings
        .replace("align/voken", "library-whole/voken")
        .replace("3e-3", "2e-2");
    fs::write(&words, format!("learns = \"words\"\n{settings}")).unwrap();
    train::run("story", &words, &dir.join("library-words"), false).unwrap();
    let tensors = |name: &str| {
        let file = dir.join(name).join("voken/model.safetensors");
        candle_core::safetensors::load(file, &Device::Cpu).unwrap()
    };
    let (before, after) = (tensors("library-whole"), tensors("library-words"));
    for (name, tensor) in &before {
        let off = (tensor - &after[name]).unwrap().abs().unwrap();
        let off = off.to_dtype(DType::F32).unwrap().max_all().unwrap();
        let off: f32 = off.to_scalar().unwrap();
        assert_eq!(off > 0.0, name.starts_with(OF_WORDS), "{name}: {off}");
    }
    let stage = losses(&dir.join("library-words"));
    assert!(stage[stage.len() - 1] < 0.7 * stage[0], "{stage:?}");

    run(60, "library-long", false);
    let stage = losses(&dir.join("library-long"));
    assert!(stage[stage.len() - 1] < 0.7 * stage[0], "{stage:?}");
    let report = fs::read_dir(dir.join("library-long")).unwrap().any(|file| {
        let name = file.unwrap().file_name();
        name.to_string_lossy().starts_with("stage-")
    });
    assert!(report, "a sample says how many names are right");
}

#[test]
fn whole_picture_prompts_name_whoever_is_shown() {
    let of = |kind| StorySource::open(None, 3, kind, 4).unwrap();
    let (settings, prompts) = (of(DataKind::Library), of(DataKind::Prompts));
    for story in 0..4 {
        for (setting, panel) in settings.story(story).iter().zip(prompts.story(story)) {
            assert_eq!(setting.text, panel.text);
            let prompt = &panel.description;
            assert!(prompt.ends_with(&setting.description), "{prompt}");
            for who in &panel.stage {
                let name = &who.referent.names[0];
                let plain = |text: &str| words(text).collect::<Vec<_>>().join(" ");
                let named = format!(" {} ", plain(prompt)).contains(&format!(" {} ", plain(name)));
                assert!(named || who.place.is_none(), "{name}: {prompt}");
            }
        }
    }
}

/// The losses of the stage head that a run wrote.
fn losses(run: &Path) -> Vec<f64> {
    let csv = fs::read_to_string(run.join("loss.csv")).unwrap();
    let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap();
    let at = names.iter().position(|name| *name == "stage").unwrap();
    rows.map(|row| row[at].parse().unwrap()).collect()
}
