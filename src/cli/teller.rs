//! Runs the engine for a command, one job at a time.

use anyhow::bail;

use super::options::ModelArgs;
use super::report::Reporter;
use crate::engine::{Description, Engine, Event, Output, Request};

/// An engine with its model loaded, and the reporter that hears of its events.
pub struct EngineSession {
    engine: Engine,
    pub description: Description,
    pub reporter: Reporter,
}

impl EngineSession {
    /// Loads the model and waits until it is ready.
    ///
    /// # Errors
    /// When the model cannot be loaded.
    pub fn start(model: &ModelArgs, mut reporter: Reporter) -> anyhow::Result<EngineSession> {
        let engine = Engine::spawn(model.loader(), Box::new(|| {}));
        loop {
            match engine.wait() {
                Event::Loading(progress) => reporter.loading(&progress),
                Event::Ready(description) => {
                    return Ok(EngineSession {
                        engine,
                        description,
                        reporter,
                    });
                }
                Event::LoadFailed(reason) => bail!(reason),
                _ => {}
            }
        }
    }

    /// Makes one panel, `number` in the story from 1, and waits for it.
    ///
    /// # Errors
    /// When the pipeline fails.
    pub fn make(&mut self, number: usize, request: Request) -> anyhow::Result<Output> {
        let job = self.engine.submit(request);
        loop {
            match self.engine.wait() {
                Event::Started(id) if id == job => self.reporter.panel_started(number),
                Event::Progress(id, progress) if id == job => {
                    self.reporter.progress(number, &progress);
                }
                Event::Finished(id, output) if id == job => return Ok(output),
                Event::Failed(id, reason) if id == job => bail!("panel {number}: {reason}"),
                // Nobody cancels here, so only a stopped engine ends a job otherwise.
                Event::Cancelled(_) | Event::LoadFailed(_) => {
                    bail!("panel {number}: the engine has stopped; start the command again")
                }
                _ => {}
            }
        }
    }
}
