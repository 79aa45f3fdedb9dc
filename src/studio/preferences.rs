//! What the author has set once for all stories, kept in a file between sessions.

use std::path::{Path, PathBuf};

use egui::ThemePreference;
use serde::{Deserialize, Serialize};

use crate::files::write_in_folder;

/// So many stories are remembered.
const RECENT: usize = 12;

/// Colours of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourMode {
    /// As the system has it.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl ColourMode {
    /// egui's name of it.
    pub fn preference(self) -> ThemePreference {
        match self {
            ColourMode::System => ThemePreference::System,
            ColourMode::Light => ThemePreference::Light,
            ColourMode::Dark => ThemePreference::Dark,
        }
    }
}

/// Where the window was and how large, in points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowPlacement {
    /// Upper left corner; none where the system does not say.
    pub position: Option<[f32; 2]>,
    /// Width and height, in points.
    pub size: Option<[f32; 2]>,
    /// Whether it fills the screen.
    pub maximized: bool,
}

impl WindowPlacement {
    /// Takes in where the window is now.
    pub fn follow(&mut self, ui: &egui::Ui) {
        ui.input(|i| {
            let window = i.viewport();
            if window.minimized == Some(true) || window.fullscreen == Some(true) {
                return;
            }
            self.maximized = window.maximized == Some(true);
            if self.maximized {
                return;
            }
            if let Some(inner) = window.inner_rect {
                self.size = Some([inner.width(), inner.height()]);
            }
            if let Some(outer) = window.outer_rect {
                self.position = Some([outer.left(), outer.top()]);
            }
        });
    }
}

/// What the author has set once for all stories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Colours of the window.
    pub theme: ColourMode,
    /// Where new stories are kept; none is the usual place.
    pub folder: Option<PathBuf>,
    /// Locale in which dates are written, such as `de_DE`; empty is the system's.
    pub dates: String,
    /// How large everything is drawn; 1 is usual.
    pub scale: f32,
    /// Whether a story is saved by itself.
    pub autosave: bool,
    /// Folders of stories, the last one first.
    pub recent: Vec<PathBuf>,
    /// Where the window was.
    pub window: WindowPlacement,
}

impl Default for Preferences {
    fn default() -> Preferences {
        Preferences {
            theme: ColourMode::System,
            folder: None,
            dates: String::new(),
            scale: 1.0,
            autosave: true,
            recent: Vec::new(),
            window: WindowPlacement::default(),
        }
    }
}

/// Where preferences are kept by default.
pub fn usual_file() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "vokenboard")?;
    Some(dirs.config_dir().join("preferences.toml"))
}

impl Preferences {
    /// As the file says; as usual where there is none or it cannot be read. Odd values are put
    /// right, so that a hand-edited file cannot make the window unusable.
    pub fn load(file: &Path) -> Preferences {
        let read = crate::files::read_text(file).ok();
        let parsed = read.and_then(|text| toml::from_str::<Preferences>(&text).ok());
        let mut preferences = parsed.unwrap_or_default();
        if !preferences.scale.is_finite() {
            preferences.scale = 1.0;
        }
        preferences.scale = preferences.scale.clamp(0.5, 3.0);
        let usable = |[width, height]: &[f32; 2]| {
            (300.0..20_000.0).contains(width) && (200.0..20_000.0).contains(height)
        };
        preferences.window.size = preferences.window.size.filter(usable);
        let seen = |corner: &[f32; 2]| corner.iter().all(|at| (-200.0..10_000.0).contains(at));
        preferences.window.position = preferences.window.position.filter(seen);
        preferences
    }

    /// Writes them whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, in a sentence.
    pub fn save(&self, file: &Path) -> Result<(), String> {
        let failed = |error: String| {
            let file = file.display();
            format!(
                "The preferences cannot be kept in {file} ({error}); they hold until you close the window."
            )
        };
        // Paths that are no Unicode cannot stand in this file.
        let mut kept = self.clone();
        kept.recent.retain(|dir| dir.to_str().is_some());
        kept.folder = kept.folder.filter(|dir| dir.to_str().is_some());
        let text = toml::to_string_pretty(&kept).map_err(|e| failed(e.to_string()))?;
        write_in_folder(file, text.as_bytes()).map_err(|e| failed(e.to_string()))
    }

    /// The story in `dir` was the last one that was open.
    pub fn remember(&mut self, dir: &Path) {
        self.recent.retain(|known| known != dir);
        self.recent.insert(0, dir.to_owned());
        self.recent.truncate(RECENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn preferences_come_back_and_odd_ones_are_put_right() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("config").join("preferences.toml");
        assert_eq!(Preferences::load(&file), Preferences::default());
        let mut set = Preferences {
            theme: ColourMode::Dark,
            folder: Some("/stories".into()),
            dates: "de_DE".into(),
            scale: 1.25,
            autosave: false,
            ..Preferences::default()
        };
        set.remember(Path::new("/stories/a"));
        set.remember(Path::new("/stories/b"));
        set.remember(Path::new("/stories/a"));
        assert_eq!(
            set.recent,
            [Path::new("/stories/a"), Path::new("/stories/b")]
        );
        set.window.size = Some([900.0, 600.0]);
        set.save(&file).unwrap();
        assert_eq!(Preferences::load(&file), set);

        fs::write(
            &file,
            "scale = 400.0\n[window]\nsize = [3.0, 5.0]\nposition = [99999.0, 0.0]",
        )
        .unwrap();
        let read = Preferences::load(&file);
        assert_eq!((read.scale, read.window), (3.0, WindowPlacement::default()));
        fs::write(&file, "not = [toml").unwrap();
        assert_eq!(Preferences::load(&file), Preferences::default());
    }
}
