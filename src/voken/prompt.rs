//! The prompts that MiniGPT-5 was trained with on VIST, its story data set (reference:
//! `VISTDataset`).

use super::inert;

/// What every prompt begins with; the turn follows without a space.
const SYSTEM: &str = "Give the following images in <Img>ImageContent</Img> format. You will be able to see the images once I provide it to you. Please understanding images and generate story.";

/// Ends every answer.
pub const STOP: &str = "###";

/// A panel of the story so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VistPanel<'a> {
    /// Text of the panel.
    pub text: &'a str,
    /// Whether the panel has a picture.
    pub picture: bool,
}

/// The data set's three tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VistTask<'a> {
    /// A picture of this text.
    Picture(&'a str),
    /// The next text with its picture.
    Both,
    /// The text of one picture more.
    Text,
}

impl VistTask<'_> {
    /// The ways to ask for it; training chooses one by chance.
    fn wordings(self) -> &'static [&'static str] {
        match self {
            VistTask::Picture(_) => &[
                "Generate an image with the scene description: ",
                "the scene description: ",
            ],
            VistTask::Both => &[
                "Tell me the next scene with image.",
                "Generate the next scene with image.",
                "What should happen then?",
            ],
            VistTask::Text => &[
                "Tell me the next scene description by this image: <Img><ImageHere></Img>",
                "What happen in the next scene image: <Img><ImageHere></Img>",
            ],
        }
    }

    /// How many ways there are to ask for it.
    pub fn count(self) -> usize {
        self.wordings().len()
    }
}

/// A prompt in which nothing in the texts acts as a mark ([`inert`]), and `<ImageHere>` stands for each picture of `history`, then for the one that
/// [`VistTask::Text`] is asked about. `wording` counts from 0, and again from 0 after the last.
pub fn vist_prompt(history: &[VistPanel], task: VistTask, wording: usize) -> String {
    let mut written: String = history
        .iter()
        .map(|panel| match panel.picture {
            true => format!("{}<Img><ImageHere></Img>", inert(panel.text)),
            false => inert(panel.text),
        })
        .collect();
    if !written.is_empty() {
        written.push('\n');
    }
    let question = task.wordings()[wording % task.count()];
    let text = match task {
        VistTask::Picture(text) => inert(text),
        VistTask::Both | VistTask::Text => String::new(),
    };
    format!("{SYSTEM}{STOP}Human:{written} {question}{text} {STOP}Assistant:")
}
