//! One program at a time writes a project folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An empty file in the project folder. The operating system frees its lock when the program
/// ends, however it ends, so the file may stay.
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
    _file: File,
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
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let Ok(file) = options.open(folder.join(LOCK_FILE)) else {
            return Ok(None);
        };
        match file.try_lock() {
            Ok(()) => {
                let held_now = Held {
                    _file: file,
                    locks: 1,
                };
                held.insert(folder.clone(), held_now);
                Ok(Some(Lock { folder }))
            }
            Err(TryLockError::WouldBlock) => Err(InUse),
            Err(TryLockError::Error(_)) => Ok(None),
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
            if folder.locks == 0 {
                held.remove(&self.folder);
            }
        }
    }
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
