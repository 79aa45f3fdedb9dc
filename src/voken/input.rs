//! Interleaved input: words and pictures become one sequence of embeddings, with the labels that
//! training needs (reference: `input_warp` and the collation of its data sets).

use super::VokenIds;
use crate::nn::Result;
use candle_core::{DType, Tensor};

/// A tokenised text in which `<ImageHere>` stands for each picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterleavedText {
    /// Token ids, with padding at the end.
    pub ids: Vec<u32>,
    /// What each token is trained to be; `None` where nothing is learned.
    pub labels: Vec<Option<u32>>,
    /// Tokens before the padding.
    pub length: usize,
}

impl InterleavedText {
    /// A text to be continued.
    pub fn prompt(ids: Vec<u32>) -> Self {
        Self {
            labels: vec![None; ids.len()],
            length: ids.len(),
            ids,
        }
    }

    /// A text whose `target` is to be learned: its words and, of its vokens, the first and the
    /// last, since the ones between are forced. Of several groups of vokens only the first is
    /// treated so, as in the reference.
    pub fn training(prompt: &[u32], target: &[u32], vocabulary: &VokenIds) -> Self {
        let mut labels: Vec<Option<u32>> = target.iter().map(|id| Some(*id)).collect();
        if let Some(first) = target.iter().position(|id| *id == vocabulary.first) {
            let between = first + 1..first + vocabulary.vokens as usize - 1;
            let end = between.end.min(labels.len());
            labels[between.start.min(end)..end].fill(None);
        }
        let ids = [prompt, target].concat();
        Self {
            labels: [vec![None; prompt.len()], labels].concat(),
            length: ids.len(),
            ids,
        }
    }
}

/// A text with its pictures as embeddings.
#[derive(Clone, Debug)]
pub struct InterleavedEmbeddings {
    /// `[1,T,width]`.
    pub embeddings: Tensor,
    /// What each place is trained to predict; `None` where nothing is learned.
    pub labels: Vec<Option<u32>>,
    /// Places before the padding.
    pub length: usize,
}

/// Sequences padded to one length.
#[derive(Clone, Debug)]
pub struct PaddedBatch {
    /// `[B,T,width]`; zeros behind each text.
    pub embeddings: Tensor,
    /// What each place of each text is trained to predict; `None` where nothing is learned.
    pub labels: Vec<Vec<Option<u32>>>,
    /// Places of each before its padding.
    pub lengths: Vec<usize>,
}

/// The start token, then `text` with each `<ImageHere>` replaced by the next of `pictures
/// [N,queries,width]`. Pictures that are missing leave nothing behind; those left over are not
/// used. `embed` looks up ids, `[n] -> [1,n,width]`.
///
/// # Errors
/// An id that `embed` doesn't know, or pictures of another width.
pub fn interleave(
    text: &InterleavedText,
    pictures: Option<&Tensor>,
    vocabulary: &VokenIds,
    embed: &dyn Fn(&[u32]) -> Result<Tensor>,
) -> Result<InterleavedEmbeddings> {
    let mut parts = vec![embed(&[vocabulary.bos])?];
    let mut labels = vec![None];
    let mut length = 1;
    let mut next = 0;
    let mut at = 0;
    while at < text.ids.len() {
        if text.ids[at] == vocabulary.picture {
            if let Some(picture) = pictures.filter(|p| next < p.dims()[0]) {
                let picture = picture.narrow(0, next, 1)?;
                let n = picture.dim(1)?;
                labels.extend(std::iter::repeat_n(None, n));
                length += if at < text.length { n } else { 0 };
                parts.push(picture);
                next += 1;
            }
            at += 1;
            continue;
        }
        let words = text.ids[at..]
            .iter()
            .take_while(|id| **id != vocabulary.picture)
            .count();
        parts.push(embed(&text.ids[at..at + words])?);
        labels.extend_from_slice(&text.labels[at..at + words]);
        length += text.length.saturating_sub(at).min(words);
        at += words;
    }
    Ok(InterleavedEmbeddings {
        embeddings: Tensor::cat(&parts, 1)?,
        labels,
        length,
    })
}

/// Pads behind each with zero embeddings.
///
/// # Errors
/// When there are none, or their widths differ.
pub fn batch(items: &[InterleavedEmbeddings]) -> Result<PaddedBatch> {
    let longest = items.iter().map(|i| i.labels.len()).max().unwrap_or(0);
    let embeddings: Vec<Tensor> = items
        .iter()
        .map(|item| {
            let (_, t, c) = item.embeddings.dims3()?;
            if t == longest {
                return Ok(item.embeddings.clone());
            }
            let device = item.embeddings.device();
            let padding = Tensor::zeros((1, longest - t, c), DType::F32, device)?;
            Tensor::cat(&[&item.embeddings, &padding], 1)
        })
        .collect::<Result<_>>()?;
    let labels = items.iter().map(|item| {
        let mut labels = item.labels.clone();
        labels.resize(longest, None);
        labels
    });
    Ok(PaddedBatch {
        embeddings: Tensor::cat(&embeddings, 0)?,
        labels: labels.collect(),
        lengths: items.iter().map(|item| item.length).collect(),
    })
}

impl PaddedBatch {
    /// Where the labels call for a picture: sample and place of each `[IMG0]`.
    pub fn spans(&self, vocabulary: &VokenIds) -> Vec<(usize, usize)> {
        self.labels
            .iter()
            .enumerate()
            .flat_map(|(sample, labels)| {
                let first = Some(vocabulary.first);
                let places = labels.iter().enumerate().filter(move |(_, l)| **l == first);
                places.map(move |(at, _)| (sample, at))
            })
            .collect()
    }
}

/// The states that a picture is made from, `[spans,vokens,width]` of `hidden [B,T,width]`: for
/// each span those that predict its vokens, so from the place before `[IMG0]` on.
///
/// # Errors
/// A span that has not all its vokens, or stands at the very beginning.
pub fn voken_states(
    hidden: &Tensor,
    spans: &[(usize, usize)],
    vocabulary: &VokenIds,
) -> Result<Tensor> {
    let n = vocabulary.vokens as usize;
    let t = hidden.dim(1)?;
    let states: Vec<Tensor> = spans
        .iter()
        .map(|&(sample, at)| {
            if at == 0 || at + n > t + 1 {
                candle_core::bail!(
                    "the vokens at place {at} of a text of {t} tokens are cut off; shorten the text before them"
                );
            }
            hidden.narrow(0, sample, 1)?.narrow(1, at - 1, n)
        })
        .collect::<Result<_>>()?;
    Tensor::cat(&states, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const VOCABULARY: VokenIds = VokenIds {
        first: 10,
        vokens: 3,
        picture: 13,
        bos: 1,
    };

    /// An id's embedding is the id.
    fn embed(ids: &[u32]) -> Result<Tensor> {
        let values: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
        Tensor::from_vec(values, (1, ids.len(), 1), &Device::Cpu)
    }

    fn row(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pictures_take_their_places_in_order() {
        let pictures = Tensor::new(&[[[0.1f32], [0.2]], [[0.3], [0.4]]], &Device::Cpu).unwrap();
        let text = InterleavedText::prompt(vec![5, 13, 6, 13]);
        let two = interleave(&text, Some(&pictures), &VOCABULARY, &embed).unwrap();
        assert_eq!(row(&two.embeddings), [1.0, 5.0, 0.1, 0.2, 6.0, 0.3, 0.4]);
        assert_eq!((two.length, two.labels.len()), (7, 7));
        let one = pictures.narrow(0, 0, 1).unwrap();
        let one = interleave(&text, Some(&one), &VOCABULARY, &embed).unwrap();
        assert_eq!(row(&one.embeddings), [1.0, 5.0, 0.1, 0.2, 6.0]);
        let none = interleave(&text, None, &VOCABULARY, &embed).unwrap();
        assert_eq!(row(&none.embeddings), [1.0, 5.0, 6.0]);
    }

    #[test]
    fn only_the_first_and_last_voken_are_learned() {
        let text = InterleavedText::training(&[5, 6], &[7, 10, 11, 12, 8], &VOCABULARY);
        assert_eq!(
            text.labels,
            [None, None, Some(7), Some(10), None, Some(12), Some(8)]
        );
        assert_eq!(text.ids, [5, 6, 7, 10, 11, 12, 8]);
    }

    #[test]
    fn a_batch_is_padded_behind_and_its_vokens_are_found() {
        let texts = [
            InterleavedText::training(&[5], &[10, 11, 12], &VOCABULARY),
            InterleavedText::training(&[], &[7], &VOCABULARY),
        ];
        let items: Vec<_> = texts
            .iter()
            .map(|t| interleave(t, None, &VOCABULARY, &embed).unwrap())
            .collect();
        let batch = batch(&items).unwrap();
        assert_eq!(batch.embeddings.dims(), [2, 5, 1]);
        assert_eq!(row(&batch.embeddings)[5..], [1.0, 7.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.lengths, [5, 2]);
        let spans = batch.spans(&VOCABULARY);
        assert_eq!(spans, [(0, 2)]);
        let states = voken_states(&batch.embeddings, &spans, &VOCABULARY).unwrap();
        assert_eq!(row(&states), [5.0, 10.0, 11.0]);
        let why = voken_states(&batch.embeddings, &[(0, 4)], &VOCABULARY).unwrap_err();
        assert!(why.to_string().contains("cut off"));
    }
}
