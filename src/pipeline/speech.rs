//! How a voken model is spoken to: the published one in MiniGPT-5's prompts, one of our own in
//! lines of texts and pictures.

use std::sync::Arc;

use super::{ContextPanel, Make};
use crate::llm::{LlamaTokenizer, Tokenizer, unshielded};
use crate::story::Settings;
use crate::voken::{
    ContextInput, GenerationConfig, STOP, SamplingParams, VistPanel, VistTask, VokenIds, inert,
    panel_ids, tidy, vist_prompt,
};

/// Tokenizer and prompt format of a voken model.
pub(super) enum TextFormat {
    Published(Arc<LlamaTokenizer>),
    Own {
        tokenizer: Box<Tokenizer>,
        line_end: u32,
    },
}

impl TextFormat {
    /// The story so far and what is asked, as text and as ids in which the vocabulary's picture
    /// id stands for each picture; where a text is asked for, the last stands for its own.
    pub(super) fn prompt(
        &self,
        context: &[ContextPanel],
        task: VistTask,
        vocabulary: &VokenIds,
    ) -> (String, Vec<u32>) {
        match self {
            TextFormat::Published(tokenizer) => {
                let panels: Vec<VistPanel> = context
                    .iter()
                    .map(|panel| VistPanel {
                        text: panel.text.trim(),
                        picture: panel.picture.is_some(),
                    })
                    .collect();
                let prompt = vist_prompt(&panels, task, 0);
                let ids = tokenizer.encode(&prompt);
                (unshielded(&prompt), ids)
            }
            TextFormat::Own {
                tokenizer,
                line_end,
            } => {
                let panels: Vec<ContextInput> = context
                    .iter()
                    .map(|panel| ContextInput {
                        text: &panel.text,
                        picture: panel.picture.is_some(),
                    })
                    .collect();
                let encode = |text: &str| tokenizer.encode(text);
                let mut ids = panel_ids(&panels, vocabulary.picture, *line_end, &encode);
                let asked = match task {
                    VistTask::Picture(text) => tidy(text),
                    VistTask::Text => "<Img>".to_string(),
                    VistTask::Both => String::new(),
                };
                match task {
                    VistTask::Text => ids.push(vocabulary.picture),
                    _ => ids.extend(encode(&asked)),
                }
                let line = |panel: &ContextInput| {
                    let picture = if panel.picture { " <Img>" } else { "" };
                    format!("{}{picture}\n", tidy(panel.text))
                };
                let context: String = panels.iter().map(line).collect();
                (format!("{context}{asked}"), ids)
            }
        }
    }

    /// What ends a text.
    pub(super) fn stop_sequences(&self) -> Vec<Vec<u32>> {
        match self {
            // `###` as the tokenizer writes it after a word and without a space.
            TextFormat::Published(tokenizer) => {
                let spaced = tokenizer.encode(STOP);
                let joined = tokenizer.encode(&format!("a{STOP}"));
                let alone = tokenizer.encode("a").len();
                let joined = joined.get(alone..).unwrap_or_default().to_vec();
                [spaced, joined]
                    .into_iter()
                    .filter(|s| !s.is_empty())
                    .collect()
            }
            TextFormat::Own { line_end, .. } => vec![vec![*line_end]],
        }
    }

    /// Tokens that may not come in a text.
    pub(super) fn suppress_tokens(&self, make: Make, vocabulary: &VokenIds) -> Vec<u32> {
        let mut suppress_tokens = match (self, make) {
            // Without a picture wanted, none may be asked for.
            (TextFormat::Published(_), Make::Text) => vocabulary.ids(),
            (TextFormat::Published(_), _) => Vec::new(),
            // The model has learnt that a text ends where it asks.
            (TextFormat::Own { .. }, _) => vocabulary.ids().split_off(1),
        };
        if matches!(self, TextFormat::Published(_)) {
            suppress_tokens.push(vocabulary.picture);
        }
        suppress_tokens
    }

    pub(super) fn sampling(&self, settings: &Settings) -> SamplingParams {
        let reference = SamplingParams {
            temperature: settings.temperature,
            top_p: settings.top_p,
            ..SamplingParams::default()
        };
        match self {
            TextFormat::Published(_) => reference,
            // A short sentence needs its articles more than once.
            TextFormat::Own { .. } => SamplingParams {
                repetition_penalty: 1.0,
                ..reference
            },
        }
    }

    /// The words of a generated sequence, without its first id and what ended it.
    pub(super) fn words(
        &self,
        vocabulary: &VokenIds,
        order: &GenerationConfig,
        stops: &[Vec<u32>],
        sequence: &[u32],
    ) -> String {
        let mut ids = sequence.get(1..).unwrap_or_default();
        if let Some(stop) = stops.iter().find(|stop| ids.ends_with(stop)) {
            ids = &ids[..ids.len() - stop.len()];
        }
        let vokens = vocabulary.ids();
        let words: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !vokens.contains(id) && Some(*id) != order.eos)
            .collect();
        self.decode(&words)
    }

    /// The ids of a panel's text.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        match self {
            TextFormat::Published(tokenizer) => tokenizer.encode(&inert(text)),
            TextFormat::Own { tokenizer, .. } => tokenizer.encode(&tidy(text)),
        }
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        match self {
            TextFormat::Published(tokenizer) => tokenizer.decode(ids, true),
            TextFormat::Own { tokenizer, .. } => tokenizer.decode(ids),
        }
    }

    /// Whether the model writes sentences that are to be told once.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, TextFormat::Own { .. })
    }
}
