use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::story::Settings;

/// A pipeline that does what the text orders: `N` steps with a token each, `silent N` steps
/// without, `panic` or `error`. With a gate it waits for the test before each step.
struct Puppet {
    description: Description,
    gate: Option<Receiver<()>>,
    steps: Arc<AtomicUsize>,
}

impl Pipeline for Puppet {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let order = request.text.clone().unwrap_or_default();
        match order.as_str() {
            "panic" => panic!("a wheel came off\nand rolled away"),
            "error" => return Err(PipelineError::Request("no such thing".to_string())),
            _ => {}
        }
        let silent = order.strip_prefix("silent ");
        let steps: u32 = silent.unwrap_or(&order).parse().unwrap();
        for step in 1..=steps {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            self.steps.fetch_add(1, Ordering::SeqCst);
            let preview = Progress::Step {
                step,
                steps,
                preview: Arc::new(image::RgbaImage::new(1, 1)),
            };
            let piece = Progress::TextPiece(format!("{step} "));
            if (silent.is_none() && sink(piece).is_break()) || sink(preview).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(Output::default()))
    }
}

fn puppet(name: &str) -> (Loader, Arc<AtomicUsize>) {
    build(name, None)
}

fn gated(name: &str) -> (Loader, Arc<AtomicUsize>, Sender<()>) {
    let (open, gate) = channel();
    let (loader, steps) = build(name, Some(gate));
    (loader, steps, open)
}

fn build(name: &str, gate: Option<Receiver<()>>) -> (Loader, Arc<AtomicUsize>) {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let description = Description {
        model: name.to_string(),
        ..Description::default()
    };
    let loader: Loader = Box::new(move |progress| {
        progress(LoadProgress {
            what: "puppet".to_string(),
            done: 1,
            of: 1,
        });
        Ok(Box::new(Puppet {
            description,
            gate,
            steps,
        }))
    });
    (loader, counted)
}

fn order(text: &str) -> Request {
    Request {
        context: Vec::new(),
        text: Some(text.to_string()),
        picture: None,
        make: Make::Both,
        settings: Settings::default(),
        ..Request::default()
    }
}

fn spawn(loader: Loader) -> Engine {
    Engine::spawn(loader, Box::new(|| {}))
}

/// Events until `job` has ended, the last one included.
fn until_end(engine: &Engine, job: JobId) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = engine.wait();
        let end = match &event {
            Event::Finished(id, _) | Event::Cancelled(id) | Event::Failed(id, _) => *id == job,
            _ => false,
        };
        events.push(event);
        if end {
            return events;
        }
    }
}

fn until_started(engine: &Engine, job: JobId) {
    while !matches!(engine.wait(), Event::Started(id) if id == job) {}
}

#[test]
fn a_job_is_loaded_started_told_and_finished_in_order() {
    let engine = spawn(puppet("p").0);
    let job = engine.submit(order("2"));
    let names: Vec<String> = until_end(&engine, job)
        .iter()
        .map(|event| match event {
            Event::Loading(_) => "loading".to_string(),
            Event::Ready(description) => format!("ready {}", description.model),
            Event::Started(_) => "started".to_string(),
            Event::Progress(_, Progress::TextPiece(piece)) => piece.clone(),
            Event::Progress(_, Progress::Step { step, .. }) => format!("step {step}"),
            Event::Finished(..) => "finished".to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "loading", "ready p", "started", "1 ", "step 1", "2 ", "step 2", "finished"
        ]
    );
    assert!(engine.poll().is_none());
}

#[test]
fn the_running_job_is_cancelled_within_one_step() {
    let (loader, steps, open) = gated("p");
    let engine = spawn(loader);
    let job = engine.submit(order("100"));
    until_started(&engine, job);
    open.send(()).unwrap();
    while !matches!(engine.wait(), Event::Progress(_, Progress::Step { .. })) {}
    engine.cancel(job);
    open.send(()).unwrap();
    let last = until_end(&engine, job).pop();
    assert!(matches!(last, Some(Event::Cancelled(_))));
    assert_eq!(steps.load(Ordering::SeqCst), 2);
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_the_others_go_on() {
    let (loader, _, open) = gated("p");
    let engine = spawn(loader);
    let first = engine.submit(order("1"));
    let second = engine.submit(order("1"));
    let third = engine.submit(order("1"));
    until_started(&engine, first);
    engine.cancel(second);
    assert!(matches!(engine.poll(), Some(Event::Cancelled(id)) if id == second));
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert!(matches!(
        until_end(&engine, first).pop(),
        Some(Event::Finished(..))
    ));
    assert!(matches!(
        until_end(&engine, third).pop(),
        Some(Event::Finished(..))
    ));
}

#[test]
fn cancelling_all_ends_every_job_once() {
    let (loader, _, open) = gated("p");
    let engine = spawn(loader);
    let jobs: Vec<JobId> = (0..4).map(|_| engine.submit(order("5"))).collect();
    until_started(&engine, jobs[0]);
    engine.cancel_all();
    open.send(()).unwrap();
    let mut cancelled = Vec::new();
    while cancelled.len() < jobs.len() {
        if let Event::Cancelled(id) = engine.wait() {
            cancelled.push(id);
        }
    }
    cancelled.sort();
    assert_eq!(cancelled, jobs);
}

#[test]
fn a_panic_fails_the_job_and_the_next_one_works() {
    let engine = spawn(puppet("p").0);
    let bad = engine.submit(order("panic"));
    let good = engine.submit(order("1"));
    match until_end(&engine, bad).pop() {
        Some(Event::Failed(_, message)) => {
            assert!(
                message.contains("a wheel came off") && !message.contains('\n'),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        until_end(&engine, good).pop(),
        Some(Event::Finished(..))
    ));
}

#[test]
fn an_error_fails_the_job_and_the_next_one_works() {
    let engine = spawn(puppet("p").0);
    let bad = engine.submit(order("error"));
    let good = engine.submit(order("1"));
    assert!(
        matches!(until_end(&engine, bad).pop(), Some(Event::Failed(_, m)) if m == "no such thing")
    );
    assert!(matches!(
        until_end(&engine, good).pop(),
        Some(Event::Finished(..))
    ));
}

#[test]
fn a_failed_load_fails_jobs_until_another_model_is_loaded() {
    let engine = spawn(Box::new(|_| {
        Err(PipelineError::Request("the file is missing".to_string()))
    }));
    let lost = engine.submit(order("1"));
    let events = until_end(&engine, lost);
    assert!(matches!(&events[0], Event::LoadFailed(m) if m == "the file is missing"));
    assert!(
        matches!(events.last(), Some(Event::Failed(_, m)) if m.contains("the file is missing"))
    );

    engine.reload(puppet("second").0);
    let job = engine.submit(order("1"));
    let events = until_end(&engine, job);
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::Ready(d) if d.model == "second"))
    );
    assert!(matches!(events.last(), Some(Event::Finished(..))));

    engine.reload(Box::new(|_| panic!("bad day")));
    assert!(matches!(engine.wait(), Event::LoadFailed(m) if m.contains("bad day")));
}

#[test]
fn when_nobody_listens_previews_are_dropped_and_results_are_not() {
    let (loader, steps) = puppet("p");
    let engine = spawn(loader);
    let wanted = 2 * EVENTS;
    let job = engine.submit(order(&format!("silent {wanted}")));
    while steps.load(Ordering::SeqCst) < wanted {
        std::thread::yield_now();
    }
    let events = until_end(&engine, job);
    assert!(matches!(events.last(), Some(Event::Finished(..))));
    assert!(
        events.len() > EVENTS / 2 && events.len() < wanted,
        "{}",
        events.len()
    );
}

#[test]
fn when_nobody_listens_tokens_wait() {
    let engine = spawn(puppet("p").0);
    let steps = 3 * EVENTS / 2;
    let job = engine.submit(order(&steps.to_string()));
    while engine.shared.queue().running.is_none() {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let tokens = until_end(&engine, job)
        .iter()
        .filter(|event| matches!(event, Event::Progress(_, Progress::TextPiece(_))))
        .count();
    assert_eq!(tokens, steps);
}

#[test]
fn dropping_the_engine_stops_a_job_that_waits_for_room() {
    let engine = spawn(puppet("p").0);
    engine.submit(order("1000000"));
    while engine.shared.queue().running.is_none() {
        std::thread::yield_now();
    }
    drop(engine);
}

#[test]
fn every_event_wakes_the_listener() {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let engine = Engine::spawn(
        puppet("p").0,
        Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    );
    let job = engine.submit(order("3"));
    let events = until_end(&engine, job).len();
    assert!(woken.load(Ordering::SeqCst) + 1 >= events);
}

/// Leaves every order to an engine elsewhere, which waits for the test's word or the cancel.
struct Errand {
    description: Description,
    go: Arc<AtomicUsize>,
}

impl Pipeline for Errand {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        _: &Request,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        Ok(Some(Output::default()))
    }

    fn begin(
        &mut self,
        request: &Request,
        _: &mut crate::pipeline::Sink,
    ) -> Result<Started, PipelineError> {
        let go = Arc::clone(&self.go);
        let text = request.text.clone().unwrap_or_default();
        Ok(Started::Elsewhere(Box::new(move |sink| {
            while go.load(Ordering::SeqCst) == 0 {
                if sink(Progress::Still).is_break() {
                    return Ok(None);
                }
                std::thread::yield_now();
            }
            match text.as_str() {
                "error" => Err(PipelineError::Request("it went away".to_string())),
                "panic" => panic!("a wheel came off"),
                _ => Ok(Some(Output::default())),
            }
        })))
    }
}

#[test]
fn jobs_elsewhere_run_at_once_and_each_is_cancelled_and_ends_alone() {
    let go = Arc::new(AtomicUsize::new(0));
    let errand = Errand {
        description: Description {
            at_once: 4,
            ..Description::default()
        },
        go: Arc::clone(&go),
    };
    let engine = spawn(Box::new(move |_| Ok(Box::new(errand))));
    let jobs = ["one", "two", "error", "panic", "five"].map(|text| engine.submit(order(text)));
    let mut elsewhere = 0;
    while elsewhere < 4 {
        elsewhere += usize::from(matches!(engine.wait(), Event::Elsewhere(_)));
    }
    // The fifth waits for room, which the cancelled one makes.
    engine.cancel(jobs[1]);
    let events = until_end(&engine, jobs[1]);
    assert!(matches!(events.last(), Some(Event::Cancelled(_))));
    while !matches!(engine.wait(), Event::Elsewhere(id) if id == jobs[4]) {}
    go.store(1, Ordering::SeqCst);
    let mut ends = Vec::new();
    while ends.len() < 4 {
        match engine.wait() {
            Event::Finished(id, _) => ends.push((id, String::new())),
            Event::Failed(id, reason) => ends.push((id, reason)),
            Event::Cancelled(id) => panic!("{id:?} was cancelled"),
            _ => {}
        }
    }
    ends.sort_by_key(|(id, _)| *id);
    assert_eq!(ends[0], (jobs[0], String::new()));
    assert_eq!(ends[1], (jobs[2], "it went away".to_string()));
    assert!(ends[2].1.contains("a wheel came off"), "{ends:?}");
    assert_eq!(ends[3].0, jobs[4]);
    // What still runs ends with the engine.
    go.store(0, Ordering::SeqCst);
    engine.submit(order("last"));
    drop(engine);
}
