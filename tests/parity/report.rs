//! What a stage found, and the line that says it.

use crate::fixture::Fixture;
use candle_core::{DType, Device, Tensor};

/// Limit of the relative error; gradients have their own.
pub const LIMIT: f32 = 1e-4;
pub const GRADIENT_LIMIT: f32 = 1e-3;

/// Anything that keeps a stage from being computed.
pub type Error = Box<dyn std::error::Error>;
pub type Outcome = Result<(), Error>;

/// One stage's findings.
#[derive(Default)]
pub struct Stage {
    largest: f32,
    compared: usize,
    wrong: Vec<String>,
}

impl Stage {
    /// Compares with the usual limit.
    pub fn close(&mut self, what: &str, got: &Tensor, want: &Tensor) -> Outcome {
        self.within(LIMIT, what, got, want)
    }

    pub fn within(&mut self, limit: f32, what: &str, got: &Tensor, want: &Tensor) -> Outcome {
        if got.dims() != want.dims() {
            let why = format!("{what} is {:?}, not {:?}", got.dims(), want.dims());
            self.wrong.push(why);
            return Ok(());
        }
        let (got, want) = (values(got)?, values(want)?);
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = furthest(&got, &want);
        // Where the reference is zero throughout, so must we be.
        let error = if off == 0.0 { 0.0 } else { off / largest };
        self.error(limit, what, error);
        Ok(())
    }

    /// Compares where values below 1 count as 1.
    pub fn against(&mut self, limit: f32, what: &str, got: &Tensor, want: &Tensor) -> Outcome {
        if got.dims() != want.dims() {
            let why = format!("{what} is {:?}, not {:?}", got.dims(), want.dims());
            self.wrong.push(why);
            return Ok(());
        }
        let (got, want) = (values(got)?, values(want)?);
        let largest = want.iter().fold(1f32, |m, v| m.max(v.abs()));
        self.error(limit, what, furthest(&got, &want) / largest);
        Ok(())
    }

    /// Notes a relative error.
    pub fn error(&mut self, limit: f32, what: &str, error: f32) {
        self.compared += 1;
        if error.is_nan() || error > self.largest {
            self.largest = error;
        }
        if error.is_nan() || error > limit {
            self.wrong.push(format!("{what} is off by {error:.1e}"));
        }
    }

    /// What must be equal.
    pub fn same<T: PartialEq + std::fmt::Debug + ?Sized>(&mut self, what: &str, got: &T, want: &T) {
        self.compared += 1;
        if got != want {
            let (got, want) = (short(got), short(want));
            self.wrong.push(format!("{what} is {got}, not {want}"));
        }
    }
}

/// The largest difference.
fn furthest(got: &[f32], want: &[f32]) -> f32 {
    // Written so that a NaN stays one.
    got.iter().zip(want).fold(0f32, |m, (a, b)| {
        let d = (a - b).abs();
        if d <= m { m } else { d }
    })
}

fn short<T: std::fmt::Debug + ?Sized>(value: &T) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// All elements.
pub fn values(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    /// The folder lacks the values, or what they were made with.
    Skipped,
}

/// Runs a stage where the folder has its values, and prints its line.
pub fn run(
    fixture: &Fixture,
    name: &str,
    check: fn(&Fixture, &str, &mut Stage) -> Outcome,
) -> Verdict {
    let folder = &fixture.name;
    if !fixture.has_vectors(name) {
        println!("{folder} {name}: skipped (no recorded values)");
        return Verdict::Skipped;
    }
    let mut stage = Stage::default();
    let outcome = check(fixture, name, &mut stage);
    let absent = fixture.absent(outcome.as_ref().err());
    if let (Some(absent), true) = (&absent, stage.wrong.is_empty()) {
        let largest = stage.largest;
        let before = match stage.compared {
            0 => String::new(),
            n => format!(", {n} values before it pass at {largest:.1e}"),
        };
        println!("{folder} {name}: skipped ({absent}{before})");
        // What could be compared before was.
        return match stage.compared {
            0 => Verdict::Skipped,
            _ => Verdict::Pass,
        };
    }
    match print(&format!("{folder} {name}"), stage, outcome) {
        true => Verdict::Pass,
        false => Verdict::Fail,
    }
}

/// Runs a stage that must be there, and prints its line; whether it passed.
pub fn line(name: &str, check: impl FnOnce(&mut Stage) -> Outcome) -> bool {
    let mut stage = Stage::default();
    let outcome = check(&mut stage);
    print(name, stage, outcome)
}

fn print(name: &str, mut stage: Stage, outcome: Outcome) -> bool {
    if let Err(error) = outcome {
        let line = error.to_string();
        stage
            .wrong
            .push(line.lines().next().unwrap_or_default().into());
    }
    if stage.compared == 0 && stage.wrong.is_empty() {
        stage.wrong.push("nothing was compared".into());
    }
    let verdict = if stage.wrong.is_empty() {
        "pass"
    } else {
        "fail"
    };
    println!("{name}: {:.1e} {verdict}", stage.largest);
    for wrong in stage.wrong.iter().take(8) {
        println!("    {wrong}");
    }
    stage.wrong.is_empty()
}
