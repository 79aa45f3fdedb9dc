//! Training samples from the three data sets that MiniGPT-5 was trained on: what is asked, what
//! is to be answered, and which pictures go in and come out (reference: `CC3MDataset`,
//! `VISTDataset`, `MMDialogDataset`).

mod cc3m;
mod mmdialog;
mod vist;

pub use cc3m::{cc3m, clean_caption};
pub use mmdialog::{DialogTurn, mmdialog};
pub use vist::vist;

use crate::voken::{STOP, inert};

/// One thing to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingSample {
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

/// An answer of this text and, for its picture, so many vokens; none without a picture.
fn answer(text: &str, vokens: usize) -> String {
    let vokens: String = (0..vokens).map(|i| format!("[IMG{i}]")).collect();
    let text = inert(text);
    let parts = [text.as_str(), &vokens, STOP];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_as_many_vokens_as_the_vocabulary() {
        assert_eq!(answer("a fox", 3), "a fox [IMG0][IMG1][IMG2] ###");
        assert_eq!(answer("", 1), "[IMG0] ###");
        assert_eq!(answer("a fox", 0), "a fox ###");
        let story = [("a fox", Some("a.png")), ("an owl", None)];
        let all = |at| vist(&story, at, true, 0, 4);
        assert_eq!(all(0)[0].target, "[IMG0][IMG1][IMG2][IMG3] ###");
        // Of a step without a picture nothing can be asked.
        assert!(all(1).is_empty());
        assert!(
            cc3m(1, "a fox", "p", 0, 2)[0]
                .target
                .starts_with("[IMG0][IMG1] ")
        );
    }
}
