//! The fonts of the program and, where a text has letters that those lack, of the system: one rule
//! for the window and for the sheet.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fontdb::{Database, FaceInfo, ID, Source, Stretch, Style, Weight};
use skrifa::{FontRef, MetadataProvider as _};

pub(crate) const REGULAR: &[u8] = include_bytes!("../assets/fonts/Nunito-Regular.ttf");
pub(crate) const BOLD: &[u8] = include_bytes!("../assets/fonts/Nunito-Bold.ttf");

/// The family of the bundled font.
pub(crate) const FAMILY: &str = "Nunito";

/// The bundled faces alone.
pub(crate) fn bundled() -> Arc<Database> {
    static BUNDLED: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Database::new();
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(BOLD.to_vec());
        fonts.set_sans_serif_family(FAMILY);
        fonts.set_serif_family(FAMILY);
        Arc::new(fonts)
    });
    BUNDLED.clone()
}

/// The bundled faces and those of the system, whose files are looked through when this is first
/// called: a moment, so it waits until a text needs one.
pub(crate) fn with_system() -> Arc<Database> {
    static ALL: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Arc::unwrap_or_clone(bundled());
        for folder in system_folders() {
            fonts.load_fonts_dir(folder);
        }
        Arc::new(fonts)
    });
    ALL.clone()
}

/// Where the system and its user keep fonts.
fn system_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = [
        "/usr/share/fonts",
        "/usr/local/share/fonts",
        "/System/Library/Fonts",
        "/Library/Fonts",
        "C:\\Windows\\Fonts",
    ]
    .map(PathBuf::from)
    .into();
    let dirs = directories::UserDirs::new();
    folders.extend(dirs.and_then(|dirs| dirs.font_dir().map(PathBuf::from)));
    folders
}

/// The face of [`with_system`] that draws a letter which the bundled font lacks; none where no
/// font has it.
pub(crate) fn fallback(letter: char) -> Option<ID> {
    static KNOWN: LazyLock<Mutex<HashMap<char, Option<ID>>>> = LazyLock::new(Mutex::default);
    // A panic while the map was held cannot leave it torn.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(letter).or_insert_with(|| find(letter))
}

fn find(letter: char) -> Option<ID> {
    static ORDER: LazyLock<Vec<ID>> = LazyLock::new(order);
    let fonts = with_system();
    let emoji = is_emoji(letter);
    let has = |id: &&ID| has_letter(&fonts, **id, letter);
    let coloured = |id: &&ID| fonts.face(**id).is_some_and(|face| named(face, "emoji"));
    let first = emoji
        .then(|| ORDER.iter().filter(coloured).find(has))
        .flatten();
    first.or_else(|| ORDER.iter().find(has)).copied()
}

/// Upright, regular faces, sans serif ones first since a letter is drawn with the first face that
/// has it. In a fixed order, so that a text looks the same each time.
fn order() -> Vec<ID> {
    let fonts = with_system();
    let plain = |face: &&FaceInfo| {
        face.style == Style::Normal
            && face.weight == Weight::NORMAL
            && face.stretch == Stretch::Normal
            && !face.families.iter().any(|(name, _)| name == FAMILY)
    };
    let mut faces: Vec<&FaceInfo> = fonts.faces().filter(plain).collect();
    let han = han_of(&std::env::var("LANG").unwrap_or_default());
    faces.sort_by_cached_key(|face| {
        (
            !named(face, "sans"),
            named(face, "mono"),
            // The same character is written otherwise in Japan, Korea, Taiwan and China.
            named(face, "cjk") && !named(face, han),
            face.post_script_name.clone(),
        )
    });
    faces.iter().map(|face| face.id).collect()
}

/// What fonts for several countries call the one of a locale.
fn han_of(locale: &str) -> &'static str {
    match locale.get(..5).unwrap_or_default() {
        tag if tag.starts_with("ja") => "cjk jp",
        tag if tag.starts_with("ko") => "cjk kr",
        "zh_TW" => "cjk tc",
        "zh_HK" => "cjk hk",
        _ => "cjk sc",
    }
}

fn named(face: &FaceInfo, part: &str) -> bool {
    let mut names = face.families.iter();
    names.any(|(name, _)| name.to_ascii_lowercase().contains(part))
}

fn has_letter(fonts: &Database, id: ID, letter: char) -> bool {
    let mapped = fonts.with_face_data(id, |data, index| {
        let font = FontRef::from_index(data, index).ok()?;
        font.charmap().map(letter)
    });
    mapped.flatten().is_some()
}

/// Whether a letter is a picture, which has colours where a font has it so.
fn is_emoji(letter: char) -> bool {
    matches!(letter, '\u{231a}'..='\u{23ff}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}'
        | '\u{1f000}'..='\u{1faff}')
}

/// The family of a face.
pub(crate) fn family(id: ID) -> Option<String> {
    let fonts = with_system();
    let (name, _) = fonts.face(id)?.families.first()?;
    Some(name.clone())
}

/// A face's name, file and index in it.
pub(crate) fn face_data(id: ID) -> Option<(String, Vec<u8>, u32)> {
    let fonts = with_system();
    let face = fonts.face(id)?;
    let data = match &face.source {
        Source::Binary(data) => data.as_ref().as_ref().to_vec(),
        Source::File(path) | Source::SharedFile(path, _) => std::fs::read(path).ok()?,
    };
    Some((face.post_script_name.clone(), data, face.index))
}

/// Whether the text is read from right to left: its first letter with a direction is.
pub(crate) fn is_right_to_left(text: &str) -> bool {
    let direction = unicode_bidi::get_base_direction(text);
    direction == unicode_bidi::Direction::Rtl
}

/// Whether anything in the text is read from right to left.
pub(crate) fn has_right_to_left(text: &str) -> bool {
    text.chars().any(|c| {
        use unicode_bidi::BidiClass::{AL, R};
        matches!(unicode_bidi::bidi_class(c), R | AL)
    })
}

/// Fonts are found by [`fallback`] in the sheet as well.
pub(crate) fn resolver() -> resvg::usvg::FontResolver<'static> {
    resvg::usvg::FontResolver {
        select_fallback: Box::new(|letter, used, _: &mut Arc<Database>| {
            fallback(letter).filter(|id| !used.contains(id))
        }),
        ..resvg::usvg::FontResolver::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_a_text_is_that_of_its_first_letter() {
        assert!(is_right_to_left("שלום fox"));
        assert!(!is_right_to_left("1. fox שלום"));
        assert!(is_right_to_left("… مرحبا"));
        assert!(has_right_to_left("fox שלום") && !has_right_to_left("fox 狐"));
    }

    #[test]
    fn a_letter_is_drawn_by_a_face_that_has_it() {
        let fonts = with_system();
        for letter in ['狐', 'ก', 'ह', 'م', 'ש', '🦊'] {
            // Which fonts there are is the system's affair.
            let Some(id) = fallback(letter) else { continue };
            assert!(has_letter(&fonts, id, letter), "{letter}");
            let (name, data, index) = face_data(id).expect("its file is there");
            assert!(FontRef::from_index(&data, index).is_ok(), "{name}");
        }
        assert_eq!(fallback('\u{10fffe}'), None);
    }
}
