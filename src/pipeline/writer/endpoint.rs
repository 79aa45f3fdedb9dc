//! A writer on a server that speaks OpenAI's chat interface.

use std::ops::ControlFlow;

use candle_core::Device;

use super::instruct::InstructWriter;
use super::{Writer, WriterDescription, WriterKind};
use crate::llm::LlmError;
use crate::llm::chat::{ChatModel, ChatOptions, Finish, Message, Reply, Role, Visible};
use crate::pipeline::{LoadProgress, PipelineError};
use crate::remote::openai::{self, Endpoint};
use crate::remote::{Address, Client, keys};
use crate::weights::{Model, Source};

/// Characters of a token, about: less than in English, so that other scripts fit, too.
const CHARACTERS_A_TOKEN: usize = 3;

/// Models that a server was found to offer.
pub(super) struct Kind;

impl WriterKind for Kind {
    fn detect(&self, model: &Model) -> bool {
        model.manifest.pipeline == openai::PIPELINE
    }

    /// Asks the server whether it still has the model, so that one that is off is told at once.
    fn load(
        &self,
        model: &Model,
        _device: &Device,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Writer>, PipelineError> {
        let (address, endpoint) = endpoint(model)?;
        progress(LoadProgress {
            what: format!("{} at {}", endpoint.model, address.host()),
            done: 0,
            of: 1,
        });
        let client = Client::new(address.clone(), keys::find(&address).as_ref())?;
        openai::look_for(&client, &endpoint.model)?;
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

/// Where a model of a server is, and what the server said of it.
fn endpoint(model: &Model) -> Result<(Address, Endpoint), PipelineError> {
    let broken = || {
        PipelineError::Request(format!(
            "what was kept of the model {} can't be read; remove it and add its address again",
            model.manifest.id
        ))
    };
    let Source::Address(address) = &model.source else {
        return Err(broken());
    };
    let address = address.split('#').next().unwrap_or_default();
    let kept = model.manifest.engine.clone().ok_or_else(broken)?;
    let endpoint = serde_json::from_value(kept).map_err(|_| broken())?;
    Ok((Address::parse(address)?, endpoint))
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

    fn chat(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sink: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Reply>, LlmError> {
        let messages: Vec<openai::Message> = messages
            .iter()
            .map(|message| openai::Message {
                role: match message.role {
                    Role::System => openai::Role::System,
                    Role::User => openai::Role::User,
                    Role::Assistant => openai::Role::Assistant,
                },
                text: message.content.clone(),
                pictures: Vec::new(),
            })
            .collect();
        let sampling = &options.sampling;
        let asked = openai::ChatOptions {
            seed: sampling.seed,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            max_tokens: options.max_tokens,
            stop: options.stop.clone(),
        };
        let mut visible = Visible::new("", &options.stop);
        let (mut stopped, mut cancelled) = (false, false);
        let answer = openai::chat(
            &self.client,
            &self.endpoint.model,
            &messages,
            &asked,
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
            Some(answer) if answer.finish == openai::Finish::Length => Finish::Length,
            _ => Finish::Stop,
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
