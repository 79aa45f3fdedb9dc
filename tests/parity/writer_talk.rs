//! Texts and chats as token ids.

use crate::report::{Error, Outcome, Stage};
use crate::writers::Case;
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use vokenboard::llm::Tokenizer;
use vokenboard::llm::chat::{ChatTemplate, Message, Reasoning, Role, TemplateOptions};
use vokenboard::weights::GgufHeader;

/// `case.json`, as far as words are concerned.
#[derive(Deserialize)]
struct Told {
    bos: Option<u32>,
    add_bos: bool,
    eog: Vec<u32>,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    /// The day, `2026-03-14`.
    now: String,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Said>,
    enable_thinking: Option<bool>,
    prompt: Option<String>,
    ids: Option<Vec<u32>>,
    ids_reference: Option<Vec<u32>>,
    /// What the template says where it refuses the messages.
    raises: Option<String>,
    llamacpp_prompt: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

fn open(case: &Case) -> Result<(Told, GgufHeader, Tokenizer), Error> {
    let header = GgufHeader::read(&std::fs::read(&case.model)?)?;
    let tokenizer = Tokenizer::from_header(&header)?;
    Ok((
        serde_json::from_value(case.json.clone())?,
        header,
        tokenizer,
    ))
}

/// The ids of plain texts, and the tokens that begin a text and end an answer.
pub fn ids(case: &Case, stage: &mut Stage) -> Outcome {
    let (told, _, tokenizer) = open(case)?;
    for (text, ids) in told.texts.iter().zip(&told.ids) {
        stage.same(&format!("{text:?}"), &tokenizer.encode(text), ids);
        stage.same("the text of these ids", &tokenizer.decode(ids), text);
    }
    stage.same("the token that begins a text", &tokenizer.bos(), &told.bos);
    stage.same("whether it is added", &tokenizer.adds_bos(), &told.add_bos);
    stage.same(
        "the tokens that end an answer",
        &tokenizer.end_tokens(),
        &told.eog,
    );
    Ok(())
}

/// Chats rendered by the file's template, and their ids.
pub fn prompt(case: &Case, stage: &mut Stage) -> Outcome {
    let (told, header, tokenizer) = open(case)?;
    let template = ChatTemplate::from_header(&header, &tokenizer)?;
    if told.chats.is_empty() {
        stage.same("whether there is a template", &template.is_some(), &false);
        return Ok(());
    }
    let template = template.ok_or("there is no template")?;
    for chat in told.chats {
        let options = TemplateOptions {
            reasoning: chat
                .enable_thinking
                .map_or(Reasoning::Default, Reasoning::Asked),
            now: day(&told.now)?,
        };
        let messages = chat.messages.iter().map(message);
        let messages: Vec<Message> = messages.collect::<Result<_, Error>>()?;
        let rendered = template.render(&messages, &options);
        let Some(wanted) = chat.prompt else {
            let folded = chat.llamacpp_prompt.unwrap_or_default();
            let raised = chat.raises.unwrap_or_default();
            let right = match rendered {
                // With or without the text that begins it.
                Ok(prompt) => prompt.ends_with(&folded) && !folded.is_empty(),
                Err(said) => said.to_string().contains(raised.trim_end_matches('.')),
            };
            stage.same("whether a refused message is folded or told", &right, &true);
            continue;
        };
        let prompt = rendered?;
        stage.same("the prompt", &prompt, &wanted);
        let ids = tokenizer.encode_prompt(&prompt);
        match chat.ids_reference {
            Some(reference) if reference == ids => stage.same("the ids", &ids, &reference),
            _ => stage.same("the ids", &ids, &chat.ids.ok_or("a chat has no ids")?),
        }
    }
    Ok(())
}

fn message(said: &Said) -> Result<Message, Error> {
    let role = match said.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => return Err(format!("nobody is called {other}").into()),
    };
    Ok(Message::new(role, said.content.clone()))
}

/// The beginning of a day in UTC.
fn day(date: &str) -> Result<SystemTime, Error> {
    let numbers: Vec<i64> = date.split('-').map(str::parse).collect::<Result<_, _>>()?;
    let [year, month, day] = numbers[..] else {
        return Err(format!("{date} is no day").into());
    };
    // Days since 1970, of a calendar whose years begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(days)? * 86_400))
}
