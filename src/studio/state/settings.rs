//! The inspector's settings: whose they are, their seeds, and the live guidance slider.

use std::sync::Arc;
use std::time::Instant;

use super::{Glimpse, State};
use crate::engine::Make;
use crate::pipeline::new_seed;
use crate::story::{PanelId, Settings};
use crate::studio::actions::Setting;
use crate::studio::work::{Order, Target};

impl State {
    pub(super) fn set(&mut self, setting: Setting, now: Instant) {
        let panel = self.selected;
        self.settings_chosen = true;
        // What the author sets for a panel is liked for those to come as well; its seed is not.
        match setting {
            Setting::Guidance(value, held) => {
                self.next.guidance = value;
                self.panel_settings.guidance = value;
                if let Some(id) = self.selected_with_picture() {
                    self.live.moved(id, value, held, now);
                }
            }
            Setting::GuidanceReleased => {
                self.live.released(now);
                self.keep_glimpse(now);
            }
            Setting::Steps(steps) => {
                self.next.steps = steps;
                self.panel_settings.steps = steps;
            }
            Setting::Seed(_) | Setting::Dice => {
                let seed = if let Setting::Seed(seed) = setting {
                    seed
                } else {
                    new_seed()
                };
                if panel.is_some() {
                    self.panel_settings.seed = seed;
                } else {
                    self.next.seed = seed;
                }
                self.seed_chosen = true;
            }
            Setting::LockSeed(locked) => {
                self.seed_locked = locked;
                if locked {
                    self.next.seed = self.shown().seed;
                }
            }
            Setting::Scheduler(kind) => {
                self.next.scheduler = kind.clone();
                self.panel_settings.scheduler = kind;
            }
            Setting::Temperature(value) => {
                self.next.temperature = value;
                self.panel_settings.temperature = value;
            }
            Setting::TopP(value) => {
                self.next.top_p = value;
                self.panel_settings.top_p = value;
            }
        }
    }

    pub(super) fn draw_picture(&mut self, id: PanelId) {
        let mut settings = self.settings_for(id);
        let chosen = self.seed_locked || (self.seed_chosen && self.selected == Some(id));
        if !chosen {
            settings.seed = new_seed();
        }
        self.seed_chosen = false;
        self.order(Order {
            target: Target::Panel(id),
            make: Make::Picture,
            settings,
            live: false,
        });
    }

    /// The slider rests at a value: its picture, with the seed of the one shown.
    pub(super) fn draw_live(&mut self, id: PanelId, guidance: f32, now: Instant) {
        let Some(record) = self
            .panel(id)
            .and_then(|p| p.pictures.active()?.record.clone())
        else {
            return;
        };
        if (record.settings.guidance - guidance).abs() < 1e-4 && self.glimpse.is_none() {
            return;
        }
        // The glimpse of this very value is already there.
        if self
            .glimpse
            .as_ref()
            .is_some_and(|g| g.panel == id && (g.record.settings.guidance - guidance).abs() < 1e-4)
        {
            if !self.live.is_held() {
                self.keep_glimpse(now);
            }
            return;
        }
        if let Some(running) = self.work.running_mut().filter(|r| r.live) {
            running.cancelled = true;
            let job = running.job;
            self.engine.cancel(job);
        }
        let settings = Settings {
            guidance,
            seed: record.settings.seed,
            ..self.settings_for(id)
        };
        self.order(Order {
            target: Target::Panel(id),
            make: Make::Picture,
            settings,
            live: true,
        });
    }

    pub(super) fn forget_glimpse(&mut self) {
        self.live.forget();
        self.glimpse = None;
    }

    /// The slider was let go: what it shows becomes a take, unless the picture is of a value
    /// that it has left.
    pub(super) fn keep_glimpse(&mut self, now: Instant) {
        let settled = self.panel_settings.guidance;
        let current = self
            .glimpse
            .as_ref()
            .is_some_and(|g| (g.record.settings.guidance - settled).abs() < 1e-4);
        if !current || self.live.wait(now).is_some() {
            return;
        }
        if let Some(Glimpse {
            panel,
            picture,
            record,
        }) = self.glimpse.take()
        {
            let edit = self.picture_take(panel, Arc::unwrap_or_clone(picture), Some(record));
            self.edit(edit, now);
        }
    }

    /// The selected panel's settings are those that its shown takes were made with.
    pub(super) fn load_settings(&mut self) {
        let Some(panel) = self.selected.and_then(|id| self.panel(id)) else {
            return;
        };
        let mut settings = self.next.clone();
        if let Some(record) = panel.texts.active().and_then(|t| t.record.as_ref()) {
            settings.temperature = record.settings.temperature;
            settings.top_p = record.settings.top_p;
        }
        if let Some(record) = panel.pictures.active().and_then(|t| t.record.as_ref()) {
            let made = &record.settings;
            settings.seed = made.seed;
            settings.guidance = made.guidance;
            settings.steps = made.steps;
            settings.scheduler = made.scheduler.clone();
        }
        self.panel_settings = settings;
        self.seed_chosen = false;
    }

    pub(super) fn settings_for(&self, id: PanelId) -> Settings {
        if self.selected == Some(id) {
            self.panel_settings.clone()
        } else {
            self.next.clone()
        }
    }

    pub(super) fn next_seed(&self) -> u64 {
        if self.seed_locked {
            self.next.seed
        } else {
            new_seed()
        }
    }

    pub(super) fn settings_of_new(&mut self) -> Settings {
        let chosen = std::mem::take(&mut self.seed_chosen) && self.selected.is_none();
        if !chosen && !self.seed_locked {
            self.next.seed = new_seed();
        }
        self.next.clone()
    }
}
