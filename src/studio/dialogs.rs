//! The system's file dialogs, asked for without holding up a frame.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rfd::{AsyncFileDialog, FileHandle};

use super::framing::PictureUse;
use crate::catalogue;
use crate::export::{self, Destination};
use crate::story::{MemberId, PanelId, picture_endings};

/// A file dialog to open; the names are suggestions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogRequest {
    /// The folder of a story to open.
    Open,
    /// A picture.
    Bring(ImportRole),
    /// Where a story is saved, with a suggested name.
    SaveAs(String),
    /// Where new stories are kept.
    Folder,
    /// A model's file, a model's folder, or a folder of models, to be added where they lie.
    Model,
    /// A model's folder, to be added where it lies.
    ModelFolder,
    /// A folder of models, to be added where they lie.
    Models,
    /// A workflow of ComfyUI in API format.
    Workflow,
    /// A file of weights that pictures are drawn with.
    Weights(WeightsFor),
    /// Where an export goes.
    Export(ExportDialog),
}

/// What pictures that the author imports are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportRole {
    /// Takes of a panel, or new panels.
    Panels(Option<PanelId>),
    /// Pictures of a member of the cast.
    Looks(MemberId),
    /// What the picture of a panel is drawn with.
    Frame(PanelId, PictureUse),
}

impl ImportRole {
    /// The title of the dialog.
    pub fn title(self) -> &'static str {
        match self {
            ImportRole::Panels(_) => "Add a picture to the story",
            ImportRole::Looks(_) => "Add a picture to the cast",
            ImportRole::Frame(_, PictureUse::Source) => "Choose a picture to begin from",
            ImportRole::Frame(_, PictureUse::Control) => "Choose a picture to follow",
            ImportRole::Frame(_, PictureUse::Mask) => "Choose a mask: white is drawn anew",
        }
    }
}

/// What a file of weights is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsFor {
    /// A LoRA beside those that there are.
    Lora,
    /// In place of the model's own VAE.
    Vae,
    /// Follows a sketch.
    Controlnet,
    /// Makes pictures larger.
    Upscaler,
    /// An IP-Adapter.
    Adapter,
    /// The image encoder of an IP-Adapter.
    Encoder,
    /// A LoRA of a member of the cast.
    MemberLora(MemberId),
    /// An embedding of a member of the cast.
    MemberEmbedding(MemberId),
}

impl WeightsFor {
    /// The title of the dialog.
    pub fn title(self) -> &'static str {
        match self {
            WeightsFor::Lora | WeightsFor::MemberLora(_) => "Choose the file of a LoRA",
            WeightsFor::Vae => "Choose the file of a VAE",
            WeightsFor::Controlnet => "Choose the file of a ControlNet",
            WeightsFor::Upscaler => "Choose the file of an upscaler",
            WeightsFor::Adapter => "Choose the file of an IP-Adapter",
            WeightsFor::Encoder => "Choose the file of the image encoder",
            WeightsFor::MemberEmbedding(_) => "Choose the file of an embedding",
        }
    }
}

/// A dialog for the place of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportDialog {
    /// Its id in [`export::EXPORTERS`].
    pub exporter: &'static str,
    /// Chosen values of the exporter's options.
    pub options: export::ExportOptions,
    /// For an exporter of one panel.
    pub panel: Option<PanelId>,
    /// The suggested name of the file.
    pub name: String,
}

impl ExportDialog {
    /// Whether a file is to be named, and not a folder chosen.
    pub fn wants_file(&self) -> bool {
        let place = export::exporter(self.exporter).map(|exporter| exporter.place());
        matches!(place, Some(Destination::File { .. }))
    }
}

/// What the author chose; no path where there is no dialog to choose in. A dialog that is closed
/// gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogAnswer {
    /// What was asked.
    pub ask: DialogRequest,
    /// The file or folder; none where the author has cancelled.
    pub path: Option<PathBuf>,
}

/// Nobody closes a dialog this soon after asking for it: there was none. rfd does not tell the
/// two apart.
const TOO_SOON: Duration = Duration::from_millis(400);

/// Asks the author for files.
pub trait Dialogs {
    /// Opens a dialog and returns at once.
    fn ask(&mut self, ask: DialogRequest);
    /// An answer that has come in.
    fn answer(&mut self) -> Option<DialogAnswer>;
}

/// The dialogs of the operating system.
pub struct SystemDialogs {
    send: Sender<DialogAnswer>,
    answers: Receiver<DialogAnswer>,
    wake: Arc<dyn Fn() + Send + Sync>,
    projects: PathBuf,
}

impl SystemDialogs {
    /// Dialogs that start in the folder `projects`.
    pub fn new(projects: PathBuf, wake: Arc<dyn Fn() + Send + Sync>) -> SystemDialogs {
        let (send, answers) = channel();
        SystemDialogs {
            send,
            answers,
            wake,
            projects,
        }
    }
}

impl Dialogs for SystemDialogs {
    fn ask(&mut self, ask: DialogRequest) {
        let start = self.projects.ancestors().find(|dir| dir.is_dir());
        let mut dialog = AsyncFileDialog::new();
        if let Some(dir) = start {
            dialog = dialog.set_directory(dir);
        }
        // macOS wants dialogs made on the main thread; they may be waited for on any.
        match ask.clone() {
            DialogRequest::Open => {
                let title = "Open a story: choose its folder";
                self.wait(ask, dialog.set_title(title).pick_folder());
            }
            DialogRequest::Bring(becomes) => {
                let dialog = dialog
                    .set_title(becomes.title())
                    .add_filter("Pictures", &picture_endings());
                self.wait(ask, dialog.pick_file());
            }
            DialogRequest::SaveAs(name) => {
                let title = "Save the story as a folder";
                self.wait(ask, dialog.set_title(title).set_file_name(name).save_file());
            }
            DialogRequest::Folder => {
                let title = "Choose the folder for new stories";
                self.wait(ask, dialog.set_title(title).pick_folder());
            }
            DialogRequest::Model => {
                let dialog = dialog
                    .set_title("Add a model: choose its file")
                    .add_filter("Models", &catalogue::endings());
                self.wait(ask, dialog.pick_file());
            }
            DialogRequest::ModelFolder => {
                let title = "Add a model: choose its folder";
                self.wait(ask, dialog.set_title(title).pick_folder());
            }
            DialogRequest::Workflow => {
                let dialog = dialog
                    .set_title("Choose a workflow in API format")
                    .add_filter("Workflows", &["json"]);
                self.wait(ask, dialog.pick_file());
            }
            DialogRequest::Weights(what) => {
                let dialog = dialog
                    .set_title(what.title())
                    .add_filter("Weights", &catalogue::endings());
                self.wait(ask, dialog.pick_file());
            }
            DialogRequest::Models => {
                let title = "Add all models in a folder";
                self.wait(ask, dialog.set_title(title).pick_folder());
            }
            DialogRequest::Export(what) => {
                match export::exporter(what.exporter).map(|exporter| exporter.place()) {
                    Some(Destination::File { ending, kind }) => {
                        let dialog = dialog.set_title(format!("Export: {kind}"));
                        let dialog = dialog.add_filter(kind, &[ending]);
                        self.wait(ask, dialog.set_file_name(what.name).save_file());
                    }
                    Some(Destination::Folder) | None => {
                        let title = "Choose a folder for the export";
                        self.wait(ask, dialog.set_title(title).pick_folder());
                    }
                }
            }
        }
    }

    fn answer(&mut self) -> Option<DialogAnswer> {
        self.answers.try_recv().ok()
    }
}

impl SystemDialogs {
    fn wait(
        &self,
        ask: DialogRequest,
        dialog: impl Future<Output = Option<FileHandle>> + Send + 'static,
    ) {
        let (send, wake) = (self.send.clone(), Arc::clone(&self.wake));
        let waiting = std::thread::Builder::new()
            .name("dialog".to_owned())
            .spawn(move || {
                let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
                    return;
                };
                let asked = Instant::now();
                let path = match runtime.block_on(dialog) {
                    Some(file) => Some(file.path().to_path_buf()),
                    None if cfg!(target_os = "linux") && asked.elapsed() < TOO_SOON => None,
                    None => return,
                };
                // The studio may have been closed meanwhile.
                let _ = send.send(DialogAnswer { ask, path });
                wake();
            });
        if let Err(error) = waiting {
            eprintln!(
                "the file dialog could not be opened ({error}); close some programs and try again"
            );
        }
    }
}
