//! Ollama's store: manifests name models, and their blobs are named by hashes alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The longest manifest that is read.
const LONGEST: u64 = 1 << 20;
/// Folders between `manifests` and a tag: host, namespace, model.
const DEPTH: usize = 5;

/// A model in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OllamaModel {
    /// As Ollama calls it, such as `llama3.2:1b`.
    pub name: String,
    /// The file of its weights.
    pub blob: PathBuf,
    /// The file with which it sees pictures.
    pub projector: Option<PathBuf>,
    /// What else belongs to it that changes what it says, by the kind of its layer.
    pub beside: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
}

/// Whether `dir` is such a store.
pub(super) fn is_store(dir: &Path) -> bool {
    dir.join("manifests").is_dir() && dir.join("blobs").is_dir()
}

/// Every model in the store `dir`, by name.
pub(super) fn models(dir: &Path) -> Vec<OllamaModel> {
    let mut found = Vec::new();
    let manifests = dir.join("manifests");
    walk(dir, &manifests, &manifests, 0, &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn walk(store: &Path, root: &Path, folder: &Path, depth: usize, found: &mut Vec<OllamaModel>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = fs::metadata(&path) else {
            continue;
        };
        if about.is_dir() && depth < DEPTH {
            walk(store, root, &path, depth + 1, found);
        } else if about.is_file() && about.len() <= LONGEST {
            found.extend(read(store, root, &path));
        }
    }
}

fn read(store: &Path, root: &Path, path: &Path) -> Option<OllamaModel> {
    let manifest: Manifest = serde_json::from_slice(&crate::files::read_whole(path).ok()?).ok()?;
    let kind = |layer: &Layer| {
        layer
            .media_type
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let weights = manifest
        .layers
        .iter()
        .find(|layer| kind(layer) == "model")?;
    // `sha256:HEX` is the file `sha256-HEX`; nothing else may be named.
    let blob = |layer: &Layer| {
        let hash = layer.digest.strip_prefix("sha256:")?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| store.join("blobs").join(format!("sha256-{hash}")))
    };
    let projector = manifest
        .layers
        .iter()
        .find(|layer| kind(layer) == "projector");
    let beside = manifest.layers.iter().map(kind);
    Some(OllamaModel {
        name: name(path.strip_prefix(root).ok()?)?,
        blob: blob(weights)?,
        projector: projector.and_then(blob),
        beside: beside.filter(|kind| kind == "adapter").collect(),
    })
}

/// `registry.ollama.ai/library/llama3.2/1b` is called `llama3.2:1b`; other hosts and namespaces
/// stay in the name.
fn name(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str())
        .collect::<Option<_>>()?;
    let (tag, parts) = parts.split_last()?;
    let parts = match parts {
        ["registry.ollama.ai", "library", rest @ ..] => rest,
        ["registry.ollama.ai", rest @ ..] => rest,
        all => all,
    };
    (!parts.is_empty()).then(|| format!("{}:{tag}", parts.join("/")))
}

/// The model that Ollama on this machine calls `name`.
pub(super) fn find(name: &str) -> Option<OllamaModel> {
    let own = std::env::var_os("OLLAMA_MODELS").map(PathBuf::from);
    let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".ollama/models"));
    let usual = [
        home,
        Some(PathBuf::from("/usr/share/ollama/.ollama/models")),
    ];
    let stores = own.into_iter().chain(usual.into_iter().flatten());
    let name = name.strip_prefix("ollama:").unwrap_or(name);
    let tagged = format!("{name}:latest");
    stores
        .filter(|store| is_store(store))
        .flat_map(|store| models(&store))
        .find(|stored| stored.name == name || stored.name == tagged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_as_ollama_does_and_blobs_are_inside_the_store() {
        let temp = tempfile::tempdir().unwrap();
        let hash = "a".repeat(64);
        let library = temp
            .path()
            .join("manifests/registry.ollama.ai/library/llama3.2");
        let other = temp.path().join("manifests/hf.co/someone/Model-GGUF");
        fs::create_dir_all(&library).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::create_dir(temp.path().join("blobs")).unwrap();
        let manifest = |digest: &str| {
            format!(
                r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "{digest}"}},
                {{"mediaType": "application/vnd.ollama.image.projector", "digest": "{digest}"}},
                {{"mediaType": "application/vnd.ollama.image.adapter", "digest": "x"}}]}}"#
            )
        };
        fs::write(library.join("1b"), manifest(&format!("sha256:{hash}"))).unwrap();
        fs::write(library.join("bad"), manifest("sha256:../../etc/passwd")).unwrap();
        fs::write(other.join("Q4_K_M"), manifest(&format!("sha256:{hash}"))).unwrap();
        fs::write(other.join("notes"), "{").unwrap();
        assert!(is_store(temp.path()));
        let found = models(temp.path());
        let names: Vec<&str> = found.iter().map(|stored| stored.name.as_str()).collect();
        assert_eq!(names, ["hf.co/someone/Model-GGUF:Q4_K_M", "llama3.2:1b"]);
        assert_eq!(
            found[1].blob,
            temp.path().join(format!("blobs/sha256-{hash}"))
        );
        assert_eq!(found[1].projector, Some(found[1].blob.clone()));
        assert_eq!(found[1].beside, ["adapter"]);
    }
}
