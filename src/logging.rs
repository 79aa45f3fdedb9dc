//! The log file: what happened, and what language models were asked and answered, for whoever wants
//! to know why a text came out as it did. It lies in the data folder and grows to a few megabytes.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// Bytes from which on a new file is begun; the one before is kept beside it.
const MOST: u64 = 8 << 20;
const NAME: &str = "vokenboard.log";

/// Where the log lies; `None` on a system without a data folder.
pub fn path() -> Option<PathBuf> {
    let base = directories::BaseDirs::new()?;
    Some(base.data_dir().join("vokenboard").join(NAME))
}

/// Begins to log into [`path`]; `RUST_LOG` says what, as in `vokenboard=debug`. Where the file can't
/// be written there is no log, which is no reason not to work.
pub fn start() {
    let Some(file) = path().and_then(|path| open(&path)) else {
        return;
    };
    let usual = || EnvFilter::new("vokenboard=info");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .with_writer(Mutex::new(file));
    // Whoever has begun to log before goes on with it.
    let _ = log.try_init();
}

fn open(path: &Path) -> Option<File> {
    fs::create_dir_all(path.parent()?).ok()?;
    if fs::metadata(path).is_ok_and(|known| known.len() > MOST) {
        // Of two programs that begin at once one finds it gone.
        let _ = fs::rename(path, path.with_extension("log.old"));
    }
    OpenOptions::new().create(true).append(true).open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_grown_is_begun_anew() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("below").join(NAME);
        drop(open(&path).unwrap());
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(MOST + 1)
            .unwrap();
        drop(open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(path.with_extension("log.old").exists());
        // A folder in its place is no reason to fail.
        assert!(open(temp.path()).is_none());
    }
}
