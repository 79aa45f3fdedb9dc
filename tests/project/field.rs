//! Projects as they come back from the field: pictures that other tools have written anew, of
//! extreme shapes, and with a transparent ground.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, Luma, Rgba, RgbaImage};
use vokenboard::export::{self, EXPORTERS, Existing, Export, ExportError, ExportOptions};
use vokenboard::story::{Document, Edit, Images, PictureTake, Project, Story, read_picture_file};

/// A story with a panel for each picture.
fn board(dir: &Path, pictures: &[RgbaImage]) -> Vec<PathBuf> {
    let (mut document, images) = (Document::new(Story::default()), Images::new());
    let mut files = Vec::new();
    for (at, picture) in pictures.iter().enumerate() {
        let panel = document.insert_panel(at);
        let text = format!("Panel {at} has words.");
        document.apply(Edit::SetText { panel, text }).unwrap();
        let (width, height) = picture.dimensions();
        let image = images.put(picture.clone());
        files.push(dir.join("images").join(image.file_name()));
        let take = PictureTake::new(image, width, height, None);
        document.apply(Edit::AddPicture { panel, take }).unwrap();
    }
    let mut project = Project::create(dir).unwrap();
    project.save(&document, &images).unwrap();
    files
}

/// What opening warns of, and whether the first panel shows anything.
fn opened(dir: &Path) -> (String, bool) {
    let (project, document, images) = Project::open(dir).unwrap();
    let first = document.story().panels[0].picture().unwrap();
    let shows = images.shown(&first.image).is_some();
    (project.warnings().join("\n"), shows)
}

/// Everything that a board can become is made of it.
fn exports(dir: &Path) {
    let (document, images, _) = Project::read(dir).unwrap();
    let out = tempfile::tempdir().unwrap();
    let options = ExportOptions::default();
    for exporter in EXPORTERS {
        let panel = exporter.of_panel().then_some(0);
        let what = Export {
            story: document.story(),
            images: &images,
            panel,
            options: &options,
            existing: Existing::Stays,
        };
        let target = export::target_of(*exporter, &out.path().join(exporter.id()));
        let written = export::export(*exporter, &what, &target);
        // A panel alone has nothing but its picture.
        let lost = matches!(
            written,
            Err(ExportError::NoPicture | ExportError::NoPixels(_))
        );
        assert!(
            written.is_ok() || lost && panel.is_some(),
            "{}: {written:?}",
            exporter.id()
        );
    }
}

fn few_colours() -> RgbaImage {
    RgbaImage::from_fn(32, 24, |x, y| {
        Rgba([(x / 8 * 60) as u8, (y / 6 * 70) as u8, 40, 255])
    })
}

#[test]
fn pictures_that_another_tool_wrote_anew_stay_or_are_named() {
    type Rewrite = fn(&Path, &RgbaImage);
    let ways: [(&str, Rewrite, &str); 8] = [
        (
            "without transparency",
            |file, picture| {
                DynamicImage::from(picture.clone())
                    .into_rgb8()
                    .save(file)
                    .unwrap();
            },
            "",
        ),
        (
            "as a palette",
            |file, picture| with_palette(file, picture),
            "",
        ),
        (
            "in capitals",
            |file, _| {
                let name = file.file_stem().unwrap().to_str().unwrap().to_uppercase();
                fs::rename(file, file.with_file_name(name + ".PNG")).unwrap();
            },
            "",
        ),
        (
            "in grey of 16 bits",
            |file, picture| {
                let (width, height) = picture.dimensions();
                let grey = |x, _| Luma([x as u16 * 2000]);
                let grey: ImageBuffer<Luma<u16>, Vec<u16>> =
                    ImageBuffer::from_fn(width, height, grey);
                grey.save(file).unwrap();
            },
            "changed by another program",
        ),
        (
            "with what says sRGB",
            |file, picture| {
                coloured(file, picture, |info| {
                    info.source_gamma = Some(png::ScaledFloat::new(0.45455));
                    let profile = moxcms::ColorProfile::new_srgb().encode().unwrap();
                    info.icc_profile = Some(profile.into());
                });
            },
            "",
        ),
        (
            "with a wider profile",
            |file, picture| {
                coloured(file, picture, |info| {
                    let profile = moxcms::ColorProfile::new_adobe_rgb().encode().unwrap();
                    info.icc_profile = Some(profile.into());
                });
            },
            "changed by another program",
        ),
        (
            "cut to nothing",
            |file, _| fs::write(file, "").unwrap(),
            "damaged",
        ),
        (
            "as a web page",
            |file, _| fs::write(file, "<!doctype html>").unwrap(),
            "damaged",
        ),
    ];
    for (name, rewrite, warned) in ways {
        let dir = tempfile::tempdir().unwrap();
        let files = board(dir.path(), &[few_colours(), few_colours_but_one()]);
        rewrite(&files[0], &few_colours());
        let before = fs::read(dir.path().join("story.json")).unwrap();
        let (warnings, shows) = opened(dir.path());
        match warned {
            "" => assert_eq!(warnings, "", "{name}"),
            _ => assert!(
                warnings.contains(warned) && warnings.lines().count() == 1,
                "{name}: {warnings}"
            ),
        }
        assert_eq!(shows, warned != "damaged", "{name}");
        exports(dir.path());
        assert_eq!(fs::read(dir.path().join("story.json")).unwrap(), before);
    }
}

fn few_colours_but_one() -> RgbaImage {
    let mut picture = few_colours();
    picture.put_pixel(0, 0, Rgba([255; 4]));
    picture
}

/// The same pixels, with what `say` tells of their colours.
fn coloured(file: &Path, picture: &RgbaImage, say: impl FnOnce(&mut png::Info)) {
    let mut info = png::Info::with_size(picture.width(), picture.height());
    info.color_type = png::ColorType::Rgba;
    info.bit_depth = png::BitDepth::Eight;
    say(&mut info);
    let out = fs::File::create(file).unwrap();
    let encoder = png::Encoder::with_info(out, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(picture.as_raw()).unwrap();
    writer.finish().unwrap();
}

/// Sixteen colours, as `pngquant` writes them.
fn with_palette(file: &Path, picture: &RgbaImage) {
    let mut palette: Vec<[u8; 3]> = Vec::new();
    let mut indices = Vec::new();
    for pixel in picture.pixels() {
        let rgb = [pixel.0[0], pixel.0[1], pixel.0[2]];
        let known = palette.iter().position(|one| *one == rgb);
        indices.push(known.unwrap_or(palette.len()) as u8);
        if known.is_none() {
            palette.push(rgb);
        }
    }
    assert!(palette.len() <= 16);
    let out = fs::File::create(file).unwrap();
    let mut encoder = png::Encoder::new(out, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette(palette.concat());
    let packed: Vec<u8> = indices.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&packed).unwrap();
}

#[test]
fn pictures_of_extreme_shapes_are_kept_shown_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = [
        (1, 1),
        (2, 3),
        (1, 20_000),
        (20_000, 1),
        (1024, 1),
        (1, 1024),
    ];
    let pictures = shapes.map(|(width, height)| {
        RgbaImage::from_fn(width, height, |x, y| Rgba([x as u8, y as u8, 9, 255]))
    });
    let files = board(dir.path(), &pictures);
    let (project, document, images) = Project::open(dir.path()).unwrap();
    assert!(project.warnings().is_empty(), "{:?}", project.warnings());
    for (panel, (width, height)) in document.story().panels.iter().zip(shapes) {
        let id = &panel.picture().unwrap().image;
        assert_eq!(images.get(id).unwrap().dimensions(), (width, height));
        let shown = images.shown(id).unwrap();
        assert!((1..=1024).contains(&shown.width()) && (1..=1024).contains(&shown.height()));
    }
    drop((project, images));
    exports(dir.path());
    // Nor is one that comes from outside cut or refused.
    for (file, shape) in files.iter().zip(shapes) {
        assert_eq!(read_picture_file(file).unwrap().0.dimensions(), shape);
    }
}

#[test]
fn what_is_transparent_stands_on_white_for_the_eye_the_model_and_every_export() {
    // The same picture twice: opaque on white, and with a transparent ground.
    let of = |ground: [u8; 4]| {
        RgbaImage::from_fn(40, 30, |x, y| {
            match (10..30).contains(&x) && (10..20).contains(&y) {
                true => Rgba([200, 20, 30, 255]),
                false => Rgba(ground),
            }
        })
    };
    let (opaque, clear) = (of([255; 4]), of([7, 99, 3, 0]));
    let seen = |picture: &RgbaImage| {
        let dir = tempfile::tempdir().unwrap();
        board(dir.path(), std::slice::from_ref(picture));
        let (document, images, warnings) = Project::read(dir.path()).unwrap();
        assert!(warnings.is_empty());
        let id = &document.story().panels[0].picture().unwrap().image;
        // The file stays as it was brought.
        assert_eq!(*images.get(id).unwrap(), *picture);
        let sheet = export::draw_sheet(document.story(), &images).unwrap();
        (
            images.shown(id).unwrap(),
            images.on_white(id).unwrap(),
            sheet,
        )
    };
    let (a, b) = (seen(&opaque), seen(&clear));
    assert_eq!(a, b);
    assert_eq!(*a.0, opaque);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("clear.png");
    clear.save(&file).unwrap();
    assert_eq!(read_picture_file(&file).unwrap().0, opaque);
}
