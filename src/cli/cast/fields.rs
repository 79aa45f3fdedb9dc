//! What can be said of a member of the cast, and how it is put into a story.

use std::path::Path;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use image::RgbaImage;
use image::imageops::crop_imm;

use crate::cli::board::Board;
use crate::story::{Edit, FileUse, LoraUse, Member, MemberId, MemberKind, read_picture_file};

/// Fields of a member; those that are `None` stay as they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub name: Option<String>,
    pub kind: Option<MemberKind>,
    pub other_names: Option<Vec<String>>,
    pub description: Option<String>,
    /// Pictures that it does not keep.
    pub no_pictures: bool,
    /// Pictures to add.
    pub pictures: Vec<Arc<RgbaImage>>,
    pub lora: Option<Option<LoraUse>>,
    pub embedding: Option<Option<FileUse>>,
}

impl Fields {
    /// `member` with what is given.
    pub(super) fn apply_to(self, board: &Board, mut member: Member) -> Member {
        if let Some(name) = self.name {
            member.name = name.trim().to_owned();
        }
        member.kind = self.kind.unwrap_or(member.kind);
        if let Some(names) = self.other_names {
            let names = names.iter().map(|name| name.trim().to_owned());
            member.other_names = names.filter(|name| !name.is_empty()).collect();
        }
        if let Some(description) = self.description {
            member.description = description.trim().to_owned();
        }
        if self.no_pictures {
            member.pictures.clear();
        }
        for picture in self.pictures {
            let id = board.images().put(picture);
            if !member.pictures.contains(&id) {
                member.pictures.push(id);
            }
        }
        member.lora = self.lora.unwrap_or(member.lora);
        member.embedding = self.embedding.unwrap_or(member.embedding);
        member
    }
}

/// Puts a member into the cast, or changes the one of that name.
pub(super) fn put(board: &mut Board, fields: Fields) -> anyhow::Result<()> {
    let name = fields.name.clone().unwrap_or_default();
    let known = board.story().member_called(&name).cloned();
    let edit = match known {
        Some(member) => Edit::SetMember(fields.apply_to(board, member)),
        None => {
            let member = Member::new(board.fresh_member_id());
            Edit::AddMember {
                at: board.story().cast.len(),
                member: fields.apply_to(board, member),
            }
        }
    };
    board.edit(edit)
}

/// The member that `name` names.
///
/// # Errors
/// Nobody of that name, which says who there is.
pub(crate) fn member_called(board: &Board, name: &str) -> anyhow::Result<MemberId> {
    if let Some(member) = board.story().member_called(name) {
        return Ok(member.id);
    }
    let names: Vec<&str> = board.story().cast.iter().map(|m| m.name.as_str()).collect();
    match names.is_empty() {
        true => bail!("the story has no cast, so there is no {name}; add it with `cast DIR add`"),
        false => bail!("the cast has no {name}; name one of {}", names.join(", ")),
    }
}

/// A picture file of the author's.
pub(super) fn picture(file: &Path) -> anyhow::Result<Arc<RgbaImage>> {
    Ok(Arc::new(read_picture_file(file)?.0))
}

/// `panel:K`, `panel:K:T` (take T of it) or a file, each with `@X,Y,W,H` for a box of it.
///
/// # Errors
/// A panel, take or box that is not there, or a file that is no picture.
pub(super) fn picture_argument(board: &Board, argument: &str) -> anyhow::Result<Arc<RgbaImage>> {
    // A file may have such a name itself.
    let (whole, cut) = match argument.rsplit_once('@') {
        Some((whole, cut)) if !Path::new(argument).exists() => (whole, Some(cut)),
        _ => (argument, None),
    };
    let picture = match whole.strip_prefix("panel:") {
        Some(place) => take(board, place)?,
        None => picture(Path::new(whole))?,
    };
    let Some(cut) = cut else {
        return Ok(picture);
    };
    let numbers: Vec<u32> = cut
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let [x, y, width, height] = numbers[..] else {
        bail!(
            "\"@{cut}\" is no box; give its left, top, width and height in pixels, such as @10,20,64,64"
        );
    };
    let (wide, high) = picture.dimensions();
    let fits = |at: u32, side: u32, most: u32| {
        side > 0 && at.checked_add(side).is_some_and(|end| end <= most)
    };
    if !fits(x, width, wide) || !fits(y, height, high) {
        bail!("the box @{cut} is not in {whole}, which has {wide}x{high} pixels; give one that is");
    }
    Ok(Arc::new(
        crop_imm(picture.as_ref(), x, y, width, height).to_image(),
    ))
}

/// The picture of `K` or `K:T`, both from 1.
fn take(board: &Board, place: &str) -> anyhow::Result<Arc<RgbaImage>> {
    let (panel, take) = match place.split_once(':') {
        Some((panel, take)) => (panel, Some(take)),
        None => (place, None),
    };
    let number = |text: &str| text.trim().parse::<usize>().ok()?.checked_sub(1);
    let there = number(panel).and_then(|at| board.story().panels.get(at));
    let there = there.ok_or_else(|| {
        anyhow!(
            "there is no panel {panel}; give one from 1 to {}",
            board.len()
        )
    })?;
    let takes = &there.pictures;
    let found = match take {
        None => takes.active(),
        Some(take) => number(take).and_then(|at| takes.items().get(at)),
    };
    let found = match (found, take) {
        (Some(found), _) => found,
        (None, None) => bail!("panel {panel} has no picture yet; draw one first"),
        (None, Some(take)) => bail!("panel {panel} has no take {take}; it has {}", takes.len()),
    };
    board.images().get(&found.image).ok_or_else(|| {
        anyhow!("the picture of panel {panel} is missing or damaged; restore its file")
    })
}

/// A file that is there, by its whole path.
pub(super) fn file(path: &Path, what: &str) -> anyhow::Result<FileUse> {
    if !path.is_file() {
        bail!(
            "there is no {what} {}; give the path of its file",
            path.display()
        );
    }
    let whole = std::path::absolute(path)
        .map_err(|e| anyhow!("{} is no file ({e}); give its path", path.display()))?;
    Ok(FileUse {
        file: whole.to_string_lossy().into_owned(),
        hash: String::new(),
    })
}

/// `FILE` or `FILE:0.8`, from the folder `base`.
pub(super) fn lora(base: &Path, text: &str) -> anyhow::Result<LoraUse> {
    match text.rsplit_once(':') {
        Some((path, weight)) if !base.join(text).exists() => match weight.trim().parse::<f32>() {
            Ok(weight) if weight.is_finite() => lora_of(&base.join(path), weight),
            _ => bail!("\"{weight}\" in {text} is no weight of a LoRA; give one such as 0.8"),
        },
        _ => lora_of(&base.join(text), 1.0),
    }
}

pub(super) fn lora_of(path: &Path, weight: f32) -> anyhow::Result<LoraUse> {
    if !weight.is_finite() {
        bail!("{weight} is no weight of a LoRA; give one such as 0.8");
    }
    let FileUse { file, hash } = file(path, "LoRA")?;
    Ok(LoraUse {
        file,
        hash,
        weight,
        member: None,
    })
}
