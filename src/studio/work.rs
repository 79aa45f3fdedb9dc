//! What the engine is making and what waits for it.
//!
//! The queue is kept here and jobs are handed to the engine one at a time, so that each is asked
//! for with the story as it is when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use image::RgbaImage;

use crate::engine::{JobId, Make};
use crate::story::{Edit, PanelId, Settings};

/// The panel that a job's result goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobTarget {
    /// A new panel behind `after` or, without one, at the end, made when the job's turn comes.
    /// `show` if the author has just asked for it and wants to see it.
    NewPanel {
        /// Whether it is selected and scrolled to.
        show: bool,
        /// The panel that it goes behind.
        after: Option<PanelId>,
    },
    /// A panel that is on the board.
    Panel(PanelId),
}

/// How the text that a panel has is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The author's words, such as `shorter`.
    pub instruction: String,
    /// How many takes are wanted.
    pub candidates: u32,
}

/// A job that waits in the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedJob {
    /// Where the result goes.
    pub target: JobTarget,
    /// What is made.
    pub make: Make,
    /// How it is made.
    pub settings: Settings,
    /// From the guidance slider: a newer one replaces it.
    pub live: bool,
    /// Of a text: the one that is there is changed; none writes it anew.
    pub rewrite: Option<Rewrite>,
}

/// The edits of a finished job, one step of undo.
#[derive(Clone, Debug)]
pub struct JobEdits {
    /// The document's revision right after it.
    pub at: u64,
    /// The edits, in order.
    pub edits: Vec<Edit>,
}

/// A job that the engine is working on.
#[derive(Clone, Debug)]
pub struct RunningJob {
    /// Id of the job.
    pub job: JobId,
    /// The panel that it is made for.
    pub panel: PanelId,
    /// What is made.
    pub make: Make,
    /// How it is made.
    pub settings: Settings,
    /// From the guidance slider: a newer one replaces it.
    pub live: bool,
    /// The panel's text that its picture was ordered for.
    pub panel_text: Option<String>,
    /// Versions of a text that were asked for.
    pub versions: u32,
    /// What this job has put into the story so far.
    pub made: Option<JobEdits>,
    /// Whether the author has cancelled it.
    pub cancelled: bool,
    /// The part of the model that is loaded again.
    pub loading: Option<String>,
    /// The text so far.
    pub text: String,
    /// Whether the whole text is there.
    pub text_done: bool,
    /// Denoising steps done.
    pub step: u32,
    /// Denoising steps in all; 0 before the first.
    pub steps: u32,
    /// Small picture of the latents, after the first step.
    pub preview: Option<Arc<RgbaImage>>,
    since: Instant,
    /// When the last step ended.
    stepped: Instant,
}

/// Waiting and running jobs, with the time that texts and steps take on this machine.
#[derive(Clone, Debug, Default)]
pub struct JobQueue {
    waiting: VecDeque<QueuedJob>,
    running: Option<RunningJob>,
    /// Jobs that only engines elsewhere work on, oldest first.
    elsewhere: Vec<RunningJob>,
    /// Seconds a text took, smoothed; `None` before the first.
    text_seconds: Option<f32>,
    step_seconds: Option<f32>,
}

fn smooth(known: &mut Option<f32>, new: f32) {
    *known = Some(known.map_or(new, |old| 0.7 * old + 0.3 * new));
}

impl JobQueue {
    /// The job that the engine's own thread works on, else the oldest of those elsewhere.
    pub fn running(&self) -> Option<&RunningJob> {
        self.running.as_ref().or(self.elsewhere.first())
    }

    /// All jobs that are worked on.
    pub fn all(&self) -> impl Iterator<Item = &RunningJob> {
        self.running.iter().chain(&self.elsewhere)
    }

    /// All jobs that are worked on, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut RunningJob> {
        self.running.iter_mut().chain(&mut self.elsewhere)
    }

    /// The running job if it is `job`.
    pub fn job(&self, job: JobId) -> Option<&RunningJob> {
        self.all().find(|running| running.job == job)
    }

    /// The running job if it is `job`, to be changed.
    pub fn job_mut(&mut self, job: JobId) -> Option<&mut RunningJob> {
        self.all_mut().find(|running| running.job == job)
    }

    /// A running job for this panel.
    pub fn on(&self, panel: PanelId) -> Option<&RunningJob> {
        self.all().find(|running| running.panel == panel)
    }

    /// Only engines elsewhere work on `job` from now on.
    pub fn elsewhere(&mut self, job: JobId) {
        self.elsewhere
            .extend(self.running.take_if(|running| running.job == job));
    }

    /// Whether a job for this panel waits.
    pub fn waits_for(&self, panel: PanelId) -> bool {
        self.waiting
            .iter()
            .any(|o| o.target == JobTarget::Panel(panel))
    }

    /// Whether an order of the guidance slider waits.
    pub fn has_live(&self) -> bool {
        self.waiting.iter().any(|o| o.live)
    }

    /// How many orders wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many of them make a new panel.
    pub fn panels_to_come(&self) -> usize {
        let new = |order: &&QueuedJob| matches!(order.target, JobTarget::NewPanel { .. });
        self.waiting.iter().filter(new).count()
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.all().next().is_none() && self.waiting.is_empty()
    }

    /// Puts an order at the end; a live one at the front, in place of the one before it.
    pub fn push(&mut self, order: QueuedJob) {
        if order.live {
            self.waiting.retain(|o| !o.live);
            self.waiting.push_front(order);
        } else {
            self.waiting.push_back(order);
        }
    }

    /// The next order when nothing runs on the engine's own thread and fewer than `at_once` jobs are
    /// elsewhere. A text of a writer that `sees` waits for the pictures before it.
    pub fn take_next(&mut self, at_once: usize, sees: bool) -> Option<QueuedJob> {
        let room = self.running.is_none() && self.elsewhere.len() < at_once.max(1);
        let next = self.waiting.front().filter(|_| room)?;
        let waits = sees && next.make.text() && !self.elsewhere.is_empty();
        // One panel has one job at a time.
        let busy = matches!(next.target, JobTarget::Panel(id) if self.on(id).is_some());
        if waits || busy {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Drops the waiting jobs; returns how many those were.
    pub fn clear(&mut self) -> usize {
        self.waiting.drain(..).count()
    }

    /// Drops everything, the running job too: what it makes is for a board that was closed.
    pub fn abandon(&mut self) {
        self.waiting.clear();
        self.running = None;
        self.elsewhere.clear();
    }

    /// New panels that were to come behind `old` come behind `new`, which stands there now.
    pub fn reanchor(&mut self, old: PanelId, new: PanelId) {
        for order in &mut self.waiting {
            if let JobTarget::NewPanel { after, .. } = &mut order.target
                && *after == Some(old)
            {
                *after = Some(new);
            }
        }
    }

    /// Drops what waits for panels that `gone` names.
    pub fn forget(&mut self, gone: impl Fn(PanelId) -> bool) {
        self.waiting
            .retain(|o| !matches!(o.target, JobTarget::Panel(id) if gone(id)));
    }

    /// The engine has taken `order` as `job` for `panel`, whose text is `panel_text`.
    pub fn started(
        &mut self,
        job: JobId,
        panel: PanelId,
        order: QueuedJob,
        panel_text: Option<String>,
        made: Option<JobEdits>,
        now: Instant,
    ) {
        self.running = Some(RunningJob {
            job,
            panel,
            make: order.make,
            live: order.live,
            panel_text,
            versions: order.rewrite.as_ref().map_or(1, |wish| wish.candidates),
            made,
            cancelled: false,
            loading: None,
            text: String::new(),
            text_done: !order.make.text(),
            step: 0,
            steps: if order.make.picture() {
                order.settings.steps
            } else {
                0
            },
            settings: order.settings,
            preview: None,
            since: now,
            stepped: now,
        });
    }

    /// `part` of the model, which had to leave for want of memory, is loaded again.
    pub fn loading(&mut self, job: JobId, part: String) {
        if let Some(r) = self.job_mut(job) {
            r.loading = Some(part);
        }
    }

    /// Appends a piece to the text of a running job.
    pub fn text_piece(&mut self, job: JobId, piece: &str) {
        if let Some(r) = self.job_mut(job) {
            r.loading = None;
            r.text.push_str(piece);
        }
    }

    /// Notes that the text of a running job is whole.
    pub fn text_done(&mut self, job: JobId, now: Instant) {
        if let Some(r) = self.job_mut(job) {
            r.loading = None;
            r.text_done = true;
            r.stepped = now;
            let took = now.duration_since(r.since).as_secs_f32();
            smooth(&mut self.text_seconds, took);
        }
    }

    /// Notes a denoising step of a running job.
    pub fn stepped(
        &mut self,
        job: JobId,
        step: u32,
        steps: u32,
        preview: Arc<RgbaImage>,
        now: Instant,
    ) {
        if let Some(r) = self.job_mut(job) {
            // Several steps may be told at once when a frame was late.
            let done = step.saturating_sub(r.step).max(1);
            let took = now.duration_since(r.stepped).as_secs_f32() / done as f32;
            r.loading = None;
            (r.step, r.steps, r.preview, r.stepped) = (step, steps, Some(preview), now);
            smooth(&mut self.step_seconds, took);
        }
    }

    /// The running job ends if it is `job`.
    pub fn end(&mut self, job: JobId) -> Option<RunningJob> {
        let at = self.elsewhere.iter().position(|r| r.job == job);
        match at {
            Some(at) => Some(self.elsewhere.remove(at)),
            None => self.running.take_if(|r| r.job == job),
        }
    }

    /// Seconds that the running job still takes, as far as this machine's pace is known.
    pub fn seconds_left(&self, now: Instant) -> Option<f32> {
        let r = self.running()?;
        let text = if r.text_done {
            0.0
        } else {
            (self.text_seconds? - now.duration_since(r.since).as_secs_f32()).max(0.1)
        };
        let steps = r.steps.saturating_sub(r.step);
        let picture = if steps == 0 {
            0.0
        } else {
            self.step_seconds? * steps as f32
        };
        Some(text + picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn order(target: JobTarget, live: bool) -> QueuedJob {
        QueuedJob {
            target,
            make: Make::Both,
            settings: Settings::default(),
            live,
            rewrite: None,
        }
    }

    #[test]
    fn the_newest_live_order_goes_first_and_replaces_the_older() {
        let mut work = JobQueue::default();
        work.push(order(
            JobTarget::NewPanel {
                show: false,
                after: None,
            },
            false,
        ));
        work.push(order(JobTarget::Panel(PanelId(1)), true));
        work.push(order(JobTarget::Panel(PanelId(2)), true));
        assert_eq!(work.waiting(), 2);
        assert_eq!(
            work.take_next(1, false).map(|o| o.target),
            Some(JobTarget::Panel(PanelId(2)))
        );
        assert_eq!(
            work.take_next(1, false).map(|o| o.target),
            Some(JobTarget::NewPanel {
                show: false,
                after: None
            })
        );
    }

    #[test]
    fn orders_for_panels_that_went_are_dropped() {
        let mut work = JobQueue::default();
        for id in 1..=3 {
            work.push(order(JobTarget::Panel(PanelId(id)), false));
        }
        work.push(order(
            JobTarget::NewPanel {
                show: false,
                after: None,
            },
            false,
        ));
        assert_eq!((work.waiting(), work.panels_to_come()), (4, 1));
        work.forget(|id| id == PanelId(2));
        assert!(!work.waits_for(PanelId(2)) && work.waits_for(PanelId(3)));
        assert_eq!(work.clear(), 3);
    }

    #[test]
    fn while_pictures_are_drawn_elsewhere_the_next_orders_begin() {
        let mut work = JobQueue::default();
        for id in 1..=4 {
            work.push(order(JobTarget::Panel(PanelId(id)), false));
        }
        let begin = |work: &mut JobQueue, job: u64, sees| {
            let order = work.take_next(2, sees)?;
            let JobTarget::Panel(panel) = order.target else {
                return None;
            };
            work.started(JobId(job), panel, order, None, None, Instant::now());
            Some(panel)
        };
        assert_eq!(begin(&mut work, 1, false), Some(PanelId(1)));
        assert_eq!(begin(&mut work, 2, false), None, "it is here");
        work.elsewhere(JobId(1));
        assert_eq!(
            begin(&mut work, 2, true),
            None,
            "its writer waits for the picture"
        );
        assert_eq!(begin(&mut work, 2, false), Some(PanelId(2)));
        work.elsewhere(JobId(2));
        assert_eq!(begin(&mut work, 3, false), None, "both are busy");
        assert_eq!(work.on(PanelId(1)).map(|r| r.job), Some(JobId(1)));
        assert!(work.end(JobId(2)).is_some() && work.end(JobId(2)).is_none());
        assert_eq!(begin(&mut work, 3, false), Some(PanelId(3)));
        assert_eq!(work.all().count(), 2);
        work.abandon();
        assert!(work.is_idle());
    }

    #[test]
    fn time_left_follows_the_pace_of_the_steps() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut work = JobQueue::default();
        let mut order = order(JobTarget::Panel(PanelId(1)), false);
        order.make = Make::Picture;
        order.settings.steps = 10;
        work.started(JobId(1), PanelId(1), order, None, None, start);
        assert_eq!(work.seconds_left(start), None, "no pace known yet");
        let preview = Arc::new(RgbaImage::new(1, 1));
        for step in 1..=4 {
            work.stepped(
                JobId(1),
                step,
                10,
                preview.clone(),
                at(u64::from(step) * 100),
            );
        }
        let left = work.seconds_left(at(400)).expect("a pace is known");
        assert!((left - 0.6).abs() < 0.01, "{left}");
        work.stepped(JobId(99), 1, 10, preview, at(500));
        assert_eq!(
            work.running().map(|r| r.step),
            Some(4),
            "another job's step is not ours"
        );
        assert!(work.end(JobId(99)).is_none() && work.end(JobId(1)).is_some());
        assert!(work.is_idle());
    }
}
