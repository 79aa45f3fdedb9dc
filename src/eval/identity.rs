//! How alike the pictures of a board are, by what an image encoder says of them: whether somebody
//! stays the same from panel to panel.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::{DynamicImage, RgbaImage};
use serde::Serialize;

use super::EvalError;
use crate::diffusion::ClipVision;
use crate::story::Story;
use crate::vision::{Crop, Preprocess, VisionTower};
use crate::voken::VokenFolder;

/// The image encoder that pictures are compared with.
pub enum IdentityEncoder {
    /// The vision tower of a voken model: the mean of what its queries say.
    Tower(Box<VisionTower>),
    /// An image encoder of CLIP.
    Clip(Box<ClipVision>),
}

impl IdentityEncoder {
    /// The vision tower in a voken model's folder.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn tower(voken: &Path) -> Result<IdentityEncoder, EvalError> {
        let tower = VokenFolder::new(voken).read_tower_alone(&Device::Cpu)?;
        Ok(IdentityEncoder::Tower(Box::new(tower)))
    }

    /// An image encoder of CLIP in a file, or in a folder of transformers'.
    ///
    /// # Errors
    /// As for [`IdentityEncoder::tower`], or a file of another kind.
    pub fn clip(path: &Path) -> Result<IdentityEncoder, EvalError> {
        let clip = ClipVision::open(path, None, &Device::Cpu)?;
        Ok(IdentityEncoder::Clip(Box::new(clip)))
    }

    /// The embedding of a picture, of length 1.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn embed(&self, picture: &RgbaImage) -> Result<Vec<f32>, EvalError> {
        let embedding = match self {
            IdentityEncoder::Tower(tower) => {
                let how = Preprocess::seen(tower.config().image_size, Crop::WhiteSquare);
                let seen = how.tensor_of_rgba(picture, &Device::Cpu)?;
                tower.forward(&seen)?.mean(1)?
            }
            IdentityEncoder::Clip(clip) => {
                let white = crate::pixels::on_white(picture).into_owned();
                let rgb = DynamicImage::ImageRgba8(white).to_rgb8();
                clip.embed(&clip.pixels(&rgb, &Device::Cpu)?)?
            }
        };
        let length = embedding.sqr()?.sum_all()?.sqrt()?;
        let embedding = embedding.broadcast_div(&Tensor::clamp(&length, 1e-12f32, f32::MAX)?)?;
        Ok(embedding.flatten_all()?.to_vec1()?)
    }
}

/// Cosine similarity of pictures, as the mean over all pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Similarity {
    /// How many there are.
    pub pairs: usize,
    /// None without a pair.
    pub cosine: Option<f64>,
    /// The cosine of what is left when what all pictures of the board have in common is taken
    /// away, which tells them apart better; none for fewer than three pictures.
    pub centred: Option<f64>,
}

/// How alike a member of the cast is in its pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberSimilarity {
    /// Its name in the story.
    pub name: String,
    /// Pictures of panels that it is in.
    pub pictures: usize,
    /// Pairs of them.
    #[serde(flatten)]
    pub alike: Similarity,
}

/// How alike the members of the cast are in the pictures of a board.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentityReport {
    /// Panels with a picture.
    pub pictures: usize,
    /// The cast, in its order.
    pub members: Vec<MemberSimilarity>,
    /// Pairs of panels that share a member of the cast.
    pub shared: Similarity,
    /// Pairs of panels that share none.
    pub apart: Similarity,
    /// All pairs of panels.
    pub all: Similarity,
}

/// Compares the pictures of a story: `seen` has for each panel the embedding ([`IdentityEncoder::embed`]) of its picture, where it has one.
pub fn identity(story: &Story, seen: &[Option<Arc<Vec<f32>>>]) -> IdentityReport {
    let panels: Vec<_> = story
        .panels
        .iter()
        .zip(seen)
        .filter_map(|(panel, seen)| Some((story.in_panel(panel), seen.as_ref()?)))
        .collect();
    let all: Vec<&[f32]> = panels.iter().map(|(_, seen)| seen.as_slice()).collect();
    let own = centred(&all);
    let mut pairs = Vec::new();
    for (at, (cast, seen)) in panels.iter().enumerate() {
        for (to, (others, other)) in panels.iter().enumerate().skip(at + 1) {
            let shared: Vec<_> = cast.iter().filter(|id| others.contains(id)).collect();
            let centred = (panels.len() > 2).then(|| cosine(&own[at], &own[to]));
            pairs.push((shared, (cosine(seen, other), centred)));
        }
    }
    let mean = |cosines: Vec<(f64, Option<f64>)>| {
        let count = cosines.len();
        let plain = cosines.iter().map(|(cosine, _)| cosine).sum::<f64>();
        let centred = cosines
            .iter()
            .map(|(_, centred)| *centred)
            .sum::<Option<f64>>();
        Similarity {
            pairs: count,
            cosine: (count > 0).then(|| plain / count as f64),
            centred: centred.filter(|_| count > 0).map(|sum| sum / count as f64),
        }
    };
    let of = |wanted: bool| {
        let pairs = pairs.iter();
        let pairs = pairs.filter(|(shared, _)| shared.is_empty() != wanted);
        mean(pairs.map(|(_, cosine)| *cosine).collect())
    };
    let members = story.cast.iter().map(|member| {
        let pairs = pairs.iter();
        let own = pairs.filter(|(shared, _)| shared.contains(&&member.id));
        MemberSimilarity {
            name: member.name.clone(),
            pictures: panels
                .iter()
                .filter(|(cast, _)| cast.contains(&member.id))
                .count(),
            alike: mean(own.map(|(_, cosine)| *cosine).collect()),
        }
    });
    IdentityReport {
        pictures: panels.len(),
        members: members.collect(),
        shared: of(true),
        apart: of(false),
        all: mean(pairs.iter().map(|(_, cosine)| *cosine).collect()),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let both = a.iter().zip(b);
        both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

/// What is left of each when their mean is taken away.
fn centred(all: &[&[f32]]) -> Vec<Vec<f32>> {
    let count = all.len().max(1) as f32;
    let width = all.first().map_or(0, |seen| seen.len());
    let mean: Vec<f32> = (0..width)
        .map(|i| all.iter().map(|seen| seen[i]).sum::<f32>() / count)
        .collect();
    let less = |seen: &&[f32]| seen.iter().zip(&mean).map(|(x, mean)| x - mean).collect();
    all.iter().map(less).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Member, MemberId, Panel, PanelId};

    #[test]
    fn pairs_that_share_a_member_are_told_from_the_others() {
        let member = |id, name: &str| Member {
            name: name.into(),
            ..Member::new(MemberId(id))
        };
        let texts = ["Milo runs.", "Ann sleeps.", "Milo sleeps.", "Rain."];
        let panels = texts.iter().zip(1..);
        let story = Story {
            cast: vec![member(1, "Milo"), member(2, "Ann")],
            panels: panels
                .map(|(text, id)| Panel::with_text(PanelId(id), (*text).to_string()))
                .collect(),
            ..Story::default()
        };
        let seen = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]].map(|v| Some(Arc::new(v.to_vec())));
        let seen = [&seen[..], &[None]].concat();
        let report = identity(&story, &seen);
        assert_eq!(report.pictures, 3);
        let near = |alike: &Similarity, pairs, cosine: f64| {
            assert_eq!(alike.pairs, pairs);
            assert!((alike.cosine.unwrap() - cosine).abs() < 1e-6, "{alike:?}");
        };
        near(&report.shared, 1, 0.6);
        near(&report.apart, 2, 0.4);
        near(&report.all, 3, 1.4 / 3.0);
        near(&report.members[0].alike, 1, 0.6);
        assert_eq!(report.members[0].pictures, 2);
        let alone = &report.members[1].alike;
        assert_eq!((alone.pairs, alone.cosine, alone.centred), (0, None, None));
        let off = |alike: &Similarity, wanted: f64| (alike.centred.unwrap() - wanted).abs();
        assert!(off(&report.shared, -0.5547) < 1e-3 && off(&report.apart, -0.3243) < 1e-3);
    }
}
