//! How quick each kernel is, as measured, so that no submission takes longer than it should.

use super::adapters::AdapterKind;
use std::collections::BTreeMap;

/// How long a submission is to take, in seconds: two frames of a window go by meanwhile.
pub(super) const PORTION: f64 = 0.03;
/// The first piece of a kernel that was never measured takes about so long, on a slow GPU of its
/// kind.
const PROBE: f64 = 0.005;
/// A submission that took so much longer than it should have makes the next ones shorter at once.
const LATE: f64 = 1.2;
/// What took less was done before it was waited for: only that it was no longer is known.
const SHORTEST: f64 = 1e-4;

/// What kernels do in a second: floating point operations, and bytes as so many of these.
pub(super) struct Pace {
    /// Of a kernel that was not measured yet: a slow GPU of its kind.
    usual: f64,
    rates: BTreeMap<String, f64>,
    /// Whether a kernel was measured for the first time since it was last asked.
    news: bool,
}

impl Pace {
    pub(super) fn new(kind: AdapterKind, rates: BTreeMap<String, f64>) -> Self {
        let usual = match kind {
            AdapterKind::Discrete => 1e12,
            AdapterKind::Software => 2e9,
            _ => 1e11,
        };
        Self {
            usual,
            rates,
            news: false,
        }
    }

    fn rate(&self, kernel: &str) -> f64 {
        self.rates.get(kernel).copied().unwrap_or(self.usual)
    }

    /// Seconds that so much work of a kernel takes.
    pub(super) fn seconds(&self, kernel: &str, cost: u64) -> f64 {
        cost as f64 / self.rate(kernel)
    }

    /// How much of a kernel's work goes into one piece, and whether that piece is to be measured
    /// alone: nothing is known of the kernel, and it has much to do.
    pub(super) fn piece(&self, kernel: &str, cost: u64) -> (u64, bool) {
        let unknown = !self.rates.contains_key(kernel) && self.seconds(kernel, cost) > PROBE;
        let seconds = if unknown { PROBE } else { PORTION };
        ((seconds * self.rate(kernel)) as u64, unknown)
    }

    /// Learns from a submission that took `seconds`: what it did of each kernel.
    pub(super) fn learn(&mut self, done: &[(String, u64)], seconds: f64) {
        let new = matches!(done, [(kernel, _)] if !self.rates.contains_key(kernel));
        if seconds < SHORTEST && !new {
            return;
        }
        let seconds = seconds.max(SHORTEST);
        let late = seconds > LATE * PORTION;
        if let [(kernel, cost)] = done {
            let measured = (*cost as f64 / seconds).max(1e6);
            match self.rates.get_mut(kernel) {
                // A short one that was slow for its size waited more than it worked.
                Some(rate) if measured < *rate && !late => {}
                Some(rate) if measured < *rate => *rate = measured,
                Some(rate) => *rate += 0.5 * (measured - *rate),
                // Little work is mostly waiting, and says nothing of what much takes.
                None if *cost as f64 / self.usual < PROBE / 4.0 => {}
                None => {
                    self.rates.insert(kernel.clone(), measured);
                    self.news = true;
                }
            }
            return;
        }
        let told: f64 = done
            .iter()
            .map(|(kernel, cost)| self.seconds(kernel, *cost))
            .sum();
        // Which of them it was is not known: all are taken to be alike, quickly slower and slowly
        // quicker.
        let by = match told / seconds {
            slower if slower < 1.0 && late => slower.max(0.25),
            quicker if quicker > 1.0 => quicker.min(1.1),
            _ => return,
        };
        for (kernel, _) in done {
            let usual = self.usual;
            *self.rates.entry(kernel.clone()).or_insert(usual) *= by;
        }
    }

    /// All that was measured, and whether a kernel is new among it since this was last asked.
    pub(super) fn rates(&mut self) -> (&BTreeMap<String, f64>, bool) {
        let news = std::mem::take(&mut self.news);
        (&self.rates, news)
    }
}

/// A run's workgroups in pieces: boxes that one dispatch can have.
pub(super) struct Pieces {
    groups: [u32; 3],
    /// The first workgroup that is in no piece yet.
    next: [u32; 3],
}

impl Pieces {
    pub(super) fn of(groups: [u32; 3]) -> Self {
        Self {
            groups,
            next: [0; 3],
        }
    }

    /// The next piece, its first workgroup and its extent, of at most `most` workgroups (one, if
    /// that is none) and no longer along an axis than any device allows.
    pub(super) fn next(&mut self, most: u64) -> Option<([u32; 3], [u32; 3])> {
        const LONGEST: u64 = super::product::MOST_GROUPS as u64;
        let [wide, high, deep] = self.groups.map(u64::from);
        let first = self.next;
        if wide * high == 0 || u64::from(first[2]) >= deep {
            return None;
        }
        let most = most.max(1);
        let (row, plane) = (wide, wide * high);
        let along = |axis: usize, each: u64| {
            let left = u64::from(self.groups[axis] - first[axis]);
            (most / each).clamp(1, LONGEST).min(left) as u32
        };
        let whole_row = first[0] == 0 && most >= row && row <= LONGEST;
        let whole_plane = whole_row && first[1] == 0 && most >= plane && high <= LONGEST;
        let (extent, axis) = match (whole_plane, whole_row) {
            (true, _) => ([self.groups[0], self.groups[1], along(2, plane)], 2),
            (_, true) => ([self.groups[0], along(1, row), 1], 1),
            _ => ([along(0, 1), 1, 1], 0),
        };
        self.next[axis] += extent[axis];
        for axis in axis..2 {
            if self.next[axis] == self.groups[axis] {
                self.next[axis] = 0;
                self.next[axis + 1] += 1;
            }
        }
        Some((first, extent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pieces_hold_every_workgroup_once_and_no_more_than_they_may() {
        for groups in [[1, 1, 1], [7, 5, 3], [70_000, 2, 1], [3, 70_000, 1]] {
            for most in [0, 1, 4, 7, 20, 35, 36, 1 << 40] {
                let mut pieces = Pieces::of(groups);
                let (mut seen, mut all) = (BTreeSet::new(), 0u64);
                while let Some((first, extent)) = pieces.next(most) {
                    let count: u64 = extent.iter().map(|e| u64::from(*e)).product();
                    assert!(count <= most.max(1) && extent.iter().all(|e| *e <= 65_535));
                    assert!((0..3).all(|axis| first[axis] + extent[axis] <= groups[axis]));
                    assert!(seen.insert(first));
                    all += count;
                }
                let whole: u64 = groups.iter().map(|g| u64::from(*g)).product();
                assert_eq!(all, whole, "{groups:?} in pieces of {most}");
            }
        }
        assert!(Pieces::of([0, 4, 1]).next(9).is_none());
    }

    #[test]
    fn a_new_kernel_is_tried_in_a_short_piece_and_late_ones_get_shorter() {
        let mut pace = Pace::new(AdapterKind::Software, BTreeMap::new());
        let (probe, alone) = pace.piece("new", 1 << 40);
        assert!(alone && pace.seconds("new", probe) < 0.006);
        // It is ten times slower than thought.
        pace.learn(&[("new".to_owned(), probe)], 10.0 * PROBE);
        let (piece, alone) = pace.piece("new", 1 << 40);
        assert!(!alone && piece < probe, "{piece} {probe}");
        assert!(pace.rates().1 && !pace.rates().1);
        // Another program comes: a piece takes three times as long.
        pace.learn(&[("new".to_owned(), piece)], 3.0 * PORTION);
        assert!(pace.piece("new", 1 << 40).0 <= piece / 2);
        // Little work is not tried alone, and teaches nothing.
        assert!(!pace.piece("small", 1000).1);
        pace.learn(&[("small".to_owned(), 1000)], PORTION);
        assert!(pace.piece("small", 1 << 40).1);
        let both = [("new".to_owned(), 1 << 20), ("small".to_owned(), 1 << 20)];
        let before = pace.seconds("small", 1 << 20);
        pace.learn(&both, 1.0);
        assert!(pace.seconds("small", 1 << 20) > 2.0 * before);
    }
}
