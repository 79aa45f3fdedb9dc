//! Keys of engines: in the system's keyring, or where there is none in a file that the author
//! alone can read. Never in a story, a record, a log or an export.

use crate::cause::Cause;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Address, RemoteError};

/// The environment variable that names the file of keys, used instead of the keyring.
pub const KEYS_ENV: &str = "VOKENBOARD_KEYS";

const SERVICE: &str = "vokenboard";

/// A key. It is never shown, not in debug output either.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key from its text, without the white space around it; `None` where nothing is left.
    pub fn new(text: &str) -> Option<ApiKey> {
        let text = text.trim();
        (!text.is_empty()).then(|| ApiKey(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The key that was kept for `address`, if any.
pub fn find(address: &Address) -> Option<ApiKey> {
    let name = address.root().to_string();
    if let Some(file) = named_file() {
        return read(&file).remove(&name).and_then(|key| ApiKey::new(&key));
    }
    let kept = keyring::v1::Entry::new(SERVICE, &name).and_then(|entry| entry.get_password());
    match kept {
        Ok(key) => ApiKey::new(&key),
        Err(_) => read(&own_file()?)
            .remove(&name)
            .and_then(|key| ApiKey::new(&key)),
    }
}

/// Keeps `key` for `address`, and says where.
///
/// # Errors
/// When neither the keyring nor the file can be written.
pub fn keep(address: &Address, key: &ApiKey) -> Result<String, RemoteError> {
    let name = address.root().to_string();
    let failed = |reason: Cause| RemoteError::Key {
        address: address.clone(),
        reason,
    };
    let mut file = named_file();
    if file.is_none() {
        let entry = keyring::v1::Entry::new(SERVICE, &name);
        if entry
            .and_then(|entry| entry.set_password(key.expose()))
            .is_ok()
        {
            return Ok("the system's keyring".to_owned());
        }
        file = own_file();
    }
    let file = file.ok_or_else(|| failed("there is no home folder".to_owned().into()))?;
    let mut keys = read(&file);
    keys.insert(name, key.expose().to_owned());
    write(&file, &keys).map_err(|error| failed(error.into()))?;
    Ok(file.display().to_string())
}

/// Forgets the key for `address`.
///
/// # Errors
/// When the file that holds it can't be written.
pub fn forget(address: &Address) -> Result<(), RemoteError> {
    let name = address.root().to_string();
    let named = named_file();
    if named.is_none()
        && let Ok(entry) = keyring::v1::Entry::new(SERVICE, &name)
    {
        // A key that was never kept there can't be deleted either.
        let _ = entry.delete_credential();
    }
    let Some(file) = named.or_else(own_file) else {
        return Ok(());
    };
    let mut keys = read(&file);
    if keys.remove(&name).is_none() {
        return Ok(());
    }
    write(&file, &keys).map_err(|error| RemoteError::Key {
        address: address.clone(),
        reason: error.into(),
    })
}

fn named_file() -> Option<PathBuf> {
    std::env::var_os(KEYS_ENV).map(PathBuf::from)
}

fn own_file() -> Option<PathBuf> {
    Some(crate::files::data_folder()?.join("keys.json"))
}

/// A file that is missing or damaged holds no keys.
fn read(file: &Path) -> BTreeMap<String, String> {
    crate::files::read_whole(file)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Temporary files are made for their owner alone, and the mode stays when one takes its place.
fn write(file: &Path, keys: &BTreeMap<String, String>) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(&serde_json::to_vec_pretty(keys)?)?;
    beside.as_file().sync_all()?;
    beside.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_and_keys_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data/keys.json");
        let mut keys = BTreeMap::from([("http://a".to_owned(), "s3cret".to_owned())]);
        write(&file, &keys).unwrap();
        assert_eq!(read(&file), keys);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        keys.clear();
        write(&file, &keys).unwrap();
        assert!(read(&file).is_empty());
        fs::write(&file, "{broken").unwrap();
        assert!(read(&file).is_empty());
        assert!(ApiKey::new(" \n").is_none());
        assert_eq!(format!("{:?}", ApiKey::new("s3cret").unwrap()), "Key(…)");
    }
}
