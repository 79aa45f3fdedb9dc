//! One program at a time writes a project folder.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An empty file in the project folder while a program has it. One that is killed leaves the
/// file, but not its lock: the operating system frees that.
pub(super) const LOCK_FILE: &str = ".lock";

/// Another program has the folder.
#[derive(Debug)]
pub(super) struct InUse;

/// The folder is this program's for as long as one of its locks lives.
#[derive(Debug)]
pub(super) struct Lock {
    folder: PathBuf,
}

struct Held {
    /// Holds the lock of the operating system until it is closed.
    file: File,
    locks: usize,
}

static HELD: Mutex<BTreeMap<PathBuf, Held>> = Mutex::new(BTreeMap::new());

impl Lock {
    /// Takes the folder for this program, which may take it several times. `None` where nothing
    /// can be locked: on a read-only medium, or a file system that has no locks.
    pub(super) fn take(folder: &Path) -> Result<Option<Lock>, InUse> {
        let Ok(folder) = folder.canonicalize() else {
            return Ok(None);
        };
        let mut held = held();
        if let Some(held) = held.get_mut(&folder) {
            held.locks += 1;
            return Ok(Some(Lock { folder }));
        }
        let path = folder.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        loop {
            let Ok(file) = options.open(&path) else {
                return Ok(None);
            };
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    held.insert(folder.clone(), Held { file, locks: 1 });
                    return Ok(Some(Lock { folder }));
                }
                // A program that ended in between has removed this file.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(InUse),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    /// Whether nothing else in this program has the folder.
    pub(super) fn is_only(&self) -> bool {
        held().get(&self.folder).is_some_and(|held| held.locks == 1)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(folder) = held.get_mut(&self.folder) {
            folder.locks -= 1;
            if folder.locks == 0
                && let Some(last) = held.remove(&self.folder)
            {
                // Removed while it is locked: whoever has it open already finds it gone.
                let _ = fs::remove_file(self.folder.join(LOCK_FILE));
                drop(last.file);
            }
        }
    }
}

/// Whether the open file is the one that others find under its name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

fn held() -> MutexGuard<'static, BTreeMap<PathBuf, Held>> {
    // Every change of the map is one step, so a panic elsewhere leaves it whole.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As another program would: through a file of its own.
    fn taken_elsewhere(folder: &Path) -> Result<File, TryLockError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(LOCK_FILE))
            .unwrap();
        file.try_lock().map(|()| file)
    }

    #[test]
    fn a_folder_is_this_program_s_until_its_last_lock_goes() {
        let dir = tempfile::tempdir().unwrap();
        let one = Lock::take(dir.path()).unwrap().unwrap();
        assert!(one.is_only());
        let two = Lock::take(&dir.path().join(".")).unwrap().unwrap();
        assert!(!one.is_only());
        drop(one);
        assert!(two.is_only());
        assert!(taken_elsewhere(dir.path()).is_err());
        drop(two);
        assert!(!dir.path().join(LOCK_FILE).exists());
        let other = taken_elsewhere(dir.path()).unwrap();
        assert!(Lock::take(dir.path()).is_err());
        drop(other);
        assert!(Lock::take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Lock::take(&dir.path().join("none")).unwrap().is_none());
    }
}
