//! The engine's thread.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{
    Event, JobId, Loader, Output, Pipeline, PipelineError, Progress, Request, Started, lock,
};
use crate::pipeline::RemoteWork;

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
    /// Jobs that engines elsewhere work on, with what is set to stop each.
    pub elsewhere: BTreeMap<JobId, Arc<AtomicBool>>,
    pub loader: Option<Loader>,
    pub stop: bool,
}

impl Shared {
    pub(super) fn new(loader: Loader) -> Shared {
        Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                running: None,
                elsewhere: BTreeMap::new(),
                loader: Some(loader),
                stop: false,
            }),
            changed: Condvar::new(),
            cancel: AtomicBool::new(false),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Stops the jobs that run here and elsewhere.
    pub(super) fn stop_running(&self, queue: &Queue) {
        if queue.running.is_some() {
            self.cancel.store(true, Ordering::Relaxed);
        }
        for cancel in queue.elsewhere.values() {
            cancel.store(true, Ordering::Relaxed);
        }
    }
}

/// The listener has gone; the thread ends.
struct ListenerGone;

enum WorkItem {
    Load(Loader),
    Job(JobId, Box<Request>),
}

/// Sends events to the listener, from any of the engine's threads.
struct EventSender {
    events: SyncSender<Event>,
    wake: Mutex<Box<dyn Fn() + Send>>,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    sender: Arc<EventSender>,
    pipeline: Option<Box<dyn Pipeline>>,
    /// Jobs that may be elsewhere at once.
    at_once: usize,
    /// Threads that wait for engines elsewhere.
    waiting: Vec<JoinHandle<()>>,
    /// Why there is no pipeline.
    reason: String,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        events: SyncSender<Event>,
        wake: Box<dyn Fn() + Send>,
    ) -> Worker {
        Worker {
            shared,
            sender: Arc::new(EventSender {
                events,
                wake: Mutex::new(wake),
            }),
            pipeline: None,
            at_once: 1,
            waiting: Vec::new(),
            reason: String::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.next() {
            let done = match work {
                WorkItem::Load(loader) => self.load(loader),
                WorkItem::Job(id, request) => self.job(id, &request),
            };
            if done.is_err() {
                break;
            }
        }
        self.shared.stop_running(&self.shared.queue());
        for thread in self.waiting {
            let _ = thread.join();
        }
    }

    /// Waits for work; `None` when the engine is dropped. A new pipeline goes before the jobs.
    fn next(&self) -> Option<WorkItem> {
        let mut queue = self.shared.queue();
        loop {
            if queue.stop {
                return None;
            }
            if let Some(loader) = queue.loader.take() {
                return Some(WorkItem::Load(loader));
            }
            let has_room = queue.elsewhere.len() < self.at_once;
            if let Some((id, request)) = has_room.then(|| queue.jobs.pop_front()).flatten() {
                queue.running = Some(id);
                self.shared.cancel.store(false, Ordering::Relaxed);
                return Some(WorkItem::Job(id, Box::new(request)));
            }
            queue = self
                .shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn load(&mut self, loader: Loader) -> Result<(), ListenerGone> {
        // The old models go first: two sets may not fit in memory.
        self.pipeline = None;
        let mut gone = false;
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            loader(&mut |progress| {
                gone |= self.sender.send_event(Event::Loading(progress)).is_err();
            })
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
                self.at_once = description.at_once.max(1);
                self.pipeline = Some(pipeline);
                return self.sender.send_event(Event::Ready(description));
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_sentence("loading the model", panic.as_ref()),
        };
        tracing::warn!(reason = failure, "loading a model failed");
        self.reason.clone_from(&failure);
        self.sender.send_event(Event::LoadFailed(failure))
    }

    fn job(&mut self, id: JobId, request: &Request) -> Result<(), ListenerGone> {
        self.sender.send_event(Event::Started(id))?;
        let Some(mut pipeline) = self.pipeline.take() else {
            self.shared.queue().running = None;
            let reason = format!("no model is loaded: {}", self.reason);
            return self.sender.send_event(Event::Failed(id, reason));
        };
        let started = Instant::now();
        let device = pipeline.describe().device.clone();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pipeline.begin(request, &mut |progress| {
                if self.shared.cancel.load(Ordering::Relaxed)
                    || self.sender.progress(id, progress).is_err()
                {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        }));
        let now = pipeline.describe();
        if now.device != device {
            // A GPU failed, and the processor goes on.
            self.sender.send_event(Event::Ready(now.clone()))?;
        }
        self.pipeline = Some(pipeline);
        let result = match result {
            Ok(Ok(Started::Elsewhere(rest))) => return self.leave(id, rest, started),
            Ok(Ok(Started::Ended(output))) => Ok(Ok(*output)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(panic) => Err(panic),
        };
        let event = ended(id, started, result);
        // From here on a cancel comes too late, which the caller sees by the event.
        self.shared.queue().running = None;
        self.sender.send_event(event)
    }

    /// Leaves a job to engines elsewhere, for which a thread without a model waits.
    fn leave(&mut self, id: JobId, rest: RemoteWork, started: Instant) -> Result<(), ListenerGone> {
        let cancel = Arc::new(AtomicBool::new(false));
        {
            let mut queue = self.shared.queue();
            queue.running = None;
            // A cancel that came meanwhile is this job's.
            let cancelled = self.shared.cancel.load(Ordering::Relaxed);
            cancel.store(cancelled, Ordering::Relaxed);
            queue.elsewhere.insert(id, Arc::clone(&cancel));
        }
        self.sender.send_event(Event::Elsewhere(id))?;
        let (shared, sender) = (Arc::clone(&self.shared), Arc::clone(&self.sender));
        let wait = move || {
            let result = catch_unwind(AssertUnwindSafe(|| {
                rest(&mut |progress| {
                    if cancel.load(Ordering::Relaxed) || sender.progress(id, progress).is_err() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
            }));
            let event = ended(id, started, result);
            shared.queue().elsewhere.remove(&id);
            shared.changed.notify_one();
            // A listener that has gone wants to know nothing.
            let _ = sender.send_event(event);
        };
        self.waiting.retain(|thread| !thread.is_finished());
        let thread = std::thread::Builder::new()
            .name(format!("elsewhere {}", id.0))
            .spawn(wait);
        match thread {
            Ok(thread) => self.waiting.push(thread),
            Err(error) => {
                self.shared.queue().elsewhere.remove(&id);
                let reason = format!(
                    "nobody can wait for this picture ({error}); close some programs and try again"
                );
                return self.sender.send_event(Event::Failed(id, reason));
            }
        }
        Ok(())
    }
}

/// How a job ended, for the log and the listener.
fn ended(
    id: JobId,
    started: Instant,
    result: Result<Result<Option<Output>, PipelineError>, Box<dyn Any + Send>>,
) -> Event {
    let seconds = started.elapsed().as_secs_f32();
    match result {
        Ok(Ok(Some(output))) => {
            tracing::info!(job = id.0, seconds, "job done");
            Event::Finished(id, output)
        }
        Ok(Ok(None)) => {
            tracing::info!(job = id.0, seconds, "job cancelled");
            Event::Cancelled(id)
        }
        Ok(Err(error)) => {
            tracing::warn!(job = id.0, seconds, %error, "job failed");
            Event::Failed(id, error.to_string())
        }
        Err(panic) => {
            tracing::error!(job = id.0, seconds, "job panicked");
            Event::Failed(id, panic_sentence("this job", panic.as_ref()))
        }
    }
}

impl EventSender {
    fn progress(&self, id: JobId, progress: Progress) -> Result<(), ListenerGone> {
        match &progress {
            // Asked for the cancel flag alone.
            Progress::Still => return Ok(()),
            Progress::TextPiece(piece) if piece.is_empty() => return Ok(()),
            _ => {}
        }
        let preview = matches!(progress, Progress::Step { .. });
        let event = Event::Progress(id, progress);
        if !preview {
            return self.send_event(event);
        }
        match self.events.try_send(event) {
            Ok(()) => {
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(ListenerGone),
        }
    }

    fn send_event(&self, event: Event) -> Result<(), ListenerGone> {
        // Woken before as well: where the channel is full, the listener makes room.
        self.wake();
        self.events.send(event).map_err(|_| ListenerGone)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        lock(&self.wake)();
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
