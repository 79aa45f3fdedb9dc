//! The procedural picture book: scenes, their pictures, captions and stories. It is the training
//! and evaluation data of the built-in model, drawn afresh by seed instead of stored.

mod backdrop;
mod caption;
mod cast;
mod coreference;
pub mod library;
mod place;
mod plots;
mod reference;
mod render;
mod scene;
mod shapes;
pub mod sheet;
mod tale;
#[cfg(test)]
mod tests;
mod words;

pub use caption::{caption, caption_held_out, description, roughen};
pub use cast::{CHARACTERS, SUBJECTS, Subject, SubjectId, THINGS};
pub use coreference::{MENTION_FEATURES, PanelMentions, Referent, mention_features};
pub use place::{Place, Time, Weather};
pub use reference::{refers, unnamed};
pub use render::Renderer;
pub use scene::{
    FALLS, LAYOUTS, MAX_SUBJECTS, PictureThird, PlacedSubject, Rect, Scene, SceneOptions, Split,
    held_out,
};
pub use tale::{PLOT_COUNT, Tale};
pub use words::{Mentions, is_drawn, is_word, mentions, synonyms, vocabulary, words};
