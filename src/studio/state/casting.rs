//! What the author does with the cast.

use std::sync::Arc;
use std::time::Instant;

use image::RgbaImage;

use super::State;
use crate::story::{
    Edit, ImageId, Member, MemberId, PanelId, Proposal, Retouch, mentioned_members, proposals,
};
use crate::storyworld::library::{self, DrawingId};
use crate::studio::casting::{CastAction, ReferencePlace, called};
use crate::studio::dialogs::{DialogRequest, ImportRole};
use crate::studio::sheets::Sheet;

/// Most that are proposed at a time.
const MOST: usize = 6;

/// Who may belong to the cast.
#[derive(Default)]
pub(super) struct CastProposals {
    proposals: Vec<Member>,
    /// As of this revision of the story.
    revision: Option<u64>,
    /// Those whom the writer named.
    by_writer: Vec<Member>,
}

impl State {
    /// Members that are proposed for the cast: those that the writer named, and names in the texts.
    pub fn proposals(&self) -> &[Member] {
        &self.board.cast_proposals.proposals
    }

    /// Looks for names once the story has changed, unless somebody is typing.
    pub(super) fn look_for_names(&mut self) {
        let now = Some(self.board.document.revision());
        if self.board.cast_proposals.revision != now && self.board.typed.is_none() {
            self.board.cast_proposals.revision = now;
            self.board.cast_proposals.proposals = self.who_may_belong();
        }
    }

    /// Whom the writer named, then names in the texts.
    fn who_may_belong(&self) -> Vec<Member> {
        let story = self.story();
        let dismissed = |name: &str| {
            let mut names = story.dismissed.iter();
            names.any(|other| other.to_lowercase() == name.to_lowercase())
        };
        let by_writer = self.board.cast_proposals.by_writer.iter();
        let new = by_writer.filter(|member| {
            !dismissed(&member.name) && mentioned_members(&story.cast, &member.name).is_empty()
        });
        let mut all: Vec<Member> = new.cloned().collect();
        for Proposal { name, .. } in proposals(story) {
            if mentioned_members(&all, &name).is_empty() {
                all.push(Member {
                    name,
                    ..Member::default()
                });
            }
        }
        all.truncate(MOST);
        all
    }

    /// The writer has said who comes back.
    pub(super) fn cast_proposed(&mut self, cast: Vec<Member>, now: Instant) {
        if cast.is_empty() {
            let words = "The writer found nobody who is not in the cast.";
            self.toasts.note(words, now);
        }
        // Ids tell them apart while names are compared.
        let numbered = cast.into_iter().zip(1..).map(|(member, id)| Member {
            id: MemberId(id),
            ..member
        });
        self.board.cast_proposals.by_writer = numbered.collect();
        self.board.cast_proposals.revision = None;
        self.look_for_names();
    }

    pub(super) fn cast(&mut self, action: CastAction, now: Instant) {
        match action {
            CastAction::New(looks) => {
                let Some(pictures) = self.looks(&looks, now) else {
                    return;
                };
                let id = self.add_member(
                    Member {
                        pictures,
                        ..Member::default()
                    },
                    now,
                );
                self.framing.drop_tool();
                self.view.sheet = Some(Sheet::Member(id));
            }
            CastAction::Open(id) => self.view.sheet = Some(Sheet::Member(id)),
            CastAction::Set(member) => self.edit(Edit::SetMember(*member), now),
            CastAction::Remove(id) => {
                if self.view.sheet == Some(Sheet::Member(id)) {
                    self.view.sheet = None;
                }
                if let Some(removal) = self.board.document.removal(id) {
                    self.edit(removal, now);
                }
            }
            CastAction::Accept(name) => {
                let known = self
                    .board
                    .cast_proposals
                    .proposals
                    .iter()
                    .find(|member| member.name == name);
                let member = known.cloned().unwrap_or(Member {
                    name,
                    ..Member::default()
                });
                self.add_member(member, now);
            }
            CastAction::Ask => self.ask_for_cast(),
            CastAction::Dismiss(name) => {
                let mut dismissed = self.story().dismissed.clone();
                dismissed.push(name);
                self.edit(Edit::SetDismissed(dismissed), now);
            }
            CastAction::Is(id, looks) => {
                if let Some(pictures) = self.looks(&looks, now) {
                    self.seen(id, pictures, now);
                    self.framing.drop_tool();
                }
            }
            CastAction::Into(panel, member, is_in) => {
                let Some(there) = self.panel(panel) else {
                    return;
                };
                let cast = self.story().panel_cast_with(there, member, is_in);
                self.edit(Edit::SetPanelCast { panel, cast }, now);
            }
            CastAction::Drawn(id, drawing) => self.drawn_as(id, drawing, now),
            CastAction::AskPicture(id) => self.ask(DialogRequest::Bring(ImportRole::Looks(id))),
        }
        self.look_for_names();
    }

    fn add_member(&mut self, member: Member, now: Instant) -> MemberId {
        let member = Member {
            id: self.board.document.fresh_member_id(),
            ..member
        };
        let (id, at) = (member.id, self.story().cast.len());
        self.edit(Edit::AddMember { at, member }, now);
        id
    }

    /// A member looks like `drawing` from now on.
    fn drawn_as(&mut self, id: MemberId, drawing: DrawingId, now: Instant) {
        let Some(member) = self.story().member(id).cloned() else {
            return;
        };
        let picture = library::drawing(drawing, library::DRAWING_SIDE);
        // A description that says what the drawing before showed is no word of the author's.
        let before = member.description.trim();
        let is_ours = library::drawn_nouns(before)
            .iter()
            .all(|n| n.drawing.get().noun() == before);
        let member = Member {
            description: match is_ours {
                true => drawing.get().noun().to_owned(),
                false => member.description,
            },
            pictures: vec![self.board.images.put(picture)],
            ..member
        };
        self.edit(Edit::SetMember(member), now);
    }

    /// Brought pictures of a member.
    pub(super) fn put_looks(&mut self, id: MemberId, pictures: Vec<RgbaImage>, now: Instant) {
        let put = |picture| self.board.images.put(Arc::new(picture));
        let pictures = pictures.into_iter().map(put).collect();
        self.seen(id, pictures, now);
    }

    fn seen(&mut self, id: MemberId, pictures: Vec<ImageId>, now: Instant) {
        let Some(mut member) = self.story().member(id).cloned() else {
            return;
        };
        for picture in pictures {
            if !member.pictures.contains(&picture) {
                member.pictures.push(picture);
            }
        }
        let words = match member.pictures.len() {
            1 => format!("{} has a picture now.", called(&member)),
            many => format!("{} has {many} pictures now.", called(&member)),
        };
        self.edit(Edit::SetMember(member), now);
        self.toasts.note(words, now);
    }

    /// The pictures that show somebody; `None` where one is not at hand, which is told.
    fn looks(&mut self, looks: &ReferencePlace, now: Instant) -> Option<Vec<ImageId>> {
        let found = match looks {
            ReferencePlace::Nowhere => return Some(Vec::new()),
            ReferencePlace::Take(panel, take) => {
                let takes = &self.panel(*panel)?.pictures;
                takes.items().get(*take).map(|take| take.image.clone())
            }
            ReferencePlace::Box(panel, [x, y, width, height]) => {
                self.boxed(*panel, [*x, *y, *width, *height])
            }
        };
        if found.is_none() {
            let words = "That picture is not at hand; restore its file or choose another.";
            self.toasts.error(words.to_owned(), now);
        }
        found.map(|id| vec![id])
    }

    fn boxed(&self, panel: PanelId, [x, y, width, height]: [u32; 4]) -> Option<ImageId> {
        let image = &self.panel(panel)?.picture()?.image;
        let picture = self.board.images.get(image)?;
        let cut = Retouch::Crop(x, y, width, height).apply(&picture)?;
        Some(self.board.images.put(Arc::new(cut)))
    }
}
