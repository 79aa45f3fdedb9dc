//! A story under edit: every change goes through here and can be undone.

use super::edit::Change;
use super::{Edit, EditError, Member, MemberId, Panel, PanelId, Story};

/// A story with its history. Undo reaches back to where the document was opened.
///
/// A generation result is an edit like any other: it may arrive between two edits of the author,
/// and undo takes back whichever came last.
///
/// ```
/// use vokenboard::story::{Document, Edit, Story};
///
/// let mut document = Document::new(Story::default());
/// document.apply(Edit::SetTitle("The lantern".into())).unwrap();
/// assert_eq!(document.story().title, "The lantern");
/// assert!(document.undo() && document.story().title.is_empty());
/// assert!(document.redo() && !document.can_redo());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Document {
    story: Story,
    next_id: u64,
    /// Members of the cast from here on have not been named; 0 where there was none.
    next_member: u64,
    undo: Vec<Change>,
    redo: Vec<Change>,
    /// The panel whose text the last step of undo typed, while it may still grow.
    typing: Option<PanelId>,
    revision: u64,
}

impl Document {
    /// A document without history. Panels get ids above those in the story.
    pub fn new(story: Story) -> Document {
        Document::with_next_ids(story, 1, 0)
    }

    /// `next_id` and `next_member` are raised above the ids in the story where they are not.
    pub(super) fn with_next_ids(story: Story, next_id: u64, next_member: u64) -> Document {
        let above = story
            .panels
            .iter()
            .map(|panel| panel.id.0.saturating_add(1))
            .max();
        Document {
            next_id: next_id.max(above.unwrap_or(1)),
            next_member: next_member.max(above_cast(&story)),
            story,
            ..Document::default()
        }
    }

    /// The story as it stands.
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// An id no panel of this story has had, not a deleted one either.
    ///
    /// ```
    /// use vokenboard::story::{Document, Edit, Story};
    ///
    /// let mut document = Document::new(Story::default());
    /// let first = document.insert_panel(0);
    /// document.apply(Edit::DeletePanel(first)).unwrap();
    /// assert_ne!(document.fresh_id(), first);
    /// ```
    pub fn fresh_id(&mut self) -> PanelId {
        self.next_id = self.next_id.max(1);
        let id = PanelId(self.next_id);
        self.next_id += 1;
        id
    }

    /// An id no member of this story's cast has had, not a removed one either.
    pub fn fresh_member_id(&mut self) -> MemberId {
        self.next_member = self.next_member.max(1);
        let id = MemberId(self.next_member);
        self.next_member += 1;
        id
    }

    /// Edits that put `members` into the cast, but for those whom a name of it calls already and
    /// those that the author has dismissed.
    pub fn newcomers(&mut self, members: Vec<Member>) -> Vec<Edit> {
        let mut edits = Vec::new();
        for member in members {
            let story = self.story();
            let name = member.name.trim().to_lowercase();
            let dismissed = story
                .dismissed
                .iter()
                .any(|other| other.to_lowercase() == name);
            if dismissed || story.member_called(&member.name).is_some() {
                continue;
            }
            let at = story.cast.len() + edits.len();
            let id = self.fresh_member_id();
            let member = Member { id, ..member };
            edits.push(Edit::AddMember { at, member });
        }
        edits
    }

    /// The edit that takes a member out of the cast and remembers it as dismissed: whom the author
    /// has taken out is neither proposed again nor comes back with the next picture that shows it.
    /// `None` where there is no such member.
    ///
    /// ```
    /// use vokenboard::story::{Document, Member, Story};
    ///
    /// let mut document = Document::new(Story::default());
    /// let bee = Member { name: "bee".into(), ..Member::default() };
    /// for edit in document.newcomers(vec![bee.clone()]) {
    ///     document.apply(edit).unwrap();
    /// }
    /// let removal = document.removal(document.story().cast[0].id).unwrap();
    /// document.apply(removal).unwrap();
    /// assert!(document.newcomers(vec![bee]).is_empty());
    /// ```
    pub fn removal(&self, id: MemberId) -> Option<Edit> {
        let story = self.story();
        let member = story.member(id)?;
        let mut dismissed = story.dismissed.clone();
        for name in member.names() {
            if !dismissed.iter().any(|other| other == name) {
                dismissed.push(name.to_owned());
            }
        }
        Some(Edit::Together(vec![
            Edit::RemoveMember(id),
            Edit::SetDismissed(dismissed),
        ]))
    }

    /// The member that is named next; 0 in a story that never had a cast.
    pub(super) fn next_member(&self) -> u64 {
        self.next_member
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.max(1)
    }

    /// Makes an edit, which clears what could be redone.
    pub fn apply(&mut self, edit: Edit) -> Result<(), EditError> {
        let typing = match &edit {
            Edit::SetText { panel, .. } => Some(*panel),
            _ => None,
        };
        let Some(change) = edit.apply(&mut self.story)? else {
            return Ok(());
        };
        let grows = typing.is_some() && typing == self.typing && self.redo.is_empty();
        self.typing = typing;
        if !grows {
            self.undo.push(change);
        } else if let Some(step) = self.undo.pop_if(|step| step.brings_back_text(&self.story)) {
            // What was typed is typed back: there is nothing left to undo.
            step.apply(&mut self.story);
            self.typing = None;
        }
        self.redo.clear();
        self.revision += 1;
        self.reserve_ids();
        Ok(())
    }

    /// Inserts an empty panel before the one at `at`, or last, and returns its id.
    pub fn insert_panel(&mut self, at: usize) -> PanelId {
        let id = self.fresh_id();
        let panel = Panel::empty(id);
        self.apply(Edit::InsertPanel { at, panel })
            .expect("a fresh id is on no panel, which is all that can fail");
        id
    }

    /// Copies a panel to right behind it and returns the id of the copy.
    ///
    /// ```
    /// use vokenboard::story::{Document, Story};
    ///
    /// let mut document = Document::new(Story::default());
    /// let panel = document.insert_panel(0);
    /// let copy = document.duplicate_panel(panel).unwrap();
    /// assert_eq!(document.story().position(copy), Some(1));
    /// ```
    pub fn duplicate_panel(&mut self, panel: PanelId) -> Result<PanelId, EditError> {
        let copy = self.fresh_id();
        self.apply(Edit::DuplicatePanel { panel, copy })?;
        Ok(copy)
    }

    /// The author has left the text: what is typed next is a step of undo of its own.
    pub fn end_typing(&mut self) {
        self.typing = None;
    }

    /// Takes the last step back. False if there is none.
    pub fn undo(&mut self) -> bool {
        let Some(change) = self.undo.pop() else {
            return false;
        };
        self.redo.push(change.apply(&mut self.story));
        self.typing = None;
        self.revision += 1;
        true
    }

    /// Takes the last step back for good: it cannot be made again. False if there is none.
    pub fn take_back(&mut self) -> bool {
        let undone = self.undo();
        if undone {
            self.redo.pop();
        }
        undone
    }

    /// Makes the step again that was undone last. False if there is none.
    pub fn redo(&mut self) -> bool {
        let Some(change) = self.redo.pop() else {
            return false;
        };
        self.undo.push(change.apply(&mut self.story));
        self.typing = None;
        self.revision += 1;
        true
    }

    /// Whether there is an edit to undo.
    pub fn can_undo(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Whether there is an undone edit to redo.
    pub fn can_redo(&self) -> bool {
        !self.redo.is_empty()
    }

    /// Grows with every change: a board drawn or saved at this revision is up to date.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The document as it stands, for saving it on another thread.
    pub fn without_history(&self) -> Document {
        Document {
            story: self.story.clone(),
            next_id: self.next_id,
            next_member: self.next_member,
            revision: self.revision,
            ..Document::default()
        }
    }

    /// An id that came with an edit, not from [`Document::fresh_id`], is taken from then on.
    fn reserve_ids(&mut self) {
        let above = self.story.panels.iter().map(|p| p.id.0.saturating_add(1));
        self.next_id = above.fold(self.next_id, u64::max);
        self.next_member = self.next_member.max(above_cast(&self.story));
    }
}

/// The lowest member id above those in the story; 0 without a cast.
fn above_cast(story: &Story) -> u64 {
    let ids = story.cast.iter().map(|member| member.id.0);
    ids.max().map_or(0, |id| id.saturating_add(1))
}
