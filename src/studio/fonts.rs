//! The fonts of the window: Nunito, and egui's own for the symbols it lacks.

use std::sync::Arc;

use egui::{FontData, FontDefinitions, FontFamily};

const REGULAR: &[u8] = include_bytes!("../../assets/fonts/Nunito-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/fonts/Nunito-Bold.ttf");

/// Proportional and `story` text in the regular cut, `title` in the bold one.
pub fn definitions() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let symbols = fonts
        .families
        .get(&FontFamily::Proportional)
        .cloned()
        .unwrap_or_default();
    for (name, data) in [("Nunito", REGULAR), ("Nunito Bold", BOLD)] {
        fonts
            .font_data
            .insert(name.to_owned(), Arc::new(FontData::from_static(data)));
    }
    for (family, name) in [
        (FontFamily::Proportional, "Nunito"),
        (FontFamily::Name("story".into()), "Nunito"),
        (FontFamily::Name("title".into()), "Nunito Bold"),
    ] {
        let mut names = vec![name.to_owned()];
        names.extend(symbols.iter().cloned());
        fonts.families.insert(family, names);
    }
    fonts
}
