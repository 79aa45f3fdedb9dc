//! A project as the commands use it: panels by their number from 0.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::engine::{Make, Output, Request};
use crate::export::{self, ExportError};
use crate::story::{
    Document, Edit, ImageId, Images, MemberId, Panel, PanelId, PictureTake, Project, ProjectError,
    Rescue, Settings, Size, Story, TextTake, read_picture_file, rescue_folders,
};
use anyhow::bail;
use image::RgbaImage;

/// A story in its project folder.
pub(super) struct Board {
    project: Project,
    document: Document,
    images: Images,
}

impl Board {
    /// Begins a story in a new or empty folder and saves it, so that whatever happens next the
    /// folder is a project.
    pub(super) fn create(dir: &Path, opening: &str) -> anyhow::Result<Board> {
        let story = Story {
            title: title(opening),
            ..Story::default()
        };
        let mut board = Board {
            project: Project::create(dir)?,
            document: Document::new(story),
            images: Images::new(),
        };
        board.save()?;
        Ok(board)
    }

    /// Takes away a project in which no panel came about, so that the same command can be given again.
    pub(super) fn discard(self) {
        if self.len() == 0 {
            self.project.discard();
        }
    }

    /// Opens a project; pictures that it lacks are told on stderr.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Board> {
        let (project, document, images) = Project::open(dir)?;
        warn(project.warnings());
        Ok(Board {
            project,
            document,
            images,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.panels().len()
    }

    pub(super) fn text(&self, at: usize) -> &str {
        &self.panels()[at].text
    }

    pub(super) fn story(&self) -> &Story {
        self.document.story()
    }

    /// Makes a change of the story; it is saved with [`Board::save_made`].
    pub(super) fn edit(&mut self, edit: Edit) -> anyhow::Result<()> {
        Ok(self.document.apply(edit)?)
    }

    /// The edit that takes a member out of the cast.
    pub(super) fn removal(&self, id: MemberId) -> Option<Edit> {
        self.document.removal(id)
    }

    pub(super) fn fresh_panel_id(&mut self) -> PanelId {
        self.document.fresh_id()
    }

    pub(super) fn fresh_member_id(&mut self) -> MemberId {
        self.document.fresh_member_id()
    }

    pub(super) fn images(&self) -> &Images {
        &self.images
    }

    /// The text that the first panel began with, whatever it became.
    pub(super) fn opening(&self) -> Option<&str> {
        let first = self.panels().first()?;
        first.texts.items().first().map(|take| take.text.as_str())
    }

    /// What to ask for the panel at `at`, or for the one to come there.
    pub(super) fn request(&self, at: usize, make: Make, settings: Settings) -> Request {
        Request::of_panel(self.document.story(), &self.images, at, make, settings)
    }

    /// The settings of the active take that `make` would add to.
    pub(super) fn settings(&self, at: usize, make: Make) -> Option<Settings> {
        let panel = &self.panels()[at];
        let record = match make {
            Make::Text | Make::Plan(_) | Make::Cast => panel.texts.active()?.record.as_ref(),
            Make::Picture | Make::Both | Make::Prompt => panel.picture()?.record.as_ref(),
        };
        record.map(|record| record.settings.clone())
    }

    /// Adds a panel at the end: with `typed` by the author, else with the text of `output`.
    pub(super) fn add_panel(
        &mut self,
        typed: Option<String>,
        output: Output,
    ) -> anyhow::Result<()> {
        let id = self.document.fresh_id();
        let panel = match typed {
            Some(text) => Panel::with_text(id, text),
            None => Panel::empty(id),
        };
        let mut edits = vec![Edit::InsertPanel {
            at: self.len(),
            panel,
        }];
        edits.extend(self.takes(id, output));
        self.document.apply(Edit::Together(edits))?;
        Ok(())
    }

    /// Adds what was made to the panel at `at` and makes it active.
    pub(super) fn add_takes(&mut self, at: usize, output: Output) -> anyhow::Result<()> {
        let edits = self.takes(self.panels()[at].id, output);
        self.document.apply(Edit::Together(edits))?;
        Ok(())
    }

    /// The picture that the panel at `at` shows, and its size.
    pub(super) fn picture(&self, at: usize) -> Option<(ImageId, Size)> {
        let take = self.panels()[at].picture()?;
        let (width, height) = (take.width, take.height);
        Some((take.image.clone(), Size { width, height }))
    }

    /// Adds a picture to those of the board, for settings that name it.
    pub(super) fn put(&self, picture: RgbaImage) -> (ImageId, Size) {
        let (width, height) = picture.dimensions();
        (self.images.put(picture), Size { width, height })
    }

    /// The picture that `said` names, `panel:K`, `cast:NAME` or a file, and what is known to be in
    /// it: the prompt that it was drawn from, or what a member looks like.
    ///
    /// # Errors
    /// A panel or member without a picture, or a file that is none.
    pub(super) fn named_picture(&self, reference: &str) -> anyhow::Result<(ImageId, String)> {
        if let Some(number) = reference.strip_prefix("panel:") {
            let at = number
                .trim()
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=self.len()).contains(n));
            let shown = at.and_then(|number| self.panels()[number - 1].picture());
            return match shown {
                Some(take) => {
                    let drawn = take.record.as_ref().map(|record| record.prompt.clone());
                    Ok((take.image.clone(), drawn.unwrap_or_default()))
                }
                None => bail!("there is no panel {number} with a picture; name another"),
            };
        }
        if let Some(name) = reference.strip_prefix("cast:") {
            let member = self.story().member_called(name);
            let picture = member.and_then(|member| Some((member, member.pictures.first()?)));
            return match picture {
                Some((member, image)) => Ok((image.clone(), member.description.clone())),
                None => bail!("the cast has no {name} with a picture; give the member one first"),
            };
        }
        let (picture, _) = read_picture_file(Path::new(reference))?;
        Ok((self.put(picture).0, String::new()))
    }

    /// The model that drew the picture that the panel at `at` shows.
    pub(super) fn drawn_by(&self, at: usize) -> Option<String> {
        let record = self.panels()[at].picture()?.record.as_ref()?;
        record.is_drawn().then(|| record.model.clone())
    }

    /// The hash of the picture that the panel at `at` shows.
    pub(super) fn image(&self, at: usize) -> Option<&str> {
        let picture = self.panels()[at].picture()?;
        Some(picture.image.as_str())
    }

    /// Where the picture that the panel at `at` shows was drawn.
    pub(super) fn device(&self, at: usize) -> Option<&str> {
        let record = self.panels()[at].picture()?.record.as_ref()?;
        Some(&record.device)
    }

    /// Which device drew how many of the pictures of these panels, for people.
    pub(super) fn shares(&self, panels: Range<usize>) -> String {
        let mut shares = BTreeMap::new();
        for device in panels.filter_map(|at| self.device(at)) {
            *shares.entry(device).or_insert(0) += 1;
        }
        let shares = shares
            .iter()
            .map(|(device, count)| format!("{count} by {device}"));
        shares.collect::<Vec<_>>().join(", ")
    }

    /// What the writer keeps to in all panels.
    pub(super) fn set_direction(&mut self, direction: &str) -> anyhow::Result<()> {
        let direction = direction.trim().to_string();
        Ok(self.document.apply(Edit::SetDirection(direction))?)
    }

    /// What the writer keeps to in the panel at `at`.
    pub(super) fn set_panel_direction(&mut self, at: usize, direction: &str) -> anyhow::Result<()> {
        let (panel, direction) = (self.panels()[at].id, direction.trim().to_string());
        let edit = Edit::SetPanelDirection { panel, direction };
        Ok(self.document.apply(edit)?)
    }

    /// What is to happen in the panels to come.
    pub(super) fn plan_on(&mut self, lines: Vec<String>) -> anyhow::Result<()> {
        let plan = self.document.story().planned_on(lines);
        Ok(self.document.apply(Edit::SetPlan(plan))?)
    }

    fn save(&mut self) -> anyhow::Result<()> {
        Ok(self.project.save(&self.document, &self.images)?)
    }

    /// Saves what was made. What cannot be saved is kept elsewhere, which the error says: beside
    /// the story where another program has changed that meanwhile, else in the data folder.
    pub(super) fn save_made(&mut self) -> anyhow::Result<()> {
        let (document, images) = (&self.document, &self.images);
        let Err(error) = self.project.save(document, images) else {
            return Ok(());
        };
        let beside = match error {
            ProjectError::ChangedOnDisk(_) => self.project.keep_both(document, images).ok(),
            _ => None,
        };
        let dir = beside.map(|project| project.dir().to_path_buf());
        let dir = dir.or_else(|| {
            let rescue = {
                let from = Some(self.project.dir());
                Rescue::keep(&rescue_folders(), document, images, from).ok()?
            };
            Some(rescue.dir().to_path_buf())
        });
        match dir {
            Some(dir) => bail!("{error} What was made is kept in {}.", dir.display()),
            None => bail!("{error} What was made could not be kept anywhere else."),
        }
    }

    /// Whether what will be made can be saved, looked at before a model is loaded for it.
    pub(super) fn check_writable(&self) -> anyhow::Result<()> {
        Ok(self.project.check_writable()?)
    }

    /// Writes `storyboard.png` and `story.md` into the project folder, and returns both. Those
    /// that somebody else wrote or changed stay, which is told; so is what is left out.
    pub(super) fn write_exports(&self) -> anyhow::Result<(Option<PathBuf>, Option<PathBuf>)> {
        let (story, dir) = (self.document.story(), self.project.dir());
        warn(&export::left_out(story, &self.images, true));
        let sheet = sheet_in(dir);
        let written = match sheet.exists() && !export::is_ours(&sheet) {
            true => Err(ExportError::Exists(sheet.clone())),
            false => export::write_sheet(story, &self.images, &sheet),
        };
        let sheet = unless_it_stays(written)?.map(|()| sheet);
        let markdown = unless_it_stays(export::write_markdown(story, &self.images, dir))?;
        Ok((sheet, markdown.map(|()| dir.join("story.md"))))
    }

    fn panels(&self) -> &[Panel] {
        &self.document.story().panels
    }

    fn takes(&mut self, panel: PanelId, output: Output) -> Vec<Edit> {
        let newcomers = self.document.newcomers(output.newcomers);
        let texts = output.text.into_iter().chain(output.candidates);
        let texts = texts.map(|(text, record)| Edit::AddText {
            panel,
            take: TextTake::new(text, Some(record)),
        });
        let picture = output.picture.map(|(picture, record)| {
            let take = PictureTake::of(picture, Some(record), &self.images);
            Edit::AddPicture { panel, take }
        });
        texts.chain(picture).chain(newcomers).collect()
    }
}

/// Where the sheet of the story in `dir` is, unless another place was named.
pub(super) fn sheet_in(dir: &Path) -> PathBuf {
    dir.join("storyboard.png")
}

/// That a file was not replaced because its author's work is in it is no failure, but told.
fn unless_it_stays(written: Result<(), ExportError>) -> anyhow::Result<Option<()>> {
    match written {
        Ok(()) => Ok(Some(())),
        Err(ExportError::Exists(path)) => {
            warn(&[format!(
                "{} was written or changed by somebody else, so it stays as it is; `vokenboard export` writes elsewhere.",
                path.display()
            )]);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells on stderr what is amiss and does not stop a command, a sentence each.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        // Nobody may be there to be told: that stops no command.
        let _ = writeln!(std::io::stderr(), "vokenboard: {warning}");
    }
}

/// A story is called by its opening until the author names it: without its full stop, and cut
/// after a word where it is long.
fn title(opening: &str) -> String {
    const LONGEST: usize = 60;
    let opening = opening.trim().trim_end_matches(['.', '!', '?']);
    if opening.chars().count() <= LONGEST {
        return opening.to_string();
    }
    let cut: String = opening.chars().take(LONGEST).collect();
    let words = cut
        .rsplit_once(char::is_whitespace)
        .map_or(&*cut, |(words, _)| words);
    format!("{}…", words.trim_end_matches([',', ';', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_short_and_whole_words() {
        assert_eq!(title(" A fox finds a lantern. "), "A fox finds a lantern");
        let long =
            "A fox finds a glowing lantern in the snowy forest, and everyone wonders whose it is.";
        assert_eq!(
            title(long),
            "A fox finds a glowing lantern in the snowy forest, and…"
        );
        assert_eq!(title(&"x".repeat(100)).chars().count(), 61);
    }
}
