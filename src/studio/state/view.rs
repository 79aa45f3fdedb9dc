//! What of the board is shown, and where the author is in it.

use std::collections::BTreeSet;

use crate::story::PanelId;
use crate::studio::sheets::{Chooser, Sheet};

/// The selection, the cursor, and what lies open over the board.
pub struct View {
    pub selected: Option<PanelId>,
    /// Panels chosen with the selected one, which may be among them.
    pub also: BTreeSet<PanelId>,
    /// The panel whose picture is open large.
    pub large: Option<PanelId>,
    /// The take of that panel that is shown beside it.
    pub compare: Option<usize>,
    pub composer: String,
    pub focus_composer: bool,
    /// The cursor is in the text of the selected panel: the board must not move under it.
    pub editing: bool,
    pub scroll_to: Option<PanelId>,
    /// The cursor goes into the text of this panel once it is drawn.
    pub write_in: Option<PanelId>,
    /// Cards in a row, and rows in view, as last drawn.
    pub columns: usize,
    pub rows: usize,
    /// Whether the author wants the inspector; none where the width of the window decides.
    pub inspector: Option<bool>,
    /// Which words the empty board shows: characters, things or places.
    pub words_shown: usize,
    pub sheet: Option<Sheet>,
    pub chooser: Option<Chooser>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            selected: None,
            also: BTreeSet::new(),
            large: None,
            compare: None,
            composer: String::new(),
            focus_composer: true,
            editing: false,
            scroll_to: None,
            write_in: None,
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
