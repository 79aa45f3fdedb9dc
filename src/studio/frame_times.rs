//! How long the studio's own work in each frame takes.

use std::time::Duration;

/// Width of a bin in microseconds.
const BIN_MICROS: u64 = 50;
/// The last bin takes everything from 100 ms on.
const BINS: usize = 2000;

/// A histogram of frame times with bins of 50 µs up to 100 ms.
#[derive(Clone, Debug)]
pub struct FrameTimes {
    bins: Vec<u32>,
    count: u32,
    longest: Duration,
}

impl Default for FrameTimes {
    fn default() -> Self {
        Self {
            bins: vec![0; BINS],
            count: 0,
            longest: Duration::ZERO,
        }
    }
}

impl FrameTimes {
    pub fn record(&mut self, time: Duration) {
        let bin = (time.as_micros() as u64 / BIN_MICROS).min(BINS as u64 - 1) as usize;
        self.bins[bin] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// Frames recorded.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The time in milliseconds that a fraction `q` in 0..=1 of the frames did not exceed
    /// (upper edge of its bin, so never flattering); 0 when nothing was recorded.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let wanted = (q.clamp(0.0, 1.0) * f64::from(self.count)).ceil().max(1.0) as u32;
        let mut seen = 0;
        for (bin, &n) in self.bins.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return (bin as u64 + 1) as f64 * BIN_MICROS as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The slowest frame in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.longest.as_secs_f64() * 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_times() {
        let mut times = FrameTimes::default();
        assert_eq!(times.quantile_ms(0.99), 0.0);
        for i in 1..=100 {
            times.record(Duration::from_micros(i * 100));
        }
        assert_eq!(times.count(), 100);
        assert!((times.quantile_ms(0.5) - 5.0).abs() <= 0.051);
        assert!((times.quantile_ms(0.99) - 9.9).abs() <= 0.051);
        assert_eq!(times.longest_ms(), 10.0);
        times.record(Duration::from_secs(3));
        assert!(times.quantile_ms(1.0) >= 100.0);
    }
}
