//! `vokenboard cast`: who and what a story comes back to.

mod fields;
mod file;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::board::{Board, warn};
use super::report::{plain, print_line};
use crate::story::{Edit, Member, MemberKind, Project, Story};
pub(super) use fields::member_called;
use fields::{Fields, picture_argument};
pub(super) use file::Listing;

#[derive(Debug, Args)]
pub struct CastArgs {
    /// The project folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    what: CastCommand,
}

#[derive(Debug, Subcommand)]
enum CastCommand {
    /// Add a character, a place or a thing
    Add(AddArgs),
    /// Tell who is in the cast
    List(ListArgs),
    /// Change a member
    Set(SetArgs),
    /// Take a member out of the cast
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// What texts call it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    fields: FieldArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// A name of the member
    #[arg(value_name = "NAME")]
    name: String,
    /// Its new name
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// Without other names
    #[arg(long, conflicts_with = "other_names")]
    no_also: bool,
    /// Without the pictures that it has
    #[arg(long)]
    no_pictures: bool,
    /// Without a LoRA
    #[arg(long, conflicts_with = "lora")]
    no_lora: bool,
    /// Without an embedding
    #[arg(long, conflicts_with = "embedding")]
    no_embedding: bool,
    #[command(flatten)]
    fields: FieldArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// A name of the member
    #[arg(value_name = "NAME")]
    name: String,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The cast as JSON, which `tell --cast` reads
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FieldArgs {
    /// character, place or thing [default: character]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<MemberKind>,
    /// Another name or phrase that texts call it by, such as "the boy"; may be given several times
    #[arg(long = "also", value_name = "NAME")]
    other_names: Vec<String>,
    /// How it looks, in the words of a picture prompt
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A picture of it: a file, panel:K or panel:K:T (take T), with @X,Y,W,H behind for a box of it in pixels; may be given several times
    #[arg(long = "picture", value_name = "FILE|panel:K[:T][@X,Y,W,H]")]
    pictures: Vec<String>,
    /// A LoRA that was trained on it and how strongly it works [default: 1]
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    lora: Option<String>,
    /// A textual inversion embedding that was trained on it
    #[arg(long, value_name = "FILE")]
    embedding: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

fn kind(name: &str) -> Result<MemberKind, String> {
    match name {
        "character" => Ok(MemberKind::Character),
        "place" => Ok(MemberKind::Place),
        "thing" => Ok(MemberKind::Thing),
        _ => Err("give character, place or thing".to_owned()),
    }
}

impl FieldArgs {
    fn fields(&self, board: &Board) -> anyhow::Result<Fields> {
        let pictures = self
            .pictures
            .iter()
            .map(|argument| picture_argument(board, argument));
        let here = Path::new("");
        let lora = self.lora.as_ref().map(|text| fields::lora(here, text));
        let embedding = self.embedding.as_ref();
        let embedding = embedding.map(|file| fields::file(file, "embedding"));
        Ok(Fields {
            kind: self.kind,
            other_names: (!self.other_names.is_empty()).then(|| self.other_names.clone()),
            description: self.description.clone(),
            pictures: pictures.collect::<anyhow::Result<_>>()?,
            lora: lora.transpose()?.map(Some),
            embedding: embedding.transpose()?.map(Some),
            ..Fields::default()
        })
    }
}

/// Changes or tells the cast of a story.
///
/// # Errors
/// A folder that is no project or is open elsewhere, nobody of the name, or a file that is unfit.
pub(super) fn run(args: &CastArgs) -> anyhow::Result<()> {
    if let CastCommand::List(list) = &args.what {
        let (document, _, warnings) = Project::read(&args.dir)?;
        warn(&warnings);
        print_cast(document.story(), &args.dir, list.json);
        return Ok(());
    }
    let mut board = Board::open(&args.dir)?;
    board.check_writable()?;
    let (name, done, json) = match &args.what {
        CastCommand::List(_) => return Ok(()),
        CastCommand::Add(add) => {
            let name = named(&add.name)?;
            if let Some(member) = board.story().member_called(&name) {
                bail!(
                    "the cast has {name} already; change it with `cast DIR set \"{}\"`",
                    member.name
                );
            }
            let fields = Fields {
                name: Some(name.clone()),
                ..add.fields.fields(&board)?
            };
            fields::put(&mut board, fields)?;
            (name, "added", add.fields.json)
        }
        CastCommand::Set(set) => {
            let id = member_called(&board, &set.name)?;
            let new_name = set.new_name.as_deref().map(named).transpose()?;
            if let Some(other) = new_name
                .as_deref()
                .and_then(|name| board.story().member_called(name))
                && other.id != id
            {
                bail!("the cast has {} already; choose another name", other.name);
            }
            let mut fields = Fields {
                name: new_name,
                no_pictures: set.no_pictures,
                ..set.fields.fields(&board)?
            };
            if set.no_also {
                fields.other_names = Some(Vec::new());
            }
            if set.no_lora {
                fields.lora = Some(None);
            }
            if set.no_embedding {
                fields.embedding = Some(None);
            }
            let member = board.story().member(id).cloned().unwrap_or_default();
            let member = fields.apply_to(&board, member);
            let name = member.name.clone();
            board.edit(Edit::SetMember(member))?;
            (name, "changed", set.fields.json)
        }
        CastCommand::Remove(remove) => {
            let id = member_called(&board, &remove.name)?;
            let name = board.story().member(id).map(|member| member.name.clone());
            if let Some(removal) = board.removal(id) {
                board.edit(removal)?;
            }
            (name.unwrap_or_default(), "removed", remove.json)
        }
    };
    board.save_made()?;
    if json {
        let member = board.story().member_called(&name);
        let member = member.map(|member| listed(board.story(), &args.dir, member));
        print_line(
            &json!({"event": done, "name": name, "member": member, "project": plain(&args.dir)})
                .to_string(),
        );
    } else {
        print_line(&format!(
            "{done} {name}: the cast of {} has {}",
            args.dir.display(),
            count(&board)
        ));
    }
    Ok(())
}

fn named(name: &str) -> anyhow::Result<String> {
    match name.trim() {
        "" => bail!("a member of the cast needs a name; give what texts call it"),
        name => Ok(name.to_owned()),
    }
}

fn count(board: &Board) -> String {
    match board.story().cast.len() {
        1 => "1 member".to_owned(),
        members => format!("{members} members"),
    }
}

fn print_cast(story: &Story, dir: &Path, json: bool) {
    let cast = &story.cast;
    if json {
        let cast = cast.iter().map(|member| listed(story, dir, member));
        print_line(&json!({"cast": cast.collect::<Vec<Value>>()}).to_string());
        return;
    }
    if cast.is_empty() {
        print_line("the story has no cast");
    }
    for member in cast {
        let names: Vec<&str> = member.names().collect();
        let mut line = names.join(", also ");
        if !member.description.is_empty() {
            line.push_str(&format!(": {}", member.description));
        }
        let kind = match member.kind {
            MemberKind::Character => "",
            MemberKind::Place => "a place",
            MemberKind::Thing => "a thing",
        };
        let pictures = match member.pictures.len() {
            0 => String::new(),
            1 => "1 picture".to_owned(),
            many => format!("{many} pictures"),
        };
        let lora = member
            .lora
            .as_ref()
            .map(|lora| format!("LoRA {}", lora.file));
        let embedding = member.embedding.as_ref();
        let embedding = embedding.map(|used| format!("embedding {}", used.file));
        let panels = panels_of(story, member);
        let panels: Vec<String> = panels.iter().map(usize::to_string).collect();
        let panels = match panels.is_empty() {
            true => String::new(),
            false => format!("in panels {}", panels.join(", ")),
        };
        let more = [
            kind.to_owned(),
            pictures,
            lora.unwrap_or_default(),
            embedding.unwrap_or_default(),
            panels,
        ];
        let more: Vec<String> = more.into_iter().filter(|words| !words.is_empty()).collect();
        if !more.is_empty() {
            line.push_str(&format!(" ({})", more.join("; ")));
        }
        print_line(&line);
    }
}

/// The panels that a member is in, from 1.
fn panels_of(story: &Story, member: &Member) -> Vec<usize> {
    let panels = (1..).zip(&story.panels);
    let there = panels.filter(|(_, panel)| story.in_panel(panel).contains(&member.id));
    there.map(|(number, _)| number).collect()
}

/// A member as `tell --cast` reads it.
fn listed(story: &Story, dir: &Path, member: &Member) -> Value {
    let kept = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let pictures = member.pictures.iter();
    let pictures: Vec<String> = pictures
        .map(|id| plain(&kept.join("images").join(id.file_name())))
        .collect();
    let lora = member.lora.as_ref();
    json!({
        "name": member.name, "kind": member.kind, "other_names": member.other_names,
        "description": member.description, "pictures": pictures,
        "lora": lora.map(|lora| json!({"file": lora.file, "weight": lora.weight})),
        "embedding": member.embedding.as_ref().map(|used| &used.file),
        "panels": panels_of(story, member),
    })
}
