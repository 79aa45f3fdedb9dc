//! Stories as packed parts: what is before a panel is read once, whatever is learnt from it.
//!
//! The three tasks of MiniGPT-5 on a story (arXiv 2310.02239, section 3.4) share almost all of
//! their tokens: a panel's picture from its text, its text and picture from the panels before,
//! and its text from its picture. Each panel is therefore read once for all of them.

use crate::llm::float::{FloatKvCache, FloatLlama, PackedPart};
use crate::nn::Result;
use crate::voken::{PictureConditioning, VokenIds};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// A training objective of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Its picture from its text and what is before it.
    Picture,
    /// Its text and picture from what is before it.
    Both,
    /// Its text from its picture and what is before it.
    Text,
    /// Its text from what is before it, and no picture.
    Continue,
}

/// Which parts of the panels before are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextParts {
    /// Whether the texts of the panels before are read.
    pub texts: bool,
    /// Whether the pictures of the panels before are read.
    pub pictures: bool,
}

/// What a story is made of: the ids of each panel's text, whether it has a picture, and the ids
/// of what is on that.
pub struct PanelIds<'a> {
    /// Token ids of the text.
    pub text: &'a [u32],
    /// Whether it has a picture.
    pub pictured: bool,
    /// Token ids of what is on the picture.
    pub description: &'a [u32],
}

/// Objectives and context of training, the same for every panel.
pub struct ObjectivePlan<'a> {
    /// Objectives, each learnt of every panel.
    pub tasks: &'a [Objective],
    /// What is read of the panels before.
    pub context: ContextParts,
    /// Whether pictures are asked for by vokens or by a description.
    pub speaks: PictureConditioning,
    /// Embeddings of a picture.
    pub queries: usize,
    /// Id of the token that ends a line.
    pub line_end: u32,
    /// The vokens and what else was added to the tokenizer.
    pub vocabulary: VokenIds,
}

impl ObjectivePlan<'_> {
    fn has(&self, task: Objective) -> bool {
        self.tasks.contains(&task)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PictureSlot {
    Word(u32),
    /// A row of the pictures' embeddings.
    Picture(u32),
}

/// Tokens that go through the network together.
#[derive(Default)]
pub struct PackedTokens {
    slots: Vec<PictureSlot>,
    /// Texts and pictures in the order of their places.
    pub parts: Vec<PackedPart>,
}

/// A picture that is learnt from the vokens or the description before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureTarget {
    /// The panel, counted through all stories.
    pub panel: usize,
    /// Places of the states that it is made from.
    pub states: Vec<u32>,
}

/// Something that comes behind the context, in a pass of its own.
struct Branch {
    slots: Vec<PictureSlot>,
    sees: Vec<Range<usize>>,
    /// The last place that it sees.
    before: usize,
    /// What each of its tokens is to be, and what comes last.
    wanted: Vec<Option<u32>>,
    panel: usize,
    picture: bool,
}

/// Several stories, packed into one batch without padding.
#[derive(Default)]
pub struct Pack {
    /// Texts and pictures.
    pub context: PackedTokens,
    /// Vokens or descriptions, behind the context's places.
    pub asked: PackedTokens,
    /// What comes after a place.
    pub labels: Vec<(u32, u32)>,
    /// Pictures that are asked for.
    pub pictures: Vec<PictureTarget>,
    branches: Vec<Branch>,
    panels: usize,
}

impl PackedTokens {
    fn push(&mut self, first: usize, slots: &[PictureSlot], sees: &[Range<usize>]) -> Range<usize> {
        let start = first + self.slots.len();
        let tokens = start..start + slots.len();
        self.slots.extend_from_slice(slots);
        self.parts.push(PackedPart {
            tokens: tokens.clone(),
            sees: sees.to_vec(),
        });
        tokens
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// `[1,len,width]`; `pictures [P,queries,width]` are those of the pack's panels.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn embed(&self, llama: &FloatLlama, pictures: Option<&Tensor>) -> Result<Tensor> {
        let ids: Vec<u32> = self
            .slots
            .iter()
            .filter_map(|slot| match slot {
                PictureSlot::Word(id) => Some(*id),
                PictureSlot::Picture(_) => None,
            })
            .collect();
        let words = llama.embed_ids(&ids)?;
        let Some(pictures) = pictures.filter(|_| ids.len() < self.slots.len()) else {
            return Ok(words);
        };
        let width = words.dim(2)?;
        let rows = pictures.reshape((1, (), width))?;
        let mut word = 0;
        let order: Vec<u32> = self
            .slots
            .iter()
            .map(|slot| match slot {
                PictureSlot::Word(_) => {
                    word += 1;
                    word - 1
                }
                PictureSlot::Picture(row) => ids.len() as u32 + row,
            })
            .collect();
        let order = Tensor::from_vec(order, self.slots.len(), words.device())?;
        Tensor::cat(&[words, rows], 1)?.index_select(&order, 1)
    }
}

fn words(ids: &[u32]) -> Vec<PictureSlot> {
    ids.iter().map(|id| PictureSlot::Word(*id)).collect()
}

impl Pack {
    /// Adds a story.
    pub fn story(&mut self, panels: &[PanelIds], plan: &ObjectivePlan) {
        let bos = [PictureSlot::Word(plan.vocabulary.bos)];
        let mut visible = vec![self.context.push(0, &bos, &[])];
        for (i, panel) in panels.iter().enumerate() {
            self.panel(i, panel, plan, &mut visible);
            self.panels += 1;
        }
    }

    fn panel(
        &mut self,
        index: usize,
        panel: &PanelIds,
        plan: &ObjectivePlan,
        visible: &mut Vec<Range<usize>>,
    ) {
        let row = (self.panels * plan.queries) as u32;
        let picture: Vec<PictureSlot> = (row..row + plan.queries as u32)
            .map(PictureSlot::Picture)
            .collect();
        let before = visible.last().map_or(0, |seen| seen.end - 1) as u32;
        let written = !panel.text.is_empty();
        // What a story begins with is the author's.
        let learnt = written && index > 0;
        if learnt && panel.pictured && plan.has(Objective::Text) {
            let seen = [picture.clone(), words(panel.text)].concat();
            let place = self.context.push(0, &seen, visible);
            let first = (place.start + plan.queries - 1) as u32;
            self.learn(first, first + 1, panel.text, plan.line_end);
        }
        let mut own = None;
        if written {
            let place = self.context.push(0, &words(panel.text), visible);
            let asks =
                panel.pictured && (plan.has(Objective::Picture) || plan.has(Objective::Both));
            let after = match asks {
                true => plan.vocabulary.first,
                false => plan.line_end,
            };
            let tells =
                plan.has(Objective::Continue) || (plan.has(Objective::Both) && panel.pictured);
            if learnt && tells {
                self.learn(before, place.start as u32, panel.text, after);
            } else if asks {
                self.labels.push((place.end as u32 - 1, after));
            }
            if asks {
                self.branch(panel, plan, visible, &place);
            }
            own = Some(place);
        }
        let shows = plan.context.pictures && panel.pictured;
        if plan.context.texts {
            visible.extend(own);
        }
        if shows || (plan.context.texts && written) {
            let line_end = PictureSlot::Word(plan.line_end);
            let mut tail = if shows { picture } else { Vec::new() };
            tail.push(line_end);
            let place = self.context.push(0, &tail, visible);
            visible.push(place);
        }
    }

    /// `text` is to come after place `before`, its tokens being those from `first` on.
    fn learn(&mut self, before: u32, first: u32, text: &[u32], after: u32) {
        let places = std::iter::once(before).chain(first..);
        let wanted = text.iter().copied().chain([after]);
        self.labels.extend(places.zip(wanted));
    }

    fn branch(
        &mut self,
        panel: &PanelIds,
        plan: &ObjectivePlan,
        visible: &[Range<usize>],
        text: &Range<usize>,
    ) {
        let ids = plan.vocabulary.ids();
        let (ids, wanted) = match plan.speaks {
            // Of the vokens only the first and the last are learnt, as in the reference: those
            // between are forced. Nothing is read after the last.
            PictureConditioning::Vokens => {
                let read = ids.len() - 1;
                let mut wanted = vec![None; read];
                if let (Some(last), Some(id)) = (wanted.last_mut(), ids.last()) {
                    *last = Some(*id);
                }
                (ids[..read].to_vec(), wanted)
            }
            PictureConditioning::Description => {
                let answer = [&[plan.vocabulary.first], panel.description].concat();
                let wanted = panel.description.iter().copied().chain([plan.line_end]);
                (answer, wanted.map(Some).collect())
            }
        };
        let mut sees = visible.to_vec();
        sees.push(text.clone());
        self.branches.push(Branch {
            slots: words(&ids),
            sees,
            before: text.end - 1,
            wanted,
            panel: self.panels,
            picture: plan.speaks == PictureConditioning::Vokens,
        });
    }

    /// Places what is asked for behind the context.
    pub fn finish(&mut self) {
        let first = self.context.len();
        for branch in std::mem::take(&mut self.branches) {
            let place = self.asked.push(first, &branch.slots, &branch.sees);
            let places = (place.start as u32..).zip(branch.wanted);
            let labels = places.filter_map(|(at, wanted)| Some((at, wanted?)));
            self.labels.extend(labels);
            if branch.picture {
                let states = std::iter::once(branch.before as u32);
                self.pictures.push(PictureTarget {
                    panel: branch.panel,
                    states: states.chain(place.map(|at| at as u32)).collect(),
                });
            }
        }
    }

    /// Texts and pictures, read. Where nothing in them learns, this keeps no graph.
    ///
    /// # Errors
    /// Pictures or ids that don't fit the model.
    pub fn read_context(
        &self,
        llama: &FloatLlama,
        pictures: Option<&Tensor>,
    ) -> Result<ReadContext> {
        let mut cache = llama.cache();
        let context = self.context.embed(llama, pictures)?;
        let states = llama.forward_packed(&context, &self.context.parts, Some(&mut cache))?;
        Ok(ReadContext { states, cache })
    }

    /// The states after the last norm of all places, `[1,places,width]`, the context's being read.
    ///
    /// # Errors
    /// The context of another pack, or ids that don't fit the model.
    pub fn read(&self, llama: &FloatLlama, context: ReadContext) -> Result<Tensor> {
        let ReadContext { states, mut cache } = context;
        if self.asked.is_empty() {
            return Ok(states);
        }
        let asked = self.asked.embed(llama, None)?;
        let asked = llama.forward_packed(&asked, &self.asked.parts, Some(&mut cache))?;
        Tensor::cat(&[states, asked], 1)
    }
}

/// A pack's context as the language model has read it.
pub struct ReadContext {
    /// `[1,places,width]`.
    states: Tensor,
    cache: FloatKvCache,
}

impl ReadContext {
    /// The contexts of several packs as the context of one pack of all their stories.
    ///
    /// # Errors
    /// None of them, or those of other models.
    pub fn joined(each: &[Arc<ReadContext>]) -> Result<Self> {
        let states: Vec<&Tensor> = each.iter().map(|one| &one.states).collect();
        let caches: Vec<&FloatKvCache> = each.iter().map(|one| &one.cache).collect();
        Ok(Self {
            states: Tensor::cat(&states, 1)?,
            cache: FloatKvCache::joined(&caches)?,
        })
    }

    pub fn bytes(&self) -> usize {
        (self.states.elem_count() + self.cache.elements()) * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: VokenIds = VokenIds {
        first: 50,
        vokens: 3,
        picture: 53,
        bos: 1,
    };

    fn plan(tasks: &[Objective], texts: bool, pictures: bool) -> ObjectivePlan<'_> {
        ObjectivePlan {
            tasks,
            context: ContextParts { texts, pictures },
            speaks: PictureConditioning::Vokens,
            queries: 2,
            line_end: 9,
            vocabulary: VOCABULARY,
        }
    }

    fn two() -> [PanelIds<'static>; 2] {
        [&[20u32, 21][..], &[30, 31]].map(|text| PanelIds {
            text,
            pictured: true,
            description: &[40],
        })
    }

    fn pack(plan: &ObjectivePlan) -> Pack {
        let mut pack = Pack::default();
        pack.story(&two(), plan);
        pack.finish();
        pack
    }

    #[test]
    fn all_tasks_share_what_is_before() {
        let pack = pack(&plan(
            &[Objective::Picture, Objective::Both, Objective::Text],
            true,
            true,
        ));
        // bos | 20 21 | p p \n | (p p 30 31) | 30 31 | p p \n
        assert_eq!(pack.context.len(), 1 + 2 + 3 + 4 + 2 + 3);
        assert_eq!(pack.context.parts[3].sees, [0..1, 1..3, 3..6]);
        assert_eq!(pack.context.parts[4].sees, [0..1, 1..3, 3..6]);
        // The first text is given; its picture is asked for after it.
        let labels = [
            (2, 50),
            (7, 30),
            (8, 31),
            (9, 9),
            (5, 30),
            (10, 31),
            (11, 50),
            (16, 52),
            (18, 52),
        ];
        assert_eq!(pack.labels, labels);
        assert_eq!(pack.asked.parts[1].tokens, 17..19);
        assert_eq!(pack.asked.parts[1].sees, [0..1, 1..3, 3..6, 10..12]);
        assert_eq!(pack.pictures[1].states, [11, 17, 18]);
        assert_eq!(pack.pictures[1].panel, 1);
    }

    #[test]
    fn what_is_not_in_context_is_not_seen() {
        let alone = pack(&plan(&[Objective::Picture], false, false));
        assert!(
            alone.context.parts[1..]
                .iter()
                .all(|p| p.sees.len() == 1 && p.sees[0] == (0..1))
        );
        assert_eq!(alone.context.len(), 1 + 2 + 2);
        let seen = pack(&plan(&[Objective::Picture], false, true));
        // bos | 20 21 | p p \n | 30 31 | p p \n
        assert_eq!(seen.context.parts[3].sees, [0..1, 3..6]);
        let visible = pack(&plan(&[Objective::Continue], true, false));
        // bos | 20 21 | \n | 30 31 | \n
        assert_eq!(visible.context.len(), 1 + 2 + 1 + 2 + 1);
        assert_eq!(visible.labels, [(3, 30), (4, 31), (5, 9)]);
        assert!(visible.asked.is_empty() && visible.pictures.is_empty());
    }

    #[test]
    fn a_description_is_learnt_whole() {
        let plan = ObjectivePlan {
            speaks: PictureConditioning::Description,
            ..plan(&[Objective::Picture], true, false)
        };
        let pack = pack(&plan);
        let end = pack.context.len() as u32;
        assert_eq!(pack.labels[2..4], [(end, 40), (end + 1, 9)]);
        assert!(pack.pictures.is_empty());
    }
}
