//! The engine's thread.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Event, JobId, Loader, Pipeline, Progress, Request, lock};

/// What both sides see.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    pub changed: Condvar,
    /// Set to stop the running job; cleared, under the queue's lock, when a job starts.
    pub cancel: AtomicBool,
}

pub(super) struct Queue {
    pub jobs: VecDeque<(JobId, Request)>,
    pub running: Option<JobId>,
    pub loader: Option<Loader>,
    pub stop: bool,
}

impl Shared {
    pub fn new(loader: Loader) -> Shared {
        Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                running: None,
                loader: Some(loader),
                stop: false,
            }),
            changed: Condvar::new(),
            cancel: AtomicBool::new(false),
        }
    }

    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

/// The listener has gone; the thread ends.
struct Gone;

enum Work {
    Load(Loader),
    Job(JobId, Box<Request>),
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    events: SyncSender<Event>,
    wake: Box<dyn Fn() + Send>,
    pipeline: Option<Box<dyn Pipeline>>,
    /// Why there is no pipeline.
    reason: String,
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        events: SyncSender<Event>,
        wake: Box<dyn Fn() + Send>,
    ) -> Worker {
        Worker {
            shared,
            events,
            wake,
            pipeline: None,
            reason: String::new(),
        }
    }

    pub fn run(mut self) {
        while let Some(work) = self.next() {
            let done = match work {
                Work::Load(loader) => self.load(loader),
                Work::Job(id, request) => self.job(id, &request),
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Waits for work; `None` when the engine is dropped. A new pipeline goes before the jobs.
    fn next(&self) -> Option<Work> {
        let mut queue = self.shared.queue();
        loop {
            if queue.stop {
                return None;
            }
            if let Some(loader) = queue.loader.take() {
                return Some(Work::Load(loader));
            }
            if let Some((id, request)) = queue.jobs.pop_front() {
                queue.running = Some(id);
                self.shared.cancel.store(false, Ordering::Relaxed);
                return Some(Work::Job(id, Box::new(request)));
            }
            queue = self
                .shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn load(&mut self, loader: Loader) -> Result<(), Gone> {
        // The old models go first: two sets may not fit in memory.
        self.pipeline = None;
        let mut gone = false;
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            loader(&mut |progress| gone |= self.tell(Event::Loading(progress)).is_err())
        }));
        let failure = match loaded {
            Ok(Ok(pipeline)) => {
                let description = pipeline.describe().clone();
                tracing::info!(
                    model = description.model,
                    weights = description.weights,
                    recipe = description.pipeline,
                    writer = description.writer.model,
                    device = description.device,
                    "loaded"
                );
                self.pipeline = Some(pipeline);
                return self.tell(Event::Ready(description));
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_sentence("loading the model", panic.as_ref()),
        };
        tracing::warn!(reason = failure, "nothing was loaded");
        self.reason.clone_from(&failure);
        self.tell(Event::LoadFailed(failure))
    }

    fn job(&mut self, id: JobId, request: &Request) -> Result<(), Gone> {
        self.tell(Event::Started(id))?;
        let Some(mut pipeline) = self.pipeline.take() else {
            self.shared.queue().running = None;
            let reason = format!("no model is loaded: {}", self.reason);
            return self.tell(Event::Failed(id, reason));
        };
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pipeline.generate(request, &mut |progress| {
                if self.shared.cancel.load(Ordering::Relaxed)
                    || self.progress(id, progress).is_err()
                {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        }));
        self.pipeline = Some(pipeline);
        let seconds = started.elapsed().as_secs_f32();
        match &result {
            Ok(Ok(Some(_))) => tracing::info!(job = id.0, seconds, "made"),
            Ok(Ok(None)) => tracing::info!(job = id.0, seconds, "cancelled"),
            Ok(Err(error)) => tracing::warn!(job = id.0, seconds, %error, "failed"),
            Err(_) => tracing::error!(job = id.0, seconds, "a fault of the program"),
        }
        // From here on a cancel comes too late, which the caller sees by the event.
        self.shared.queue().running = None;
        self.tell(match result {
            Ok(Ok(Some(output))) => Event::Finished(id, output),
            Ok(Ok(None)) => Event::Cancelled(id),
            Ok(Err(error)) => Event::Failed(id, error.to_string()),
            Err(panic) => Event::Failed(id, panic_sentence("this job", panic.as_ref())),
        })
    }

    fn progress(&self, id: JobId, progress: Progress) -> Result<(), Gone> {
        match &progress {
            // Asked for the cancel flag alone.
            Progress::Still => return Ok(()),
            Progress::TextPiece(piece) if piece.is_empty() => return Ok(()),
            _ => {}
        }
        let preview = matches!(progress, Progress::Step { .. });
        let event = Event::Progress(id, progress);
        if !preview {
            return self.tell(event);
        }
        match self.events.try_send(event) {
            Ok(()) => {
                (self.wake)();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Gone),
        }
    }

    fn tell(&self, event: Event) -> Result<(), Gone> {
        // Woken before as well: where the channel is full, the listener makes room.
        (self.wake)();
        self.events.send(event).map_err(|_| Gone)?;
        (self.wake)();
        Ok(())
    }
}

fn panic_sentence(what: &str, panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string());
    let line = message.lines().next().unwrap_or_default().to_string();
    format!("{what} ran into a fault of the program ({line}); please report it")
}
