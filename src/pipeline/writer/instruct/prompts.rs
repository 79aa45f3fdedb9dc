//! What an instruct model is asked, so that it goes on with a story as its author would.
//!
//! The story comes first and the order last: what was read for the panel before stays in the cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use image::RgbaImage;

use crate::llm::chat::{Message, MessagePart};
use crate::pipeline::painter::PromptStyle;
use crate::story::TextLength;

/// The story as prompts give it: summary, texts, pictures, language, directions and cast.
#[derive(Clone, Debug, Default)]
pub(super) struct PromptStory {
    /// The oldest panels in short, where not all can be read.
    pub(super) summary: String,
    /// The texts of the panels before, in order.
    pub(super) told: Vec<String>,
    /// Pictures of these panels by their place in `told`, for a model that sees.
    pub(super) shown: BTreeMap<usize, Arc<RgbaImage>>,
    /// English name of the language.
    pub(super) language: Option<&'static str>,
    /// What the author wants of all panels: tone, audience, what must not happen.
    pub(super) directions: Vec<String>,
    /// A line for each member of the cast.
    pub(super) cast: Vec<String>,
}

/// The panel that is asked for: its line of the plan, direction, picture and cast.
#[derive(Clone, Debug, Default)]
pub(super) struct PromptPanel {
    /// What is to happen in it.
    pub(super) plan: Option<String>,
    /// What happens after it, which it must not tell yet.
    pub(super) later: Option<String>,
    /// Whether the plan ends with it.
    pub(super) last: bool,
    pub(super) direction: String,
    /// Its picture, which its text is to tell of.
    pub(super) picture: Option<Arc<RgbaImage>>,
    /// Who is in it, where the author has said so.
    pub(super) who: Vec<String>,
}

/// How long a panel's text is, in words for the model.
pub(super) fn length(length: TextLength) -> &'static str {
    match length {
        TextLength::Line => "one short line of at most twelve words",
        TextLength::Sentences => "one or two short sentences",
        TextLength::Paragraph => "one paragraph of four to seven sentences",
    }
}

impl PromptStory {
    fn in_language(&self) -> String {
        match self.language {
            Some(language) => format!("Write in {language}, the language of the story."),
            None => "Write in the language of the story.".to_string(),
        }
    }

    /// The same for every order, so that what was read for one is known for the next.
    fn system(&self) -> Message {
        let mut text = format!(
            "You are the co-author of an illustrated story that is told panel by panel. {} \
             At the end of each message stands an order: answer with what it asks for and nothing else. \
             Texts of the story are plain prose without a title, headings, panel numbers, lists, markup, emoji or remarks; \
             they never repeat what was told, and never speak about the story, the author or yourself.",
            self.in_language()
        );
        let directions = self.directions.iter().map(|line| line.trim());
        for direction in directions.filter(|line| !line.is_empty()) {
            text.push_str(&format!("\nThe author wants: {}", one_line(direction)));
        }
        if !self.cast.is_empty() {
            text.push_str("\nWho and what comes back in the story:");
            for line in &self.cast {
                text.push_str(&format!("\n- {}", one_line(line)));
            }
        }
        Message::system(text)
    }

    /// The story as it was told, each picture behind the text of its panel.
    fn so_far(&self) -> Message {
        let mut message = Message::user("");
        if !self.summary.is_empty() {
            message.push_str(&format!(
                "What happened at first, in short:\n\n{}\n\n",
                self.summary
            ));
        }
        if !self.told.is_empty() {
            message.push_str("The story so far:\n\n");
        }
        for (place, told) in self.told.iter().enumerate() {
            if !told.trim().is_empty() {
                message.push_str(&format!("{}\n\n", one_line(told)));
            }
            if let Some(picture) = self.shown.get(&place) {
                message
                    .parts
                    .push(MessagePart::Picture(Arc::clone(picture)));
                message.push_str("\n\n");
            }
        }
        message
    }

    fn ask(&self, order: &str) -> Vec<Message> {
        let mut message = self.so_far();
        message.push_str(order);
        vec![self.system(), message]
    }

    /// The next panel.
    pub(super) fn next(&self, panel: &PromptPanel, wanted: TextLength) -> Vec<Message> {
        let mut order = match self.told.is_empty() {
            true => format!("Write the first panel of a story: {}.", length(wanted)),
            false => format!(
                "Write the next panel: {}. Something new happens in it.",
                length(wanted)
            ),
        };
        if let Some(plan) = &panel.plan {
            order.push_str(&format!("\nWhat happens in it: {}", one_line(plan)));
        }
        if let Some(later) = &panel.later {
            order.push_str(&format!(
                "\nWhat happens later and must not be told yet: {}",
                one_line(later)
            ));
        }
        if panel.last {
            order.push_str("\nIt is the last panel: the story comes to its end.");
        }
        if !panel.who.is_empty() {
            order.push_str(&format!("\nWho is in it: {}", panel.who.join(", ")));
        }
        push_direction(&mut order, &panel.direction);
        let Some(picture) = &panel.picture else {
            return self.ask(&order);
        };
        let mut message = self.so_far();
        message.push_str("This is the picture of the next panel:\n\n");
        message
            .parts
            .push(MessagePart::Picture(Arc::clone(picture)));
        message.push_str(&format!("\n\n{order}\nTell of what its picture shows."));
        vec![self.system(), message]
    }

    /// The text of the next panel, changed.
    pub(super) fn rewrite(&self, text: &str, instruction: &str, direction: &str) -> Vec<Message> {
        let mut order = format!(
            "The text of the next panel is:\n\n{}\n\nRewrite this text. What the author asks of it: {}",
            text.trim(),
            one_line(instruction)
        );
        push_direction(&mut order, direction);
        order.push_str("\nKeep what happens in it, unless the author asks otherwise. Answer with the new text only.");
        self.ask(&order)
    }

    /// What happens in the panels to come.
    pub(super) fn plan(&self, panels: usize) -> Vec<Message> {
        let order = format!(
            "Plan how the story goes on in exactly {panels} more panels{}. \
             Answer with {panels} numbered lines, one for each panel: a short sentence that says what happens in it.",
            match panels {
                1 => ", which brings it to its end",
                2 => ": a turn, then the end",
                _ =>
                    ": at first things begin, then come turns that make it harder, and the last panel ends the story",
            }
        );
        self.ask(&order)
    }

    /// Who and what comes back in it.
    pub(super) fn who_comes_back(&self) -> Vec<Message> {
        self.ask(&super::cast::order())
    }

    /// What a picture of `text` shows, for a model that draws.
    pub(super) fn picture(&self, text: &str, who: &[String], style: PromptStyle) -> Vec<Message> {
        let form = match style {
            PromptStyle::Tags => {
                "Answer with comma-separated tags in English, at most 25 of one to three words: first who is in the picture and how many (such as 1boy or fox), how they look, what they do, then where, light and camera. No sentences."
            }
            PromptStyle::Sentences | PromptStyle::Storyworld | PromptStyle::Stage => {
                "Answer with one or two plain sentences in English, at most 50 words: who is in the picture and how they look, what they do, where, then light and camera."
            }
        };
        let who = match who.is_empty() {
            true => String::new(),
            false => format!("In the picture: {}.\n\n", who.join(", ")),
        };
        let order = format!(
            "This happens in the next panel:\n\n{}\n\n{who}\
             Describe the picture of it for a program that draws and knows nothing of the story. {form} \
             Say only what can be seen, looks instead of names, no thoughts, no sounds, no writing in the picture, no style of drawing.",
            text.trim()
        );
        self.ask(&order)
    }

    /// The panels of `self` in short.
    pub(super) fn summarise(&self) -> Vec<Message> {
        self.ask(
            "Tell in at most eight short sentences what happened so far: who the characters are, how they look, where they are, and what is still open.",
        )
    }

    /// The story as a text to be continued by a model that follows no orders.
    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for line in &self.cast {
            text.push_str(&format!("{}\n", one_line(line)));
        }
        if !self.cast.is_empty() {
            text.push('\n');
        }
        if !self.summary.is_empty() {
            text.push_str(&format!("{}\n\n", self.summary));
        }
        for told in &self.told {
            text.push_str(&format!("{}\n\n", one_line(told)));
        }
        text
    }
}

fn push_direction(order: &mut String, direction: &str) {
    if !direction.trim().is_empty() {
        order.push_str(&format!(
            "\nWhat the author wants of this panel: {}",
            one_line(direction)
        ));
    }
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
