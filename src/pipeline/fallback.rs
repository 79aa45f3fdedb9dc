//! Going on with the processor where a GPU fails, if the author allows it.

use std::ops::ControlFlow;

use super::{
    ContextPanel, Description, LoadOptions, LoadProgress, Loader, Make, Output, Pipeline,
    PipelineError, Progress, Request, Sink, Started, loader,
};
use crate::nn::gpu::Gpu;
use crate::story::Record;
use crate::weights::{DeviceChoice, DeviceKind};

/// Loads the same models on the processor.
type Anew = Box<dyn Fn() -> Loader>;

/// A pipeline on a GPU, which is loaded again on the processor when the GPU is lost or refuses
/// memory. What was made until then stays.
pub(super) struct FallbackPipeline {
    /// None where the processor's could not be loaded either.
    pipeline: Option<Box<dyn Pipeline>>,
    description: Description,
    /// None once the processor works.
    gpu: Option<Gpu>,
    anew: Anew,
    /// What is to be told with the next request.
    note: Option<String>,
}

/// What was made of a request before the GPU failed.
#[derive(Default)]
struct MadeBefore {
    texts: Vec<(String, Record)>,
    /// Letters of the text that was being written.
    letters: usize,
}

impl MadeBefore {
    fn record(&mut self, progress: &Progress) {
        match progress {
            Progress::TextPiece(piece) => self.letters += piece.chars().count(),
            Progress::TextDone(text, record) => {
                self.texts.push((text.clone(), record.as_ref().clone()));
                self.letters = 0;
            }
            _ => {}
        }
    }
}

/// The models that `options` name on the processor, whenever they are asked for.
fn on_the_processor(options: &LoadOptions) -> Anew {
    let options = LoadOptions {
        device: DeviceChoice::Only(DeviceKind::Cpu),
        ..options.clone()
    };
    Box::new(move || loader(options.clone()))
}

/// `loaded`, or what could not be loaded on `gpu`, with the processor behind it.
///
/// # Errors
/// What has nothing to do with the GPU, or what the processor fails with.
pub(super) fn with_fallback(
    loaded: Result<Box<dyn Pipeline>, PipelineError>,
    gpu: &Gpu,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Box<dyn Pipeline>, PipelineError> {
    FallbackPipeline::new(loaded, gpu, on_the_processor(options), progress)
        .map(|pipeline| Box::new(pipeline) as Box<dyn Pipeline>)
}

/// `loaded` on the processor, since the GPU that was asked for did not open, which is told with the
/// first request.
pub(super) fn without_gpu(
    loaded: Box<dyn Pipeline>,
    why: &str,
    options: &LoadOptions,
) -> Box<dyn Pipeline> {
    Box::new(FallbackPipeline {
        description: loaded.describe().clone(),
        pipeline: Some(loaded),
        gpu: None,
        anew: on_the_processor(options),
        note: Some(note(why)),
    })
}

impl FallbackPipeline {
    fn new(
        loaded: Result<Box<dyn Pipeline>, PipelineError>,
        gpu: &Gpu,
        anew: Anew,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<FallbackPipeline, PipelineError> {
        let (pipeline, gpu, note) = match loaded {
            Ok(pipeline) => (pipeline, Some(gpu.clone()), None),
            Err(error) => {
                let Some(note) = note_of(gpu) else {
                    return Err(error);
                };
                (anew()(progress)?, None, Some(note))
            }
        };
        Ok(FallbackPipeline {
            description: pipeline.describe().clone(),
            pipeline: Some(pipeline),
            gpu,
            anew,
            note,
        })
    }

    /// The pipeline, loaded on the processor where there is none.
    fn ready(&mut self, sink: &mut Sink) -> Result<&mut dyn Pipeline, PipelineError> {
        if let Some(note) = self.note.take() {
            let _ = sink(Progress::Note(note));
        }
        let pipeline = match self.pipeline.take() {
            Some(pipeline) => pipeline,
            None => {
                let pipeline = (self.anew)()(&mut |progress| {
                    let _ = sink(Progress::Loading(progress));
                })?;
                self.description = pipeline.describe().clone();
                pipeline
            }
        };
        Ok(self.pipeline.insert(pipeline).as_mut())
    }

    /// What failed before and was overcome says nothing about the next request.
    fn forget_failures(&self) {
        self.gpu.as_ref().map(Gpu::take_failure);
    }

    /// Leaves a GPU that failed; false where it did not, so that the error is another's.
    fn leaves_gpu(&mut self) -> bool {
        let Some(note) = self.gpu.as_ref().and_then(note_of) else {
            return false;
        };
        tracing::warn!("{note}");
        // Two sets of networks may not fit in memory.
        (self.pipeline, self.gpu, self.note) = (None, None, Some(note));
        true
    }

    /// Makes on the processor what is left of a request.
    fn rest(
        &mut self,
        request: &Request,
        made: MadeBefore,
        sink: &mut Sink,
    ) -> Result<Option<Output>, PipelineError> {
        let pipeline = self.ready(sink)?;
        if let ([text], Make::Both) = (made.texts.as_slice(), &request.make) {
            let picture = Request {
                make: Make::Picture,
                text: Some(text.0.clone()),
                ..request.clone()
            };
            let output = pipeline.generate(&picture, sink)?;
            return Ok(output.map(|output| Output {
                text: Some(text.clone()),
                ..output
            }));
        }
        // What was told is not told again.
        let (mut letters, mut texts) = (made.letters, made.texts.len());
        pipeline.generate(request, &mut |progress| match progress {
            Progress::TextDone(..) if texts > 0 => {
                texts -= 1;
                ControlFlow::Continue(())
            }
            Progress::TextPiece(piece) => {
                let known = if texts > 0 { usize::MAX } else { letters };
                let new: String = piece.chars().skip(known).collect();
                if texts == 0 {
                    letters -= letters.min(piece.chars().count());
                }
                sink(Progress::TextPiece(new))
            }
            other => sink(other),
        })
    }
}

/// Why a GPU failed and who goes on, for the author; none where it did not fail.
fn note_of(gpu: &Gpu) -> Option<String> {
    Some(note(&gpu.take_failure()?.to_string()))
}

fn note(failure: &str) -> String {
    let what = failure.rsplit_once("; ").map_or(failure, |(what, _)| what);
    format!("{what}; the processor goes on until the model is loaded again")
}

impl Pipeline for FallbackPipeline {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let mut made = MadeBefore::default();
        self.forget_failures();
        let result = self.ready(sink)?.generate(request, &mut |progress| {
            made.record(&progress);
            sink(progress)
        });
        match result {
            Err(_) if self.leaves_gpu() => self.rest(request, made, sink),
            result => result,
        }
    }

    fn begin(&mut self, request: &Request, sink: &mut Sink) -> Result<Started, PipelineError> {
        let mut made = MadeBefore::default();
        self.forget_failures();
        let result = self.ready(sink)?.begin(request, &mut |progress| {
            made.record(&progress);
            sink(progress)
        });
        match result {
            Err(_) if self.leaves_gpu() => {
                let output = self.rest(request, made, sink)?;
                Ok(Started::Ended(Box::new(output)))
            }
            result => result,
        }
    }

    fn log_probabilities(
        &mut self,
        context: &[ContextPanel],
        text: &str,
    ) -> Result<Vec<f64>, PipelineError> {
        let silent = &mut |_| ControlFlow::Continue(());
        self.forget_failures();
        match self.ready(silent)?.log_probabilities(context, text) {
            Err(_) if self.leaves_gpu() => self.ready(silent)?.log_probabilities(context, text),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests;
