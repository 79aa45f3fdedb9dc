//! Models of the tests: one that says what a script says, and one that sees.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::llm::chat::{
    ChatModel, ChatOptions, ChatTemplate, FinishReason, LocalChat, Message, Reply,
};
use crate::llm::{CacheType, CausalLm, GgufLm, LanguageModelOptions, LlmError, Tokenizer};
use crate::pipeline::writer::WriterDescription;
use crate::pipeline::writer::instruct::InstructWriter;
use crate::weights::GgufHeader;

pub(super) fn header() -> GgufHeader {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tokenizers/qwen3-think/tokenizer.gguf");
    GgufHeader::read(&std::fs::read(file).unwrap()).unwrap()
}

/// Writes what a script says, whatever it reads.
pub(super) struct Scripted {
    vocabulary: usize,
    /// What it says after each prompt that it has not seen, in turn; then the last again.
    answers: Vec<Vec<u32>>,
    asked: usize,
    /// The text it goes on with, and how much of it was prompt.
    text: Vec<u32>,
    prompt: usize,
    /// Whether an answer begins again instead of ending.
    endless: bool,
    end: u32,
}

impl Scripted {
    pub(super) fn new(tokenizer: &Tokenizer, answers: Vec<Vec<u32>>, endless: bool) -> Scripted {
        Scripted {
            vocabulary: tokenizer.len(),
            answers,
            asked: 0,
            text: Vec::new(),
            prompt: 0,
            endless,
            end: tokenizer.token_id("<|im_end|>").unwrap(),
        }
    }
}

impl CausalLm for Scripted {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn context_length(&self) -> usize {
        4096
    }

    fn shared(&self, _: &[u32]) -> usize {
        0
    }

    fn read(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError> {
        if go_on().is_break() {
            return Ok(None);
        }
        let goes_on = ids.len() == self.text.len() + 1 && ids.starts_with(&self.text);
        if !goes_on {
            self.prompt = ids.len();
            self.asked += 1;
        }
        self.text = ids.to_vec();
        let answer = &self.answers[(self.asked - 1).min(self.answers.len() - 1)];
        let at = ids.len() - self.prompt;
        let next = match self.endless && !answer.is_empty() {
            true => answer[at % answer.len()],
            false => answer.get(at).copied().unwrap_or(self.end),
        };
        logits.clear();
        logits.resize(self.vocabulary, -30.0);
        logits[next as usize] = 30.0;
        Ok(Some(()))
    }
}

/// Says what a script says, while a real network reads along, and counts what that has to read.
pub(super) struct Counting {
    script: Scripted,
    network: GgufLm,
    read: Arc<AtomicUsize>,
}

impl CausalLm for Counting {
    fn vocabulary(&self) -> usize {
        self.script.vocabulary()
    }

    fn context_length(&self) -> usize {
        self.network.context_length()
    }

    fn shared(&self, ids: &[u32]) -> usize {
        self.network.shared(ids)
    }

    fn expect(&mut self, tokens: usize) {
        self.network.expect(tokens);
    }

    fn read(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError> {
        let new = ids.len() - self.network.shared(ids);
        self.read.fetch_add(new, Ordering::Relaxed);
        self.network.read(ids, logits, go_on)?;
        self.script.read(ids, logits, go_on)
    }
}

/// A writer that says `answers`, with the number of tokens that its network has read so far.
pub(super) fn counting(
    answers: &[String],
    context: usize,
    small: bool,
) -> (InstructWriter, Arc<AtomicUsize>) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/writers/qwen3-think/model.gguf");
    let cache = CacheType::F16;
    let network = GgufLm::open(&file, &LanguageModelOptions { context, cache }).unwrap();
    let header = header();
    let tokenizer = Tokenizer::from_header(&header).unwrap();
    let template = ChatTemplate::from_header(&header, &tokenizer).unwrap();
    let ids = answers.iter().map(|answer| tokenizer.encode(answer));
    let read = Arc::default();
    let counting = Counting {
        script: Scripted::new(&tokenizer, ids.collect(), false),
        network,
        read: Arc::clone(&read),
    };
    let chat = LocalChat::new(Box::new(counting), tokenizer, template);
    let chat = if small { chat.small() } else { chat };
    let writer = InstructWriter::new(Box::new(chat), WriterDescription::default());
    (writer, read)
}

/// A writer that says `answers`, one after each prompt; control tokens in them are such.
pub(super) fn writer(answers: &[&str], endless: bool) -> InstructWriter {
    let tokenizer = Tokenizer::from_header(&header()).unwrap();
    let ids = answers.iter().map(|answer| tokenizer.encode_prompt(answer));
    scripted(ids.collect(), endless)
}

pub(super) fn scripted(answers: Vec<Vec<u32>>, endless: bool) -> InstructWriter {
    let header = header();
    let tokenizer = Tokenizer::from_header(&header).unwrap();
    let template = ChatTemplate::from_header(&header, &tokenizer).unwrap();
    let network = Scripted::new(&tokenizer, answers, endless);
    let chat = LocalChat::new(Box::new(network), tokenizer, template);
    let description = WriterDescription {
        model: "scripted".to_string(),
        ..WriterDescription::default()
    };
    InstructWriter::new(Box::new(chat), description)
}

/// Sees, and says again what it was asked.
pub(super) struct Seeing {
    pub(super) asked: std::sync::Arc<std::sync::Mutex<Vec<Message>>>,
    pub(super) each: Option<usize>,
    pub(super) small: bool,
}

impl ChatModel for Seeing {
    fn context_length(&self) -> usize {
        4096
    }

    fn knows_messages(&self) -> bool {
        true
    }

    fn count(&self, text: &str) -> usize {
        text.len() / 4
    }

    fn picture_tokens(&self) -> Option<usize> {
        self.each
    }

    fn is_small(&self) -> bool {
        self.small
    }

    fn chat(
        &mut self,
        messages: &[Message],
        _: &ChatOptions,
        _: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        *self.asked.lock().unwrap() = messages.to_vec();
        Ok(Some(Reply {
            text: "A red kite sailed over the roofs.".to_string(),
            finish: FinishReason::Stop,
        }))
    }

    fn complete(
        &mut self,
        _: &str,
        _: &ChatOptions,
        _: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        unreachable!("it knows messages")
    }
}
