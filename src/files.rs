//! Reading and writing files: never half there, never waited for without end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names another data folder than the system's.
const DATA: &str = "VOKENBOARD_DATA";

/// Where the log, keys and copies of stories that could not be saved are kept; `None` on a system
/// that has no such place.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let named = std::env::var_os(DATA).filter(|named| !named.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let system = directories::ProjectDirs::from("", "", "vokenboard")?;
        Some(system.data_dir().to_path_buf())
    })
}

/// What a file is called until it is whole.
const WRITING: &str = ".writing-";
/// What no writer works on any more, where it is not known that there is none.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);
/// Nothing that is read whole is larger.
const LARGEST_WHOLE: u64 = 1 << 30;
/// Links that lead to links, as many as systems follow.
const MOST_LINKS: usize = 40;

/// Writes a file beside its place, forces it to the disk and renames it into place; where the
/// place is a link, what it leads to is replaced and the link stays. On an error (a full disk,
/// say) the file that was there before, or none, is what stays.
pub(crate) fn write_beside(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let path = &behind_links(path)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING);
    // A temporary file is private to its owner; a story is as readable as other files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    let mut buffer = BufWriter::new(file.as_file_mut());
    write(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    sync_file(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder);
    Ok(())
}

/// Writes `bytes` as [`write_beside`] does, and makes the folders above them that are missing.
pub(crate) fn write_in_folder(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write_beside(path, |file| file.write_all(bytes))
}

/// Where a link, or a link to a link, leads to, even if there is nothing yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("its link leads round in a circle"))
}

/// File systems that cannot force a file to the disk say so; the file is written all the same.
fn sync_file(file: &File) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, Unsupported};
    match file.sync_all() {
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => Ok(()),
        other => other,
    }
}

/// Forces a rename to the disk where a folder can be. Network folders and those that a virtual
/// machine shares refuse with all kinds of errors (EINVAL, EIO); what was renamed is in its place
/// whatever they say.
fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// Whether a file of this name is one that [`write_beside`] was writing.
pub(crate) fn is_being_written(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(WRITING.as_bytes())
}

/// Removes what writers that were killed have left in `folder`; where others may be `working`
/// there, only what is old.
pub(crate) fn clear_left_behind(folder: &Path, working: bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = || {
            let written = entry.metadata().and_then(|about| about.modified());
            written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_BEHIND))
        };
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_being_written(&entry.file_name()) && (!working || old()) {
            // What stays is tried again the next time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens a regular file to read it. A named pipe, which nobody may ever write to, or a device is
/// refused at once.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Between looking and opening another may have taken its place.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    is_regular(&fs::metadata(path)?)?;
    let file = options.open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

fn is_regular(about: &fs::Metadata) -> io::Result<()> {
    if about.is_file() {
        return Ok(());
    }
    let what = if about.is_dir() {
        "it is a folder"
    } else {
        "it is a pipe or a device, not a file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// All of a regular file of no more than `most` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] where there is more, and as of [`open_file`].
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than {} MB", most / 1_000_000);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// All of a regular file that is no larger than settings, tokenizers and lists of a data set are.
///
/// # Errors
/// As of [`read_file`].
pub(crate) fn read_whole(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_file(path.as_ref(), LARGEST_WHOLE)
}

/// The text in such a file.
///
/// # Errors
/// As of [`read_file`], and where it is no UTF-8.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let text = String::from_utf8(read_whole(path)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_up_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("story.json");
        write_beside(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_beside(&path, |file| {
            file.write_all(&[b'x'; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cloud")).unwrap();
        symlink("cloud/real.json", dir.path().join("one.json")).unwrap();
        symlink("one.json", dir.path().join("story.json")).unwrap();
        let path = dir.path().join("story.json");
        for text in ["first", "second"] {
            write_beside(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
            let real = dir.path().join("cloud/real.json");
            assert_eq!(fs::read_to_string(real).unwrap(), text);
        }
        symlink("round", dir.path().join("round")).unwrap();
        let error = write_beside(&dir.path().join("round"), |file| file.write_all(b"x"));
        assert!(error.unwrap_err().to_string().contains("circle"));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = open_file(&path).unwrap_err().to_string();
        assert!(error.contains("pipe or a device"), "{error}");
        let error = open_file(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("pipe or a device"), "{error}");
        let error = read_file(dir.path(), 10).unwrap_err().to_string();
        assert!(error.contains("folder"), "{error}");
    }

    #[test]
    fn what_killed_writers_left_goes_and_what_others_write_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".writing-abc", "story.json"] {
            fs::write(dir.path().join(name), "{").unwrap();
        }
        clear_left_behind(dir.path(), true);
        assert!(dir.path().join(".writing-abc").exists());
        clear_left_behind(dir.path(), false);
        assert!(!dir.path().join(".writing-abc").exists());
        assert!(dir.path().join("story.json").exists());
    }

    #[test]
    fn more_than_is_allowed_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        fs::write(&path, [0; 11]).unwrap();
        assert_eq!(read_file(&path, 11).unwrap().len(), 11);
        let error = read_file(&path, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
