use crate::cause::Cause;
use std::path::PathBuf;

/// Why a language model cannot be loaded or cannot go on; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    #[error("there is no .gguf file in {}; put the language model there or name its folder", dir.display())]
    Missing { dir: PathBuf },
    #[error("{} holds more than one language model ({names}); name the file of one", dir.display())]
    Several { dir: PathBuf, names: String },
    #[error("{} cannot be read ({reason}); check that it is a file you may read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("{} cannot be read any more: {source}", path.display())]
    Changed {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a language model this program can use: {reason}; copy the file again or use another one", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error("{} {reason}; {remedy}", path.display())]
    Refused {
        path: PathBuf,
        reason: String,
        remedy: String,
    },
    #[error("{} is not LLaMA's tokenizer ({reason}); restore the file that came with the language model", path.display())]
    Tokenizer {
        path: PathBuf,
        #[source]
        reason: Cause,
    },
    #[error(
        "the text is {tokens} tokens long, more than the {limit} that the language model can read; shorten it"
    )]
    TooLong { tokens: usize, limit: usize },
    #[error(
        "token {id} is not in the language model's vocabulary of {size}; use ids from its own tokenizer"
    )]
    UnknownToken { id: u32, size: usize },
    #[error("{found} numbers are not whole embeddings of {width}; give {width} for each token")]
    Embeddings { found: usize, width: usize },
    #[error(
        "the vision projector's pictures are {found} numbers wide, which this language model does not read; add the model again with the mmproj file that belongs to it"
    )]
    Blind { found: usize },
    #[error("there is no token to go on from; give at least one")]
    NoTokens,
    #[error(transparent)]
    Template(#[from] super::chat::TemplateError),
    #[error(
        "this language model has no chat template, so it follows no instructions; choose an instruct model"
    )]
    NoMessages,
    #[error(
        "the language model found no clean sentence to go on with; try another seed or a lower temperature"
    )]
    Speechless,
    /// Of an engine elsewhere.
    #[error(transparent)]
    Elsewhere(Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Tensor(String),
}

impl From<candle_core::Error> for LlmError {
    fn from(error: candle_core::Error) -> Self {
        // Without the backtrace that candle appends when one is asked for.
        let text = error.to_string();
        Self::Tensor(text.lines().next().unwrap_or_default().to_owned())
    }
}
