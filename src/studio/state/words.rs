//! What a writer that follows instructions is asked for: rewriting, picture prompts, plans.

use std::time::Instant;

use super::{Readiness, State};
use crate::engine::Make;
use crate::pipeline::writer::WriterDescription;
use crate::story::{Edit, PanelId, Settings};
use crate::studio::work::{JobTarget, QueuedJob, Rewrite};

impl State {
    /// Who writes, once that is loaded.
    pub fn writer(&self) -> Option<&WriterDescription> {
        match &self.models.readiness {
            Readiness::Ready(description) => Some(&description.writer),
            _ => None,
        }
    }

    /// Whether instructions are followed.
    pub fn is_instructed(&self) -> bool {
        self.writer().is_some_and(|writer| writer.instructs)
    }

    fn order_words(&mut self, id: PanelId, make: Make, rewrite: Option<Rewrite>) {
        let settings = Settings {
            seed: self.seed_for(id),
            ..self.settings_for(id)
        };
        self.order(QueuedJob {
            target: JobTarget::Panel(id),
            make,
            settings,
            live: false,
            rewrite,
        });
    }

    pub(super) fn rewrite(&mut self, id: PanelId, rewrite: Rewrite) {
        self.order_words(id, Make::Text, Some(rewrite));
    }

    pub(super) fn write_prompt(&mut self, id: PanelId) {
        self.order_words(id, Make::Prompt, None);
    }

    /// Plans the panels to come; what was planned for them is replaced.
    pub(super) fn plan(&mut self, panels: u32) {
        if let Some(last) = self.panels().last().map(|panel| panel.id) {
            self.order_words(last, Make::Plan(panels), None);
        }
    }

    /// Asks the writer who comes back in the story.
    pub(super) fn ask_for_cast(&mut self) {
        if let Some(last) = self.panels().last().map(|panel| panel.id) {
            self.order_words(last, Make::Cast, None);
        }
    }

    /// Plans before several panels are told, where nothing is planned for them.
    pub(super) fn plan_ahead(&mut self, panels: u32) {
        let planned = self.story().plan.len() > self.panels().len();
        if self.is_instructed() && !planned && panels > 1 {
            self.plan(panels);
        }
    }

    /// A picture prompt or a plan has come.
    pub(super) fn worded(
        &mut self,
        panel: PanelId,
        prompt: Option<String>,
        plan: Option<Vec<String>>,
        now: Instant,
    ) {
        if prompt.is_some() {
            self.edit(Edit::SetPrompt { panel, prompt }, now);
        }
        if let Some(lines) = plan {
            let plan = self.story().planned_on(lines);
            self.edit(Edit::SetPlan(plan), now);
        }
    }
}
