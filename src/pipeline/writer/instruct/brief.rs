//! What a small model is asked: long orders it repeats or talks about, so that it is given the story as
//! what it told itself, and asked what happens next.

use super::prompts::{PromptPanel, PromptStory, length, one_line};
use crate::llm::chat::Message;
use crate::story::TextLength;

impl PromptStory {
    /// As [`PromptStory::next`], for a small model.
    pub(super) fn next_briefly(&self, panel: &PromptPanel, wanted: TextLength) -> Vec<Message> {
        let mut order = self.about_briefly();
        order.push_str(&match self.texts.is_empty() {
            true => format!("Begin the story in {}.", length(wanted)),
            false => format!(
                "What happens next in the story? Tell it in {}.",
                length(wanted)
            ),
        });
        if let Some(plan) = &panel.plan {
            order.push_str(&format!(" This happens: {}", one_line(plan)));
        }
        if !panel.who.is_empty() {
            order.push_str(&format!(" It is about {}.", panel.who.join(" and ")));
        }
        if panel.last {
            order.push_str(" It is the end of the story.");
        }
        if !panel.direction.trim().is_empty() {
            order.push_str(&format!(" {}", one_line(&panel.direction)));
        }
        self.as_own_story(order)
    }

    /// As [`PromptStory::about`]. It stands behind the story, which so stays in the cache.
    fn about_briefly(&self) -> String {
        let mut about = String::new();
        for line in &self.cast {
            about.push_str(&format!("{}. ", one_line(line).trim_end_matches('.')));
        }
        let directions = self.directions.iter().map(|line| one_line(line));
        for line in directions.filter(|line| !line.is_empty()) {
            about.push_str(&format!("The story is: {}. ", line.trim_end_matches('.')));
        }
        about
    }

    /// As [`PromptStory::plan`], for a small model, which makes no list but tells how the story goes on
    /// in as many sentences.
    pub(super) fn plan_briefly(&self, panels: usize) -> Vec<Message> {
        let mut order = self.about_briefly();
        order.push_str(&match panels {
            1 => "How does the story end? Tell it in one short sentence.".to_string(),
            _ => format!(
                "How does the story go on, and how does it end? Tell it in {panels} short sentences, each about something new."
            ),
        });
        self.as_own_story(order)
    }

    /// The story as what the model has told, and an order behind it.
    fn as_own_story(&self, order: String) -> Vec<Message> {
        let language = self.language.unwrap_or("the language of the story");
        let system = format!("You tell a story, a little at a time. Write in {language}.");
        let mut messages = vec![Message::system(system)];
        let texts = [&self.summary].into_iter().chain(&self.texts);
        let texts: Vec<String> = texts.map(|text| one_line(text)).collect();
        let texts = texts.join(" ");
        if !texts.trim().is_empty() {
            messages.push(Message::user("Tell me a story, a little at a time."));
            messages.push(Message::assistant(texts.trim()));
        }
        messages.push(Message::user(order));
        messages
    }
}
