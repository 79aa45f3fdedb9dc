//! Texts and chats as token ids.

use crate::report::{Outcome, Stage};
use crate::writers::Case;

/// The ids of plain texts.
pub fn ids(case: &Case, _: &mut Stage) -> Outcome {
    Err(format!("the tokenizer of {} is not read yet", case.name).into())
}

/// Chats rendered by the file's template, and their ids.
pub fn prompt(case: &Case, _: &mut Stage) -> Outcome {
    Err(format!("the template of {} is not read yet", case.name).into())
}
