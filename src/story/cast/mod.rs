//! The cast: characters, places and things that a story comes back to.

mod find;
mod propose;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use find::{NameMention, mentioned_members, name_mentions};
pub use propose::{Proposal, proposals};

use super::record::{FileUse, LoraUse};
use super::{ImageId, Panel, Story, UnknownFields, is_default};

/// Names a member of the cast for as long as its story lives.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member of the cast is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberKind {
    /// A person or animal.
    #[default]
    Character,
    /// A setting, such as a house or a town.
    Place,
    /// An object that matters to the story.
    Thing,
}

/// A member of the cast: how texts call it and how pictures show it.
///
/// ```
/// use vokenboard::story::{Member, MemberId};
///
/// let milo = Member {
///     name: "Milo".to_string(),
///     other_names: vec!["the boy".to_string()],
///     description: "small, red scarf, gap tooth".to_string(),
///     ..Member::new(MemberId(1))
/// };
/// assert_eq!(milo.names().collect::<Vec<_>>(), ["Milo", "the boy"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Id, unique within the story and never used again.
    pub id: MemberId,
    /// Whether it is a character, a place or a thing.
    #[serde(default)]
    pub kind: MemberKind,
    /// Name, as texts call it.
    #[serde(default)]
    pub name: String,
    /// Other names and phrases that texts call it by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub other_names: Vec<String>,
    /// How it looks, in the words of a picture prompt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
    /// Reference pictures; their pixels are kept in [`super::Images`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub pictures: Vec<ImageId>,
    /// A LoRA that was trained on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lora: Option<LoraUse>,
    /// A textual inversion embedding that was trained on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub embedding: Option<FileUse>,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Member {
    /// A character without a name.
    pub fn new(id: MemberId) -> Member {
        Member {
            id,
            ..Member::default()
        }
    }

    /// Its name and its other names, without those that are empty.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(&self.name).chain(&self.other_names);
        all.map(|name| name.trim()).filter(|name| !name.is_empty())
    }
}

impl Story {
    /// Who is in `panel`: those whom the author named, else those whom its text names.
    ///
    /// ```
    /// use vokenboard::story::{Member, MemberId, Panel, PanelId, Story};
    ///
    /// let milo = Member { name: "Milo".into(), ..Member::new(MemberId(1)) };
    /// let panel = Panel::with_text(PanelId(1), "Milo runs.");
    /// let story = Story { cast: vec![milo], panels: vec![panel], ..Story::default() };
    /// assert_eq!(story.in_panel(&story.panels[0]), [MemberId(1)]);
    /// ```
    pub fn in_panel(&self, panel: &Panel) -> Vec<MemberId> {
        match &panel.cast {
            Some(ids) => {
                let there = |id: &&MemberId| self.member(**id).is_some();
                ids.iter().filter(there).copied().collect()
            }
            None => mentioned_members(&self.cast, &panel.text),
        }
    }

    /// The cast of `panel` as it is kept when `member` is put into it or taken out: `None` where
    /// that is what its text says.
    pub fn panel_cast_with(
        &self,
        panel: &Panel,
        member: MemberId,
        is_in: bool,
    ) -> Option<Vec<MemberId>> {
        let mut ids = self.in_panel(panel);
        ids.retain(|id| *id != member);
        if is_in {
            ids.push(member);
        }
        let mut found = mentioned_members(&self.cast, &panel.text);
        let mut same = ids.clone();
        found.sort_unstable();
        same.sort_unstable();
        (found != same).then_some(ids)
    }

    /// The member that is called `name`, by a name or another name, whatever its case.
    pub fn member_called(&self, name: &str) -> Option<&Member> {
        let same = |other: &str| other.to_lowercase() == name.trim().to_lowercase();
        let by_name = self.cast.iter().find(|member| same(member.name.trim()));
        by_name.or_else(|| self.cast.iter().find(|member| member.names().any(same)))
    }
}
