//! Removes pictures that no story needs any more.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::{ImageId, Story};

/// Removes the pictures in `images` that neither `story` nor any other writing in the project
/// folder `dir` names: a copy of `story.json`, or an exported `story.md`. Files that are not
/// named like pictures of ours stay. What cannot be removed stays too: it harms nobody.
///
/// Call it only while nothing can bring a deleted take back: right after the story was read, and
/// with the folder locked.
pub(super) fn remove_unused_pictures(dir: &Path, images: &Path, story: &Story) {
    let Ok(entries) = fs::read_dir(images) else {
        return;
    };
    let used: HashSet<&ImageId> = story.images().collect();
    let mut unused: Vec<ImageId> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let id: ImageId = name.to_str()?.strip_suffix(".png")?.parse().ok()?;
            (!used.contains(&id)).then_some(id)
        })
        .collect();
    if unused.is_empty() {
        return;
    }
    let Some(writings) = writings(dir) else {
        return;
    };
    unused.retain(|id| !writings.iter().any(|text| text.contains(id.as_str())));
    for id in unused {
        // A picture that stays is tried again the next time.
        let _ = fs::remove_file(images.join(id.file_name()));
    }
}

/// What stands in the files of the project folder that may be writings: all but pictures and
/// what is too long to be one. `None` if one of them cannot be read.
fn writings(dir: &Path) -> Option<Vec<String>> {
    const LONGEST: u64 = 64 << 20;
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir).ok()? {
        let path = entry.ok()?.path();
        let about = fs::metadata(&path).ok()?;
        let picture = path.extension().is_some_and(|extension| extension == "png");
        if about.is_file() && about.len() <= LONGEST && !picture {
            texts.push(String::from_utf8_lossy(&fs::read(&path).ok()?).into_owned());
        }
    }
    Some(texts)
}
