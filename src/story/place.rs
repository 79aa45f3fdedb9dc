//! Where a path leads to, and which story, if any, is made of what lies there.

use std::path::{Component, Path, PathBuf};

use super::Project;

/// Links that lead to links, as many as systems follow.
const MOST_LINKS: usize = 40;

/// The story that a file at `path` is a part of, or would be, however the path is spelt; `None`
/// where it is none's.
pub fn owner(path: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let real = real_place(&whole, MOST_LINKS);
    real.ancestors().skip(1).find_map(|dir| {
        let inside = real.strip_prefix(dir).ok()?.components().next()?;
        let own = matches!(inside, Component::Normal(name) if Project::is_own_file(name));
        (own && Project::is_project(dir)).then(|| dir.to_path_buf())
    })
}

/// Where a file that is written at `path` comes to lie: behind links and `..`, even where it, and
/// folders above it, are not there yet.
fn real_place(path: &Path, links: usize) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let Some(parent) = path.parent() else {
        return path.to_path_buf();
    };
    match (std::fs::read_link(path), path.file_name()) {
        (Ok(to), _) if links > 0 => real_place(&parent.join(to), links - 1),
        (_, Some(name)) => real_place(parent, links).join(name),
        // It ends in `..`
        (_, None) => {
            let mut place = real_place(parent, links);
            place.pop();
            place
        }
    }
}
