//! What the two stages of training a voken model minimise, and what they change (arXiv
//! 2310.02239, section 3.4; reference: `MiniGPT5_InputImage` and its `configure_optimizers`).

mod begin;
mod loss;
mod samples;
mod stage;

pub use begin::begin_second_stage;
pub use loss::{Denoiser, Draws, LossWeights, Losses, caption_loss, image_loss, losses, text_loss};
pub use samples::{Sample, Turn, cc3m, clean_caption, mmdialog, vist};
pub use stage::{Stage, linear_rate, mask_new_rows};
