//! Training samples from the three data sets that MiniGPT-5 was trained on: what is asked, what
//! is to be answered, and which pictures go in and come out (reference: `CC3MDataset`,
//! `VISTDataset`, `MMDialogDataset`).

mod cc3m;
mod mmdialog;
mod vist;

pub use cc3m::{cc3m, clean_caption};
pub use mmdialog::{Turn, mmdialog};
pub use vist::vist;

use crate::voken::STOP;

/// The eight vokens, which stand for the picture in an answer.
const VOKENS: &str = "[IMG0][IMG1][IMG2][IMG3][IMG4][IMG5][IMG6][IMG7]";

/// One thing to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The prompt, with `<ImageHere>` for each picture of `inputs`.
    pub source: String,
    /// The answer, with the vokens where a picture belongs.
    pub target: String,
    /// What is on the picture to be drawn, where that is known.
    pub caption: Option<String>,
    /// Names of the pictures that are seen.
    pub inputs: Vec<String>,
    /// Name of the picture that is drawn.
    pub output: Option<String>,
}

/// An answer of this text, with or without a picture.
fn answer(text: &str, picture: bool) -> String {
    let parts = [text, if picture { VOKENS } else { "" }, STOP];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}
