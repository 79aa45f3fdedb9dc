//! A GGUF file on this machine that answers messages.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::images::ImageReader;
use super::{
    ChatModel, ChatOptions, ChatPrompt, ChatTemplate, EmbeddingStore, FinishReason, ImageEncoder,
    Message, MessagePart, Reasoning, Reply, TemplateOptions, VisibleText,
};
use crate::llm::gguf::Gguf;
use crate::llm::sampling::{TokenChoice, log_probability};
use crate::llm::{
    CausalLm, GgufLm, Hyperparameters, LanguageModelOptions, LlmError, SHIELD, Tokenizer,
};
use crate::nn::gpu::Gpu;

/// The day that templates are told: always the same, so that the same story and seed give the same
/// text on every day. It is the one that Llama's own template falls back to, 26 July 2024.
const TODAY: Duration = Duration::from_secs(1_721_952_000);
/// With fewer weights a model does not follow long orders: SmolLM2 135M and 360M, Gemma 3 270M, Qwen
/// 2.5 0.5B.
const SMALL: u64 = 700_000_000;
/// Stands in a prompt where a picture is. A code point that Unicode keeps for a program's own use.
const PLACE: char = '\u{fdd2}';
/// Tokens back for which a repetition is made less likely.
const RECENT: usize = 64;

/// A network with its tokenizer and template.
pub struct LocalChat {
    network: Box<dyn CausalLm>,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Rows of the output layer that are never written.
    never: Vec<u32>,
    /// The marks between which a picture stands, and the width of the model, where it reads any.
    pictures: Option<((&'static str, &'static str), usize)>,
    seeing: Option<ImageReader>,
    small: bool,
}

impl LocalChat {
    /// Opens a GGUF file, or the first one by name in a folder, for texts as long as the model was
    /// trained for, as far as a cache of one gigabyte holds them, in fewer bits where that is
    /// needed.
    ///
    /// # Errors
    /// When it can't be read, or is no language model that can be used here.
    pub fn open(path: &Path) -> Result<LocalChat, LlmError> {
        Ok(Self::open_on(path, None)?.0)
    }

    /// The same with its layers on a GPU, where there is one and a kernel for all that they do; what
    /// there is none for comes back.
    ///
    /// # Errors
    /// As [`LocalChat::open`], or a GPU that fails.
    pub fn open_on(
        path: &Path,
        gpu: Option<&Gpu>,
    ) -> Result<(LocalChat, Option<String>), LlmError> {
        let gguf = match path.is_dir() {
            true => Gguf::find(path)?,
            false => Gguf::open(path.to_path_buf())?,
        };
        let tokenizer = Tokenizer::read(&gguf)?;
        let template = ChatTemplate::from_header(gguf.header(), &tokenizer)?;
        let hyper = Hyperparameters::from_gguf(gguf.header());
        let hyper = hyper.map_err(|reason| gguf.unusable(reason))?;
        let options = LanguageModelOptions::usual(gguf.header(), &hyper);
        let mut network = GgufLm::from_gguf(&gguf, &options)?;
        let lacking = gpu.map(|gpu| network.move_to(gpu)).transpose()?.flatten();
        let marks = hyper.image_tokens(gguf.header());
        let chat = LocalChat {
            pictures: marks.map(|marks| (marks, hyper.width)),
            small: gguf.header().parameters() < SMALL,
            ..LocalChat::new(Box::new(network), tokenizer, template)
        };
        Ok((chat, lacking))
    }

    /// A model from its parts; without a template it follows no instructions, only goes on with
    /// texts.
    pub fn new(
        network: Box<dyn CausalLm>,
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
    ) -> LocalChat {
        let rows = u32::try_from(network.vocabulary()).unwrap_or(u32::MAX);
        LocalChat {
            never: (0..rows).filter(|id| tokenizer.is_unused(*id)).collect(),
            network,
            tokenizer,
            template,
            pictures: None,
            seeing: None,
            small: false,
        }
    }

    /// The same, taken for too small to follow long orders.
    #[cfg(test)]
    pub(crate) fn small(mut self) -> LocalChat {
        self.small = true;
        self
    }

    #[cfg(test)]
    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    #[cfg(test)]
    pub(super) fn replace_network(&mut self, network: Box<dyn CausalLm>) {
        self.network = network;
    }

    /// The same with an image encoder, so that it reads the pictures in messages.
    ///
    /// # Errors
    /// When the model reads no pictures, or those of another width.
    pub fn with_image_encoder(
        mut self,
        eyes: Box<dyn ImageEncoder>,
    ) -> Result<LocalChat, LlmError> {
        let found = eyes.width();
        match self.pictures {
            Some((_, width)) if width == found => {
                self.seeing = Some(ImageReader::new(eyes));
                Ok(self)
            }
            _ => Err(LlmError::Blind { found }),
        }
    }

    /// The prompt of `messages` as it is read, with the shields of their words, and
    /// [`PLACE`] where each picture stands.
    fn prompt(&self, messages: &[Message]) -> Result<String, LlmError> {
        let shielded: Vec<Message> = messages.iter().map(|m| self.shielded(m)).collect();
        let options = TemplateOptions {
            reasoning: Reasoning::None,
            now: SystemTime::UNIX_EPOCH + TODAY,
        };
        match &self.template {
            Some(template) => Ok(template.render(&shielded, &options)?),
            None => Err(LlmError::NoMessages),
        }
    }

    /// A message as one text. As transformers does it, texts beside a picture are trimmed, and an
    /// empty line stands before and behind it.
    fn shielded(&self, message: &Message) -> Message {
        let mut parts = Vec::new();
        for part in &message.parts {
            match (part, self.seeing.is_some()) {
                (MessagePart::Picture(_), true) => parts.push(None),
                (MessagePart::Picture(_), false) => {}
                (MessagePart::Text(text), _) => {
                    let text = text.replace(PLACE, "\u{fffd}");
                    parts.push(Some(self.tokenizer.shield(&text)));
                }
            }
        }
        let mut content = String::new();
        for (at, part) in parts.iter().enumerate() {
            let Some(text) = part else {
                content.push(PLACE);
                continue;
            };
            let mut text = text.as_str();
            let blank = |c: char| c.is_whitespace() || c == SHIELD;
            if at > 0 && parts[at - 1].is_none() {
                text = text.trim_start_matches(blank);
            }
            if parts.get(at + 1).is_some_and(Option::is_none) {
                text = text.trim_end_matches(blank);
            }
            content.push_str(text);
        }
        Message::new(message.role, content)
    }

    /// The ids of a prompt, and the prompt as people read it; `None` when `go_on` broke.
    fn encode(
        &mut self,
        asked: ChatPrompt<'_>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<(Vec<u32>, String)>, LlmError> {
        let (prompt, shown) = match asked {
            ChatPrompt::Text(text) => (self.tokenizer.shield(text), Vec::new()),
            ChatPrompt::Messages(messages) => {
                let parts = messages.iter().flat_map(|message| &message.parts);
                let shown = parts.filter_map(|part| match part {
                    MessagePart::Picture(picture) => Some(picture),
                    MessagePart::Text(_) => None,
                });
                (self.prompt(messages)?, shown.collect::<Vec<_>>())
            }
        };
        let readable = Tokenizer::unshield(&prompt);
        let (Some(seeing), Some(((begin, end), _))) = (&mut self.seeing, self.pictures) else {
            return Ok(Some((self.tokenizer.encode_prompt(&prompt), readable)));
        };
        let Some(shown) = seeing.ids(&shown, self.network.as_mut(), go_on)? else {
            return Ok(None);
        };
        // A template may leave out a message, but not a part of one.
        let mut shown = shown.into_iter();
        let mut ids = Vec::new();
        let pieces: Vec<&str> = prompt.split(PLACE).collect();
        let last = pieces.len() - 1;
        for (at, piece) in pieces.into_iter().enumerate() {
            let before = if at > 0 {
                format!("{end}\n\n")
            } else {
                String::new()
            };
            let behind = if at < last {
                format!("\n\n{begin}")
            } else {
                String::new()
            };
            let piece = format!("{before}{piece}{behind}");
            match at {
                0 => ids.extend(self.tokenizer.encode_prompt(&piece)),
                _ => ids.extend(self.tokenizer.encode_within(&piece)),
            }
            if at < last {
                ids.extend(shown.next().into_iter().flatten());
            }
        }
        Ok(Some((ids, readable)))
    }

    /// The most tokens of a text, where there is room behind `text`.
    fn check_length(&self, text: &[u32]) -> Result<usize, LlmError> {
        let (tokens, limit) = (text.len(), self.network.context_length());
        match tokens {
            0 => Err(LlmError::NoTokens),
            _ if tokens >= limit => Err(LlmError::TooLong { tokens, limit }),
            _ => Ok(limit),
        }
    }

    fn generate(
        &mut self,
        asked: ChatPrompt<'_>,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let Some((mut text, prompt)) = self.encode(asked, &mut || sink(""))? else {
            return Ok(None);
        };
        let limit = self.check_length(&text)?;
        let start = text.len();
        let end = limit.min(start + options.max_tokens);
        self.network.expect(end);
        let known = self.network.shared(&text);
        tracing::debug!(tokens = start, known, "a prompt is read");
        let mut rng = ChaCha8Rng::seed_from_u64(options.sampling.seed);
        let mut decoder = self.tokenizer.decoder();
        let mut visible = VisibleText::new(&prompt, &options.stop);
        let mut finish = FinishReason::Length;
        while text.len() < end {
            let recent = &text[start..][(text.len() - start).saturating_sub(RECENT)..];
            let recent: BTreeSet<u32> = recent.iter().copied().collect();
            let choice = TokenChoice {
                sampling: &options.sampling,
                used: &recent.into_iter().collect::<Vec<_>>(),
                never: &self.never,
            };
            let stop = &mut || sink("");
            let Some(id) = self.network.next_token(&text, &choice, &mut rng, stop)? else {
                return Ok(None);
            };
            // A control token that ends nothing begins a turn that is not asked for.
            if self.tokenizer.is_end_token(id) || self.tokenizer.is_control(id) {
                finish = FinishReason::Stop;
                break;
            }
            text.push(id);
            let piece = decoder.push(&self.tokenizer, id);
            let piece = visible.push(&piece);
            if sink(&piece).is_break() {
                return Ok(None);
            }
            if visible.is_stopped() {
                finish = FinishReason::Stop;
                break;
            }
        }
        let text = visible.finish();
        Ok(Some(Reply { text, finish }))
    }
}

impl ChatModel for LocalChat {
    fn context_length(&self) -> usize {
        self.network.context_length()
    }

    fn knows_messages(&self) -> bool {
        self.template.is_some()
    }

    fn count(&self, text: &str) -> usize {
        self.tokenizer.encode(text).len()
    }

    fn is_small(&self) -> bool {
        // One that sees is asked with the board's pictures.
        self.small && self.seeing.is_none()
    }

    fn picture_tokens(&self) -> Option<usize> {
        // With the marks and lines around it.
        let seeing = self.seeing.as_ref();
        seeing.map(|seeing| seeing.eyes.tokens() + 4)
    }

    fn keep_seen(&mut self, shelf: Arc<dyn EmbeddingStore>) {
        if let Some(seeing) = &mut self.seeing {
            seeing.shelf = Some(shelf);
        }
    }

    fn log_probabilities(
        &mut self,
        asked: ChatPrompt<'_>,
        answer: &str,
    ) -> Result<Option<Vec<f64>>, LlmError> {
        let go_on = &mut || ControlFlow::Continue(());
        let Some((mut text, _)) = self.encode(asked, go_on)? else {
            return Ok(None);
        };
        let answer = self.tokenizer.encode(answer);
        let tokens = text.len() + answer.len();
        self.check_length(&text)?;
        let limit = self.network.context_length();
        if tokens > limit {
            return Err(LlmError::TooLong { tokens, limit });
        }
        self.network.expect(tokens);
        let mut logits = Vec::new();
        let mut all = Vec::with_capacity(answer.len());
        for id in answer {
            self.network.read(&text, &mut logits, go_on)?;
            all.push(log_probability(&logits, id));
            text.push(id);
        }
        Ok(Some(all))
    }

    fn chat(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        self.generate(ChatPrompt::Messages(messages), options, sink)
    }

    fn complete(
        &mut self,
        text: &str,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        self.generate(ChatPrompt::Text(text), options, sink)
    }
}
