//! `vokenboard panel`: panels made and changed by hand.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::board::Board;
use super::cast::member_called;
use super::report::{plain, print_line};
use crate::story::{Edit, MemberId, Panel, PanelId, PictureTake, read_picture_file};

#[derive(Debug, Args)]
pub struct PanelArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    what: PanelCommand,
}

#[derive(Debug, Subcommand)]
enum PanelCommand {
    /// Add a panel at the end
    Add {
        /// Its text
        #[arg(value_name = "TEXT", allow_hyphen_values = true)]
        text: Option<String>,
        #[command(flatten)]
        given: Given,
    },
    /// Put a panel before another one
    Insert {
        /// The place that it gets, from 1
        #[arg(value_name = "K", value_parser = place)]
        panel: usize,
        /// Its text
        #[arg(value_name = "TEXT", allow_hyphen_values = true)]
        text: Option<String>,
        #[command(flatten)]
        given: Given,
    },
    /// Change a panel
    Set {
        /// The panel, from 1
        #[arg(value_name = "K", value_parser = place)]
        panel: usize,
        /// Its new text, which becomes a take beside one that a model wrote
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        text: Option<String>,
        /// Without a picture prompt of its own
        #[arg(long, conflicts_with = "prompt")]
        no_prompt: bool,
        /// Who is in it is found from its text again
        #[arg(long, conflicts_with = "cast")]
        no_cast: bool,
        #[command(flatten)]
        given: Given,
    },
    /// Move a panel to another place
    Move {
        /// The panel, from 1
        #[arg(value_name = "K", value_parser = place)]
        panel: usize,
        /// The place that it gets
        #[arg(value_name = "TO", value_parser = place)]
        to: usize,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Take a panel away
    Remove {
        /// The panel, from 1
        #[arg(value_name = "K", value_parser = place)]
        panel: usize,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

/// What a panel is given.
#[derive(Clone, Debug, Default, Args)]
struct Given {
    /// A picture file, which becomes the take that is shown, at its full size
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// The prompt that its pictures are drawn from, in place of its text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// What the writer is to keep to in it
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    direction: Option<String>,
    /// Who of the cast is in it, whatever its text says: names with commas between them, or "" for nobody
    #[arg(long, value_name = "NAMES")]
    cast: Option<String>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A place from 1, as an index from 0.
fn place(text: &str) -> Result<usize, String> {
    let number = text.trim().parse::<usize>().ok();
    let index = number.and_then(|number| number.checked_sub(1));
    index.ok_or_else(|| "give the number of a panel, from 1".to_owned())
}

impl Given {
    /// The edits that give a panel what was said.
    fn edits(&self, board: &Board, panel: PanelId) -> anyhow::Result<Vec<Edit>> {
        let mut edits = Vec::new();
        if let Some(file) = &self.picture {
            let (picture, record) = read_picture_file(file)?;
            let take = PictureTake::of(picture, record, board.images());
            edits.push(Edit::AddPicture { panel, take });
        }
        if let Some(prompt) = &self.prompt {
            let prompt = Some(prompt.trim().to_owned()).filter(|prompt| !prompt.is_empty());
            edits.push(Edit::SetPrompt { panel, prompt });
        }
        if let Some(direction) = &self.direction {
            edits.push(Edit::SetPanelDirection {
                panel,
                direction: direction.trim().to_owned(),
            });
        }
        if let Some(names) = &self.cast {
            let names = names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            let ids = names.map(|name| member_called(board, name));
            let mut cast: Vec<MemberId> = Vec::new();
            for id in ids {
                let id = id?;
                if !cast.contains(&id) {
                    cast.push(id);
                }
            }
            edits.push(Edit::SetPanelCast {
                panel,
                cast: Some(cast),
            });
        }
        Ok(edits)
    }

    fn is_given(&self) -> bool {
        self.picture.is_some()
            || self.prompt.is_some()
            || self.direction.is_some()
            || self.cast.is_some()
    }
}

/// Changes a panel of a story.
///
/// # Errors
/// A folder that is no project or is open elsewhere, a panel that is not there, or a file that is
/// no picture.
pub(super) fn run(args: &PanelArgs) -> anyhow::Result<()> {
    let mut board = Board::open(&args.dir)?;
    board.check_writable()?;
    let dir = &args.dir;
    let (number, done, json) = match &args.what {
        PanelCommand::Add { text, given } => {
            let at = board.len();
            insert(&mut board, at, text.as_deref(), given)?;
            (at, "added", given.json)
        }
        PanelCommand::Insert { panel, text, given } => {
            if *panel > board.len() {
                bail!(
                    "{} has {} panels, so none can get the place {}; give one from 1 to {}",
                    dir.display(),
                    board.len(),
                    panel + 1,
                    board.len() + 1
                );
            }
            insert(&mut board, *panel, text.as_deref(), given)?;
            (*panel, "inserted", given.json)
        }
        PanelCommand::Set {
            panel,
            text,
            no_prompt,
            no_cast,
            given,
        } => {
            let id = there(&board, dir, *panel)?;
            if text.is_none() && !no_prompt && !no_cast && !given.is_given() {
                bail!(
                    "nothing is said of panel {}; give --text, --picture, --prompt, --direction or --cast",
                    panel + 1
                );
            }
            let mut edits = Vec::new();
            if let Some(text) = text {
                edits.push(Edit::SetText {
                    panel: id,
                    text: text.trim().to_owned(),
                });
            }
            if *no_prompt {
                edits.push(Edit::SetPrompt {
                    panel: id,
                    prompt: None,
                });
            }
            if *no_cast {
                edits.push(Edit::SetPanelCast {
                    panel: id,
                    cast: None,
                });
            }
            edits.extend(given.edits(&board, id)?);
            board.edit(Edit::Together(edits))?;
            (*panel, "changed", given.json)
        }
        PanelCommand::Move { panel, to, json } => {
            let id = there(&board, dir, *panel)?;
            there(&board, dir, *to)?;
            board.edit(Edit::MovePanel { panel: id, to: *to })?;
            (*to, "moved", *json)
        }
        PanelCommand::Remove { panel, json } => {
            let id = there(&board, dir, *panel)?;
            board.edit(Edit::DeletePanel(id))?;
            (*panel, "removed", *json)
        }
    };
    board.save_made()?;
    let panels = board.len();
    if json {
        let panel = (done != "removed").then(|| &board.story().panels[number]);
        print_line(
            &json!({
                "event": done, "panel": number + 1, "id": panel.map(|panel| panel.id),
                "text": panel.map(|panel| &panel.text),
                "image": panel.and_then(|panel| panel.picture()).map(|take| take.image.as_str()),
                "panels": panels, "project": plain(dir),
            })
            .to_string(),
        );
        return Ok(());
    }
    let what = match &args.what {
        PanelCommand::Move { panel, .. } => {
            format!("moved panel {} to place {}", panel + 1, number + 1)
        }
        _ => format!("{done} panel {}", number + 1),
    };
    let has = match panels {
        1 => "1 panel".to_owned(),
        panels => format!("{panels} panels"),
    };
    print_line(&format!("{what}: {} has {has}", dir.display()));
    Ok(())
}

/// A panel of the author's at `at`, in one edit.
fn insert(board: &mut Board, at: usize, text: Option<&str>, given: &Given) -> anyhow::Result<()> {
    let id = board.fresh_panel_id();
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let panel = match text {
        Some(text) => Panel::with_text(id, text),
        None => Panel::empty(id),
    };
    let mut edits = vec![Edit::InsertPanel { at, panel }];
    edits.extend(given.edits(board, id)?);
    board.edit(Edit::Together(edits))
}

/// The panel at `at`.
fn there(board: &Board, dir: &Path, at: usize) -> anyhow::Result<PanelId> {
    match board.story().panels.get(at) {
        Some(panel) => Ok(panel.id),
        None => bail!(
            "{} has {} panels, so there is no panel {}; give one from 1 to {}",
            dir.display(),
            board.len(),
            at + 1,
            board.len()
        ),
    }
}
