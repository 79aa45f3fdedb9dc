//! How quick each kernel is, as measured, so that no submission takes longer than it should.

use super::adapters::AdapterKind;
use std::collections::BTreeMap;

/// How long a submission is to take, in seconds: a frame of a window. One that turns out to be three
/// times as slow as it was before is still no longer than 50 ms.
pub(super) const PORTION: f64 = 0.015;
/// The first piece of a kernel that was never measured takes about so long, on a slow GPU of its
/// kind.
const PROBE: f64 = 0.004;
/// A submission that took so much longer than it should have, by a clock that also runs while it
/// waits, makes the next ones shorter at once; by the GPU's own, any that is not short.
const LATE: f64 = 1.2;
const NOT_SHORT: f64 = PORTION / 8.0;
/// What took less was done before it was waited for: only that it was no longer is known.
const SHORTEST: f64 = 1e-4;

/// What kernels do in a second: floating point operations, and bytes as so many of these.
pub(super) struct Pace {
    /// Of a kernel that was not measured yet: a slow GPU of its kind.
    usual: f64,
    /// Workgroups that are worked on at a time: fewer take as long as these.
    wide: u64,
    rates: BTreeMap<String, f64>,
    /// Whether a kernel was measured for the first time since it was last asked.
    news: bool,
}

/// A run, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// What all of it costs.
    pub cost: u64,
    /// Workgroups.
    pub groups: u64,
    /// Steps that each workgroup goes through, and after any of which it may pause.
    pub steps: u32,
}

impl Pace {
    pub(super) fn new(kind: AdapterKind, rates: BTreeMap<String, f64>) -> Self {
        let (usual, wide) = match kind {
            AdapterKind::Discrete => (2e11, 64),
            AdapterKind::Software => {
                let cores = std::thread::available_parallelism();
                (1e9, cores.map_or(2, |cores| cores.get() as u64))
            }
            _ => (3e10, 16),
        };
        Self {
            usual,
            wide,
            rates,
            news: false,
        }
    }

    /// Has nothing known of any kernel but that it does so much in a second.
    #[cfg(test)]
    pub(super) fn forget(&mut self, usual: f64) {
        self.rates.clear();
        self.usual = usual;
    }

    fn rate(&self, kernel: &str) -> f64 {
        self.rates.get(kernel).copied().unwrap_or(self.usual)
    }

    /// Seconds that so much work of a kernel takes.
    pub(super) fn seconds(&self, kernel: &str, cost: u64) -> f64 {
        cost as f64 / self.rate(kernel)
    }

    /// What `groups` workgroups of a run cost over so many steps: a few leave most of the GPU idle.
    pub(super) fn cost(&self, run: Load, groups: u64, steps: u32) -> u64 {
        let all = u128::from(run.groups.max(1)) * u128::from(run.steps.max(1));
        let part = u128::from(groups.max(self.wide.min(run.groups))) * u128::from(steps);
        let narrow = u128::from(self.wide.div_ceil(run.groups.max(1)));
        (u128::from(run.cost) * part / all * narrow) as u64
    }

    /// Whether a run begins with a piece that is measured alone: nothing is known of the kernel, and
    /// it has much to do.
    pub(super) fn tries(&self, kernel: &str, run: Load) -> bool {
        let whole = self.cost(run, run.groups, run.steps);
        !self.rates.contains_key(kernel) && self.seconds(kernel, whole) > PROBE
    }

    /// What a piece of a run may cost.
    fn budget(&self, kernel: &str, run: Load) -> f64 {
        let tried = self.tries(kernel, run);
        self.rate(kernel) * if tried { PROBE } else { PORTION }
    }

    /// Workgroups of a run that go into one piece at most. They stay as many as are worked on at a
    /// time while they can do fewer steps instead.
    pub(super) fn groups(&self, kernel: &str, run: Load) -> u64 {
        let wide = self.wide.min(run.groups).max(1);
        let of = |steps: u32| self.cost(run, wide, steps).max(1) as f64 / wide as f64;
        let budget = self.budget(kernel, run);
        let fitting = (budget / of(run.steps)) as u64;
        let least = (budget / of(1)) as u64;
        match fitting / wide * wide {
            // One more than are worked on at a time would take as long as twice as many.
            whole if whole > 0 => whole,
            _ => least.clamp(1, wide).max(fitting),
        }
    }

    /// Steps of so many workgroups that go into one piece.
    pub(super) fn steps(&self, kernel: &str, run: Load, groups: u64) -> u32 {
        let whole = self.cost(run, groups, run.steps).max(1) as f64;
        let part = self.budget(kernel, run) / whole;
        ((part * f64::from(run.steps)) as u32).clamp(1, run.steps)
    }

    /// Learns from a submission that took `seconds`, by the GPU's `clock` or by when it ended: what
    /// it did of each kernel.
    pub(super) fn learn(&mut self, done: &[(String, u64)], seconds: f64, clock: bool) {
        let new = matches!(done, [(kernel, _)] if !self.rates.contains_key(kernel));
        if seconds < SHORTEST && !new {
            return;
        }
        let seconds = seconds.max(SHORTEST);
        // One that was slow for its size may have waited more than it worked.
        let believed = seconds > LATE * PORTION || clock && seconds > NOT_SHORT;
        if let [(kernel, cost)] = done {
            let measured = (*cost as f64 / seconds).max(1e6);
            match self.rates.get_mut(kernel) {
                Some(rate) if measured < *rate && !believed => {}
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
            slower if slower < 1.0 && believed => slower.max(0.25),
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
#[derive(Clone, Copy)]
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
    use std::collections::{BTreeSet, VecDeque};

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

    fn load(cost: u64, groups: u64, steps: u32) -> Load {
        Load {
            cost,
            groups,
            steps,
        }
    }

    #[test]
    fn workgroups_that_are_long_pause_rather_than_leave_the_gpu_idle() {
        let mut rates = BTreeMap::new();
        rates.insert("known".to_owned(), 1e11);
        let pace = Pace::new(AdapterKind::Discrete, rates);
        let portion = PORTION * 1e11;
        // Short ones: as many as fit.
        let short = load(100 * portion as u64, 100_000, 8);
        let groups = pace.groups("known", short);
        assert!((900..1100).contains(&groups), "{groups}");
        assert_eq!(groups % 64, 0, "whole turns of the GPU");
        assert_eq!(pace.steps("known", short, groups), 8);
        // Sixty-four that take four portions: a quarter of their steps.
        let long = load((8.0 * portion) as u64, 128, 42);
        assert_eq!(pace.groups("known", long), 64);
        assert_eq!(pace.steps("known", long, 64), 10);
        assert!(pace.seconds("known", pace.cost(long, 64, 10)) < PORTION);
        // Those that can't pause.
        let long = load((8.1 * portion) as u64, 128, 1);
        assert_eq!(pace.groups("known", long), 15);
        // A few cost as much as those that the GPU works on at a time.
        let few = load(1 << 20, 2, 1);
        assert_eq!(pace.cost(few, 2, 1), 32 << 20);
        assert_eq!(pace.cost(load(1 << 20, 256, 4), 16, 2), 1 << 17);
    }

    /// A GPU whose kernels take so long for their cost; what it did is learned from when two more
    /// submissions have been made.
    struct Simulated {
        pace: Pace,
        slowness: f64,
        noise: u64,
        submitted: VecDeque<(Vec<(String, u64)>, f64)>,
        longest: f64,
        submissions: usize,
    }

    impl Simulated {
        fn new(kind: AdapterKind) -> Self {
            Self {
                pace: Pace::new(kind, BTreeMap::new()),
                slowness: 1.0,
                noise: 7,
                submitted: VecDeque::new(),
                longest: 0.0,
                submissions: 0,
            }
        }

        /// `done` took what `rate` says, up to half as long again.
        fn submit(&mut self, done: Vec<(String, u64)>, rates: &[f64], alone: bool) {
            self.noise = self
                .noise
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let noise = 1.0 + (self.noise >> 40) as f64 / (1u64 << 25) as f64;
            let seconds: f64 = done
                .iter()
                .zip(rates)
                .map(|((_, cost), rate)| *cost as f64 / rate)
                .sum();
            let seconds = seconds * self.slowness * noise;
            self.longest = self.longest.max(seconds);
            self.submissions += 1;
            self.submitted.push_back((done, seconds));
            while self.submitted.len() > if alone { 0 } else { 2 } {
                if let Some((done, seconds)) = self.submitted.pop_front() {
                    self.pace.learn(&done, seconds, true);
                }
            }
        }

        /// One run, in pieces that are submitted by themselves.
        fn run(&mut self, kernel: &str, run: Load, rate: f64) {
            let mut left = run.groups;
            while left > 0 {
                let groups = self.pace.groups(kernel, run).min(left);
                let mut steps = run.steps;
                while steps > 0 {
                    let alone = self.pace.tries(kernel, run);
                    let now = self.pace.steps(kernel, run, groups).min(steps);
                    let cost = self.pace.cost(run, groups, now);
                    self.submit(vec![(kernel.to_owned(), cost)], &[rate], alone);
                    steps -= now;
                }
                left -= groups;
            }
        }
    }

    #[test]
    fn no_submission_is_longer_than_fifty_milliseconds_even_when_a_gpu_becomes_slower() {
        for kind in [
            AdapterKind::Discrete,
            AdapterKind::Integrated,
            AdapterKind::Software,
        ] {
            let usual = Pace::new(kind, BTreeMap::new()).usual;
            // Up to six times as slow as is usual, and much quicker.
            for rate in [usual / 6.0, usual, 30.0 * usual] {
                let mut gpu = Simulated::new(kind);
                let run = load((rate * 0.5) as u64, 5000, 16);
                for _ in 0..3 {
                    gpu.run("a", run, rate);
                }
                assert!(gpu.longest < 0.05, "{kind}: {}", gpu.longest);
                let whole = 3.0 * 0.5 / PORTION;
                assert!(
                    (gpu.submissions as f64) < 4.0 * whole,
                    "{kind}: {}",
                    gpu.submissions
                );
                // Another program comes, and goes.
                for slowness in [2.0, 1.0, 2.2, 1.0] {
                    gpu.slowness = slowness;
                    gpu.run("a", run, rate);
                    assert!(gpu.longest < 0.05, "{kind}, {slowness}: {}", gpu.longest);
                }
            }
        }
    }

    #[test]
    fn a_kernel_that_becomes_three_times_as_slow_keeps_within_the_bound() {
        let mut gpu = Simulated::new(AdapterKind::Discrete);
        gpu.noise = 0;
        let run = load(1 << 38, 10_000, 1);
        gpu.run("a", run, 5e12);
        gpu.longest = 0.0;
        assert!(!gpu.pace.tries("a", run));
        let piece = |pace: &Pace| pace.cost(run, pace.groups("a", run), 1);
        for _ in 0..20 {
            let cost = piece(&gpu.pace);
            let seconds = 3.0 * cost as f64 / 5e12;
            gpu.longest = gpu.longest.max(seconds);
            gpu.pace.learn(&[("a".to_owned(), cost)], seconds, true);
        }
        assert!(gpu.longest > 0.03 && gpu.longest < 0.05, "{}", gpu.longest);
        let last = 3.0 * piece(&gpu.pace) as f64 / 5e12;
        assert!(last < 1.1 * PORTION, "{last}");
    }

    #[test]
    fn a_new_kernel_is_tried_in_a_short_piece_and_late_ones_get_shorter() {
        let mut pace = Pace::new(AdapterKind::Software, BTreeMap::new());
        let run = load(1 << 40, 1 << 30, 1);
        let cut = |pace: &Pace| {
            let groups = pace.groups("new", run);
            (pace.cost(run, groups, 1), pace.tries("new", run))
        };
        let (probe, alone) = cut(&pace);
        assert!(alone && pace.seconds("new", probe) < 0.006);
        // It is ten times slower than thought.
        pace.learn(&[("new".to_owned(), probe)], 10.0 * PROBE, false);
        let (piece, alone) = cut(&pace);
        assert!(!alone && piece < probe, "{piece} {probe}");
        assert!(pace.rates().1 && !pace.rates().1);
        // Another program comes: a piece takes three times as long.
        pace.learn(&[("new".to_owned(), piece)], 3.0 * PORTION, false);
        assert!(cut(&pace).0 <= piece / 2, "{} {piece}", cut(&pace).0);
        // One that was only short is believed where it was timed while it ran.
        let before = cut(&pace).0;
        pace.learn(&[("new".to_owned(), before / 4)], PORTION / 2.0, false);
        assert_eq!(cut(&pace).0, before);
        pace.learn(&[("new".to_owned(), before / 4)], PORTION / 2.0, true);
        assert!(cut(&pace).0 < before * 6 / 10);
        // Little work is not tried alone, and teaches nothing.
        let small = load(1000, 64, 1);
        assert!(!pace.tries("small", small));
        pace.learn(&[("small".to_owned(), 1000)], PORTION, true);
        assert!(pace.tries("small", run));
        let both = [("new".to_owned(), 1 << 20), ("small".to_owned(), 1 << 20)];
        let before = pace.seconds("small", 1 << 20);
        pace.learn(&both, 1.0, true);
        assert!(pace.seconds("small", 1 << 20) > 2.0 * before);
    }
}
