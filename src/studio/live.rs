//! The live picture of a slider: one take for each value the author settles on, glimpses
//! of those in between, newest first.

use std::time::{Duration, Instant};

use crate::story::{PanelId, Settings};

/// How long the slider must rest before its value is drawn.
const REST: Duration = Duration::from_millis(180);

/// A slider with a live preview, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PreviewSlider {
    Guidance(f32),
    /// Of image to image.
    Strength(f32),
}

impl PreviewSlider {
    /// Whether a picture was made at this value.
    pub(super) fn made(self, settings: &Settings) -> bool {
        let same = |a: f32, b: f32| (a - b).abs() < 1e-4;
        match self {
            PreviewSlider::Guidance(value) => same(settings.guidance, value),
            PreviewSlider::Strength(value) => {
                let init = settings.init.as_ref();
                init.is_some_and(|init| same(init.strength, value))
            }
        }
    }
}

/// A live preview to be drawn: panel and value of the slider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PreviewRequest {
    pub panel: PanelId,
    pub slid: PreviewSlider,
}

#[derive(Clone, Copy, Debug)]
struct PendingPreview {
    wanted: PreviewRequest,
    due: Instant,
}

/// Debounces the movements of a slider into values to draw.
#[derive(Clone, Debug, Default)]
pub(super) struct LivePreview {
    /// A value not drawn yet.
    pending: Option<PendingPreview>,
    /// The pointer holds the slider: no value is settled.
    held: bool,
    /// Where a slider was moved to last.
    last: Option<PreviewSlider>,
}

impl LivePreview {
    /// The slider of `panel` stands there now; `held` while the pointer drags it.
    pub(super) fn moved(&mut self, panel: PanelId, slid: PreviewSlider, held: bool, now: Instant) {
        let wanted = PreviewRequest { panel, slid };
        self.last = Some(slid);
        self.pending = Some(PendingPreview {
            wanted,
            due: now + REST,
        });
        self.held = held;
    }

    /// The pointer let go: what waits is wanted at once.
    pub(super) fn released(&mut self, now: Instant) {
        self.held = false;
        if let Some(change) = &mut self.pending {
            change.due = now;
        }
    }

    /// Where a slider stands that was moved.
    pub(super) fn last(&self) -> Option<PreviewSlider> {
        self.last
    }

    /// Whether a picture drawn now is only a glimpse.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The value to draw now, told once: the slider has rested on it or was let go.
    pub(super) fn due(&mut self, now: Instant) -> Option<PreviewRequest> {
        self.pending
            .take_if(|change| change.due <= now)
            .map(|change| change.wanted)
    }

    /// When to ask again.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.pending
            .map(|change| change.due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANEL: PanelId = PanelId(7);

    #[test]
    fn a_drag_asks_only_for_values_it_rests_on() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut live = LivePreview::default();
        for i in 0..50 {
            live.moved(
                PANEL,
                PreviewSlider::Guidance(1.0 + i as f32 * 0.1),
                true,
                ms(i * 16),
            );
            assert_eq!(live.due(ms(i * 16)), None, "moving");
        }
        let rest = live.wait(ms(49 * 16)).expect("a value waits");
        assert_eq!(rest, REST);
        let wanted = live.due(ms(49 * 16) + rest).expect("rested");
        let settings = Settings {
            guidance: 5.9,
            ..Settings::default()
        };
        assert!(wanted.slid.made(&settings), "{wanted:?}");
        assert_eq!(live.due(ms(5000)), None, "asked for once");
        assert!(live.is_held());
    }

    #[test]
    fn letting_go_asks_at_once_and_a_key_after_a_rest() {
        let now = Instant::now();
        let mut live = LivePreview::default();
        live.moved(PANEL, PreviewSlider::Strength(0.3), true, now);
        live.released(now);
        assert_eq!(
            live.due(now),
            Some(PreviewRequest {
                panel: PANEL,
                slid: PreviewSlider::Strength(0.3)
            })
        );
        live.moved(PANEL, PreviewSlider::Guidance(4.0), false, now);
        assert_eq!(live.due(now), None, "the key may repeat");
        let due = live.due(now + REST).map(|wanted| wanted.slid);
        assert_eq!(due, Some(PreviewSlider::Guidance(4.0)));
    }
}
