//! Redoing a picture the way one means it: from this picture, variations, only here, following a
//! sketch, larger, cropped. Which of these there are, the painter says.

mod controls;
mod tools;

pub use controls::show as controls;
pub use tools::{bar, over, room};

use super::canvas::Brush;
use crate::story::{Margins, PanelId, Retouch};

/// What the pointer does on a picture that is open large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Paints what is drawn anew.
    Mask,
    /// Paints a drawing to begin from, or to follow.
    Scribble(PictureUse),
    /// Frames a member of the cast.
    Who,
    /// Frames what stays.
    Crop,
    /// Draws the frame of the picture larger.
    Extend,
}

/// What a picture of the author's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureUse {
    /// To begin from.
    Source,
    /// To follow the shapes of.
    Control,
    /// To say what is drawn anew.
    Mask,
}

/// What the author does with a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameAction {
    /// In the viewer of a panel; none for none any more.
    Take(PanelId, Option<Tool>),
    /// The brush as it is now.
    Brush(Brush),
    /// The pointer paints here, in shares of width and height.
    Stroke([f32; 2]),
    /// The pointer is lifted.
    Lift,
    /// The last stroke is taken back.
    UndoStroke,
    /// What was not painted is, and the other way about.
    Invert,
    /// Nothing is painted any more.
    Clear,
    /// Left, top, right and bottom of what is framed, in pixels; none for nothing.
    Framed(Option<[u32; 4]>),
    /// Pixels that are added at each side.
    Extended(Margins),
    /// What is painted is drawn anew, the rest stays.
    DrawMasked(PanelId),
    /// The crop around the mask is enlarged to the size that the model draws best.
    Enlarged(bool),
    /// What lies outside the frame is drawn.
    DrawOutside(PanelId),
    /// What was scribbled is used.
    UseScribble(PanelId),
    /// A picture file for this.
    Ask(PanelId, PictureUse),
    /// The take that is shown is begun from.
    FromShown(PanelId),
    /// How much is drawn anew, and whether the pointer still holds the slider.
    Strength(f32, bool),
    /// The pointer let go of the slider.
    StrengthReleased,
    /// A picture that begins from the source.
    Draw(PanelId),
    /// How far variations are from the take shown.
    VariationStrength(f32),
    /// Four variations of the take shown.
    Vary(PanelId),
    /// What the next control picture is.
    ControlKind(String),
    /// The file of a ControlNet.
    Controlnet(String),
    /// How many times as large.
    Scale(f32),
    /// The file of an upscaler; empty for none.
    Upscaler(String),
    /// The take shown, larger.
    Enlarge(PanelId),
    /// The take shown, changed by hand.
    Retouch(PanelId, Retouch),
}
