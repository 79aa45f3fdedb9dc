//! Settings that belong together, by one name.

use crate::story::{SchedulerName, Settings};

/// A way of drawing that some models and LoRAs are made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// The scheduler's name in settings.
    pub scheduler: &'static str,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale; 1 is none.
    pub guidance: f32,
}

/// Every preset.
pub const PRESETS: [Preset; 1] = [Preset {
    name: "lcm",
    label: "LCM, 4 steps",
    scheduler: "lcm",
    steps: 4,
    // With an LCM LoRA guidance does little good, and 1 takes half the time.
    guidance: 1.0,
}];

impl Preset {
    /// `settings` with what belongs together.
    ///
    /// ```
    /// use vokenboard::pipeline::painter::PRESETS;
    /// use vokenboard::story::Settings;
    ///
    /// let fast = PRESETS[0].apply_to(Settings::default());
    /// assert_eq!((fast.steps, fast.scheduler.as_str()), (4, "lcm"));
    /// ```
    pub fn apply_to(&self, settings: Settings) -> Settings {
        Settings {
            scheduler: SchedulerName::from(self.scheduler),
            steps: self.steps,
            guidance: self.guidance,
            ..settings
        }
    }
}
