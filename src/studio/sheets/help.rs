//! Every shortcut, and what the pointer does.

use egui::{Grid, RichText, Ui};

/// What is pressed, and what it does, by where it works.
const KEYS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Story",
        &[
            (
                "Enter",
                "Tell the sentence with a picture; with an empty line, go on",
            ),
            (
                "Esc",
                "Close what is in front; else cancel; else select nothing",
            ),
            ("Ctrl+Z", "Undo; while a mask is painted, its last stroke"),
            ("Ctrl+Shift+Z, Ctrl+Y", "Redo"),
            ("Ctrl+N", "New story"),
            ("Ctrl+O", "Open a story"),
            ("Ctrl+S", "Save"),
            ("Ctrl+Shift+S", "Save as"),
            ("Ctrl+,", "Preferences"),
            ("F1, ?", "This list"),
            (
                "Ctrl+Plus, Ctrl+Minus, Ctrl+0",
                "Larger, smaller, usual size",
            ),
        ],
    ),
    (
        "Board",
        &[
            ("Arrow keys", "The panel beside, above or below"),
            ("Home, End", "The first, the last panel"),
            ("Page Up, Page Down", "A screenful of panels back, on"),
            ("Space", "Enlarge the picture, and back"),
            ("F2", "Write in the panel"),
            ("Ctrl+Enter", "An empty panel after this one"),
            ("Ctrl+D", "Duplicate the panel"),
            ("Ctrl+V", "Put the picture of the clipboard here"),
            ("Ctrl+A", "Select all panels"),
            ("Delete", "Delete what is selected"),
            ("Tab", "On to the next control"),
        ],
    ),
    (
        "Panel text",
        &[
            ("Enter, Esc", "Leave the text"),
            ("Shift+Enter", "A new line"),
        ],
    ),
    (
        "Pointer",
        &[
            ("Click", "Select"),
            ("Double click", "Enlarge the picture"),
            ("Ctrl+click, Shift+click", "Select one more, all between"),
            ("Right click", "A menu of what can be done with it"),
            ("Drag a picture", "Move its panel"),
            ("Drop a file", "A picture for the story, or a story to open"),
        ],
    ),
];

pub(super) fn show(ui: &mut Ui) {
    for (place, keys) in KEYS {
        ui.label(RichText::new(place).strong());
        Grid::new(place)
            .num_columns(2)
            .spacing([18.0, 4.0])
            .show(ui, |ui| {
                for (pressed, does) in keys {
                    ui.label(RichText::new(*pressed).monospace());
                    ui.label(*does);
                    ui.end_row();
                }
            });
        ui.add_space(8.0);
    }
}
