//! A GGUF file on this machine that answers messages.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    ChatModel, ChatOptions, ChatTemplate, Finish, Message, Reasoning, Reply, TemplateOptions,
    Visible,
};
use crate::llm::gguf::Gguf;
use crate::llm::sampling::{draw, penalise};
use crate::llm::{
    CacheType, CausalLm, GgufLm, Hyperparameters, LlmError, LlmMemory, OpenOptions, Tokenizer,
};

/// The day that templates are told: always the same, so that the same story and seed give the same
/// text on every day. It is the one that Llama's own template falls back to, 26 July 2024.
const TODAY: Duration = Duration::from_secs(1_721_952_000);
/// The most memory that the cache of a text may take.
const MAX_CACHE: u64 = 1 << 30;
/// Tokens back for which a repetition is made less likely.
const RECENT: usize = 64;

/// A network with its tokenizer and template.
pub struct LocalChat {
    network: Box<dyn CausalLm>,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Rows of the output layer that are never written.
    never: Vec<u32>,
}

impl LocalChat {
    /// Opens a GGUF file, or the first one by name in a folder, for texts as long as the model was
    /// trained for, as far as a cache of one gigabyte holds them, in fewer bits where that is
    /// needed.
    ///
    /// # Errors
    /// When it can't be read, or is no language model that can be used here.
    pub fn open(path: &Path) -> Result<LocalChat, LlmError> {
        let gguf = match path.is_dir() {
            true => Gguf::find(path)?,
            false => Gguf::open(path.to_path_buf())?,
        };
        let tokenizer = Tokenizer::read(&gguf)?;
        let template = ChatTemplate::from_header(gguf.header(), &tokenizer)?;
        let hyper = Hyperparameters::from_gguf(gguf.header());
        let hyper = hyper.map_err(|reason| gguf.unusable(reason))?;
        let without = LlmMemory::of(gguf.header(), &hyper, 0, CacheType::F16);
        let budget = without.total() + MAX_CACHE;
        let options = OpenOptions::within(gguf.header(), &hyper, budget);
        let network = GgufLm::from_gguf(&gguf, &options)?;
        Ok(LocalChat::new(Box::new(network), tokenizer, template))
    }

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
        }
    }

    /// The prompt of `messages` as it is read, with the shields of their words.
    fn prompt(&self, messages: &[Message]) -> Result<String, LlmError> {
        let shielded: Vec<Message> = messages
            .iter()
            .map(|message| message.map_texts(|text| self.tokenizer.shield(text)))
            .collect();
        let options = TemplateOptions {
            reasoning: Reasoning::None,
            now: SystemTime::UNIX_EPOCH + TODAY,
        };
        match &self.template {
            Some(template) => Ok(template.render(&shielded, &options)?),
            None => Err(LlmError::NoMessages),
        }
    }

    fn generate(
        &mut self,
        prompt: &str,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let mut text = self.tokenizer.encode_prompt(prompt);
        if text.is_empty() {
            return Err(LlmError::NoTokens);
        }
        let limit = self.network.context_length();
        if text.len() >= limit {
            let tokens = text.len();
            return Err(LlmError::TooLong { tokens, limit });
        }
        let start = text.len();
        let end = limit.min(start + options.max_tokens);
        self.network.expect(end);
        let mut rng = ChaCha8Rng::seed_from_u64(options.sampling.seed);
        let mut logits = Vec::new();
        let mut decoder = self.tokenizer.decoder();
        let mut visible = Visible::new(&Tokenizer::unshield(prompt), &options.stop);
        let mut finish = Finish::Length;
        while text.len() < end {
            let read = self.network.read(&text, &mut logits, &mut || sink(""))?;
            if read.is_none() {
                return Ok(None);
            }
            let recent = &text[start..][(text.len() - start).saturating_sub(RECENT)..];
            let recent: BTreeSet<u32> = recent.iter().copied().collect();
            penalise(&mut logits, recent, options.sampling.repetition_penalty);
            for id in &self.never {
                logits[*id as usize] = f32::NEG_INFINITY;
            }
            let id = draw(&logits, &options.sampling, &mut rng);
            // A control token that ends nothing begins a turn that is not asked for.
            if self.tokenizer.is_end(id) || self.tokenizer.is_control(id) {
                finish = Finish::Stop;
                break;
            }
            text.push(id);
            let piece = decoder.push(&self.tokenizer, id);
            let piece = visible.push(&piece);
            if sink(&piece).is_break() {
                return Ok(None);
            }
            if visible.is_stopped() {
                finish = Finish::Stop;
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

    fn chat(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let prompt = self.prompt(messages)?;
        self.generate(&prompt, options, sink)
    }

    fn complete(
        &mut self,
        text: &str,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let text = self.tokenizer.shield(text);
        self.generate(&text, options, sink)
    }
}
