//! Pictures that can't be read any more once a run is on: left out, told, and too many of them end
//! the run.

use super::data::{TrainingPicture, TrainingStory};
use crate::cause::Cause;
use crate::train::{Result, TrainError};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Of all that there is to learn from, so much may be bad and is left out; with more of it, it is
/// something else that is wrong.
const BAD_IN_A_HUNDRED: usize = 5;

/// A picture file, and where an author's files name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// The file.
    pub path: PathBuf,
    /// The file of training data that names it.
    pub named_in: PathBuf,
    /// Line in that file, from 1, where it is known.
    pub line: Option<usize>,
}

impl PictureFile {
    /// Why it can't be learnt from, with the place that names it.
    pub fn trouble(&self, why: impl Into<Cause>) -> TrainError {
        TrainError::Data {
            path: self.named_in.clone(),
            line: self.line,
            why: why.into(),
        }
    }
}

/// Whether `bad` of `met` are more than may be left out.
pub(super) fn too_many(bad: usize, met: usize) -> bool {
    bad * 100 > met * BAD_IN_A_HUNDRED
}

/// Tells what is left out; other troubles than of data are not told.
pub(super) fn report(error: &TrainError) {
    if let TrainError::Data { path, line, why } = error {
        let line = line.map_or_else(String::new, |line| format!(", line {line}"));
        eprintln!("left out: {}{line}: {why}", path.display());
    }
}

/// The picture files of a run, and those that went bad.
#[derive(Debug, Default)]
pub struct LeftOut {
    files: usize,
    bad: BTreeSet<PathBuf>,
}

impl LeftOut {
    /// Counts the picture files of `strips`, none of them left out yet.
    pub fn of(strips: &[TrainingStory]) -> LeftOut {
        let panels = strips.iter().flat_map(|strip| &strip.panels);
        let files: BTreeSet<&PathBuf> = panels
            .filter_map(|panel| match &panel.picture {
                Some(TrainingPicture::File(file)) => Some(&file.path),
                _ => None,
            })
            .collect();
        LeftOut {
            files: files.len(),
            bad: BTreeSet::new(),
        }
    }

    /// Leaves out a picture that could not be read.
    ///
    /// # Errors
    /// The trouble itself, where it is not of a file, or too many of the files are bad.
    pub fn add(&mut self, picture: &TrainingPicture, trouble: TrainError) -> Result<()> {
        let TrainingPicture::File(file) = picture else {
            return Err(trouble);
        };
        if self.bad.insert(file.path.clone()) {
            report(&trouble);
        }
        let count = self.bad.len();
        match trouble {
            TrainError::Data { .. } if !too_many(count, self.files) => Ok(()),
            TrainError::Data { path, line, why } => Err(TrainError::Data {
                path,
                line,
                why: format!(
                    "{why}; {count} of {} pictures can't be read any more, which is too many",
                    self.files
                )
                .into(),
            }),
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::diffusion::TextToImageModel;
    use crate::llm::float::GgufLlama;
    use crate::storyworld::library::CompositionRenderer;
    use crate::train::voken::data::{DataKind, FrozenNetworks, StoryCache, StorySource};
    use crate::train::voken::tests::{WIDTH, trained};
    use crate::voken::VokenFolder;
    use candle_core::Device;
    use std::fs;

    #[test]
    fn pictures_that_go_bad_while_a_run_is_on_are_left_out_and_too_many_end_it() {
        let dir = trained();
        let device = Device::Cpu;
        let diffusion = TextToImageModel::load(&dir.join("model"), &device).unwrap();
        let vision = VokenFolder::new(dir.join("see/voken"));
        let frozen = FrozenNetworks {
            renderer: CompositionRenderer::new(diffusion.picture_size().0),
            diffusion,
            tower: vision.read_tower(WIDTH, &device).unwrap(),
            tokenizer: GgufLlama::find(&dir.join("lm"))
                .unwrap()
                .tokenizer()
                .unwrap(),
            device,
        };
        let data = tempfile::tempdir().unwrap();
        let file = |number: usize| data.path().join(format!("{number}.png"));
        let mut rows = String::new();
        for number in 0..40 {
            let shade = image::Rgb([number as u8 * 6, 90, 30]);
            let picture = image::RgbImage::from_pixel(8, 8, shade);
            picture.save(file(number)).unwrap();
            rows += &format!("fox number {number}\t{number}.png\n");
        }
        fs::write(data.path().join("train.tsv"), rows).unwrap();
        let source = StorySource::open(Some(data.path()), 1, DataKind::Stories, 0).unwrap();
        let mut library = StoryCache::new(source);
        let text = |panels: &[crate::train::voken::EncodedPanel]| panels[0].text.clone();
        let tenth = text(&library.story(10, &frozen).unwrap());
        // It was met: what happens to its file does no harm any more.
        fs::write(file(10), "").unwrap();
        let again = library.story(10, &frozen).unwrap();
        frozen.moments(again[0].met.as_ref().unwrap()).unwrap();
        assert_eq!(text(&again), tenth);
        // One that was not is left out, and the next story stands in its place.
        fs::write(file(9), "<!doctype html>").unwrap();
        let met = library.story(9, &frozen).unwrap();
        assert_eq!(text(&met), tenth);
        assert!(met.iter().all(|panel| panel.met.is_some()));
        fs::remove_file(file(20)).unwrap();
        assert!(library.story(20, &frozen).is_ok());
        // Three of forty are more than five of a hundred.
        fs::write(file(30), "").unwrap();
        let error = library.story(30, &frozen).err().unwrap().to_string();
        for part in ["train.tsv, line 31,", "30.png", "3 of 40 pictures"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
