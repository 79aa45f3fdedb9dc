//! Training of the built-in model, stage by stage, resumable at any moment.
//!
//! Every stage draws its scenes anew from the storyworld, writes a loss log and sample grids
//! beside its checkpoint, and ends by writing the moving average of its weights into the model
//! folder in the diffusers layout.

pub mod autoencoder;
pub mod checkpoint;
mod course;
pub mod diffusion;
pub mod judges;
pub mod log;
pub mod optimizer;
pub mod references;
pub mod shards;
pub mod voken;

use crate::cause::Cause;
use crate::files::write_in_folder;
use crate::nn::Params;
use crate::weights::select_candle_device;
use candle_core::Device;
use std::path::{Path, PathBuf};

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There is no training stage of this name.
    #[error("there is no training stage {0:?}; choose {names}", names = stage_names())]
    Stage(String),
    /// The file of settings is not valid TOML, or a value is out of range: the file, and why.
    #[error("{0} can't be used as training settings: {1}")]
    Config(PathBuf, #[source] Cause),
    /// The folder holds a run, and `--resume` was not given.
    #[error("{0} already holds a run; add --resume to go on with it, or name another folder")]
    Exists(PathBuf),
    /// The folder holds other files than those of a run.
    #[error("{0} holds other files than those of a run; name a new or an empty folder")]
    NotARun(PathBuf),
    /// The checkpoint is damaged or of another run: the file, and why.
    #[error("{0} can't be read as a checkpoint ({1}); delete it to start anew")]
    Checkpoint(PathBuf, #[source] Cause),
    /// A file of the run cannot be written: the file, and why.
    #[error("{0} can't be written ({1}); check the folder and the free space on its disk")]
    Write(PathBuf, #[source] Cause),
    /// The loss became NaN or infinite at this step.
    #[error("the loss is no longer a number at step {0}; lower learning_rate and resume")]
    Diverged(u64),
    /// The autoencoder that the stage needs cannot be read: the folder, and why.
    #[error("the autoencoder in {0} can't be read ({1}); train the autoencoder stage first")]
    Autoencoder(PathBuf, #[source] Cause),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file of training data cannot be used.
    #[error("{}{} can't be learnt from ({why}); correct it or leave it out", path.display(), at_line(*line))]
    Data {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// `--data` was given to a stage that draws its own data.
    #[error("stage {0} draws its own data; leave out --data")]
    NoData(String),
    /// A published model is to be trained without `--data`.
    #[error("a published model learns from your own files; name their folder with --data")]
    WantsData,
    /// A judge cannot be read or failed.
    #[error(transparent)]
    Judge(#[from] crate::judges::JudgeError),
    /// The published model cannot be read.
    #[error(transparent)]
    Published(#[from] crate::published::PublishedError),
    /// A model could not draw or write a sample.
    #[error(transparent)]
    Pipeline(#[from] crate::pipeline::PipelineError),
    /// A voken folder cannot be read or written.
    #[error(transparent)]
    Voken(#[from] crate::voken::FolderError),
    /// The language model cannot be read or failed.
    #[error(transparent)]
    Language(#[from] crate::llm::LlmError),
    /// The picture model cannot be read or failed.
    #[error(transparent)]
    Model(#[from] crate::diffusion::DiffusionError),
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line},"))
}

/// Result of a part of training.
pub type Result<T> = std::result::Result<T, TrainError>;

/// Runs `stage` with the settings in `config`, into the folder `run`.
///
/// # Errors
/// Anything of [`TrainError`]; a run that stops for one goes on from its last checkpoint.
pub fn run(stage: &str, config: &Path, run: &Path, resume: bool) -> Result<()> {
    run_with(stage, config, run, resume, None)
}

/// As [`run`], learning from the files in the folder `data` where it is given (stages `align` and
/// `story`): projects, or CC3M, VIST and MMDialog as they are published. These two stages also
/// train a published model, where the settings name its folder.
///
/// # Errors
/// As [`run`], and data that can't be read, by file and line.
pub fn run_with(
    stage: &str,
    config: &Path,
    run: &Path,
    resume: bool,
    data: Option<&Path>,
) -> Result<()> {
    let known = STAGES.iter().find(|(name, _)| *name == stage);
    let Some((name, train)) = known else {
        return Err(TrainError::Stage(stage.to_owned()));
    };
    checkpoint::may_begin(run, resume)?;
    let run = TrainingRun {
        config,
        run,
        resume,
        data,
    };
    match train {
        Train::Own(_) if data.is_some() => Err(TrainError::NoData((*name).to_owned())),
        Train::Own(train) => train(config, run.run, resume),
        Train::Voken(stage) => run.voken(*stage),
    }
}

/// What a run is asked for.
#[derive(Clone, Copy)]
struct TrainingRun<'a> {
    config: &'a Path,
    run: &'a Path,
    resume: bool,
    data: Option<&'a Path>,
}

impl TrainingRun<'_> {
    /// A stage of MiniGPT-5, on our own model or on a published one.
    fn voken(self, stage: voken::VokenStage) -> Result<()> {
        let train = match voken::published::names_one(self.config) {
            true => voken::published::train,
            false => voken::tune::train,
        };
        train(stage, self.config, self.run, self.resume, self.data)
    }
}

/// How a stage is trained.
enum Train {
    /// On data that it draws itself: settings, folder of the run, whether it goes on.
    Own(fn(&Path, &Path, bool) -> Result<()>),
    /// On the author's data where there is some.
    Voken(voken::VokenStage),
}

/// Every stage by its name, in the order in which a model is made.
static STAGES: &[(&str, Train)] = &[
    ("autoencoder", Train::Own(autoencoder::train)),
    ("diffusion", Train::Own(diffusion::train)),
    ("references", Train::Own(references::train)),
    ("recogniser", Train::Own(judges::recogniser::train)),
    ("contrastive", Train::Own(judges::contrastive::train)),
    ("see", Train::Own(voken::see::train)),
    ("align", Train::Voken(voken::VokenStage::Align)),
    ("story", Train::Voken(voken::VokenStage::Story)),
];

/// The names of the stages for people, such as `a, b or c`.
fn stage_names() -> String {
    let names: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
    match names.as_slice() {
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
        [] => String::new(),
    }
}

/// Where a stage runs: on a GPU where there is one that works.
pub(crate) fn device() -> Device {
    select_candle_device()
}

/// Begins from the parameters in `file` that have the same name and shape.
pub(crate) fn adopt(params: &Params, file: &Path) -> Result<()> {
    let (adopted, all) = params
        .adopt(file)
        .map_err(|e| TrainError::Checkpoint(file.to_owned(), e.into()))?;
    eprintln!(
        "{adopted} of {all} parameters begin as in {}",
        file.display()
    );
    Ok(())
}

/// Reads a stage's TOML settings; unknown names are errors.
pub fn read_config<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |why: Cause| TrainError::Config(path.to_owned(), why);
    let text = crate::files::read_text(path).map_err(|e| bad(e.into()))?;
    // The error's own text quotes the file over several lines.
    toml::from_str(&text).map_err(|e| bad(e.message().into()))
}

/// Writes a file in place of the one at `path`, with the folders above it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_in_folder(path, bytes).map_err(|e| TrainError::Write(path.to_owned(), e.into()))
}
