//! The part of a story that the language model reads.

use std::sync::Arc;

use image::RgbaImage;

use super::{MAX_NEW_TOKENS, VokenPipeline};
use crate::pipeline::{ContextPanel, Request};
use crate::voken::VistTask;

/// Tokens that what is asked may take without that anything more of the story is left out.
const ASKED: usize = 256;

impl VokenPipeline {
    /// The panels that fit into the context window: all of them, or the later part. See
    /// [`later_part`].
    pub(super) fn visible_context(
        &self,
        (cast, context): (&[ContextPanel], &[ContextPanel]),
        task: VistTask,
        own: Option<&Arc<RgbaImage>>,
    ) -> (Vec<ContextPanel>, String, Vec<u32>) {
        let vocabulary = self.voice.vocabulary;
        let queries = self.networks.vision().qformer.num_query_tokens;
        let introduced: usize = cast.iter().map(|panel| self.cost(panel)).sum();
        let limit = self.room().saturating_sub(introduced);
        let costs: Vec<usize> = context.iter().map(|panel| self.cost(panel)).collect();
        let all: usize = costs.iter().sum();
        // A story that is far too long is not tried whole.
        let mut steps = usize::from(all > limit);
        loop {
            let asked = ASKED.min(limit / 4);
            let first = match steps {
                0 => 0,
                steps => later_part(&costs, limit - asked, steps),
            };
            let panels = [cast, &context[first..]].concat();
            let (prompt, ids) = self.speech.prompt(&panels, task, &vocabulary);
            let pictures = panels
                .iter()
                .filter(|panel| panel.picture.is_some())
                .count()
                + usize::from(own.is_some());
            let whole = 1 + ids.len() + pictures * queries;
            if first == context.len() || whole <= limit + introduced {
                return (panels, prompt, ids);
            }
            steps += 1;
        }
    }

    /// Tokens that can be read.
    fn room(&self) -> usize {
        let written = MAX_NEW_TOKENS + self.voice.vocabulary.vokens as usize;
        self.voice.limit.saturating_sub(written)
    }

    /// Tokens of a panel.
    fn cost(&self, panel: &ContextPanel) -> usize {
        let queries = self.networks.vision().qformer.num_query_tokens;
        let picture = panel.picture.as_ref().map_or(0, |_| 1 + queries);
        self.speech.encode(&panel.text).len() + 1 + picture
    }

    /// The request with the pictures of whoever is in its panel, which are read before the story:
    /// as many as leave most of what can be read to the story.
    pub(super) fn with_cast(&self, request: &Request) -> Request {
        let mut request = request.with_looks(request.naming_text(), &self.description.takes);
        while request
            .settings
            .references
            .last()
            .is_some_and(|last| last.member.is_some())
        {
            let introduced = request.introduced();
            let cost: usize = introduced.iter().map(|panel| self.cost(panel)).sum();
            if cost <= self.room() / 3 {
                break;
            }
            request.settings.references.pop();
        }
        request
    }
}

/// The first panel that is read of a story whose panels take `costs` tokens and which is longer
/// than `room`; `steps` counts the tries, from 1. What falls out does so in steps of half of what
/// is read, counted from the story's beginning: until the next step the part begins with the same
/// panel, and what was read of it is not read again.
fn later_part(costs: &[usize], room: usize, steps: usize) -> usize {
    let step = (room / 2).max(1);
    let over = costs.iter().sum::<usize>().saturating_sub(room);
    let out = (over.div_ceil(step).max(1) + steps - 1) * step;
    let mut before = 0;
    let reached = |cost: &usize| {
        let reached = before >= out;
        before += cost;
        reached
    };
    costs.iter().position(reached).unwrap_or(costs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_out_of_a_long_story_does_so_in_large_steps() {
        let mut before = 0;
        let mut moves = 0;
        for panels in 1..1000 {
            let costs = vec![10; panels];
            if 10 * panels <= 1000 {
                continue;
            }
            let first = later_part(&costs, 1000, 1);
            let read = 10 * (panels - first);
            assert!((500..=1000).contains(&read), "{panels}: {read}");
            assert!(first >= before);
            moves += usize::from(first != before);
            before = first;
        }
        // 900 panels fall out, 50 at a time.
        assert_eq!(moves, 18);
        // Where that is too much still, more is left out, to nothing.
        assert_eq!(later_part(&[10; 200], 1000, 2), 150);
        assert_eq!(later_part(&[10; 200], 1000, 99), 200);
        assert_eq!(later_part(&[5000], 1000, 1), 1);
    }
}
