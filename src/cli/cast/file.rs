//! A cast as a file: for `tell --cast`, and what `cast list --json` prints.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use serde::Deserialize;

use super::fields::{self, Fields};
use crate::cli::board::Board;
use crate::files::read_file;
use crate::story::{MemberKind, Project};

/// Nobody describes a cast at such length.
const LONGEST: u64 = 8 << 20;

/// JSON or TOML: members below `cast`, or a JSON list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum CastFile {
    Members(Vec<Listed>),
    Whole { cast: Vec<Listed> },
}

/// A member as an author writes it down.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    kind: MemberKind,
    #[serde(default)]
    other_names: Vec<String>,
    #[serde(default)]
    description: String,
    /// Picture files, from the folder of the cast's file.
    #[serde(default)]
    pictures: Vec<PathBuf>,
    #[serde(default)]
    lora: Option<ListedLora>,
    #[serde(default)]
    embedding: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ListedLora {
    /// With its weight behind a colon, as on the command line.
    Text(String),
    Whole {
        file: PathBuf,
        #[serde(default = "one")]
        weight: f32,
    },
}

fn one() -> f32 {
    1.0
}

/// What a file says of a cast, as it was read before anything is made.
pub(crate) struct Listing(Vec<Fields>);

impl Listing {
    /// The cast in a JSON or TOML file, or in a story's folder.
    ///
    /// # Errors
    /// A file that can't be read or says something else, or a member without a name.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Listing> {
        if path.is_dir() {
            return Listing::of_story(path);
        }
        let bytes = read_file(path, LONGEST)
            .map_err(|e| anyhow!("the cast {} can't be read ({e})", path.display()))?;
        let unfit = |why: String| {
            anyhow!(
                "{} is no cast ({why}); give JSON or TOML with a list \"cast\" whose members have a \"name\"",
                path.display()
            )
        };
        let text = String::from_utf8(bytes).map_err(|_| unfit("it is no text".into()))?;
        let text = text.trim_start_matches('\u{feff}');
        let file: CastFile = match text.trim_start().starts_with(['{', '['])
            && !text.trim_start().starts_with("[[")
        {
            true => serde_json::from_str(text).map_err(|e| unfit(e.to_string()))?,
            false => toml::from_str(text).map_err(|e| {
                let first = e.message().lines().next().unwrap_or_default();
                unfit(first.to_owned())
            })?,
        };
        let (CastFile::Members(listed) | CastFile::Whole { cast: listed }) = file;
        let base = path.parent().unwrap_or(Path::new(""));
        let fields = listed.into_iter().map(|listed| listed.fields(base));
        let fields: Vec<Fields> = fields.collect::<anyhow::Result<_>>()?;
        if fields.iter().any(|member| member.name.is_none()) {
            return Err(unfit("a member has no name".into()));
        }
        Ok(Listing(fields))
    }

    fn of_story(dir: &Path) -> anyhow::Result<Listing> {
        let (document, images, _) = Project::read(dir)?;
        let cast = document.story().cast.iter().map(|member| {
            let pictures = member.pictures.iter().map(|id| {
                images.get(id).ok_or_else(|| {
                    anyhow!(
                        "a picture of {} in {} is missing; restore its file",
                        member.name,
                        dir.display()
                    )
                })
            });
            Ok(Fields {
                name: Some(member.name.clone()).filter(|name| !name.trim().is_empty()),
                kind: Some(member.kind),
                other_names: Some(member.other_names.clone()),
                description: Some(member.description.clone()),
                pictures: pictures.collect::<anyhow::Result<_>>()?,
                lora: Some(member.lora.clone()),
                embedding: Some(member.embedding.clone()),
                ..Fields::default()
            })
        });
        let cast: Vec<Fields> = cast.collect::<anyhow::Result<_>>()?;
        if cast.is_empty() {
            bail!(
                "the story in {} has no cast; name another story or a file",
                dir.display()
            );
        }
        Ok(Listing(
            cast.into_iter()
                .filter(|member| member.name.is_some())
                .collect(),
        ))
    }

    /// Puts the members into the board's cast; those that are there by name become as listed.
    pub(crate) fn put(self, board: &mut Board) -> anyhow::Result<()> {
        for fields in self.0 {
            fields::put(board, fields)?;
        }
        Ok(())
    }
}

impl Listed {
    fn fields(self, base: &Path) -> anyhow::Result<Fields> {
        let pictures = self
            .pictures
            .iter()
            .map(|file| fields::picture(&base.join(file)));
        let lora = match self.lora {
            None => None,
            Some(ListedLora::Text(text)) => Some(fields::lora(base, &text)?),
            Some(ListedLora::Whole { file, weight }) => {
                Some(fields::lora_of(&base.join(file), weight)?)
            }
        };
        let embedding = self
            .embedding
            .map(|file| fields::file(&base.join(file), "embedding"));
        Ok(Fields {
            name: Some(self.name).filter(|name| !name.trim().is_empty()),
            kind: Some(self.kind),
            other_names: Some(self.other_names),
            description: Some(self.description),
            pictures: pictures.collect::<anyhow::Result<_>>()?,
            lora: Some(lora),
            embedding: Some(embedding.transpose()?),
            ..Fields::default()
        })
    }
}
