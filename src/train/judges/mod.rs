//! Stages that make the judges ([`crate::judges`]).

pub mod contrastive;
pub mod recogniser;

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use super::course::{self, Course, Stage};
use super::optimizer::{AdamSettings, AdamW};
use super::{Result, write_whole};
use crate::nn::Params;

/// Trains a judge to the last step of `course`. Returns the optimiser, whose moving averages are what
/// a judge is, and these in the file layout.
fn train<S: Stage>(
    course: &Course,
    params: &Params,
    stage: &mut S,
) -> Result<(AdamW, HashMap<String, Tensor>)> {
    let mut opt = AdamW::new(params.vars(), AdamSettings::default())?;
    course::run(course, &mut opt, stage)?;
    let tensors = params.to_file_layout(Some(&opt.averages()?))?;
    Ok((opt, tensors))
}

/// Writes how well a judge does into the folder of its run.
fn write_accuracy(run: &Path, accuracy: &serde_json::Value) -> Result<()> {
    write_whole(
        &run.join("accuracy.json"),
        format!("{accuracy:#}\n").as_bytes(),
    )
}
