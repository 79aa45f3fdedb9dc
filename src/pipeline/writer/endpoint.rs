//! A writer on a server that speaks OpenAI's chat interface.

use std::ops::ControlFlow;

use super::instruct::InstructWriter;
use super::{Writer, WriterDescription, WriterKind};
use crate::catalogue;
use crate::llm::LlmError;
use crate::llm::chat::{ChatModel, ChatOptions, FinishReason, Message, Reply, VisibleText};
use crate::pipeline::{LoadProgress, PipelineError};
use crate::remote::openai::{self, Endpoint};
use crate::remote::{Address, Client, keys};
use crate::weights::{ComputeDevices, Model};

/// Characters of a token, about: less than in English, so that other scripts fit, too.
const CHARACTERS_A_TOKEN: usize = 3;
/// Tokens of a picture, about: what LLaVA takes for one, and more than Qwen-VL and Gemma do at the
/// size in which they are sent.
const PICTURE_TOKENS: usize = 600;

/// Models that a server was found to offer.
pub(super) struct EndpointKind;

impl WriterKind for EndpointKind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == openai::PIPELINE
    }

    /// Asks the server whether it still has the model, so that one that is off is told at once.
    fn load(
        &self,
        model: &Model,
        _place: &ComputeDevices,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Writer>, PipelineError> {
        let (address, endpoint): (Address, Endpoint) = catalogue::kept(model)?;
        progress(LoadProgress {
            what: format!("{} at {}", endpoint.model, address.host()),
            done: 0,
            of: 1,
        });
        let client = Client::new(address.clone(), keys::find(&address).as_ref())?;
        openai::check_offered(&client, &endpoint.model)?;
        let description = WriterDescription {
            model: model.manifest.id.clone(),
            weights: format!("{} of {address}", endpoint.model),
            device: format!("{} at {}", endpoint.server.label(), address.host()),
            ..WriterDescription::default()
        };
        let chat = EndpointChat { client, endpoint };
        Ok(Box::new(InstructWriter::new(Box::new(chat), description)))
    }
}

struct EndpointChat {
    client: Client,
    endpoint: Endpoint,
}

impl ChatModel for EndpointChat {
    fn context_length(&self) -> usize {
        self.endpoint.context
    }

    fn knows_messages(&self) -> bool {
        true
    }

    fn count(&self, text: &str) -> usize {
        text.chars().count().div_ceil(CHARACTERS_A_TOKEN)
    }

    fn picture_tokens(&self) -> Option<usize> {
        self.endpoint.sees.then_some(PICTURE_TOKENS)
    }

    fn chat(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let mut visible = VisibleText::new("", &options.stop);
        let (mut stopped, mut cancelled) = (false, false);
        let answer = openai::chat(
            &self.client,
            &self.endpoint,
            messages,
            options,
            &mut |piece| {
                let new = visible.push(piece);
                cancelled = sink(&new).is_break();
                stopped = visible.is_stopped();
                if cancelled || stopped {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        );
        let answer = answer.map_err(|error| LlmError::Elsewhere(Box::new(error)))?;
        if cancelled {
            return Ok(None);
        }
        let finish = match answer {
            Some(answer) => answer.finish,
            None => FinishReason::Stop,
        };
        Ok(Some(Reply {
            text: visible.finish(),
            finish,
        }))
    }

    /// Servers take messages; a text to be gone on with is put as one.
    fn complete(
        &mut self,
        text: &str,
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        self.chat(&[Message::user(text)], options, sink)
    }
}
