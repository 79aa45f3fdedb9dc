//! Going through a folder tree of models, as ComfyUI, A1111 and Forge, InvokeAI, LM Studio,
//! Ollama and Hugging Face's cache lay them: headers only, one file at a time.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{CatalogueError, files, identify, ollama};
use crate::weights::{Identity, MANIFEST};

/// How deep models are looked for.
const DEPTH: usize = 24;
/// Files and folders that are looked at, at most.
const MOST: usize = 1_000_000;
/// Folders of programs, not of models.
const PROGRAMS: [&str; 8] = [
    "node_modules",
    "site-packages",
    "__pycache__",
    "venv",
    ".venv",
    ".git",
    "python_embeded",
    ".Trash",
];

/// A file or folder that may be a model.
#[derive(Debug)]
pub struct ScannedFile {
    /// The file.
    pub path: PathBuf,
    /// The name that the program it belongs to gives it, where that is not the file's.
    pub name: Option<String>,
    /// What it is, or why it cannot be told.
    pub identity: Result<Identity, CatalogueError>,
}

/// Scans `dir` and calls `sink` for everything that may be a model, in order of paths; the
/// sink breaks to stop. Links are followed, and each file and folder is looked at once.
///
/// # Errors
/// When `dir` cannot be listed.
pub fn scan(
    dir: &Path,
    sink: &mut dyn FnMut(ScannedFile) -> ControlFlow<()>,
) -> Result<(), CatalogueError> {
    fs::read_dir(dir).map_err(|error| CatalogueError::read(dir, error))?;
    let mut walk = Walk {
        seen: HashSet::new(),
        looked: 0,
        sink,
    };
    // Stopping early is no fault.
    let _ = walk.folder(dir, 0, None);
    Ok(())
}

struct Walk<'a> {
    /// Where links lead, so that nothing is looked at twice.
    seen: HashSet<PathBuf>,
    looked: usize,
    sink: &'a mut dyn FnMut(ScannedFile) -> ControlFlow<()>,
}

impl Walk<'_> {
    /// `repository` is that of a Hugging Face cache, where this is inside one.
    fn folder(&mut self, dir: &Path, depth: usize, repository: Option<&str>) -> ControlFlow<()> {
        if depth > DEPTH || !self.is_new(dir) {
            return ControlFlow::Continue(());
        }
        if ollama::is_store(dir) {
            for stored in ollama::models(dir) {
                let mut found = look(&stored.blob, Some(stored.name));
                if let (Ok(identity), false) = (&mut found.identity, stored.beside.is_empty()) {
                    let beside = stored.beside.join(" and ");
                    identity
                        .notes
                        .push(format!("Ollama adds a {beside} to it, which is not read"));
                }
                self.is_new(&stored.blob);
                (self.sink)(found)?;
            }
            return ControlFlow::Continue(());
        }
        let whole =
            dir.join("model_index.json").is_file() || dir.join(MANIFEST).is_file() && depth > 0;
        if whole || is_network(dir) {
            return (self.sink)(look(dir, repository.map(str::to_owned)));
        }
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let cached = name
            .strip_prefix("models--")
            .map(|name| name.replace("--", "/"));
        let mut entries: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect(),
            Err(_) => return ControlFlow::Continue(()),
        };
        if cached.is_some() {
            // What lies in `blobs` is reached through `snapshots`, under its name.
            entries.retain(|path| path.ends_with("snapshots"));
        }
        entries.sort();
        let repository = cached.as_deref().or(repository);
        for path in entries {
            self.looked += 1;
            if self.looked > MOST {
                return ControlFlow::Break(());
            }
            self.entry(&path, depth, repository)?;
        }
        ControlFlow::Continue(())
    }

    fn entry(&mut self, path: &Path, depth: usize, repository: Option<&str>) -> ControlFlow<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => match PROGRAMS.contains(&&*name) {
                true => ControlFlow::Continue(()),
                false => self.folder(path, depth + 1, repository),
            },
            Ok(about) => {
                let weights = files::may_be_weights(path) && !files::is_further_part(path);
                if !weights || !about.is_file() || !self.is_new(path) {
                    return ControlFlow::Continue(());
                }
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let name = repository.map(|repository| format!("{repository}/{stem}"));
                (self.sink)(look(path, name))
            }
            // A link that leads nowhere, such as into a cache that was cleared.
            Err(error) if files::may_be_weights(path) => (self.sink)(ScannedFile {
                path: path.to_path_buf(),
                name: None,
                identity: Err(CatalogueError::read(path, error)),
            }),
            Err(_) => ControlFlow::Continue(()),
        }
    }

    fn is_new(&mut self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|real| self.seen.insert(real))
    }
}

/// Whether a folder holds one network and its configuration, and nothing that is a model by itself.
fn is_network(dir: &Path) -> bool {
    if !dir.join("config.json").is_file() {
        return false;
    }
    let weights = files::weights_in(dir);
    let gguf = |path: &&PathBuf| {
        path.extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
    };
    !weights.is_empty() && !weights.iter().any(|path| gguf(&path))
}

fn look(path: &Path, name: Option<String>) -> ScannedFile {
    ScannedFile {
        path: path.to_path_buf(),
        name,
        identity: identify(path),
    }
}
