//! What is kept on the disk for one adapter with one driver: compiled kernels where the driver
//! hands them out, how quick each kernel is, and which variants were the quickest.
//!
//! All of it is made again where it is missing or damaged, and nothing fails where it can't be
//! written.

use super::adapters::AdapterInfo;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Nothing of it is larger.
const LARGEST: u64 = 256 << 20;
/// Bytes of a SHA-256 hash.
const HASH: usize = 32;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurements {
    /// What each kernel does in a second.
    pub rates: BTreeMap<String, f64>,
    /// The variant that was the quickest of its kind.
    pub variants: BTreeMap<String, String>,
}

/// Where it lies.
#[derive(Clone, Debug)]
pub(super) struct Store {
    measurements: PathBuf,
    kernels: PathBuf,
}

impl Store {
    /// That of an adapter within `folder`; `ways` says what of it the kernels use.
    pub(super) fn new(folder: &Path, info: &AdapterInfo, ways: &str) -> Self {
        let about = [
            &info.name,
            &info.backend,
            &info.driver,
            env!("CARGO_PKG_VERSION"),
            ways,
        ];
        let hash = Sha256::digest(about.join("\n"));
        let key: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            measurements: folder.join(format!("{key}.json")),
            kernels: folder.join(format!("{key}.kernels")),
        }
    }

    /// What was measured; nothing where it can't be read.
    pub(super) fn measurements(&self) -> Measurements {
        let read = crate::files::read_file(&self.measurements, LARGEST);
        let read = read.ok().and_then(|text| {
            let read: Option<Measurements> = serde_json::from_slice(&text).ok();
            read
        });
        let mut read = read.unwrap_or_default();
        read.rates.retain(|_, rate| rate.is_finite() && *rate > 0.0);
        read
    }

    /// Keeps them, and what another program has kept meanwhile that is not among them.
    pub(super) fn keep_measurements(&self, measured: &Measurements) {
        let mut all = self.measurements();
        all.rates.extend(measured.rates.clone());
        all.variants.extend(measured.variants.clone());
        if let Ok(text) = serde_json::to_vec_pretty(&all) {
            write(&self.measurements, &text);
        }
    }

    /// Compiled kernels as [`Store::keep_kernels`] got them; none where a byte of them is not what
    /// it was.
    pub(super) fn kernels(&self) -> Option<Vec<u8>> {
        let read = crate::files::read_file(&self.kernels, LARGEST).ok()?;
        let (hash, data) = read.split_at_checked(HASH)?;
        (Sha256::digest(data).as_slice() == hash).then(|| data.to_vec())
    }

    pub(super) fn keep_kernels(&self, data: &[u8]) {
        let hash = Sha256::digest(data);
        let there = crate::files::read_file(&self.kernels, LARGEST).unwrap_or_default();
        if there.starts_with(&hash) {
            return;
        }
        write(&self.kernels, &[hash.as_slice(), data].concat());
    }
}

fn write(path: &Path, bytes: &[u8]) {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| crate::files::write_beside(path, |file| file.write_all(bytes)));
    if let Err(why) = written {
        tracing::debug!(%why, path = %path.display(), "what a GPU's kernels need is not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::gpu::AdapterKind;

    fn info(driver: &str) -> AdapterInfo {
        AdapterInfo {
            driver: driver.to_owned(),
            ..AdapterInfo::imagined("some GPU", AdapterKind::Discrete)
        }
    }

    #[test]
    fn what_is_kept_comes_back_for_the_same_driver_and_not_when_damaged() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("gpu");
        let store = Store::new(&folder, &info("1"), "");
        assert!(store.kernels().is_none());
        assert_eq!(store.measurements(), Measurements::default());
        let mut measured = Measurements::default();
        measured.rates.insert("product".to_owned(), 3e9);
        measured
            .variants
            .insert("tile".to_owned(), "64x64".to_owned());
        store.keep_measurements(&measured);
        store.keep_kernels(b"compiled");
        assert_eq!(store.measurements(), measured);
        // Another program knows something else.
        let mut other = Measurements::default();
        other.variants.insert("tile".to_owned(), "32x32".to_owned());
        other.rates.insert("norm".to_owned(), 1e9);
        store.keep_measurements(&other);
        let both = store.measurements();
        assert_eq!(both.variants, other.variants);
        assert_eq!((both.rates["product"], both.rates["norm"]), (3e9, 1e9));
        assert_eq!(store.kernels().as_deref(), Some(&b"compiled"[..]));
        for other in [
            Store::new(&folder, &info("2"), ""),
            Store::new(&folder, &info("1"), "f16"),
        ] {
            assert!(other.kernels().is_none() && other.measurements().rates.is_empty());
        }
        // Each byte counts, and so does the end.
        let whole = std::fs::read(&store.kernels).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&store.kernels, &damaged).unwrap();
            assert!(store.kernels().is_none(), "byte {at}");
            std::fs::write(&store.kernels, &whole[..at]).unwrap();
            assert!(store.kernels().is_none(), "cut at {at}");
        }
        for text in ["", "{", "[1]", r#"{"rates":{"a":-1},"variants":{}}"#] {
            std::fs::write(&store.measurements, text).unwrap();
            assert_eq!(store.measurements(), Measurements::default(), "{text}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, b"no folder").unwrap();
        let store = Store::new(&file, &info("1"), "");
        store.keep_kernels(b"compiled");
        store.keep_measurements(&Measurements::default());
        assert!(store.kernels().is_none());
    }
}
