//! The document an author edits: a story of panels with their takes, edit commands with undo and
//! redo, and the project folder it lives in. No model, thread or window.

mod cast;
mod document;
mod edit;
mod folder;
mod images;
mod lock;
mod picture;
mod place;
mod project;
mod record;
mod record_png;
mod rescue;
mod retouch;
mod sweep;
mod takes;
mod written;

pub use cast::{
    Member, MemberId, MemberKind, NameMention, Proposal, mentioned_members, name_mentions,
    proposals,
};
pub use document::Document;
pub use edit::{Edit, EditError};
pub use images::{ImageId, Images};
pub use picture::{PictureFileError, picture_endings, read_picture_file};
pub use place::owner;
pub use project::{Project, ProjectError, SCHEMA_VERSION};
pub use record::{
    Control, FileUse, InitImage, Likeness, LoraUse, Margins, ModelUse, Record, Reference, Region,
    SchedulerName, Settings, Size, TextLength, Upscale, Variation,
};
pub use record_png::{PngError, encode_png, read_record};
pub use rescue::{Rescue, Rescued, rescue_folders};
pub use retouch::{Retouch, Retouched};
pub use sweep::SweptFiles;
pub use takes::{PictureTake, Take, Takes, TextTake};

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a panel for as long as its story lives; never given to another panel of that story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PanelId(pub u64);

impl fmt::Display for PanelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fields of a file that this version does not know, written back as they were read.
pub type UnknownFields = serde_json::Map<String, serde_json::Value>;

/// Whether a field is as it is where a file leaves it out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A title, what holds for all panels, and the panels in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Title of the story; may be empty.
    pub title: String,
    /// Words about the look of all pictures, such as `watercolour, soft light`.
    #[serde(default)]
    pub style: String,
    /// Negative prompt of all pictures.
    #[serde(default, skip_serializing_if = "is_default")]
    pub negative: String,
    /// What the writer is to keep to in all panels: tone, audience, what must not happen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: String,
    /// What is to happen, a line a panel.
    #[serde(default, skip_serializing_if = "is_default")]
    pub plan: Vec<String>,
    /// The cast, in the author's order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cast: Vec<Member>,
    /// Names that were proposed for the cast and are no members for the author.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dismissed: Vec<String>,
    /// The panels, in the order of the board.
    #[serde(default)]
    pub panels: Vec<Panel>,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// One place on the board: what it shows and every take made for it.
///
/// `text` is always the text of the active text take, and empty without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// Id, unique within the story and never used again.
    pub id: PanelId,
    /// The text that is shown: the active take, or what the author made of it.
    #[serde(default)]
    pub text: String,
    /// Texts that were made for the panel.
    #[serde(default)]
    pub texts: Takes<TextTake>,
    /// Pictures that were made for the panel.
    #[serde(default)]
    pub pictures: Takes<PictureTake>,
    /// The picture prompt where the author or a writer set one; none is made of style and text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt: Option<String>,
    /// What the writer is to keep to in this panel: `she must not open the door yet`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: String,
    /// Who is in it where the author has said so; none is found from the text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cast: Option<Vec<MemberId>>,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Story {
    /// The panel with this id, if it is on the board.
    pub fn panel(&self, id: PanelId) -> Option<&Panel> {
        self.panels.iter().find(|panel| panel.id == id)
    }

    /// The title or, without one, the words that the story opens with; empty where there are none
    /// yet.
    pub fn display_title(&self) -> String {
        let title = self.title.trim();
        if !title.is_empty() {
            return title.to_owned();
        }
        let texts = self.panels.iter().map(|panel| panel.text.trim());
        texts
            .map(opening)
            .find(|name| !name.is_empty())
            .unwrap_or_default()
    }

    /// The member with this id, if it is in the cast.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.cast.iter().find(|member| member.id == id)
    }

    /// Every picture that the story names: of takes, of the cast, and those that takes were made
    /// with. One may come more than once.
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        let cast = self.cast.iter().flat_map(|member| &member.pictures);
        let of_takes = self.panels.iter().flat_map(move |panel| {
            let takes = panel.pictures.items();
            let records = takes.iter().filter_map(Take::record);
            let texts = panel.texts.items().iter();
            let named = texts.filter_map(Take::record).chain(records);
            let named = named.flat_map(Record::images);
            takes.iter().map(|take| &take.image).chain(named)
        });
        cast.chain(of_takes)
    }

    /// The plan with `lines` for the panels to come: of those that are told the lines stay.
    ///
    /// ```
    /// use vokenboard::story::{Panel, PanelId, Story};
    ///
    /// let panels = vec![Panel::empty(PanelId(1)), Panel::empty(PanelId(2))];
    /// let plan = vec!["a fox".to_string()];
    /// let story = Story { panels, plan, ..Story::default() };
    /// assert_eq!(story.planned_on(vec!["an owl".into()]), ["a fox", "", "an owl"]);
    /// ```
    pub fn planned_on(&self, lines: Vec<String>) -> Vec<String> {
        let lines_written = self
            .plan
            .iter()
            .cloned()
            .chain(std::iter::repeat(String::new()));
        lines_written.take(self.panels.len()).chain(lines).collect()
    }

    /// Where the panel stands on the board, counted from 0.
    pub fn position(&self, id: PanelId) -> Option<usize> {
        self.panels.iter().position(|panel| panel.id == id)
    }
}

/// The first words of a text, as many as make a name, without what ends a sentence.
fn opening(text: &str) -> String {
    const LONGEST: usize = 40;
    let first = text
        .split(['.', '!', '?', ';', ':', '\n', '。', '！', '？'])
        .next();
    let mut name = String::new();
    for word in first.unwrap_or_default().split_whitespace() {
        if !name.is_empty() && name.chars().count() + word.chars().count() >= LONGEST {
            break;
        }
        if !name.is_empty() {
            name.push(' ');
        }
        // A text without spaces is cut between its letters.
        name.extend(word.chars().take(LONGEST));
    }
    // A name does not end in the middle of "in the".
    let small = [
        "a", "an", "the", "in", "on", "of", "and", "to", "with", "at", "by", "for", "from", "or",
    ];
    let mut words: Vec<&str> = name.split(' ').collect();
    while words.len() > 1 && words.last().is_some_and(|word| small.contains(word)) {
        words.pop();
    }
    let name = words.join(" ");
    name.trim_end_matches([',', '-', '–', '—', ' ']).to_owned()
}

impl Panel {
    /// A panel without text, takes, prompt or cast.
    pub fn empty(id: PanelId) -> Panel {
        Panel {
            id,
            text: String::new(),
            texts: Takes::default(),
            pictures: Takes::default(),
            prompt: None,
            direction: String::new(),
            cast: None,
            unknown: UnknownFields::new(),
        }
    }

    /// Whether the text has changed since the picture that the board shows was drawn from it.
    pub fn picture_is_older(&self) -> bool {
        let record = self.picture().and_then(|take| take.record.as_ref());
        let drawn = record.and_then(|record| record.text.as_deref());
        drawn.is_some_and(|text| text.trim() != self.text.trim())
    }

    /// Whether it has neither a text nor a picture.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.pictures.is_empty()
    }

    /// A panel whose text the author typed.
    ///
    /// ```
    /// use vokenboard::story::{Panel, PanelId};
    ///
    /// let panel = Panel::with_text(PanelId(1), "A fox sleeps.");
    /// assert_eq!(panel.texts.active().unwrap().text, "A fox sleeps.");
    /// assert!(panel.picture().is_none());
    /// ```
    pub fn with_text(id: PanelId, text: impl Into<String>) -> Panel {
        let mut panel = Panel::empty(id);
        panel.set_text(text.into());
        panel
    }

    /// The picture the board shows.
    pub fn picture(&self) -> Option<&PictureTake> {
        self.pictures.active()
    }

    /// The picture that a new text is to describe: one that has no text yet, or that is the
    /// author's own. A picture that was drawn from the text does not stand in the way of another.
    pub fn picture_to_describe(&self) -> Option<&PictureTake> {
        let drawn = |take: &&PictureTake| take.record.as_ref().is_some_and(Record::is_drawn);
        let own = |take: &&PictureTake| self.text.trim().is_empty() || !drawn(take);
        self.picture().filter(own)
    }

    /// The author's own words: they change the active take if the author typed that one too,
    /// and become a take of their own beside generated ones, so that no generated text is lost.
    fn set_text(&mut self, text: String) {
        if self.text == text {
            return;
        }
        match self.texts.active_mut() {
            Some(take) if take.record.is_none() => take.text.clone_from(&text),
            _ => self.texts.push(TextTake::new(text.clone(), None)),
        }
        self.text = text;
    }

    /// Makes `text` that of the active take, after the takes have changed.
    fn show_active_text(&mut self) {
        self.text = self
            .texts
            .active()
            .map(|take| take.text.clone())
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_without_a_title_is_called_by_its_opening() {
        let called = |texts: &[&str]| {
            let panels = texts.iter().zip(1..);
            let panels = panels.map(|(text, id)| Panel::with_text(PanelId(id), *text));
            let story = Story {
                panels: panels.collect(),
                ..Story::default()
            };
            story.display_title()
        };
        assert_eq!(called(&[]), "");
        assert_eq!(
            called(&[
                "",
                "A fox finds a glowing lantern in the snowy forest. It is cold."
            ]),
            "A fox finds a glowing lantern"
        );
        assert_eq!(
            called(&["Once upon a time, far away"]),
            "Once upon a time, far away"
        );
        assert_eq!(
            called(&["狐狸在雪林里发现了一盏灯。"]),
            "狐狸在雪林里发现了一盏灯"
        );
        assert_eq!(called(&[&"a".repeat(500)]).len(), 40);
    }
}
