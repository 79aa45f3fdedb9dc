//! The fonts of the window: Nunito, and for letters that it lacks those of the system or, last,
//! egui's own symbols.

use std::sync::Arc;

use egui::{FallbackRequest, FontData, FontDefinitions, FontFamily, FontInsert, FontProvider};
use skrifa::{FontRef, MetadataProvider as _};

use crate::typefaces::{self, BOLD, REGULAR};

/// Proportional and `story` text in the regular cut, `title` in the bold one.
pub(super) fn definitions() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
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
        fonts.families.insert(family, vec![name.to_owned()]);
    }
    fonts
}

/// Finds a font for letters that no font of the window has yet.
pub(super) struct Fallback {
    /// egui's symbols, in its order, for systems that lack them.
    symbols: Vec<(String, Arc<FontData>)>,
}

impl Fallback {
    pub(super) fn new() -> Fallback {
        let usual = FontDefinitions::default();
        let names = usual.families.get(&FontFamily::Proportional);
        let symbols = names.into_iter().flatten().filter_map(|name| {
            let data = usual.font_data.get(name)?;
            Some((name.clone(), Arc::clone(data)))
        });
        Fallback {
            symbols: symbols.collect(),
        }
    }
}

impl FontProvider for Fallback {
    fn font_for(&self, request: &FallbackRequest<'_>) -> Option<FontInsert> {
        let letter = request.cluster.chars().next()?;
        let insert = |name, data| FontInsert {
            name,
            data,
            families: Vec::new(),
        };
        let system = typefaces::fallback(letter).and_then(typefaces::face_data);
        if let Some((name, data, index)) = system {
            return Some(insert(name, FontData::from_blob(Arc::new(data), index)));
        }
        let has = |data: &FontData| {
            let font = FontRef::from_index(data.bytes(), data.index).ok()?;
            font.charmap().map(letter)
        };
        let (name, data) = self.symbols.iter().find(|(_, data)| has(data).is_some())?;
        Some(insert(name.clone(), FontData::clone(data)))
    }
}
