//! The inspector's settings: whose they are, their seeds, and the live guidance slider.

use std::sync::Arc;
use std::time::Instant;

use super::framing::{with_frame, without_frame};
use super::{PreviewPicture, Readiness, State};
use crate::engine::Make;
use crate::story::{PanelId, Record, Settings};
use crate::studio::actions::InspectorControl;
use crate::studio::live::PreviewSlider;
use crate::studio::work::{JobTarget, QueuedJob};

impl State {
    /// Changes the settings of the selected panel or, without one, of panels to come.
    pub(super) fn set(&mut self, setting: InspectorControl, now: Instant) {
        let settings = if self.view.selected.is_some() {
            &mut self.controls.panel
        } else {
            self.controls.chosen = true;
            &mut self.controls.next
        };
        match setting {
            InspectorControl::Guidance(value, held) => {
                settings.guidance = value;
                if let Some(id) = self.selected_with_picture() {
                    let slid = PreviewSlider::Guidance(value);
                    self.controls.live.moved(id, slid, held, now);
                }
            }
            InspectorControl::GuidanceReleased => {
                self.controls.live.released(now);
                self.keep_glimpse(now);
            }
            InspectorControl::Steps(steps) => settings.steps = steps,
            InspectorControl::Seed(seed) => {
                settings.seed = seed;
                self.controls.seed_chosen = true;
            }
            InspectorControl::Dice => {
                settings.seed = (self.seeds)();
                self.controls.seed_chosen = true;
            }
            InspectorControl::LockSeed(true) => {
                self.controls.locked.insert(self.view.selected);
            }
            InspectorControl::LockSeed(false) => {
                self.controls.locked.remove(&self.view.selected);
            }
            InspectorControl::Scheduler(kind) => settings.scheduler = kind,
            InspectorControl::Temperature(value) => settings.temperature = value,
            InspectorControl::TopP(value) => settings.top_p = value,
            InspectorControl::Length(length) => settings.length = length,
            InspectorControl::Tone(words) => settings.tone = words,
            InspectorControl::Picture(new) => *settings = *new,
        }
    }

    /// Whether the seed that the inspector shows is used again.
    pub fn seed_locked(&self) -> bool {
        self.controls.locked.contains(&self.view.selected)
    }

    /// Settings of a board that nothing was chosen for: the model's own.
    pub(super) fn reset_settings(&mut self) {
        let usual = match &self.models.readiness {
            Readiness::Ready(description) => description.default_settings.clone(),
            _ => Settings::default(),
        };
        self.controls.next = Settings {
            seed: (self.seeds)(),
            ..usual
        };
        self.controls.locked.clear();
        self.controls.seed_chosen = false;
        self.controls.chosen = false;
    }

    pub(super) fn draw_picture(&mut self, id: PanelId) {
        let mut settings = self.settings_for(id);
        let selected = self.view.selected == Some(id);
        let chosen =
            self.controls.locked.contains(&Some(id)) || (self.controls.seed_chosen && selected);
        if !chosen {
            settings.seed = (self.seeds)();
        }
        self.controls.seed_chosen = false;
        self.order(QueuedJob {
            target: JobTarget::Panel(id),
            make: Make::Picture,
            settings,
            live: false,
            rewrite: None,
        });
    }

    /// The slider rests at a value: its picture, with the seed of the one shown.
    pub(super) fn draw_live(&mut self, id: PanelId, slid: PreviewSlider, now: Instant) {
        let Some(record) = self
            .panel(id)
            .and_then(|p| p.pictures.active()?.record.clone())
            .or_else(|| matches!(slid, PreviewSlider::Strength(_)).then(Record::default))
        else {
            return;
        };
        if slid.made(&record.settings) && self.controls.glimpse.is_none() {
            return;
        }
        // The glimpse of this very value is already there.
        if self
            .controls
            .glimpse
            .as_ref()
            .is_some_and(|g| g.panel == id && slid.made(&g.record.settings))
        {
            if !self.controls.live.is_held() {
                self.keep_glimpse(now);
            }
            return;
        }
        let engine = &self.engine;
        for running in self.work.all_mut().filter(|running| running.live) {
            running.cancelled = true;
            engine.cancel(running.job);
        }
        let settings = Settings {
            seed: record.settings.seed,
            ..self.settings_for(id)
        };
        let settings = match slid {
            PreviewSlider::Guidance(guidance) => Settings {
                guidance,
                ..with_frame(settings, &record.settings)
            },
            PreviewSlider::Strength(_) => self.begun_from_source(id, settings),
        };
        self.order(QueuedJob {
            target: JobTarget::Panel(id),
            make: Make::Picture,
            settings,
            live: true,
            rewrite: None,
        });
    }

    pub(super) fn forget_glimpse(&mut self) {
        self.controls.live.forget();
        self.controls.glimpse = None;
    }

    /// The slider was let go: what it shows becomes a take, unless the picture is of a value
    /// that it has left.
    pub(super) fn keep_glimpse(&mut self, now: Instant) {
        let settled = self.controls.live.last();
        let glimpse = self.controls.glimpse.as_ref().zip(settled);
        let current = glimpse.is_some_and(|(g, settled)| settled.made(&g.record.settings));
        if !current || self.controls.live.wait(now).is_some() {
            return;
        }
        if let Some(PreviewPicture {
            panel,
            picture,
            record,
        }) = self.controls.glimpse.take()
        {
            let edit = self.picture_take(panel, Arc::unwrap_or_clone(picture), Some(record));
            self.edit(edit, now);
        }
    }

    /// The selected panel's settings are those that its shown takes were made with.
    pub(super) fn load_settings(&mut self) {
        if let Some(id) = self.view.selected {
            self.controls.panel = self.made_with(id);
            self.controls.seed_chosen = false;
        }
    }

    /// What the shown takes of a panel were made with; settings of new panels where it has none.
    fn made_with(&self, id: PanelId) -> Settings {
        let next = &self.controls.next;
        let Some(panel) = self.panel(id) else {
            return next.clone();
        };
        let text = panel.texts.active().and_then(|take| take.record.as_ref());
        let picture = panel
            .pictures
            .active()
            .and_then(|take| take.record.as_ref());
        let written = text.map_or(next, |record| &record.settings);
        let drawn = picture.map_or(next, |record| &record.settings).clone();
        // Another model may not take all that it was drawn with.
        let drawn = match (&self.models.readiness, picture) {
            (Readiness::Ready(about), Some(record)) if record.model != about.model => {
                about.takes.adapt(drawn, &about.default_settings).0
            }
            _ => drawn,
        };
        Settings {
            temperature: written.temperature,
            top_p: written.top_p,
            top_k: written.top_k,
            min_p: written.min_p,
            repetition_penalty: written.repetition_penalty,
            length: written.length,
            tone: written.tone.clone(),
            ..without_frame(drawn)
        }
    }

    pub(super) fn settings_for(&self, id: PanelId) -> Settings {
        if self.view.selected == Some(id) {
            self.controls.panel.clone()
        } else {
            self.made_with(id)
        }
    }

    /// The seed of a new text of the panel.
    pub(super) fn seed_for(&self, id: PanelId) -> u64 {
        if self.controls.locked.contains(&Some(id)) {
            self.settings_for(id).seed
        } else {
            (self.seeds)()
        }
    }

    pub(super) fn settings_of_new(&mut self) -> Settings {
        // What the author reads in the field is what comes next, whichever panel it is.
        if std::mem::take(&mut self.controls.seed_chosen) {
            self.controls.next.seed = self.shown().seed;
        } else if !self.controls.locked.contains(&None) {
            self.controls.next.seed = (self.seeds)();
        }
        self.controls.next.clone()
    }
}
