//! The document an author edits. See ARCHITECTURE.md.

mod record;

pub use record::{Record, SchedulerKind, Settings};

use serde::{Deserialize, Serialize};

/// Names a panel for as long as its story lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PanelId(pub u64);
