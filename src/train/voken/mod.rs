//! What the two stages of training a voken model minimise, and what they change (arXiv
//! 2310.02239, section 3.4; reference: `MiniGPT5_InputImage` and its `configure_optimizers`).

mod begin;
mod data;
mod datasets;
mod left_out;
mod loss;
mod mentions;
mod pack;
mod pass;
pub mod published;
mod remembered;
mod samples;
pub mod see;
mod settings;
mod stage;
mod stage_report;
#[cfg(test)]
mod stage_tests;
mod telling;
#[cfg(test)]
mod tests;
pub mod tune;

pub use begin::begin_second_stage;
pub use data::{
    CompositionTarget, DataKind, EncodedPanel, EncodedPicture, FrozenNetworks, StorySource,
    TrainingPanel, TrainingPicture, TrainingStory, told, told_of_library,
};
pub use datasets::read as read_data;
pub use left_out::{LeftOut, PictureFile};
pub use loss::{
    Denoiser, LossNoise, LossWeights, Losses, caption_loss, composition_loss, denoising_loss,
    image_loss, losses, text_loss, word_loss,
};
pub use pack::{
    ContextParts, Objective, ObjectivePlan, Pack, PackedTokens, PanelIds, PictureTarget,
};
pub use samples::{DialogTurn, TrainingSample, cc3m, clean_caption, mmdialog, vist};
pub use stage::{VokenStage, mask_new_rows};
