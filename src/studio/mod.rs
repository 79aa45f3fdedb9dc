//! The window: the board of panels, the inspector beside it, the composer below.
//!
//! [`state::State`] is the studio without its window: it holds the document, carries out
//! [`actions::Action`]s and folds the engine's events into the story. The other modules draw it.

pub mod actions;
pub mod app;
mod bench;
mod board;
pub mod canvas;
mod card;
pub mod casting;
mod composer;
mod dates;
pub mod dialogs;
mod drop;
mod files;
mod fonts;
mod frame_times;
pub mod framing;
mod header;
mod icons;
mod inspector;
mod keys;
mod live;
mod menus;
pub mod models;
mod plain;
pub mod preferences;
pub mod recent;
mod run;
mod script;
pub mod sheets;
pub mod state;
mod textures;
mod theme;
pub mod toasts;
mod viewer;
mod welcome;
mod widgets;
pub mod work;

pub use bench::{UiBench, bench_ui};
pub use run::{StudioError, StudioOptions, projects_folder, run};
pub use state::{ModelChoice, Storyteller};
