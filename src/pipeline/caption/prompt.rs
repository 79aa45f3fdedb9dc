//! What each style of prompts makes of a text, and of the cast.

use crate::pipeline::painter::{Capabilities, PromptStyle};
use crate::pipeline::{Request, picture_prompt};
use crate::story::Member;

impl PromptStyle {
    /// Whether prompts are made of an English text without a writer's help.
    pub(super) fn is_english(self) -> bool {
        match self {
            PromptStyle::Composition | PromptStyle::Storyworld => true,
            PromptStyle::Sentences | PromptStyle::Tags => false,
        }
    }

    /// The picture prompt of `text`; `written` is what a writer made of it, in English.
    pub(super) fn prompt(
        self,
        request: &Request,
        text: &str,
        written: Option<&str>,
        takes: &Capabilities,
    ) -> String {
        match (self, written) {
            (PromptStyle::Composition, _) => request.composition_prompt(written.unwrap_or(text)),
            (PromptStyle::Storyworld, Some(written)) => picture_prompt(&[], written),
            (PromptStyle::Storyworld, None) => {
                picture_prompt(&request.texts_in_storyworld(), &request.in_storyworld(text))
            }
            (PromptStyle::Sentences | PromptStyle::Tags, _) => {
                let shown = request.with_descriptions(written.unwrap_or(text), text, takes);
                with_style(&request.board.style, &shown)
            }
        }
    }

    /// The request with what the cast brings to a picture of `text` that is drawn from `prompt`, and
    /// who joins the cast with that picture.
    pub(super) fn with_cast(
        self,
        request: &Request,
        text: &str,
        prompt: &str,
        takes: &Capabilities,
    ) -> (Request, Vec<Member>) {
        match self {
            PromptStyle::Composition => {
                // The prompt says who stands there, whoever the sentence leaves out.
                let named = Request {
                    cast: None,
                    ..request.clone()
                };
                (
                    named.with_looks(prompt, takes),
                    newcomers(request, text, prompt),
                )
            }
            PromptStyle::Storyworld | PromptStyle::Sentences | PromptStyle::Tags => {
                (request.with_looks(text, takes), Vec::new())
            }
        }
    }
}

/// Those of [`Request::newcomers`] with their drawing among the pictures of the request.
fn newcomers(request: &Request, text: &str, prompt: &str) -> Vec<Member> {
    let all = request.newcomers(text, prompt).into_iter();
    all.map(|(member, drawing)| Member {
        pictures: vec![request.images.put(drawing)],
        ..member
    })
    .collect()
}

/// A picture prompt with the board's style line before it.
pub(super) fn with_style(style: &str, prompt: &str) -> String {
    match style.trim().trim_end_matches(',') {
        "" => prompt.trim().to_string(),
        style => format!("{style}, {}", prompt.trim()),
    }
}
