//! Whom a model that draws compositions takes for who is in a picture, in held-out stories about
//! drawings of the library: who, from left to right, where and when, all of which a text may leave
//! to the story before it.

use std::ops::ControlFlow;

use serde::Serialize;

use super::EvalError;
use super::illustrated::{IllustratedTale, SIZE};
use crate::pipeline::Pipeline;
use crate::story::{Member, name_mentions};
use crate::storyworld::library::{
    CompositionPrompt, CompositionRenderer, DrawingId, LibraryTale, PromptSubject,
};
use crate::storyworld::{Time, Weather};

/// Counts over the panels after each story's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CompositionReport {
    /// Panels.
    pub panels: usize,
    /// Subjects that are to be shown, and those of them that are.
    pub wanted: usize,
    /// See `wanted`.
    pub found: usize,
    /// Subjects that are shown; `found` of them are to be.
    pub shown: usize,
    /// Panels with everybody who is to be shown, and nobody else.
    pub everybody: usize,
    /// Those of them with everybody in order from left to right.
    pub ordered: usize,
    /// Panels with the right place.
    pub place: usize,
    /// Panels with the right time.
    pub time: usize,
    /// Panels with the right weather.
    pub weather: usize,
    /// Panels with everybody, place, time and weather right.
    pub all: usize,
    /// Sum of the negative log probabilities of the texts' tokens, and how many tokens.
    pub surprise: f64,
    /// See `surprise`.
    pub tokens: usize,
}

/// Asks `pipeline` for the prompt of each panel of `stories` held-out stories from `seed` on, their
/// panels before it given as they are; `progress` is called with each story.
///
/// # Errors
/// When the model fails, or writes no prompts of compositions.
pub fn judge_compositions(
    pipeline: &mut dyn Pipeline,
    stories: usize,
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<CompositionReport, EvalError> {
    let renderer = CompositionRenderer::new(SIZE);
    let mut report = CompositionReport::default();
    for story in 0..stories {
        progress(story);
        let one = IllustratedTale::new(seed + story as u64, &renderer);
        for panel in 1..one.context.len() {
            let request = one.request(panel);
            let text = one.context[panel].text.clone();
            let made = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
            let prompt = made.and_then(|made| made.prompt).unwrap_or_default();
            report.add(&one.tale, panel, &request.board.cast, &prompt);
            let likely = pipeline.log_probabilities(&request.context, &text)?;
            report.surprise -= likely.iter().sum::<f64>();
            report.tokens += likely.len();
        }
    }
    Ok(report)
}

impl CompositionReport {
    /// Counts the panel at `at` of `tale`, for which `prompt` was written.
    fn add(&mut self, tale: &LibraryTale, at: usize, cast: &[Member], prompt: &str) {
        let panel = &tale.panels[at];
        let mentions = name_mentions(cast, prompt);
        let names: Vec<_> = mentions
            .iter()
            .map(|name| (name.start..name.end, name.member.0 as usize - 1))
            .collect();
        let read = CompositionPrompt::read(prompt, &names);
        // Whose noun is drawn as another of its kind is still the one.
        let member = |drawing: DrawingId| {
            let mut members = tale.members.iter();
            members.position(|member| member.drawings().contains(&drawing))
        };
        let shown: Vec<Option<usize>> = read
            .figures
            .iter()
            .map(|(subject, _)| match subject {
                PromptSubject::Member(number) => Some(*number),
                PromptSubject::Drawing(drawing) => member(*drawing),
            })
            .collect();
        let wanted: Vec<Option<usize>> = panel.shown.iter().map(|n| Some(*n)).collect();
        let found = wanted.iter().filter(|one| shown.contains(one)).count();
        let setting = &panel.composition.setting;
        let everybody = found == wanted.len() && shown.len() == wanted.len();
        let place = read.setting.location == Some(setting.location);
        let time = read.setting.time.unwrap_or(Time::Day) == setting.time;
        let weather = !setting.location.has_weather()
            || read.setting.weather.unwrap_or(Weather::Clear) == setting.weather;
        self.panels += 1;
        self.wanted += wanted.len();
        self.found += found;
        self.shown += shown.len();
        self.everybody += usize::from(everybody);
        self.ordered += usize::from(everybody && shown == wanted);
        self.place += usize::from(place);
        self.time += usize::from(time);
        self.weather += usize::from(weather);
        self.all += usize::from(everybody && place && time && weather);
    }

    /// Perplexity of the texts by their own tokens.
    pub fn perplexity(&self) -> f64 {
        (self.surprise / self.tokens.max(1) as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::MemberId;
    use crate::storyworld::Split;

    #[test]
    fn a_prompt_that_says_what_is_shown_is_right_in_everything() {
        let mut report = CompositionReport::default();
        let mut wrong = CompositionReport::default();
        for seed in 0..20 {
            let tale = LibraryTale::random(seed, Split::HeldOut);
            for (at, panel) in tale.panels.iter().enumerate().skip(1) {
                let cast: Vec<Member> = (1..)
                    .zip(&tale.members)
                    .map(|(id, member)| Member {
                        name: member.name.clone(),
                        ..Member::new(MemberId(id))
                    })
                    .collect();
                let names: Vec<&str> = panel
                    .shown
                    .iter()
                    .map(|n| tale.members[*n].name.as_str())
                    .collect();
                let setting = panel.composition.setting.description();
                report.add(
                    &tale,
                    at,
                    &cast,
                    &CompositionPrompt::write(&names, &setting),
                );
                wrong.add(&tale, at, &cast, "a whale in the library at night");
            }
        }
        assert!(report.panels > 50);
        assert_eq!(report.found, report.wanted);
        assert_eq!(report.all, report.panels, "{report:?}");
        assert_eq!(report.ordered, report.panels);
        assert!(wrong.all == 0 && wrong.found * 10 < wrong.wanted);
    }
}
