//! Textual inversion: embeddings that a prompt calls by the names of their files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::story::FileUse;

/// The folder in which authors keep embeddings.
const FOLDER: &str = "embeddings";
/// How far above the model it may lie: beside it, or where ComfyUI and A1111 have it.
const ABOVE: usize = 3;
const ENDINGS: [&str; 4] = ["safetensors", "pt", "bin", "ckpt"];

/// The word by which a prompt calls the embedding in `file`.
pub(super) fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The same of a path as it is kept.
pub(in crate::pipeline) fn embedding_name(file: &str) -> String {
    name_of(Path::new(file))
}

/// The embeddings that `texts` name by whole words, whatever their case: those that were `chosen`,
/// and those in a folder of embeddings beside `model`. Sorted, each name once.
pub(super) fn named(model: &Path, texts: &[&str], chosen: &[FileUse]) -> Vec<FileUse> {
    let mut found: Vec<FileUse> = Vec::new();
    let beside = files_beside(model).into_iter().map(|path| FileUse {
        file: path.to_string_lossy().into_owned(),
        hash: String::new(),
    });
    for used in chosen.iter().cloned().chain(beside) {
        let name = name_of(Path::new(&used.file)).to_lowercase();
        let known = |other: &FileUse| name_of(Path::new(&other.file)).to_lowercase() == name;
        if texts.iter().any(|text| has_word(text, &name)) && !found.iter().any(known) {
            found.push(used);
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn files_beside(model: &Path) -> Vec<PathBuf> {
    let Some(dir) = model.parent() else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = dir
        .ancestors()
        .take(ABOVE)
        .filter_map(|above| fs::read_dir(above.join(FOLDER)).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let ending = path.extension().unwrap_or_default().to_string_lossy();
            ENDINGS.contains(&ending.to_lowercase().as_str()) && path.is_file()
        })
        .collect();
    files.sort();
    files
}

/// `text` as ComfyUI reads it, which wants `embedding:` before the name of one.
pub(super) fn marked(text: &str, used: &[FileUse]) -> String {
    let mut marked = text.to_owned();
    for used in used {
        let name = name_of(Path::new(&used.file));
        let known = marked.contains(&format!("embedding:{name}"));
        if has_word(&marked, &name.to_lowercase()) && !known {
            marked = marked.replace(&name, &format!("embedding:{name}"));
        }
    }
    marked
}

/// Whether `word` stands in `text` with nothing of a word before or behind it.
fn has_word(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comfyui_is_told_what_an_embedding_is() {
        let used = [FileUse {
            file: "/x/milo-face.pt".into(),
            hash: String::new(),
        }];
        let text = "Milo runs, Milo: milo-face, red scarf";
        let told = "Milo runs, Milo: embedding:milo-face, red scarf";
        assert_eq!(marked(text, &used), told);
        assert_eq!(marked(told, &used), told);
        assert_eq!(marked("rain", &used), "rain");
    }

    #[test]
    fn embeddings_are_found_by_name_beside_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("models/checkpoints");
        let folder = dir.path().join("models/embeddings");
        fs::create_dir_all(&models).unwrap();
        fs::create_dir_all(&folder).unwrap();
        for name in ["EasyNegative.safetensors", "art.pt", "notes.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names = |texts: &[&str]| -> Vec<String> {
            let found = named(&models.join("m.safetensors"), texts, &[]);
            found
                .iter()
                .map(|used| name_of(Path::new(&used.file)))
                .collect()
        };
        assert_eq!(names(&["a fox", "easynegative, blurry"]), ["EasyNegative"]);
        assert!(names(&["a party", "notes"]).is_empty());
        assert_eq!(names(&["(art:1.2)", ""]), ["art"]);
    }

    #[test]
    fn one_that_was_chosen_stands_before_its_namesake() {
        let chosen = FileUse {
            file: "/elsewhere/art.pt".into(),
            hash: "0f".into(),
        };
        let found = named(
            Path::new("/none/m.safetensors"),
            &["art"],
            std::slice::from_ref(&chosen),
        );
        assert_eq!(found, [chosen]);
    }
}
