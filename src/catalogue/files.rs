//! Which files in a folder may be weights.

use std::fs;
use std::path::{Path, PathBuf};

/// Ends of the names of files that may hold weights, in lower case.
const ENDS: [&str; 8] = [
    "safetensors",
    "sft",
    "ckpt",
    "pt",
    "pth",
    "bin",
    "gguf",
    "ggml",
];

/// Names, without their endings, of what training leaves beside weights.
const BESIDE: [&str; 6] = [
    "optimizer",
    "scheduler",
    "training_args",
    "random_states_0",
    "rng_state",
    "scaler",
];

/// Endings of files that may hold weights, in lower case and in capitals.
pub fn endings() -> Vec<String> {
    let capitals = ENDS.iter().map(|end| end.to_uppercase());
    ENDS.iter()
        .map(ToString::to_string)
        .chain(capitals)
        .collect()
}

/// Whether a file may hold weights, by its ending in any case. What macOS leaves on other disks
/// (`._model.safetensors`) and unfinished downloads do not.
pub fn may_be_weights(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') {
        return false;
    }
    let end = path.extension().unwrap_or_default().to_string_lossy();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    ENDS.iter().any(|known| end.eq_ignore_ascii_case(known)) && !BESIDE.contains(&&*stem)
}

/// Whether it is a further part of a set, which its first part names.
pub(super) fn is_further_part(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    part_of(&stem).is_some_and(|(part, count)| part > 1 && count > 1)
}

/// `N` and `M` of a stem that ends in `-0000N-of-0000M`.
fn part_of(stem: &str) -> Option<(u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, part) = rest.rsplit_once('-')?;
    Some((part.parse().ok()?, count.parse().ok()?))
}

/// The files directly in `dir` that may be weights, in order; of a set the first part.
pub(super) fn weights_in(dir: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(dir).into_iter().flatten();
    let mut files: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| may_be_weights(path) && !is_further_part(path) && path.is_file())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_read_in_any_case_and_what_is_no_weights_is_passed_over() {
        for (name, is) in [
            ("a.SAFETENSORS", true),
            ("b.Ckpt", true),
            ("._b.ckpt", false),
            ("optimizer.pt", false),
            ("c.safetensors.part", false),
            ("readme.txt", false),
        ] {
            assert_eq!(may_be_weights(Path::new(name)), is, "{name}");
        }
        assert!(is_further_part(Path::new("m-00002-of-00003.gguf")));
        assert!(!is_further_part(Path::new("m-00001-of-00003.gguf")));
        assert!(!is_further_part(Path::new("best-of-breed.gguf")));
    }
}
