//! What an instruct model is asked, so that it goes on with a story as its author would.
//!
//! What is the same for every order comes first, then the story, which only grows, and what may be
//! another with each panel last: so all that was read for the panel before stays in the cache.

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
    pub(super) texts: Vec<String>,
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
        Message::system(format!(
            "You are the co-author of an illustrated story that is told panel by panel. {} \
             At the end of each message stands an order: answer with what it asks for and nothing else. \
             Texts of the story are plain prose without a title, headings, panel numbers, lists, markup, emoji or remarks; \
             they never repeat what was told, and never speak about the story, the author or yourself.",
            self.in_language()
        ))
    }

    /// What the author says of the whole story, between the story and an order: the cast grows as the
    /// story does, and a direction may change at any time.
    pub(super) fn about(&self) -> String {
        let mut text = String::new();
        if !self.cast.is_empty() {
            text.push_str("Who and what comes back in the story:\n");
            for line in &self.cast {
                text.push_str(&format!("- {}\n", one_line(line)));
            }
        }
        for direction in self.directions.iter().map(|line| one_line(line)) {
            if !direction.is_empty() {
                text.push_str(&format!("The author wants: {direction}\n"));
            }
        }
        text
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
        if !self.texts.is_empty() {
            message.push_str("The story so far:\n\n");
        }
        for (place, texts) in self.texts.iter().enumerate() {
            if !texts.trim().is_empty() {
                message.push_str(&format!("{}\n\n", one_line(texts)));
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
        message.push_str(&self.about());
        message.push_str(order);
        vec![self.system(), message]
    }

    /// The next panel.
    pub(super) fn next(&self, panel: &PromptPanel, wanted: TextLength) -> Vec<Message> {
        let mut order = match self.texts.is_empty() {
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
        let about = self.about();
        message.push_str(&format!(
            "\n\n{about}{order}\nTell of what its picture shows."
        ));
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

    /// What a picture of the last panel of `self` shows, for a model that draws. The panel is read
    /// where the next order has it as well.
    pub(super) fn picture(&self, who: &[String], style: PromptStyle) -> Vec<Message> {
        let form = match style {
            PromptStyle::Tags => {
                "Answer with comma-separated tags in English, at most 25 of one to three words: first who is in the picture and how many (such as 1boy or fox), how they look, what they do, then where, light and camera. No sentences."
            }
            // It draws what nouns name, from left to right.
            PromptStyle::Composition => {
                "Answer with one line in English: first who and what is in the picture, at most three, from left to right, each by the plainest noun for what it is (such as fox, old woman or boat) or by a name of the cast; then where, the time of day and the weather (such as: in the forest at night, snow)."
            }
            PromptStyle::Sentences | PromptStyle::Storyworld => {
                "Answer with one or two plain sentences in English, at most 50 words: who is in the picture and how they look, what they do, where, then light and camera."
            }
        };
        let who = match who.is_empty() {
            true => String::new(),
            false => format!(" In the picture: {}.", who.join(", ")),
        };
        let order = format!(
            "Describe the picture of the last panel of the story for a program that draws and knows nothing of the story.{who} {form} \
             Say only what can be seen, looks instead of names, no thoughts, no sounds, no writing in the picture, no style of drawing."
        );
        self.ask(&order)
    }

    /// The panels of `self` in short.
    pub(super) fn summarise(&self) -> Vec<Message> {
        // Of the story alone, since it is kept for all that is asked later.
        let mut message = self.so_far();
        message.push_str(
            "Tell in at most eight short sentences what happened so far: who the characters are, how they look, where they are, and what is still open.",
        );
        vec![self.system(), message]
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
        for texts in &self.texts {
            text.push_str(&format!("{}\n\n", one_line(texts)));
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
