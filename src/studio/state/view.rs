//! What of the board is shown, and where the author is in it.

use std::collections::BTreeSet;

use egui::Rect;

use crate::story::PanelId;
use crate::studio::sheets::{FileChooser, Sheet};

/// The selection, the cursor, and what lies open over the board.
pub struct View {
    /// The selected panel.
    pub selected: Option<PanelId>,
    /// Panels chosen with the selected one, which may be among them.
    pub also: BTreeSet<PanelId>,
    /// The panel whose picture is open large.
    pub large: Option<PanelId>,
    /// The take of that panel that is shown beside it.
    pub compare: Option<usize>,
    /// Which share of the picture the shown take has where both lie over each other; 0 where they stand
    /// side by side.
    pub divider: f32,
    /// Text of the composer, as typed.
    pub composer: String,
    /// The cursor goes into the composer in the next frame.
    pub focus_composer: bool,
    /// The cursor is in the text of the selected panel: the board must not move under it.
    pub editing: bool,
    /// The board moves to this panel in the next frame.
    pub scroll_to: Option<PanelId>,
    /// The cursor goes into the text of this panel once it is drawn.
    pub write_in: Option<PanelId>,
    /// Where the cards in view lie, as last drawn.
    pub cards: Vec<(PanelId, Rect)>,
    /// Cards in a row, and rows in view, as last drawn.
    pub columns: usize,
    /// Rows in view, as last drawn.
    pub rows: usize,
    /// Whether the author wants the inspector; none where the width of the window decides.
    pub inspector: Option<bool>,
    /// Which words the empty board shows: characters, things or places.
    pub words_shown: usize,
    /// What is open over the window.
    pub sheet: Option<Sheet>,
    /// Our own file chooser, where it is open.
    pub chooser: Option<FileChooser>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            selected: None,
            also: BTreeSet::new(),
            large: None,
            compare: None,
            divider: 0.0,
            composer: String::new(),
            focus_composer: true,
            editing: false,
            scroll_to: None,
            write_in: None,
            cards: Vec::new(),
            columns: 3,
            rows: 1,
            inspector: None,
            words_shown: 0,
            sheet: None,
            chooser: None,
        }
    }
}

impl View {
    /// Another board is shown: what pointed into the last one points nowhere.
    pub(super) fn forget_board(&mut self) {
        self.selected = None;
        self.also.clear();
        self.large = None;
        self.compare = None;
        self.write_in = None;
        self.focus_composer = true;
    }
}
