//! Engines that have the same to draw with and share its pictures: each picture goes to one that is
//! idle, and when one goes away the others draw on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::{Brief, PaintedPicture};
use super::engine_worker::EngineWorker;
use crate::pipeline::{PipelineError, Progress, Sink};
use crate::remote::Address;
use crate::remote::comfy::{self, ComfyModel};

/// How often a waiting picture looks for an idle engine, and whether the author has cancelled.
const LOOK: Duration = Duration::from_millis(50);
/// How long an engine that went away is asked last.
const AWAY: Duration = Duration::from_secs(30);

/// Engines with the same checkpoint, which share the pictures of a story.
pub(super) struct EnginePool {
    places: Mutex<Vec<PoolSlot>>,
}

struct PoolSlot {
    /// Taken out while it draws.
    hand: Option<EngineWorker>,
    went_away: Option<Instant>,
}

impl PoolSlot {
    fn is_away(&self) -> bool {
        self.went_away.is_some_and(|since| since.elapsed() < AWAY)
    }
}

enum SlotChoice {
    Hand(usize, Box<EngineWorker>),
    Cancelled,
    /// All were tried.
    None,
}

impl EnginePool {
    pub(super) fn new(first: EngineWorker) -> EnginePool {
        EnginePool {
            places: Mutex::new(vec![PoolSlot {
                hand: Some(first),
                went_away: None,
            }]),
        }
    }

    /// Adds another engine where it has the same checkpoint or workflow; it is asked when a picture
    /// is for it.
    pub(super) fn join(&self, id: &str, address: Address, what: ComfyModel) {
        let mut places = self.places();
        let fits = |place: &PoolSlot| {
            let hand = place.hand.as_ref();
            hand.is_some_and(|hand| hand.what().is_same(&what) && *hand.address() != address)
        };
        if !places.iter().all(fits) {
            return;
        }
        if let Ok(hand) = EngineWorker::new(id, address, what) {
            places.push(PoolSlot {
                hand: Some(hand),
                went_away: None,
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places().len()
    }

    /// Draws `brief` with an engine that is idle, and when that goes away with another. `None` when
    /// cancelled.
    ///
    /// # Errors
    /// When none of them draws it; that of the last.
    pub(super) fn draw(
        &self,
        brief: &Brief,
        sink: &mut Sink,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let mut tried = Vec::new();
        let mut failed = None;
        loop {
            let (at, mut hand) = match self.take(&tried, sink) {
                SlotChoice::Hand(at, hand) => (at, hand),
                SlotChoice::Cancelled => return Ok(None),
                SlotChoice::None => {
                    let nobody = || PipelineError::Request("no engine is left".to_owned());
                    return Err(failed.unwrap_or_else(nobody));
                }
            };
            let drawn = hand.draw(brief, sink);
            let went = matches!(&drawn, Err(PipelineError::Remote(error)) if error.is_away());
            // It may lack a file that another has.
            let lacks = matches!(&drawn, Err(PipelineError::Request(_)));
            self.give_back(at, *hand, went);
            match drawn {
                Err(error) if went || lacks => {
                    tried.push(at);
                    let left = self.len() - tried.len();
                    if left > 0 {
                        let words = format!("{error}; another engine draws on");
                        tracing::warn!(reason = %error, left, "an engine went away; another takes its picture");
                        if sink(Progress::Note(words)).is_break() {
                            return Ok(None);
                        }
                    }
                    failed = Some(error);
                }
                drawn => return drawn,
            }
        }
    }

    /// Waits for an engine that is idle and not among those `tried`.
    fn take(&self, tried: &[usize], sink: &mut Sink) -> SlotChoice {
        loop {
            let free = self.free(tried);
            match free.len() {
                0 => {
                    let places = self.places();
                    let mut others = (0..places.len()).filter(|at| !tried.contains(at));
                    if others.next().is_none() {
                        return SlotChoice::None;
                    }
                }
                1 => {
                    let (at, hand) = free.into_iter().next().expect("it has one");
                    return SlotChoice::Hand(at, Box::new(hand));
                }
                _ => return self.idlest(free, sink),
            }
            if sink(Progress::Still).is_break() {
                return SlotChoice::Cancelled;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes out all that could draw now. One that went away is among them only where no other is
    /// left, drawing or not.
    fn free(&self, tried: &[usize]) -> Vec<(usize, EngineWorker)> {
        let mut places = self.places();
        let untried = |at: &usize| !tried.contains(at);
        let at_hand = |place: &PoolSlot| !place.is_away();
        let any = (0..places.len())
            .filter(untried)
            .any(|at| at_hand(&places[at]));
        let mut free = Vec::new();
        for (at, place) in places.iter_mut().enumerate() {
            if untried(&at) && (at_hand(place) || !any) {
                free.extend(place.hand.take().map(|hand| (at, hand)));
            }
        }
        free
    }

    /// Of several the one with the fewest jobs of others; the rest are given back.
    fn idlest(&self, free: Vec<(usize, EngineWorker)>, sink: &mut Sink) -> SlotChoice {
        let mut best: Option<(u64, usize, EngineWorker)> = None;
        let mut cancelled = false;
        for (at, hand) in free {
            let mut cancel = || {
                let flow = sink(Progress::Still);
                cancelled |= flow.is_break();
                flow
            };
            let jobs = match &best {
                Some((0, ..)) => u64::MAX,
                // One that does not answer is tried last.
                _ => match comfy::jobs(hand.client(), &mut cancel) {
                    Ok(jobs) => jobs.unwrap_or(u64::MAX),
                    Err(_) => u64::MAX,
                },
            };
            match &best {
                Some((least, ..)) if *least <= jobs => self.give_back(at, hand, false),
                _ => {
                    if let Some((_, at, hand)) = best.replace((jobs, at, hand)) {
                        self.give_back(at, hand, false);
                    }
                }
            }
        }
        match best {
            Some((_, at, hand)) if cancelled => {
                self.give_back(at, hand, false);
                SlotChoice::Cancelled
            }
            Some((_, at, hand)) => SlotChoice::Hand(at, Box::new(hand)),
            None => SlotChoice::None,
        }
    }

    fn give_back(&self, at: usize, mut hand: EngineWorker, went_away: bool) {
        if went_away {
            hand.forget();
        }
        let mut places = self.places();
        let place = &mut places[at];
        place.hand = Some(hand);
        if went_away {
            place.went_away = Some(Instant::now());
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<PoolSlot>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
