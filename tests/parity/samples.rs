//! What the two other data sets make of their rows, sample by sample.

use crate::fixture::Fixture;
use crate::report::{Error, Outcome, Stage};
use serde_json::Value;
use vokenboard::train::voken::{DialogTurn, cc3m as make_cc3m, mmdialog as make_mmdialog};

/// Ways to ask for a picture; after the last they begin anew.
const WORDINGS: usize = 7;

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Error> {
    let text = value[key].as_str();
    text.ok_or_else(|| format!("{key} is no text").into())
}

pub fn cc3m(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    for sample in f.json::<Vec<Value>>(name)? {
        let (task, caption) = (text(&sample, "task_name")?, text(&sample, "caption")?);
        let row = task.split('_').nth(1).ok_or("a task without its row")?;
        let (row, kind) = (row.parse()?, usize::from(task.ends_with("instruction")));
        let made: Vec<_> = (0..WORDINGS)
            .filter_map(|wording| {
                make_cc3m(row, caption, "p", wording, f.sizes.voken_count)
                    .into_iter()
                    .nth(kind)
            })
            .collect();
        let source = text(&sample, "source")?;
        let same = made.iter().find(|made| made.source == source);
        let same = same.ok_or_else(|| format!("{task}: no wording gives {source:?}"))?;
        stage.same(task, same.target.as_str(), text(&sample, "target")?);
        stage.same(task, &same.caption.as_deref(), &Some(caption));
    }
    Ok(())
}

fn turn(value: &Value) -> DialogTurn {
    let mut turn = DialogTurn::default();
    for part in value["turn"].as_array().into_iter().flatten() {
        if let Some(text) = part["__TEXT__"].as_str() {
            turn.text = text.to_string();
        }
        if let Some(media) = part["__MEDIA__"].as_str() {
            turn.picture = Some(format!("{media}.jpg"));
        }
    }
    turn
}

pub fn mmdialog(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let recorded: Value = f.json(name)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let media: Vec<String> = list(&recorded["existing_media"])
        .iter()
        .filter_map(|media| Some(format!("{}.jpg", media.as_str()?)))
        .collect();
    // The reference's stand-in for a tokenizer there counts words.
    let count = |text: &str| text.split(' ').count();
    let made: Vec<_> = list(&recorded["conversations"])
        .iter()
        .flat_map(|conversation| {
            let turns: Vec<DialogTurn> = list(conversation).iter().map(turn).collect();
            let exists = |picture: &str| media.iter().any(|media| media == picture);
            make_mmdialog(&turns, exists, Some(&count), f.sizes.voken_count)
        })
        .collect();
    let samples = list(&recorded["samples"]);
    stage.same("samples", &made.len(), &samples.len());
    for (made, sample) in made.iter().zip(&samples) {
        let inputs = list(&sample["input_images"]);
        let inputs: Vec<&str> = inputs.iter().filter_map(Value::as_str).collect();
        stage.same("source", made.source.as_str(), text(sample, "source")?);
        stage.same("target", made.target.as_str(), text(sample, "target")?);
        let own: Vec<&str> = made.inputs.iter().map(String::as_str).collect();
        stage.same("input_images", &own, &inputs);
        let output = sample["output_image"].as_str();
        stage.same("output_image", &made.output.as_deref(), &output);
    }
    Ok(())
}
