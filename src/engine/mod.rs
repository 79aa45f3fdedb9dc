//! The worker thread: jobs in, events out.
//!
//! One thread named `engine` loads the pipeline and runs one job at a time. The caller never
//! waits for it: [`Engine::submit`], [`Engine::cancel`] and [`Engine::poll`] return at once.

mod worker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use crate::pipeline::{
    ContextPanel, Description, LoadProgress, Loader, Make, Output, Pipeline, PipelineError,
    Progress, Request, Started,
};
use worker::{Shared, Worker};

/// Events that may wait to be taken. Previews are dropped when this many wait; the worker waits
/// with anything else.
const EVENTS: usize = 1024;

/// Jobs that may wait.
const JOBS: usize = 1024;

/// Names a job from its submission on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What the engine tells. Every submitted job ends in exactly one of `Finished`, `Cancelled` and
/// `Failed`; `Started` comes before it unless the job was cancelled while it waited.
#[expect(
    clippy::large_enum_variant,
    reason = "events are few; boxing an output would only burden whoever takes it"
)]
#[derive(Clone, Debug)]
pub enum Event {
    /// A part of the model is being loaded.
    Loading(LoadProgress),
    /// The model is loaded.
    Ready(Description),
    /// No model is loaded; the sentence says why.
    LoadFailed(String),
    /// A job has begun.
    Started(JobId),
    /// Something of a job is done.
    Progress(JobId, Progress),
    /// Only engines elsewhere have to work on this job; the next one may begin.
    Elsewhere(JobId),
    /// A job is done, with what came of it.
    Finished(JobId, Output),
    /// A job ended because it was cancelled.
    Cancelled(JobId),
    /// A job failed; the sentence says why.
    Failed(JobId, String),
}

/// A handle on the worker thread. Dropping it cancels everything and waits for the thread, which
/// takes at most one step (or what is left of a load).
pub struct Engine {
    shared: Arc<Shared>,
    events: Option<Receiver<Event>>,
    /// Events that this side makes itself, so that it never waits on its own channel.
    own: RefCell<VecDeque<Event>>,
    next: Cell<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread and loads a pipeline on it. `wake` is called after every event, from the
    /// engine's thread, so that a sleeping window looks.
    ///
    /// # Panics
    /// When the operating system refuses a thread.
    pub fn spawn(loader: Loader, wake: Box<dyn Fn() + Send>) -> Engine {
        let (send, events) = sync_channel(EVENTS);
        let shared = Arc::new(Shared::new(loader));
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("engine".to_string())
            .spawn(move || Worker::new(theirs, send, wake).run())
            .expect("a process that cannot start one thread cannot go on");
        Engine {
            shared,
            events: Some(events),
            own: RefCell::default(),
            next: Cell::new(1),
            thread: Some(thread),
        }
    }

    /// Puts a job at the end of the queue.
    pub fn submit(&self, request: Request) -> JobId {
        let id = JobId(self.next.replace(self.next.get() + 1));
        let mut queue = self.shared.queue();
        if queue.jobs.len() >= JOBS {
            drop(queue);
            self.own.borrow_mut().push_back(Event::Failed(
                id,
                format!("{JOBS} jobs are waiting already; cancel some or wait"),
            ));
        } else {
            queue.jobs.push_back((id, request));
            self.shared.changed.notify_one();
        }
        id
    }

    /// Cancels a job: a waiting one at once, the running one within a step. A job that has ended
    /// is left alone.
    pub fn cancel(&self, id: JobId) {
        let mut queue = self.shared.queue();
        if let Some(at) = queue.jobs.iter().position(|(waiting, _)| *waiting == id) {
            queue.jobs.remove(at);
            drop(queue);
            self.own.borrow_mut().push_back(Event::Cancelled(id));
        } else if queue.running == Some(id) {
            self.shared.cancel.store(true, Ordering::Relaxed);
        } else if let Some(cancel) = queue.elsewhere.get(&id) {
            cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Cancels the running jobs and all that wait.
    pub fn cancel_all(&self) {
        let mut queue = self.shared.queue();
        self.shared.stop_running(&queue);
        let mut own = self.own.borrow_mut();
        own.extend(queue.jobs.drain(..).map(|(id, _)| Event::Cancelled(id)));
    }

    /// Cancels the running jobs, drops the pipeline and loads another; waiting jobs are kept for
    /// the new one.
    pub fn reload(&self, loader: Loader) {
        let mut queue = self.shared.queue();
        queue.loader = Some(loader);
        self.shared.stop_running(&queue);
        self.shared.changed.notify_one();
    }

    /// The next event if there is one. Never waits.
    pub fn poll(&self) -> Option<Event> {
        if let Some(event) = self.own.borrow_mut().pop_front() {
            return Some(event);
        }
        self.events.as_ref()?.try_recv().ok()
    }

    /// Waits for the next event.
    pub fn wait(&self) -> Event {
        if let Some(event) = self.own.borrow_mut().pop_front() {
            return event;
        }
        self.events
            .as_ref()
            .and_then(|events| events.recv().ok())
            .unwrap_or_else(|| {
                Event::LoadFailed("the engine has stopped; start the program again".to_string())
            })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue();
            queue.stop = true;
            queue.jobs.clear();
            self.shared.cancel.store(true, Ordering::Relaxed);
            self.shared.stop_running(&queue);
            self.shared.changed.notify_one();
        }
        // A worker that waits for room among the events must find the channel closed.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A lock whose holder cannot leave it half changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
