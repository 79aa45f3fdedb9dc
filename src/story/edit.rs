//! Edit commands, and the changes that undo them.

use thiserror::Error;

use super::{Member, MemberId, Panel, PanelId, PictureTake, Story, Take, Takes, TextTake};

/// One change of a story. Panels are addressed by id, so that a result that arrives late finds
/// its panel wherever the author has moved it meanwhile; takes are addressed by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Sets the title of the story.
    SetTitle(String),
    /// Sets the style, words about the look of all pictures.
    SetStyle(String),
    /// The negative prompt of all panels.
    SetNegative(String),
    /// What the writer keeps to in all panels.
    SetDirection(String),
    /// Sets the plan, a line a panel.
    SetPlan(Vec<String>),
    /// Puts a member before the one at `at`, or last if there is none there.
    /// Its id comes from [`super::Document::fresh_member_id`].
    AddMember {
        /// Position in the cast, from 0.
        at: usize,
        /// The new member.
        member: Member,
    },
    /// Puts a member in place of the one with its id.
    SetMember(Member),
    /// Takes a member out of the cast.
    RemoveMember(MemberId),
    /// Names that are not proposed for the cast again.
    SetDismissed(Vec<String>),
    /// The picture prompt of a panel; `None` is made of style and text again.
    SetPrompt {
        /// The panel.
        panel: PanelId,
        /// The new picture prompt.
        prompt: Option<String>,
    },
    /// What the writer keeps to in one panel.
    SetPanelDirection {
        /// The panel.
        panel: PanelId,
        /// The new direction; empty for none.
        direction: String,
    },
    /// Who is in a panel; `None` is found from its text again.
    SetPanelCast {
        /// The panel.
        panel: PanelId,
        /// The members in it.
        cast: Option<Vec<MemberId>>,
    },
    /// Puts a panel before the one at `at`, or last if there is none there.
    /// Its id comes from [`super::Document::fresh_id`].
    InsertPanel {
        /// Position on the board, from 0.
        at: usize,
        /// The new panel.
        panel: Panel,
    },
    /// Deletes a panel with its takes.
    DeletePanel(PanelId),
    /// Copies a panel with its takes to right behind it, under the id `copy`.
    DuplicatePanel {
        /// The panel that is copied.
        panel: PanelId,
        /// Id of the copy.
        copy: PanelId,
    },
    /// Moves a panel so that `to` is its position afterwards, or last if that is too far.
    MovePanel {
        /// The panel.
        panel: PanelId,
        /// Position afterwards, from 0.
        to: usize,
    },
    /// The author's words. Edits of one panel that follow one another are one step of undo until
    /// [`super::Document::end_typing`].
    SetText {
        /// The panel.
        panel: PanelId,
        /// The whole new text.
        text: String,
    },
    /// Adds a text and makes it active.
    AddText {
        /// The panel.
        panel: PanelId,
        /// The text with its record.
        take: TextTake,
    },
    /// Adds a picture and makes it active. Put its pixels in [`super::Images`] first.
    AddPicture {
        /// The panel.
        panel: PanelId,
        /// The picture with its record.
        take: PictureTake,
    },
    /// Makes a text take the active one.
    ChooseText {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
    },
    /// Makes a picture take the active one.
    ChoosePicture {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
    },
    /// Marks a text take as a favourite, or no longer.
    StarText {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
        /// Whether it is a favourite afterwards.
        starred: bool,
    },
    /// Marks a picture take as a favourite, or no longer.
    StarPicture {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
        /// Whether it is a favourite afterwards.
        starred: bool,
    },
    /// Deletes a text take.
    DeleteText {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
    },
    /// Deletes a picture take.
    DeletePicture {
        /// The panel.
        panel: PanelId,
        /// Index of the take, from 0.
        take: usize,
    },
    /// Several edits as one step of undo: all of them or, if one cannot be made, none.
    Together(Vec<Edit>),
}

/// Why an edit could not be made. The story is as it was.
///
/// [`EditError::NoPanel`] for a generation result means that the author deleted its panel while
/// it was being made: tell the author and drop the result. Undoing the deletion brings the
/// panel back as it was when it was deleted, and the result can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EditError {
    /// The edit names a panel that is not on the board.
    #[error("Panel {0} is no longer on the board; undo its deletion and try again.")]
    NoPanel(PanelId),
    /// The edit names a take that the panel does not have.
    #[error("Panel {panel} has no take {}; choose one of its {count}.", take + 1)]
    NoTake {
        /// The panel.
        panel: PanelId,
        /// Index that was asked for, from 0.
        take: usize,
        /// Number of takes that the panel has.
        count: usize,
    },
    /// A panel with this id is on the board already.
    #[error("Panel {0} is already on the board; give the new panel an id of its own.")]
    PanelExists(PanelId),
    /// The edit names a member that is not in the cast.
    #[error("Member {0} is no longer in the cast; undo its removal and try again.")]
    NoMember(MemberId),
    /// A member with this id is in the cast already.
    #[error("Member {0} is already in the cast; give the new member an id of its own.")]
    MemberExists(MemberId),
}

/// A change that was prepared by an edit and undoes it, or by an undo and redoes it: the state
/// that it brings back. Changes are made in the reverse order of their making, so each finds the
/// story as it was and cannot fail.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Title(String),
    Style(String),
    Negative(String),
    Direction(String),
    Plan(Vec<String>),
    Cast(Vec<Member>),
    Dismissed(Vec<String>),
    Prompt(usize, Option<String>),
    PanelDirection(usize, String),
    PanelCast(usize, Option<Vec<MemberId>>),
    Insert(usize, Box<Panel>),
    Remove(usize),
    Move { from: usize, to: usize },
    Texts(usize, String, Takes<TextTake>),
    Pictures(usize, Takes<PictureTake>),
    Together(Vec<Change>),
}

impl Change {
    /// Makes the change and returns the one that undoes it.
    pub(super) fn apply(self, story: &mut Story) -> Change {
        use std::mem::replace;
        match self {
            Change::Title(title) => Change::Title(replace(&mut story.title, title)),
            Change::Style(style) => Change::Style(replace(&mut story.style, style)),
            Change::Negative(words) => Change::Negative(replace(&mut story.negative, words)),
            Change::Direction(words) => Change::Direction(replace(&mut story.direction, words)),
            Change::Plan(plan) => Change::Plan(replace(&mut story.plan, plan)),
            Change::Cast(cast) => Change::Cast(replace(&mut story.cast, cast)),
            Change::Dismissed(names) => Change::Dismissed(replace(&mut story.dismissed, names)),
            Change::Prompt(at, prompt) => {
                Change::Prompt(at, replace(&mut story.panels[at].prompt, prompt))
            }
            Change::PanelDirection(at, words) => {
                Change::PanelDirection(at, replace(&mut story.panels[at].direction, words))
            }
            Change::PanelCast(at, cast) => {
                Change::PanelCast(at, replace(&mut story.panels[at].cast, cast))
            }
            Change::Insert(at, panel) => {
                story.panels.insert(at, *panel);
                Change::Remove(at)
            }
            Change::Remove(at) => Change::Insert(at, Box::new(story.panels.remove(at))),
            Change::Move { from, to } => {
                let panel = story.panels.remove(from);
                story.panels.insert(to, panel);
                Change::Move { from: to, to: from }
            }
            Change::Texts(at, text, takes) => {
                let panel = &mut story.panels[at];
                Change::Texts(
                    at,
                    replace(&mut panel.text, text),
                    replace(&mut panel.texts, takes),
                )
            }
            Change::Pictures(at, takes) => {
                Change::Pictures(at, replace(&mut story.panels[at].pictures, takes))
            }
            Change::Together(changes) => {
                let mut back: Vec<Change> = changes.into_iter().map(|c| c.apply(story)).collect();
                back.reverse();
                Change::Together(back)
            }
        }
    }
}

impl Change {
    /// Whether this is typing that would bring back the very words that stand there.
    pub(super) fn brings_back_text(&self, story: &Story) -> bool {
        match self {
            Change::Texts(at, text, _) => story.panels[*at].text == *text,
            _ => false,
        }
    }
}

impl Edit {
    /// Makes the edit and returns the change that undoes it, `None` if nothing changed.
    pub(super) fn apply(self, story: &mut Story) -> Result<Option<Change>, EditError> {
        let change = match self {
            Edit::SetTitle(title) => (story.title != title).then_some(Change::Title(title)),
            Edit::SetStyle(style) => (story.style != style).then_some(Change::Style(style)),
            Edit::SetNegative(words) => {
                (story.negative != words).then_some(Change::Negative(words))
            }
            Edit::SetDirection(words) => {
                (story.direction != words).then_some(Change::Direction(words))
            }
            Edit::SetPlan(plan) => (story.plan != plan).then_some(Change::Plan(plan)),
            Edit::AddMember { at, member } => {
                if story.member(member.id).is_some() {
                    return Err(EditError::MemberExists(member.id));
                }
                let mut cast = story.cast.clone();
                cast.insert(at.min(cast.len()), member);
                Some(Change::Cast(cast))
            }
            Edit::SetMember(member) => cast(story, member.id, |cast, at| cast[at] = member)?,
            Edit::RemoveMember(id) => cast(story, id, |cast, at| drop(cast.remove(at)))?,
            Edit::SetDismissed(names) => {
                (story.dismissed != names).then_some(Change::Dismissed(names))
            }
            Edit::SetPrompt { panel, prompt } => {
                let at = position(story, panel)?;
                (story.panels[at].prompt != prompt).then_some(Change::Prompt(at, prompt))
            }
            Edit::SetPanelDirection { panel, direction } => {
                let at = position(story, panel)?;
                let changed = story.panels[at].direction != direction;
                changed.then_some(Change::PanelDirection(at, direction))
            }
            Edit::SetPanelCast { panel, cast } => {
                let at = position(story, panel)?;
                (story.panels[at].cast != cast).then_some(Change::PanelCast(at, cast))
            }
            Edit::InsertPanel { at, panel } => {
                must_be_new(story, panel.id)?;
                let at = at.min(story.panels.len());
                Some(Change::Insert(at, Box::new(panel)))
            }
            Edit::DeletePanel(id) => Some(Change::Remove(position(story, id)?)),
            Edit::DuplicatePanel { panel, copy } => {
                must_be_new(story, copy)?;
                let at = position(story, panel)?;
                let mut panel = story.panels[at].clone();
                panel.id = copy;
                Some(Change::Insert(at + 1, Box::new(panel)))
            }
            Edit::MovePanel { panel, to } => {
                let from = position(story, panel)?;
                let to = to.min(story.panels.len() - 1);
                (from != to).then_some(Change::Move { from, to })
            }
            Edit::SetText { panel, text } => texts(story, panel, |panel| {
                panel.set_text(text);
                Ok(())
            })?,
            Edit::AddText { panel, take } => texts(story, panel, |panel| {
                panel.texts.push(take);
                Ok(())
            })?,
            Edit::ChooseText { panel, take } => texts(story, panel, |panel| {
                must_have(panel.id, &panel.texts, take)?;
                panel.texts.choose(take);
                Ok(())
            })?,
            Edit::StarText {
                panel,
                take,
                starred,
            } => texts(story, panel, |panel| {
                star(panel.id, &mut panel.texts, take, starred)
            })?,
            Edit::DeleteText { panel, take } => texts(story, panel, |panel| {
                must_have(panel.id, &panel.texts, take)?;
                panel.texts.remove(take);
                Ok(())
            })?,
            Edit::AddPicture { panel, take } => pictures(story, panel, |_, takes| {
                takes.push(take);
                Ok(())
            })?,
            Edit::ChoosePicture { panel, take } => pictures(story, panel, |id, takes| {
                must_have(id, takes, take)?;
                takes.choose(take);
                Ok(())
            })?,
            Edit::StarPicture {
                panel,
                take,
                starred,
            } => pictures(story, panel, |id, takes| star(id, takes, take, starred))?,
            Edit::DeletePicture { panel, take } => pictures(story, panel, |id, takes| {
                must_have(id, takes, take)?;
                takes.remove(take);
                Ok(())
            })?,
            Edit::Together(edits) => return together(story, edits),
        };
        Ok(change.map(|change| change.apply(story)))
    }
}

fn together(story: &mut Story, edits: Vec<Edit>) -> Result<Option<Change>, EditError> {
    let before = story.clone();
    let mut back = Vec::new();
    for edit in edits {
        match edit.apply(story) {
            Ok(change) => back.extend(change),
            Err(error) => {
                *story = before;
                return Err(error);
            }
        }
    }
    // Edits may take one another back; a step of undo that changes nothing would puzzle.
    if *story == before {
        return Ok(None);
    }
    back.reverse();
    Ok(Some(Change::Together(back)))
}

fn position(story: &Story, id: PanelId) -> Result<usize, EditError> {
    story.position(id).ok_or(EditError::NoPanel(id))
}

fn must_be_new(story: &Story, id: PanelId) -> Result<(), EditError> {
    match story.position(id) {
        Some(_) => Err(EditError::PanelExists(id)),
        None => Ok(()),
    }
}

fn must_have<T>(panel: PanelId, takes: &Takes<T>, take: usize) -> Result<(), EditError> {
    if take < takes.len() {
        return Ok(());
    }
    Err(EditError::NoTake {
        panel,
        take,
        count: takes.len(),
    })
}

fn star<T: Take>(
    panel: PanelId,
    takes: &mut Takes<T>,
    take: usize,
    starred: bool,
) -> Result<(), EditError> {
    let count = takes.len();
    takes
        .get_mut(take)
        .ok_or(EditError::NoTake { panel, take, count })?
        .set_starred(starred);
    Ok(())
}

/// The change that gives the story the cast that `edit` makes of a copy of it, where the member
/// `id` stands at the place that it is told.
fn cast(
    story: &Story,
    id: MemberId,
    edit: impl FnOnce(&mut Vec<Member>, usize),
) -> Result<Option<Change>, EditError> {
    let at = story.cast.iter().position(|member| member.id == id);
    let at = at.ok_or(EditError::NoMember(id))?;
    let mut cast = story.cast.clone();
    edit(&mut cast, at);
    Ok((cast != story.cast).then_some(Change::Cast(cast)))
}

/// The change that gives a panel the texts that `edit` makes of a copy of it.
fn texts(
    story: &Story,
    id: PanelId,
    edit: impl FnOnce(&mut Panel) -> Result<(), EditError>,
) -> Result<Option<Change>, EditError> {
    let at = position(story, id)?;
    let old = &story.panels[at];
    let mut new = Panel {
        text: old.text.clone(),
        texts: old.texts.clone(),
        ..Panel::empty(id)
    };
    let typed = old.text.clone();
    edit(&mut new)?;
    // An edit that only moves between takes leaves the text to be read from the active one.
    if new.text == typed {
        new.show_active_text();
    }
    let changed = new.text != old.text || new.texts != old.texts;
    Ok(changed.then_some(Change::Texts(at, new.text, new.texts)))
}

/// The change that gives a panel the pictures that `edit` makes of a copy of them.
fn pictures(
    story: &Story,
    id: PanelId,
    edit: impl FnOnce(PanelId, &mut Takes<PictureTake>) -> Result<(), EditError>,
) -> Result<Option<Change>, EditError> {
    let at = position(story, id)?;
    let old = &story.panels[at].pictures;
    let mut new = old.clone();
    edit(id, &mut new)?;
    Ok((new != *old).then_some(Change::Pictures(at, new)))
}
