//! Pictures on the graphics card: one texture a panel, updated in place, and thumbnails.

use std::collections::HashMap;
use std::sync::Arc;

use egui::{Color32, ColorImage, Context, TextureHandle, TextureOptions};
use image::RgbaImage;

use crate::story::{ImageId, PanelId};

const PICTURE: TextureOptions = TextureOptions::LINEAR;

/// Longer side of a thumbnail in pixels: sharp on screens of double density.
const THUMBNAIL: u32 = 108;

/// Identifies pixels without comparing them: pictures are shared and never written to.
type PixelsKey = usize;

struct CachedTexture {
    texture: TextureHandle,
    /// Held so that its address cannot be taken by another picture.
    picture: Arc<RgbaImage>,
    used: bool,
}

/// Textures of what is on the screen. What was not asked for in a frame is let go after it.
#[derive(Default)]
pub struct Textures {
    panels: HashMap<PanelId, CachedTexture>,
    thumbnails: HashMap<ImageId, CachedTexture>,
    /// The take that the viewer shows beside another.
    beside: HashMap<(), CachedTexture>,
    /// What is painted over the large picture, of which revision and in which ink.
    overlay: Option<((u64, Color32), TextureHandle, bool)>,
}

fn key(picture: &Arc<RgbaImage>) -> PixelsKey {
    Arc::as_ptr(picture) as usize
}

impl Textures {
    /// The panel's texture, showing `picture`.
    pub fn panel(&mut self, ctx: &Context, id: PanelId, picture: &Arc<RgbaImage>) -> TextureHandle {
        shown(&mut self.panels, id, picture, |image| {
            ctx.load_texture(format!("panel {}", id.0), pixels(image), PICTURE)
        })
    }

    pub fn thumbnail(
        &mut self,
        ctx: &Context,
        id: &ImageId,
        picture: &Arc<RgbaImage>,
    ) -> TextureHandle {
        shown(&mut self.thumbnails, id.clone(), picture, |_| {
            let (width, height) = picture.dimensions();
            let longest = width.max(height).max(1);
            let side = |side: u32| (side * THUMBNAIL).div_ceil(longest).max(1);
            let small = image::imageops::thumbnail(picture.as_ref(), side(width), side(height));
            ctx.load_texture("thumbnail", pixels(&small), PICTURE)
        })
    }

    pub fn beside(&mut self, ctx: &Context, picture: &Arc<RgbaImage>) -> TextureHandle {
        shown(&mut self.beside, (), picture, |image| {
            ctx.load_texture("take beside", pixels(image), PICTURE)
        })
    }

    /// What is painted over the large picture; `make` is called when that has changed.
    pub fn overlay(
        &mut self,
        ctx: &Context,
        state: (u64, Color32),
        make: impl FnOnce() -> ColorImage,
    ) -> TextureHandle {
        if let Some((known, texture, used)) = &mut self.overlay {
            *used = true;
            if *known != state {
                *known = state;
                texture.set(make(), PICTURE);
            }
            return texture.clone();
        }
        let texture = ctx.load_texture("painted over", make(), PICTURE);
        self.overlay = Some((state, texture.clone(), true));
        texture
    }

    /// Lets go of what the frame did not use.
    pub fn end_frame(&mut self) {
        self.panels.retain(|_, e| std::mem::take(&mut e.used));
        self.beside.retain(|(), e| std::mem::take(&mut e.used));
        self.overlay.take_if(|(.., used)| !std::mem::take(used));
        self.thumbnails.retain(|_, e| std::mem::take(&mut e.used));
    }
}

fn shown<K: std::hash::Hash + Eq>(
    entries: &mut HashMap<K, CachedTexture>,
    id: K,
    picture: &Arc<RgbaImage>,
    create: impl FnOnce(&RgbaImage) -> TextureHandle,
) -> TextureHandle {
    if let Some(entry) = entries.get_mut(&id) {
        entry.used = true;
        if key(&entry.picture) != key(picture) {
            entry.texture.set(pixels(picture), PICTURE);
            entry.picture = Arc::clone(picture);
        }
        return entry.texture.clone();
    }
    let texture = create(picture);
    let entry = CachedTexture {
        texture: texture.clone(),
        picture: Arc::clone(picture),
        used: true,
    };
    entries.insert(id, entry);
    texture
}

fn pixels(picture: &RgbaImage) -> ColorImage {
    let size = [picture.width() as usize, picture.height() as usize];
    ColorImage::from_rgba_unmultiplied(size, picture.as_raw())
}
