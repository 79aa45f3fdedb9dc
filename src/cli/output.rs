//! Files that a command writes where its author says.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::eval;
use crate::export::{self, Existing};

/// Whether a file that is there already may be replaced.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct ForceArgs {
    /// Replace files that are there already; a story's own files never are
    #[arg(long)]
    force: bool,
}

impl ForceArgs {
    pub(super) fn existing(self) -> Existing {
        Existing::forced(self.force)
    }

    /// Looks at a place before the work begins whose outcome goes there.
    ///
    /// # Errors
    /// A file that stays, a story's own, or one that can't be there.
    pub(super) fn check(self, file: Option<&Path>) -> anyhow::Result<()> {
        match file {
            Some(file) => Ok(export::check_output(file, self.existing())?),
            None => Ok(()),
        }
    }
}

/// A report for programs.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct JsonArgs {
    /// Also write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
}

impl JsonArgs {
    /// As [`ForceArgs::check`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.force.check(self.json.as_deref())
    }

    /// Whether other files that are there already may be replaced.
    pub(super) fn force(&self) -> ForceArgs {
        self.force
    }

    /// Writes the report where one is wanted.
    ///
    /// # Errors
    /// A file that can't be written.
    pub(super) fn write(&self, report: &Value) -> anyhow::Result<()> {
        write_json(self.json.as_deref(), report)
    }
}

/// Writes a report where one is wanted.
///
/// # Errors
/// A file that can't be written.
pub(super) fn write_json(path: Option<&Path>, report: &Value) -> anyhow::Result<()> {
    if let Some(path) = path {
        let text = format!("{}\n", serde_json::to_string_pretty(report)?);
        eval::write_file(path, text.as_bytes())?;
    }
    Ok(())
}
