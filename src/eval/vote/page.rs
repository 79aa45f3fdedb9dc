//! The page: pictures inlined, nothing loaded from anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::CRITERIA;
use crate::cause::Cause;
use crate::eval::{EvalError, write_file};
use crate::story::{Project, encode_png};

const TEMPLATE: &str = include_str!("page.html");

/// Writes the page that lets a person compare the stories in the project folders below `a` with
/// those of the same names below `b`. Pairs come in an order of `seed`, and so do the sides; the
/// page does not say whose story stands where. Returns how many pairs there are.
///
/// # Errors
/// Folders without a story of the same name, a project that can't be read, or a file that can't
/// be written.
pub fn write_page(a: &Path, b: &Path, seed: u64, out: &Path) -> Result<usize, EvalError> {
    let names = shared(a, b)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order = names;
    order.shuffle(&mut rng);
    let mut pictures: BTreeMap<String, String> = BTreeMap::new();
    let mut pairs = Vec::new();
    for name in &order {
        let [one, two] = [
            story(&a.join(name), &mut pictures)?,
            story(&b.join(name), &mut pictures)?,
        ];
        // 0: A stands left. The page turns what is chosen back into A and B.
        let turned = rng.random_bool(0.5);
        let sides = if turned { [two, one] } else { [one, two] };
        pairs.push(json!({ "story": name, "sides": sides, "turn": u8::from(turned) }));
    }
    let criteria: Vec<Value> = CRITERIA
        .iter()
        .map(|(key, question)| json!({ "key": key, "question": question }))
        .collect();
    let mut data = json!({ "criteria": criteria, "pairs": pairs, "pictures": pictures });
    let id = Sha256::digest(data.to_string().as_bytes());
    let id: String = id
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    data["page"] = json!(id);
    // Inside a script nothing may look like markup.
    let data = data.to_string().replace('<', "\\u003c");
    write_file(out, TEMPLATE.replace("/*DATA*/", &data).as_bytes())?;
    Ok(order.len())
}

/// Names of project folders that are below both, sorted.
fn shared(a: &Path, b: &Path) -> Result<Vec<String>, EvalError> {
    let bad = |path: &Path, why: Cause| EvalError::Vote {
        path: path.to_owned(),
        why,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(a).map_err(|e| bad(a, e.into()))? {
        let entry = entry.map_err(|e| bad(a, e.into()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if Project::is_project(&a.join(&name)) && Project::is_project(&b.join(&name)) {
            names.push(name);
        }
    }
    if names.is_empty() {
        let why = format!(
            "it has no story of the same name as one in {}; give two folders of `eval stories --keep`",
            b.display()
        );
        return Err(bad(a, why.into()));
    }
    names.sort();
    Ok(names)
}

/// The panels of a project; its pictures are added to `pictures` as data URIs by their hashes.
fn story(dir: &Path, pictures: &mut BTreeMap<String, String>) -> Result<Value, EvalError> {
    let (document, images, _) = Project::read(dir)?;
    let mut panels = Vec::new();
    for panel in &document.story().panels {
        let mut hash = None;
        if let Some(take) = panel.picture()
            && let Some(image) = images.shown(&take.image)
        {
            let name = take.image.as_str().to_owned();
            if !pictures.contains_key(&name) {
                let png = encode_png(&image, None).map_err(|e| EvalError::Vote {
                    path: PathBuf::from(dir),
                    why: e.into(),
                })?;
                let uri = format!("data:image/png;base64,{}", base64(&png));
                pictures.insert(name.clone(), uri);
            }
            hash = Some(name);
        }
        panels.push(json!({ "text": panel.text, "picture": hash }));
    }
    Ok(panels.into())
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = (at(0) << 16) | (at(1) << 8) | at(2);
        for i in 0..4 {
            if i <= chunk.len() {
                let index = (bits >> (18 - 6 * i)) & 63;
                text.push(char::from(LETTERS[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
