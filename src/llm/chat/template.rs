//! The chat template in a GGUF file: a Jinja text that turns messages into a prompt, rendered with
//! the settings of transformers (`apply_chat_template`).
//!
//! Templates come from the internet, so work, memory and recursion are bounded.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;

use super::{Message, MessagePart, Role};
use crate::llm::Tokenizer;
use crate::weights::GgufHeader;

/// What a template may do: one for each instruction and each 64 bytes that it makes.
const FUEL: u64 = 1 << 20;
const RECURSION: usize = 64;
/// The longest template that is read.
const MAX_SOURCE: usize = 1 << 20;
const NAME: &str = "chat";
/// What models without a template are spoken to in, where they know its marks.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const CHATML_MARKS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Why a template gives no prompt; each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template itself says no to these messages.
    #[error("the model's chat template refuses these messages: {0}")]
    Raised(String),
    /// The template exceeds a limit, of its length or of its running time.
    #[error(
        "the model's chat template does more than a template may ({0}); use another copy of the model"
    )]
    Unbounded(String),
    /// The template is not valid Jinja or uses what is not supported.
    #[error("the model's chat template cannot be used ({0}); use another copy of the model")]
    Unusable(String),
}

/// Whether the model reasons before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// The template decides.
    Default,
    /// The template's `enable_thinking` is set.
    Asked(bool),
    /// No thought is made: beside `enable_thinking`, a thought that the template opens is closed,
    /// and gpt-oss is led to its final channel.
    None,
}

/// Variables that a template gets beside the messages.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Whether the model is asked to think first.
    pub reasoning: Reasoning,
    /// What `strftime_now` tells, in UTC.
    pub now: SystemTime,
}

/// A chat template, ready to be used.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
    /// Whether what the system says reaches the prompt.
    hears_system: bool,
}

impl ChatTemplate {
    /// The template of a file, or ChatML where the file has none but knows its marks; `None` where
    /// the model was not made to be spoken to.
    ///
    /// # Errors
    /// When the template is no Jinja.
    pub fn from_header(
        header: &GgufHeader,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, TemplateError> {
        let knows = |mark: &str| tokenizer.token_id(mark).is_some();
        let source = match header.string("tokenizer.chat_template") {
            Some(source) => source,
            None if CHATML_MARKS.iter().all(|mark| knows(mark)) => CHATML,
            None => return Ok(None),
        };
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .map(str::to_owned)
        };
        ChatTemplate::new(source, text(tokenizer.bos()), text(tokenizer.eos())).map(Some)
    }

    /// `bos` and `eos` are the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    /// When `source` is no Jinja.
    pub fn new(
        source: &str,
        bos: Option<String>,
        eos: Option<String>,
    ) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE {
            let reason = format!("it is {} bytes long", source.len());
            return Err(TemplateError::Unbounded(reason));
        }
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        let syntax = syntax.build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Unusable(words(&error)))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
            },
        );
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TemplateError::Unusable(words(&error)))?;
        let mut template = ChatTemplate {
            environment,
            bos,
            eos,
            hears_system: true,
        };
        template.hears_system = template.tries_system();
        Ok(template)
    }

    /// Whether a probe that the system says comes out again.
    fn tries_system(&self) -> bool {
        const PROBE: &str = "probe-of-the-system-role";
        let messages = [Message::system(PROBE), Message::user("u")];
        let options = TemplateOptions {
            reasoning: Reasoning::Default,
            now: SystemTime::UNIX_EPOCH,
        };
        let rendered = self.render_as_is(&messages, &options);
        rendered.is_ok_and(|rendered| rendered.contains(PROBE))
    }

    /// The prompt of `messages`, which ends where the answer begins. What the system says goes into
    /// the first message of the user where the template has no role for it.
    ///
    /// # Errors
    /// When the template refuses the messages, or does too much.
    pub fn render(
        &self,
        messages: &[Message],
        options: &TemplateOptions,
    ) -> Result<String, TemplateError> {
        let mut prompt = match self.hears_system {
            true => self.render_as_is(messages, options)?,
            false => self.render_as_is(&folded(messages), options)?,
        };
        if options.reasoning == Reasoning::None {
            let end = prompt.trim_end();
            if end.ends_with("<think>") {
                prompt.push_str("\n</think>\n\n");
            } else if end.ends_with("<|start|>assistant") {
                prompt.push_str("<|channel|>final<|message|>");
            }
        }
        Ok(prompt)
    }

    fn render_as_is(
        &self,
        messages: &[Message],
        options: &TemplateOptions,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.text() })
            .collect();
        let thinking = match options.reasoning {
            Reasoning::Default => Value::UNDEFINED,
            Reasoning::Asked(wanted) => wanted.into(),
            Reasoning::None => false.into(),
        };
        let effort = match options.reasoning {
            Reasoning::None => Value::from("low"),
            _ => Value::UNDEFINED,
        };
        let text = |text: &Option<String>| text.clone().map_or(Value::UNDEFINED, Value::from);
        let since = options.now.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs() as i64);
        let now = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let strftime = Value::from_function(move |format: &str| strftime(now, format));
        // What is undefined must not be there at all: `is defined` would otherwise hold for it.
        let all = context! {
            messages,
            add_generation_prompt => true,
            tools => (),
            documents => (),
            strftime_now => strftime,
            bos_token => text(&self.bos),
            eos_token => text(&self.eos),
            enable_thinking => thinking,
            reasoning_effort => effort,
        };
        let template = self.environment.get_template(NAME);
        template.and_then(|t| t.render(all)).map_err(|error| {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(this) = cause {
                if this.is::<Raised>() {
                    return TemplateError::Raised(raised_words(&error));
                }
                cause = this.source();
            }
            match error.kind() {
                ErrorKind::OutOfFuel => TemplateError::Unbounded("it does not end".to_string()),
                _ => TemplateError::Unusable(words(&error)),
            }
        })
    }
}

/// Marks an error as one that the template raised itself.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Raised;

/// What a template said as it refused.
fn raised_words(error: &Error) -> String {
    let reason = error.detail().unwrap_or("it does not say why");
    one_line(reason)
}

fn words(error: &Error) -> String {
    let line = error.line().map(|line| format!(" in line {line}"));
    let detail = error.detail().map(|detail| format!(": {detail}"));
    let reason = format!(
        "{}{}{}",
        error.kind(),
        detail.unwrap_or_default(),
        line.unwrap_or_default()
    );
    one_line(&reason)
}

/// The start of a text in one line, as part of a sentence.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    line.chars().take(200).collect()
}

/// Messages of which the system's are put before the first one of the user.
fn folded(messages: &[Message]) -> Vec<Message> {
    let (system, mut rest): (Vec<Message>, Vec<Message>) = messages
        .iter()
        .cloned()
        .partition(|m| m.role == Role::System);
    if system.is_empty() {
        return rest;
    }
    let instructions: Vec<String> = system.iter().map(Message::text).collect();
    let instructions = instructions.join("\n");
    match rest.iter_mut().find(|message| message.role == Role::User) {
        Some(first) => first
            .parts
            .insert(0, MessagePart::Text(format!("{instructions}\n"))),
        None => rest.insert(0, Message::user(instructions)),
    }
    rest
}

/// transformers marks what an assistant generated with tags of its own; they change no text.
fn without_generation_tags(source: &str) -> String {
    let mut text = source.to_string();
    for (tag, plain) in [("generation", "if true"), ("endgeneration", "endif")] {
        for start in ["{%", "{%-", "{%+"] {
            for end in ["%}", "-%}", "+%}"] {
                for space in ["", " "] {
                    let from = format!("{start}{space}{tag}{space}{end}");
                    text = text.replace(&from, &format!("{start} {plain} {end}"));
                }
            }
        }
    }
    text
}

fn strftime(now: DateTime<Utc>, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
        let reason = format!("strftime_now does not know the format {format:?}");
        Error::new(ErrorKind::InvalidOperation, reason)
    })?;
    Ok(text)
}

/// JSON as Python's `json.dumps` writes it, with every character as it is.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // What else Python knows changes nothing in the text of a template's own values.
    for known in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Value> = options.get(known)?;
    }
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut bytes, pretty,
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, PythonJson,
        )),
    };
    let failed = |reason: String| Error::new(ErrorKind::BadSerialization, reason);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// `, ` and `: ` between values, as Python writes them.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
