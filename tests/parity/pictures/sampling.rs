//! Tokens, schedulers and whole pictures.

use super::CaseStage;
use crate::report::{Outcome, Stage};
use std::path::Path;

/// Add a stage here: its name, the vectors that it compares, and how.
pub const STAGES: &[CaseStage] = &[];

/// The ids of the texts of a case without a model.
pub fn tokens(_dir: &Path, _stage: &mut Stage) -> Outcome {
    Err("this stage is not compared yet".into())
}
