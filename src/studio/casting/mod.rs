//! The cast in the window: the strip above the board, the sheet of a member, the chips on cards.

pub mod chips;
mod drawings;
pub mod sheet;
pub mod strip;

use std::sync::Arc;

use egui::{Image, Rect, Ui, Vec2};
use image::RgbaImage;

use super::actions::Action;
use super::icons::{self, Icon};
use super::state::State;
use super::textures::Textures;
use super::theme;
use super::widgets::{self, menu_item};
use crate::story::{Member, MemberId, MemberKind, PanelId};
use crate::storyworld::library::DrawingId;

/// What the author does with the cast.
#[derive(Clone, Debug, PartialEq)]
pub enum CastAction {
    /// Somebody new, whose sheet opens.
    New(ReferencePlace),
    /// The sheet of a member.
    Open(MemberId),
    /// A member as it is now.
    Set(Box<Member>),
    /// It is no member any more.
    Remove(MemberId),
    /// The writer says who comes back in the story.
    Ask,
    /// A name of the story's is a member.
    Accept(String),
    /// A name of the story's is none.
    Dismiss(String),
    /// What is seen there is this member.
    Is(MemberId, ReferencePlace),
    /// The member is in the panel, or not.
    Into(PanelId, MemberId, bool),
    /// A picture file for a member.
    AskPicture(MemberId),
    /// A member looks like a drawing of the library.
    Drawn(MemberId, DrawingId),
}

/// Where a member is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ReferencePlace {
    #[default]
    /// No picture is said.
    Nowhere,
    /// A take of a panel.
    Take(PanelId, usize),
    /// Left, top, width and height in pixels of the picture that a panel shows.
    Box(PanelId, [u32; 4]),
}

/// What a member without a name is called in the window.
pub fn called(member: &Member) -> &str {
    match (member.name.trim(), member.kind) {
        ("", MemberKind::Character) => "Somebody",
        ("", MemberKind::Place) => "Some place",
        ("", MemberKind::Thing) => "Something",
        (name, _) => name,
    }
}

/// The lines of a menu that says who is seen there.
pub fn who(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, looks: &ReferencePlace) {
    for member in &state.story().cast {
        if menu_item(ui, &format!("This is {}", called(member)), "", true) {
            actions.push(Action::Cast(CastAction::Is(member.id, looks.clone())));
        }
    }
    if menu_item(ui, "This is somebody new…", "", true) {
        actions.push(Action::Cast(CastAction::New(looks.clone())));
    }
}

/// The first picture of a member that is at hand.
fn face(state: &State, member: &Member) -> Option<(usize, Arc<RgbaImage>)> {
    let mut pictures = member.pictures.iter().enumerate();
    pictures.find_map(|(at, id)| Some((at, state.board.images.shown(id)?)))
}

/// Draws a member's face, or the sign for its kind, into `rect`.
fn paint_face(ui: &Ui, state: &State, textures: &mut Textures, member: &Member, rect: Rect) {
    let p = theme::palette(ui);
    let round = egui::CornerRadius::same((rect.width() / 2.0) as u8);
    ui.painter().rect_filled(rect, round, p.blank);
    match face(state, member) {
        Some((at, picture)) => {
            let texture = textures.thumbnail(ui.ctx(), &member.pictures[at], &picture);
            Image::from_texture((texture.id(), rect.size()))
                .uv(middle(texture.size_vec2()))
                .corner_radius(round)
                .paint_at(ui, rect);
        }
        None => {
            let icon = match member.kind {
                MemberKind::Character => Icon::Person,
                MemberKind::Place => Icon::Place,
                MemberKind::Thing => Icon::Thing,
            };
            let place = Rect::from_center_size(rect.center(), Vec2::splat(rect.width() * 0.6));
            icons::image(ui.ctx(), icon, place.width())
                .tint(p.faint_ink)
                .paint_at(ui, place);
        }
    }
    let edge = egui::Stroke::new(1.0, p.line);
    ui.painter()
        .rect_stroke(rect, round, edge, egui::StrokeKind::Inside);
}

/// The middle square of a picture of `size`, in shares.
fn middle(size: Vec2) -> Rect {
    let short = size.x.min(size.y);
    let share = Vec2::new(short / size.x.max(1.0), short / size.y.max(1.0));
    Rect::from_center_size(egui::pos2(0.5, 0.5), share)
}

/// A small button with a picture before its word, as the strip and the cards have them.
fn pill(
    ui: &mut Ui,
    word: &str,
    name: &str,
    height: f32,
    paint: impl FnOnce(&Ui, Rect),
) -> egui::Response {
    let p = theme::palette(ui);
    let font = egui::FontId::proportional(if height > 30.0 { 14.0 } else { 12.5 });
    let galley = ui.painter().layout_no_wrap(shortened(word), font, p.ink);
    let picture = height - 6.0;
    let size = egui::vec2(picture + galley.size().x + 18.0, height);
    let (rect, response) = ui.allocate_exact_size(size, egui::Sense::click());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, name));
    let hot = response.hovered() || response.has_focus();
    let (fill, line) = if hot {
        (p.accent_soft, p.accent)
    } else {
        (p.card, p.line)
    };
    let round = egui::CornerRadius::same((height / 2.0) as u8);
    ui.painter().rect_filled(rect, round, fill);
    let edge = egui::Stroke::new(1.0, line);
    ui.painter()
        .rect_stroke(rect, round, edge, egui::StrokeKind::Inside);
    let place = Rect::from_min_size(rect.min + Vec2::splat(3.0), Vec2::splat(picture));
    paint(ui, place);
    let at = egui::pos2(place.right() + 6.0, rect.center().y - galley.size().y / 2.0);
    ui.painter().galley(at, galley, p.ink);
    widgets::focus_ring(ui, &response, rect.expand(1.0));
    response.on_hover_cursor(egui::CursorIcon::PointingHand)
}

/// A name that fits a pill.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 22;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let cut: String = name.chars().take(LONGEST - 1).collect();
    format!("{}…", cut.trim_end())
}
