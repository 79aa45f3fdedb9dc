//! The eyes of a language model on this machine: its vision projector, loaded when the first picture
//! is looked at.

use std::ops::ControlFlow;
use std::path::PathBuf;

use image::RgbaImage;

use crate::llm::LlmError;
use crate::llm::chat::{EmbeddingStore, ImageEncoder};
use crate::nn::gpu::Gpu;
use crate::story::Images;
use crate::vision::{Projector, ProjectorError, ProjectorFacts};
use crate::weights::FileEntry;

pub(super) struct ProjectorEyes {
    path: PathBuf,
    facts: ProjectorFacts,
    weights: String,
    projector: Option<Projector>,
    gpu: Option<Gpu>,
}

impl ProjectorEyes {
    /// # Errors
    /// When the file cannot be read, or is no projector that is read here.
    pub(super) fn new(
        file: &FileEntry,
        gpu: Option<&Gpu>,
    ) -> Result<ProjectorEyes, ProjectorError> {
        let path = PathBuf::from(&file.path);
        Ok(ProjectorEyes {
            facts: ProjectorFacts::read(&path)?,
            weights: file.sha256.clone(),
            projector: None,
            gpu: gpu.cloned(),
            path,
        })
    }
}

impl ImageEncoder for ProjectorEyes {
    fn tokens(&self) -> usize {
        self.facts.config.tokens()
    }

    fn width(&self) -> usize {
        self.facts.config.projection
    }

    fn weights(&self) -> &str {
        &self.weights
    }

    fn see(
        &mut self,
        picture: &RgbaImage,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        let as_llm_error = |error: ProjectorError| LlmError::Elsewhere(Box::new(error));
        let projector = match &mut self.projector {
            Some(projector) => projector,
            none => {
                none.insert(Projector::open(&self.path, self.gpu.as_ref()).map_err(as_llm_error)?)
            }
        };
        projector.see(picture, go_on).map_err(as_llm_error)
    }
}

/// What models saw in the pictures of a project is kept with it.
impl EmbeddingStore for Images {
    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        Images::kept(self, name)
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        Images::keep(self, name, bytes);
    }
}
