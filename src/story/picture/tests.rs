//! Every file here was met in the field: `tests/fixtures/field`.

use super::*;
use crate::pixels::shown;
use image::{ImageFormat, RgbImage, Rgba};

fn field(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/field")
        .join(name)
}

fn read(name: &str) -> RgbaImage {
    match read_picture_file(&field(name)) {
        Ok((picture, _)) => picture,
        Err(error) => panic!("{error}"),
    }
}

fn said(path: &Path) -> String {
    match read_picture_file(path) {
        Ok((picture, _)) => panic!("{} is read: {:?}", path.display(), picture.dimensions()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_kind_is_known_by_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let picture = RgbaImage::from_pixel(40, 30, Rgba([200, 10, 20, 255]));
    let plain = DynamicImage::from(picture).into_rgb8();
    for kind in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let path = dir.path().join("picture.txt");
        plain.save_with_format(&path, kind).unwrap();
        let (read, record) = read_picture_file(&path).unwrap();
        assert_eq!(read.dimensions(), (40, 30), "{kind:?}");
        let [r, g, b, a] = read.get_pixel(20, 15).0;
        assert!(r.abs_diff(200) < 6 && g.abs_diff(10) < 6 && b.abs_diff(20) < 6 && a == 255);
        assert!(record.is_none());
    }
}

#[test]
fn a_large_picture_keeps_its_size_and_is_shown_smaller_in_its_shape() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.png");
    RgbImage::new(3000, 600).save(&path).unwrap();
    let (wide, _) = read_picture_file(&path).unwrap();
    assert_eq!(wide.dimensions(), (3000, 600));
    assert_eq!(shown(&wide).unwrap().dimensions(), (1024, 205));
    assert!(shown(&RgbaImage::from_pixel(9, 9, Rgba([1, 2, 3, 255]))).is_none());
    for name in ["s1x20000.png", "s20000x1.png", "s1x1.png", "s2x3a0.png"] {
        let picture = read(name);
        let small = shown(&picture).unwrap_or(picture);
        assert!(small.width().max(small.height()) <= 1024, "{name}");
    }
}

#[test]
fn transparent_and_opaque_pictures_that_look_alike_are_read_alike() {
    let (a, b) = (read("a.png"), read("b.png"));
    assert!(a.iter().zip(b.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));
    assert!(read("s2x3a0.png").pixels().all(|p| p.0 == [255; 4]));
}

#[test]
fn names_that_lie_are_told_by_what_they_are() {
    for (name, what) in [
        ("avif.webp", "AVIF"),
        ("heic.jpg", "HEIC"),
        ("d.pdf", "PDF"),
        ("g.gif", "GIF"),
        ("s.svg", "SVG"),
        ("lfs.png", "git lfs pull"),
        ("photo.jpg", "web page"),
        ("empty.png", "empty"),
        ("three.jpg", "not a whole picture"),
    ] {
        let said = said(&field(name));
        assert!(said.contains(what) && said.contains(name), "{said}");
        assert!(!said.contains('\n'));
    }
    assert_eq!(
        read("jpeg_named.png").width(),
        read("png_named.txt").width()
    );
}

#[test]
fn pictures_that_are_cut_short_are_told() {
    for name in [
        "n_10.webp",
        "n_m2.webp",
        "l_10.webp",
        "cut.jpg",
        "b_idatcrc.png",
        "k_noidat.png",
        "l_noiend.png",
    ] {
        let said = said(&field(name));
        assert!(
            said.contains("not a whole picture") && !said.contains('\n'),
            "{said}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let noisy = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 13) as u8, (x * y) as u8]);
    let picture = RgbImage::from_fn(64, 64, noisy);
    for kind in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        picture.save_with_format(&whole, kind).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        assert!(read_picture_file(&whole).is_ok());
        let cut = dir.path().join("cut");
        for length in [
            bytes.len() / 10,
            bytes.len() / 2,
            bytes.len() * 99 / 100,
            bytes.len() - 2,
        ] {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            let said = said(&cut);
            assert!(
                said.contains("not a whole picture"),
                "{kind:?}, {length}: {said}"
            );
        }
    }
    // What a camera writes behind the end is no part of the picture.
    picture.save_with_format(&whole, ImageFormat::Jpeg).unwrap();
    let mut bytes = std::fs::read(&whole).unwrap();
    bytes.extend([0; 500]);
    std::fs::write(&whole, &bytes).unwrap();
    assert!(read_picture_file(&whole).is_ok());
}

#[test]
fn a_picture_cut_anywhere_is_never_taken_for_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut");
    for name in ["lossy.webp", "progressive.jpg", "m_16rgba.png", "anim.webp"] {
        assert!(read(name).width() > 0);
        let bytes = std::fs::read(field(name)).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            assert!(
                read_picture_file(&cut).is_err(),
                "{name}: {length} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn odd_but_valid_pictures_are_read() {
    let odd = [
        "a_textcrc.png",
        "c_after.png",
        "d_pal.png",
        "e_greytrns.png",
        "f_g16.png",
        "g1.png",
        "g2.png",
        "g4.png",
        "h1.png",
        "h2.png",
        "h3.png",
        "h4.png",
        "h5.png",
        "h6.png",
        "h7.png",
        "h8.png",
        "h9.png",
        "i_iccp.png",
        "j_iccpcrc.png",
        "m_16rgba.png",
        "anim.png",
        "anim.webp",
        "anim_default.png",
        "cmyk.jpg",
        "noapp14.jpg",
        "ycck.jpg",
    ];
    for name in odd {
        let picture = read(name);
        assert!(picture.pixels().all(|p| p.0[3] == 255), "{name}");
    }
}

#[test]
fn records_of_any_length_and_make_take_little_memory_and_harm_nothing() {
    for name in [
        "it_empty.png",
        "it_ghost.png",
        "it_ids.png",
        "it_nojson.png",
        "it_other.png",
        "ztxt200.png",
    ] {
        let (picture, _) = read_picture_file(&field(name)).unwrap();
        assert_eq!(picture.dimensions(), (64, 64), "{name}");
    }
    let (_, record) = read_picture_file(&field("it_ids.png")).unwrap();
    assert!(record.is_none(), "a record of 100 million panels is none");
}

#[test]
fn colours_of_other_profiles_become_srgb() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.png");
    // A strong red of Adobe RGB is stronger than any of sRGB; a grey is the same in both.
    let written = |profile: &ColorProfile, colours: &[[u8; 3]]| {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(colours.len() as u32, 1);
        info.color_type = png::ColorType::Rgb;
        info.bit_depth = png::BitDepth::Eight;
        info.icc_profile = Some(profile.encode().unwrap().into());
        let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&colours.concat()).unwrap();
        writer.finish().unwrap();
        std::fs::write(&path, bytes).unwrap();
        read_picture_file(&path).unwrap().0
    };
    let colours = [[100, 150, 100], [128, 128, 128], [255, 255, 255]];
    let adobe = written(&ColorProfile::new_adobe_rgb(), &colours);
    let [r, g, b, _] = adobe.get_pixel(0, 0).0;
    assert!(
        r < 85 && g.abs_diff(150) < 6 && b.abs_diff(100) < 6,
        "{r} {g} {b}"
    );
    assert!(
        adobe.get_pixel(1, 0).0[..3]
            .iter()
            .all(|c| c.abs_diff(128) < 4)
    );
    assert_eq!(adobe.get_pixel(2, 0).0, [255; 4]);
    // Pixel for pixel where there is nothing to convert.
    let srgb = written(&ColorProfile::new_srgb(), &colours);
    assert_eq!(srgb.get_pixel(0, 0).0, [100, 150, 100, 255]);
}

/// A PNG of one row, with what `say` puts into its head.
fn row(dir: &Path, colours: &[[u8; 3]], say: impl FnOnce(&mut png::Info)) -> RgbaImage {
    let path = dir.join("row.png");
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(colours.len() as u32, 1);
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    say(&mut info);
    let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&colours.concat()).unwrap();
    writer.finish().unwrap();
    std::fs::write(&path, bytes).unwrap();
    read_picture_file(&path).unwrap().0
}

#[test]
fn gamma_and_chromaticities_of_a_png_become_srgb() {
    use png::{ScaledFloat, SourceChromaticities};
    let dir = tempfile::tempdir().unwrap();
    let colours = [[55, 55, 55], [100, 150, 100], [255, 255, 255], [0, 0, 0]];
    let gamma = |value: f32| {
        row(dir.path(), &colours, |info| {
            info.source_gamma = Some(ScaledFloat::new(value));
        })
    };
    // Linear light: 55 of 255 is a middle grey.
    let linear = gamma(1.0);
    assert!(linear.get_pixel(0, 0).0[0].abs_diff(128) < 3);
    assert_eq!(linear.get_pixel(2, 0).0, [255; 4]);
    assert_eq!(linear.get_pixel(3, 0).0, [0, 0, 0, 255]);
    // What programs write that mean sRGB, and what means nothing, changes no pixel.
    for value in [0.45455, 0.4545, 0.44, 0.0] {
        assert_eq!(
            gamma(value).get_pixel(1, 0).0,
            [100, 150, 100, 255],
            "{value}"
        );
    }
    let adobe =
        SourceChromaticities::new((0.3127, 0.329), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06));
    let said = row(dir.path(), &colours, |info| {
        info.source_gamma = Some(ScaledFloat::new(1.0 / 2.199));
        info.source_chromaticities = Some(adobe);
    });
    let profiled = row(dir.path(), &colours, |info| {
        let profile = ColorProfile::new_adobe_rgb().encode().unwrap();
        info.icc_profile = Some(profile.into());
    });
    assert!(profiled.get_pixel(1, 0).0[0] < 85);
    assert!(
        said.iter()
            .zip(profiled.iter())
            .all(|(a, b)| a.abs_diff(*b) <= 2)
    );
    // Chromaticities of no light are passed over.
    let nothing = row(dir.path(), &colours, |info| {
        info.source_chromaticities = Some(SourceChromaticities::new(
            (0.0, 0.0),
            (0.0, 0.0),
            (0.0, 0.0),
            (0.0, 0.0),
        ));
    });
    assert_eq!(nothing.get_pixel(1, 0).0, [100, 150, 100, 255]);
    // A profile counts more than numbers, and sRGB as well.
    let both = row(dir.path(), &colours, |info| {
        info.source_gamma = Some(ScaledFloat::new(1.0));
        info.icc_profile = Some(ColorProfile::new_srgb().encode().unwrap().into());
    });
    assert_eq!(both.get_pixel(1, 0).0, [100, 150, 100, 255]);
    let plain = row(dir.path(), &colours, |info| {
        info.source_gamma = Some(ScaledFloat::new(1.0));
        info.srgb = Some(png::SrgbRenderingIntent::Perceptual);
    });
    assert_eq!(plain.get_pixel(1, 0).0, [100, 150, 100, 255]);
}

/// A profile of four inks of which the last alone darkens, from white to black: its lookup table
/// has two nodes a side, in Lab.
fn only_black_prints() -> Vec<u8> {
    let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    for at in 0..9u32 {
        let one = if at % 4 == 0 { 65_536u32 } else { 0 };
        table.extend(one.to_be_bytes());
    }
    table.extend((0..4).flat_map(|_| 0..=255u8));
    // The last ink changes fastest.
    table.extend((0..16).flat_map(|node| [if node % 2 == 0 { 255 } else { 0 }, 128, 128]));
    table.extend((0..3).flat_map(|_| 0..=255u8));
    let mut icc = vec![0; 128];
    icc[8] = 2;
    icc[12..16].copy_from_slice(b"prtr");
    icc[16..20].copy_from_slice(b"CMYK");
    icc[20..24].copy_from_slice(b"Lab ");
    icc[36..40].copy_from_slice(b"acsp");
    icc[68..80].copy_from_slice(&[0, 0, 0xf6, 0xd6, 0, 1, 0, 0, 0, 0, 0xd3, 0x2d]);
    icc.extend(2u32.to_be_bytes());
    for tag in [b"A2B0", b"A2B1"] {
        icc.extend(tag);
        icc.extend(156u32.to_be_bytes());
        icc.extend((table.len() as u32).to_be_bytes());
    }
    assert_eq!(icc.len(), 156);
    icc.extend(table);
    let length = icc.len() as u32;
    icc[..4].copy_from_slice(&length.to_be_bytes());
    icc
}

#[test]
fn inks_look_as_their_profile_says() {
    let icc = only_black_prints();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("print.jpg");
    // Both have 10 of 255 of black, and other inks.
    for name in ["cmyk.jpg", "ycck.jpg"] {
        let bare = std::fs::read(field(name)).unwrap();
        let mut bytes = bare[..2].to_vec();
        bytes.extend([0xff, 0xe2]);
        bytes.extend((icc.len() as u16 + 16).to_be_bytes());
        bytes.extend(b"ICC_PROFILE\0\x01\x01");
        bytes.extend(&icc);
        bytes.extend(&bare[2..]);
        std::fs::write(&path, bytes).unwrap();
        let (with, _) = read_picture_file(&path).unwrap();
        let [r, g, b, _] = with.get_pixel(5, 5).0;
        // Without the profile it has a colour.
        let [r0, g0, b0, _] = read(name).get_pixel(5, 5).0;
        let plain = [r0, g0, b0];
        let spread = plain.iter().max().unwrap() - plain.iter().min().unwrap();
        assert!(spread > 20, "{name}: {plain:?}");
        assert!(
            r.abs_diff(g) < 3 && g.abs_diff(b) < 3 && r > 225,
            "{name}: {r} {g} {b}"
        );
    }
}

#[test]
fn cameras_turn_pictures_by_a_note() {
    // 2 by 1: black, white; the note says that the top is on the right.
    let picture = RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
    let mut jpeg = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)
        .unwrap();
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("DSC0001.JPG");
    std::fs::write(&path, turned).unwrap();
    let (read, _) = read_picture_file(&path).unwrap();
    assert_eq!(read.dimensions(), (8, 16));
    assert!(read.get_pixel(4, 1).0[0] < 20 && read.get_pixel(4, 14).0[0] > 235);
    assert!(picture_endings().contains(&"JPG".to_owned()));
}

#[test]
fn a_picture_that_is_too_large_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.png");
    for (width, height) in [
        (30_000, 10),
        (15_000, 15_000),
        (2_000_000_000, 2_000_000_000),
    ] {
        // Its head says how large it is.
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        drop(encoder.write_header().unwrap());
        bytes.extend(b"\0\0\0\0IEND\xaeB`\x82");
        std::fs::write(&path, bytes).unwrap();
        let said = said(&path);
        assert!(said.contains("too large"), "{said}");
    }
}

#[test]
fn what_is_no_picture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.png");
    assert!(said(&path).contains("notes.png cannot be read"));
    std::fs::write(&path, "not a picture").unwrap();
    assert!(said(&path).contains("notes.png is not a PNG, JPEG or WebP"));
    assert!(said(dir.path()).contains("it is a folder"));
}
