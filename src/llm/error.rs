use crate::cause::{Cause, first_line};
use std::path::PathBuf;

/// Why a language model cannot be loaded or cannot go on; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    /// A folder has no GGUF file.
    #[error("there is no .gguf file in {}; put the language model there or name its folder", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder has several GGUF files that could be the language model.
    #[error("{} holds more than one language model ({names}); name the file of one", dir.display())]
    Several {
        /// The folder.
        dir: PathBuf,
        /// Names of the files, for people.
        names: String,
    },
    /// A file cannot be opened, mapped or read.
    #[error("{} cannot be read ({reason}); check that it is a file you may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
    /// A mapped file was replaced or cut short while it was in use.
    #[error("{} cannot be read any more: {source}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What has changed.
        source: std::io::Error,
    },
    /// A file is damaged or misses what a language model needs.
    #[error("{} is not a language model this program can use: {reason}; copy the file again or use another one", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// A file is well-formed, but of a kind or with a feature that is not supported.
    #[error("{} {reason}; {remedy}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why it is refused; goes on after the file's name.
        reason: String,
        /// What the author can do about it.
        remedy: String,
    },
    /// `tokenizer.json` or `tokenizer.model` cannot be read or is another model's.
    #[error("{} is not LLaMA's tokenizer ({reason}); restore the file that came with the language model", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// A prompt exceeds the context.
    #[error(
        "the text is {tokens} tokens long, more than the {limit} that the language model can read; shorten it"
    )]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// A token id is beyond the vocabulary.
    #[error(
        "token {id} is not in the language model's vocabulary of {size}; use ids from its own tokenizer"
    )]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of tokens in the vocabulary.
        size: usize,
    },
    /// A slice of embeddings is not a multiple of the width.
    #[error("{found} numbers are not whole embeddings of {width}; give {width} for each token")]
    Embeddings {
        /// Numbers that were given.
        found: usize,
        /// Width of the embeddings.
        width: usize,
    },
    /// The vision projector's output is not as wide as the language model's embeddings.
    #[error(
        "the vision projector's pictures are {found} numbers wide, which this language model does not read; add the model again with the mmproj file that belongs to it"
    )]
    Blind {
        /// Width of the projector's output.
        found: usize,
    },
    /// There is no token to predict the next one from.
    #[error("there is no token to go on from; give at least one")]
    NoTokens,
    /// The chat template failed.
    #[error(transparent)]
    Template(#[from] super::chat::TemplateError),
    /// Messages were given to a model without a chat template.
    #[error(
        "this language model has no chat template, so it follows no instructions; choose an instruct model"
    )]
    NoMessages,
    /// No continuation passed the checks for whole and clean sentences.
    #[error(
        "the language model found no clean sentence to go on with; try another seed or a lower temperature"
    )]
    Speechless,
    /// Of an engine elsewhere.
    #[error(transparent)]
    Elsewhere(Box<dyn std::error::Error + Send + Sync>),
    /// A tensor operation failed.
    #[error("{}", first_line(.0))]
    Tensor(#[source] Cause),
}

impl From<candle_core::Error> for LlmError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}
