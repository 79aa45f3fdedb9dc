//! The settings that the inspector shows, and the picture that follows its slider.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::RgbaImage;

use crate::story::{PanelId, Record, Settings};
use crate::studio::live::LivePreview;

/// The live preview that is shown while a slider is held.
pub(super) struct PreviewPicture {
    pub panel: PanelId,
    pub picture: Arc<RgbaImage>,
    pub record: Record,
}

/// The settings of the selected panel and of panels to come, and their live preview.
pub(super) struct Controls {
    /// Settings of panels to come.
    pub next: Settings,
    /// Settings of the selected panel.
    pub panel: Settings,
    /// Panels whose seed is used again; `None` for those to come.
    pub locked: BTreeSet<Option<PanelId>>,
    /// The author chose the seed: the next picture takes it.
    pub seed_chosen: bool,
    /// The author has chosen settings: a model's own no longer replace them.
    pub chosen: bool,
    pub glimpse: Option<PreviewPicture>,
    pub live: LivePreview,
}

impl Controls {
    /// Where nothing is selected or chosen, and the next picture has this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            next: Settings {
                seed,
                ..Settings::default()
            },
            panel: Settings::default(),
            locked: BTreeSet::new(),
            seed_chosen: false,
            chosen: false,
            glimpse: None,
            live: LivePreview::default(),
        }
    }
}
