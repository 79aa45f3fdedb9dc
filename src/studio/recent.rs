//! The stories that were open last, for the start page.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::SystemTime;

use image::RgbaImage;

use crate::story::{ImageId, Project};

/// Most stories that the start page shows.
pub const SHOWN: usize = 6;

/// A story as the start page shows it.
#[derive(Clone, Debug)]
pub struct RecentStory {
    /// Folder of the story.
    pub dir: PathBuf,
    /// The title, or the opening of a story without one.
    pub title: String,
    /// Number of panels.
    pub panels: usize,
    /// When it was last saved.
    pub changed: Option<SystemTime>,
    /// The first picture.
    pub picture: Option<(ImageId, Arc<RgbaImage>)>,
}

/// Reads the stories in the folders on a thread of its own; those that are gone are left out.
pub fn look(dirs: &[PathBuf], wake: Arc<dyn Fn() + Send + Sync>) -> Receiver<RecentStory> {
    let (send, found) = channel();
    let dirs = dirs.to_vec();
    let looking = std::thread::Builder::new()
        .name("recent stories".to_owned())
        .spawn(move || {
            let stories = dirs.iter().filter_map(|dir| read(dir)).take(SHOWN);
            for story in stories {
                if send.send(story).is_err() {
                    return;
                }
                wake();
            }
        });
    // Without the thread the page has no stories on it; opening them is as before.
    drop(looking);
    found
}

fn read(dir: &Path) -> Option<RecentStory> {
    if !Project::is_project(dir) {
        return None;
    }
    let (document, images, _) = Project::read(dir).ok()?;
    let story = document.story();
    let picture = story.panels.iter().find_map(|panel| {
        let take = panel.picture()?;
        Some((take.image.clone(), images.shown(&take.image)?))
    });
    let changed = fs::metadata(dir.join("story.json")).and_then(|meta| meta.modified());
    Some(RecentStory {
        dir: dir.to_owned(),
        title: story.display_title(),
        panels: story.panels.len(),
        changed: changed.ok(),
        picture,
    })
}
