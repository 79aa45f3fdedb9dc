//! Stories about drawings of the library, with a cast that is given by pictures.

use std::sync::Arc;

use image::{DynamicImage, RgbImage, RgbaImage};

use crate::pipeline::{BoardContext, ContextPanel, Make, Request};
use crate::story::{Images, Member, MemberId, MemberKind, PanelId};
use crate::storyworld::Split;
use crate::storyworld::library::{CompositionRenderer, DRAWING_SIDE, LibraryTale, drawing};

/// Pixels a side of the pictures in context.
pub(super) const SIZE: u32 = 256;

/// A story with its cast and its pictures.
pub(super) struct IllustratedTale {
    pub(super) tale: LibraryTale,
    /// The story's members, each with its drawing; their ids count from 1.
    pub(super) cast: Vec<Member>,
    pub(super) images: Images,
    /// Its panels with their own texts and pictures.
    pub(super) context: Vec<ContextPanel>,
}

impl IllustratedTale {
    /// The held-out story of `seed`, drawn by a renderer of [`SIZE`].
    pub(super) fn new(seed: u64, renderer: &CompositionRenderer) -> Self {
        let tale = LibraryTale::random(seed, Split::HeldOut);
        let images = Images::new();
        let cast = (1..)
            .zip(&tale.members)
            .map(|(id, member)| Member {
                kind: match member.drawing.get().kind.is_character() {
                    true => MemberKind::Character,
                    false => MemberKind::Thing,
                },
                name: member.name.clone(),
                description: member.noun.to_owned(),
                pictures: vec![images.put(drawing(member.drawing, DRAWING_SIDE))],
                ..Member::new(MemberId(id))
            })
            .collect();
        let context = (1..)
            .zip(&tale.panels)
            .map(|(id, panel)| {
                let rgb = renderer.draw(&panel.composition);
                let picture = RgbImage::from_raw(SIZE, SIZE, rgb).unwrap_or_default();
                let picture: RgbaImage = DynamicImage::ImageRgb8(picture).to_rgba8();
                ContextPanel {
                    id: PanelId(id),
                    text: panel.text.clone(),
                    picture: Some(Arc::new(picture)),
                }
            })
            .collect();
        Self {
            tale,
            cast,
            images,
            context,
        }
    }

    /// Who has been in the panels before the one at `panel`.
    pub(super) fn known(&self, panel: usize) -> &[Member] {
        let before = panel.checked_sub(1).and_then(|at| self.tale.panels.get(at));
        &self.cast[..before.map_or(0, |before| before.known)]
    }

    /// What is asked for the picture prompt of a panel: those are in the cast who were in the panels
    /// before it.
    pub(super) fn request(&self, panel: usize) -> Request {
        Request {
            board: BoardContext {
                cast: self.known(panel).to_vec(),
                ..BoardContext::default()
            },
            context: self.context[..panel].to_vec(),
            text: Some(self.context[panel].text.clone()),
            make: Make::Prompt,
            images: self.images.clone(),
            ..Request::default()
        }
    }
}
