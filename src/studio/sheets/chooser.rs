//! A file chooser of our own, for desktops that have neither a portal nor zenity.

use std::fs;
use std::path::{Path, PathBuf};

use egui::{RichText, ScrollArea, TextEdit, Ui};

use crate::catalogue;
use crate::story::{Project, picture_endings};
use crate::studio::actions::Action;
use crate::studio::dialogs::{DialogAnswer, DialogRequest};
use crate::studio::icons::Icon;
use crate::studio::state::State;
use crate::studio::{theme, widgets};

/// Entries of a folder beyond these are not listed; their names can be typed.
const LISTED: usize = 2000;

struct ChooserEntry {
    name: String,
    path: PathBuf,
    folder: bool,
    story: bool,
}

/// What is being chosen, and where the author is.
pub struct FileChooser {
    ask: DialogRequest,
    dir: PathBuf,
    entries: Vec<ChooserEntry>,
    /// Why the folder cannot be read.
    trouble: Option<String>,
    /// The file's name, where one is saved.
    name: String,
    /// A file of this path is there already, and the author was told so.
    replaces: Option<PathBuf>,
}

impl FileChooser {
    /// A chooser for `ask`, opened in `start` or the nearest folder above it that is there.
    pub fn new(ask: DialogRequest, start: &Path) -> FileChooser {
        let dir = start.ancestors().find(|dir| dir.is_dir());
        let name = match &ask {
            DialogRequest::SaveAs(name) => name.clone(),
            DialogRequest::Export(what) if what.wants_file() => what.name.clone(),
            DialogRequest::Open
            | DialogRequest::Bring(_)
            | DialogRequest::Export(_)
            | DialogRequest::Folder
            | DialogRequest::Model
            | DialogRequest::ModelFolder
            | DialogRequest::Models
            | DialogRequest::Workflow
            | DialogRequest::Weights(_) => String::new(),
        };
        let mut chooser = FileChooser {
            ask,
            dir: PathBuf::new(),
            entries: Vec::new(),
            trouble: None,
            name,
            replaces: None,
        };
        chooser.go(dir.unwrap_or(Path::new("/")).to_owned());
        chooser
    }

    /// Lists a folder: folders first, then the files that can be chosen.
    fn go(&mut self, dir: PathBuf) {
        let mut entries = Vec::new();
        self.trouble = None;
        match fs::read_dir(&dir) {
            Ok(read) => {
                for entry in read.flatten().take(LISTED) {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let path = entry.path();
                    let folder = path.is_dir();
                    let wanted = folder
                        || (self.wants_pictures() && is_picture(&path))
                        || (matches!(self.ask, DialogRequest::Model | DialogRequest::Weights(_))
                            && catalogue::may_be_weights(&path))
                        || (self.ask == DialogRequest::Workflow
                            && path.extension().is_some_and(|ending| ending == "json"));
                    if !name.starts_with('.') && wanted {
                        entries.push(ChooserEntry {
                            story: folder && Project::is_project(&path),
                            name,
                            path,
                            folder,
                        });
                    }
                }
            }
            Err(error) => {
                let message = format!("This folder cannot be read ({error}).");
                self.trouble = Some(crate::studio::plain::words(&message).0);
            }
        }
        entries.sort_by_key(|entry| (!entry.folder, entry.name.to_lowercase()));
        self.entries = entries;
        self.dir = dir;
    }

    fn wants_pictures(&self) -> bool {
        matches!(self.ask, DialogRequest::Bring(_))
    }

    fn wants_name(&self) -> bool {
        match &self.ask {
            DialogRequest::SaveAs(_) => true,
            DialogRequest::Export(what) => what.wants_file(),
            DialogRequest::Open
            | DialogRequest::Bring(_)
            | DialogRequest::Folder
            | DialogRequest::Model
            | DialogRequest::ModelFolder
            | DialogRequest::Models
            | DialogRequest::Workflow
            | DialogRequest::Weights(_) => false,
        }
    }

    fn title(&self) -> &'static str {
        match &self.ask {
            DialogRequest::Open => "Open a story: choose its folder",
            DialogRequest::Bring(becomes) => becomes.title(),
            DialogRequest::SaveAs(_) => "Save the story as a folder",
            DialogRequest::Folder => "Choose the folder for new stories",
            DialogRequest::Model => "Add a model: choose its file",
            DialogRequest::ModelFolder => "Add a model: choose its folder",
            DialogRequest::Models => "Add all models in a folder",
            DialogRequest::Workflow => "Choose a workflow in API format",
            DialogRequest::Weights(what) => what.title(),
            DialogRequest::Export(what) if what.wants_file() => "Choose a name for the export",
            DialogRequest::Export(_) => "Choose a folder for the export",
        }
    }
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    let mut known = picture_endings().into_iter();
    known.any(|known| ending.eq_ignore_ascii_case(known))
}

pub(super) fn show(ui: &Ui, state: &mut State, actions: &mut Vec<Action>) {
    let Some(chooser) = &mut state.view.chooser else {
        return;
    };
    let window = ui.ctx().content_rect().size();
    let mut go = None;
    let mut chosen = None;
    let mut cancelled = false;
    let response = super::centred(ui, "chooser", |ui| {
        ui.set_width(560.0_f32.min(window.x - 80.0));
        ui.heading(chooser.title());
        ui.horizontal(|ui| {
            let parent = chooser.dir.parent();
            if widgets::icon_button(ui, Icon::Left, "The folder above", parent.is_some()).clicked()
            {
                go = parent.map(Path::to_owned);
            }
            let words = RichText::new(chooser.dir.display().to_string());
            ui.add(egui::Label::new(words.color(theme::palette(ui).faint_ink)).truncate());
        });
        if let Some(trouble) = &chooser.trouble {
            ui.label(RichText::new(trouble).color(theme::palette(ui).error));
        }
        ScrollArea::vertical()
            .id_salt("entries")
            .max_height((window.y - 260.0).clamp(60.0, 360.0))
            .auto_shrink([false, true])
            .show(ui, |ui| {
                for entry in &chooser.entries {
                    let icon = match (entry.story, entry.folder) {
                        (true, _) => Icon::Book,
                        (_, true) => Icon::Folder,
                        _ => Icon::Picture,
                    };
                    let image = crate::studio::icons::image(ui.ctx(), icon, 16.0);
                    let button = egui::Button::image_and_text(image, &entry.name)
                        .image_tint_follows_text_color(true)
                        .frame_when_inactive(false);
                    if ui.add(button).accessible_name(&entry.name).clicked() {
                        let opens = entry.story && chooser.ask == DialogRequest::Open;
                        if entry.folder && !opens {
                            go = Some(entry.path.clone());
                        } else {
                            chosen = Some(entry.path.clone());
                        }
                    }
                }
            });
        if chooser.wants_name() {
            let field = TextEdit::singleline(&mut chooser.name).desired_width(f32::INFINITY);
            ui.add(field).accessible_name("Name");
        }
        if chooser.replaces.is_some() {
            let words = "There is one of this name already.";
            ui.label(RichText::new(words).color(theme::palette(ui).error));
        }
        ui.horizontal(|ui| {
            let wants_file = matches!(
                chooser.ask,
                DialogRequest::Model | DialogRequest::Workflow | DialogRequest::Weights(_)
            );
            if !chooser.wants_pictures() && !wants_file {
                let there = chooser.dir.join(chooser.name.trim());
                let asked = chooser.replaces.as_ref() == Some(&there);
                let words = match (chooser.wants_name(), asked) {
                    (true, true) => "Replace it",
                    (true, false) => "Save here",
                    (false, _) => "Choose this folder",
                };
                let able = !chooser.wants_name() || !chooser.name.trim().is_empty();
                if widgets::primary_button(ui, Icon::Check, words, able).clicked() {
                    if chooser.wants_name() && there.exists() && !asked {
                        chooser.replaces = Some(there);
                    } else {
                        chosen = Some(there);
                    }
                }
            }
            cancelled = ui
                .button("Cancel")
                .accessible_name("Cancel choosing")
                .clicked();
        });
    });
    if let Some(dir) = go {
        chooser.go(dir);
    }
    if let Some(path) = chosen {
        actions.push(Action::Chosen(DialogAnswer {
            ask: chooser.ask.clone(),
            path: Some(path),
        }));
    } else if cancelled || response.should_close() {
        actions.push(Action::ChooseNothing);
    }
}
