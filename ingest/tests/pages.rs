//! Pages of PDFs and pictures: what is read, and what is said about files that cannot be.

#![cfg(feature = "encode")]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::page::{Document, Format, Page, PageError, PixelBudget, TextLayer};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

/// A PDF with one page per content stream, in Helvetica (`/F1`); `page` is added to each page's dictionary.
fn pdf(page: &str, contents: &[&str]) -> Vec<u8> {
    pdf_with(page, contents, &[])
}

/// As [`pdf`], with further objects.
fn pdf_with(page: &str, contents: &[&str], further: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..contents.len()).map(|index| format!("{} 0 R", 4 + 2 * index)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} /MediaBox [0 0 400 200] >>", kids.join(" "), kids.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (index, content) in contents.iter().enumerate() {
        let stream = 5 + 2 * index;
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /Contents {stream} 0 R /Resources << /Font << /F1 3 0 R >> >> {page} >>"
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    objects.extend(further.iter().map(|object| (*object).to_owned()));
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.extend(format!("{} 0 obj\n{object}\nendobj\n", index + 1).bytes());
    }
    let xref = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).bytes());
    offsets.iter().for_each(|offset| file.extend(format!("{offset:010} 00000 n \n").bytes()));
    let trailer = format!("trailer << /Size {} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n", offsets.len() + 1);
    file.extend(trailer.bytes());
    file
}

fn page_of(bytes: Vec<u8>) -> Page {
    Document::from_bytes("made.pdf", bytes).unwrap().page(1, &PixelBudget::default()).unwrap()
}

fn layer_of(content: &str) -> TextLayer {
    page_of(pdf("", &[content])).text.unwrap()
}

fn text_of(content: &str) -> String {
    layer_of(content).text()
}

fn error_of(bytes: &[u8]) -> PageError {
    let error = Document::from_bytes("folder/odd.pdf", bytes.to_vec()).unwrap_err();
    assert!(error.to_string().starts_with("folder/odd.pdf: "), "{error}");
    assert_eq!(error.path(), Path::new("folder/odd.pdf"));
    error
}

fn sample(name: &str) -> Document {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data").join(name);
    Document::open(path).unwrap()
}

#[test]
fn documents_can_move_to_a_worker() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Document>();
    is_sync::<Document>();
    is_send::<Page>();
    is_send::<PageError>();
}

#[test]
fn words_and_lines() {
    let text = text_of("BT /F1 12 Tf 20 150 Td (A first line) Tj 0 -16 Td (and a second.) Tj ET");
    assert_eq!(text, "A first line\nand a second.");
}

#[test]
fn gaps_without_blanks_part_words() {
    assert_eq!(text_of("BT /F1 12 Tf 20 150 Td [(two) -300 (words) 40 (kern) -60 (ed)] TJ ET"), "two wordskerned");
}

#[test]
fn lines_drawn_bottom_up_are_read_top_down() {
    assert_eq!(text_of("BT /F1 12 Tf 20 100 Td (below) Tj 0 40 Td (above) Tj ET"), "above\nbelow");
}

#[test]
fn dot_leaders_are_left_out() {
    assert_eq!(
        text_of("BT /F1 12 Tf 20 150 Td (Contents . . . . . . . . . . 7) Tj 0 -16 Td (and so on . . .) Tj ET"),
        "Contents 7\nand so on . . ."
    );
}

#[test]
fn line_end_hyphens_are_joined_and_both_places_kept() {
    let layer = layer_of("BT /F1 12 Tf 20 150 Td (more infor-) Tj 0 -16 Td (mation here) Tj ET");
    assert_eq!(layer.text(), "more information\nhere");
    let word = &layer.words[1];
    let second = word.continuation.unwrap();
    assert!(second.y0 > word.bbox.y0 && second.x0 < word.bbox.x0, "{word:?}");
}

#[test]
fn exponents_stay_with_their_base() {
    assert_eq!(
        text_of("BT /F1 12 Tf 20 150 Td (area m) Tj /F1 8 Tf 4 Ts (2) Tj 0 Ts /F1 12 Tf ( more) Tj ET"),
        "area m2 more"
    );
}

#[test]
fn text_drawn_twice_counts_once() {
    assert_eq!(text_of("BT /F1 12 Tf 20 150 Td (bold) Tj ET BT /F1 12 Tf 20.4 150 Td (bold) Tj ET"), "bold");
    assert_eq!(text_of("BT 2 Tr /F1 12 Tf 20 150 Td (outlined) Tj ET"), "outlined");
}

#[test]
fn invisible_text_counts_only_where_nothing_is_seen() {
    let seen = "BT /F1 12 Tf 20 150 Td (seen words) Tj ET ";
    let copy = "BT 3 Tr /F1 12 Tf 21 149 Td (seen vvords) Tj 0 -60 Td (scanned) Tj ET";
    assert_eq!(text_of(&format!("{seen}{copy}")), "seen words\nscanned");
    assert_eq!(text_of(copy), "seen vvords\nscanned");
}

#[test]
fn actual_text_replaces_what_is_drawn() {
    let content = "BT /F1 12 Tf 20 150 Td (the ) Tj /Span << /ActualText (office) >> BDC (0ff1ce) Tj EMC ( door) Tj ET";
    assert_eq!(text_of(content), "the office door");
}

#[test]
fn boxes_are_fractions_of_the_page_as_displayed() {
    // 12 point text with its baseline 50 points under the top of a page of 400 x 200 points.
    let bbox = layer_of("BT /F1 12 Tf 100 150 Td (here) Tj ET").words[0].bbox;
    assert!((bbox.x0 - 0.25).abs() < 0.005 && bbox.y0 > 0.19 && bbox.y1 < 0.27, "{bbox:?}");
    // Turned by a quarter, left becomes top.
    let page = page_of(pdf("/Rotate 90", &["BT /F1 12 Tf 100 150 Td (here) Tj ET"]));
    let bbox = page.text.as_ref().unwrap().words[0].bbox;
    assert_eq!(page.size_points, Some([200.0, 400.0]));
    assert!((bbox.y0 - 0.25).abs() < 0.005 && bbox.x0 > 0.7 && bbox.x1 < 0.8, "{bbox:?}");
}

#[test]
fn the_crop_box_cuts_picture_and_text() {
    let content = "0 0 1 rg 200 0 200 200 re f BT 1 0 0 rg /F1 12 Tf 20 100 Td (outside) Tj 200 0 Td (inside) Tj ET";
    let page = page_of(pdf("/CropBox [200 0 400 200]", &[content]));
    assert_eq!(page.size_points, Some([200.0, 200.0]));
    assert_eq!(page.text.unwrap().text(), "inside");
    assert_eq!(page.image.dimensions(), (756, 756));
    assert_eq!(page.image.get_pixel(5, 5), &Rgb([0, 0, 255]));
}

#[test]
fn pages_are_rendered_on_white_at_the_budget() {
    let page = page_of(pdf("", &["1 0 0 rg 0 0 200 200 re f"]));
    let (width, height) = page.image.dimensions();
    assert_eq!((width % 28, height % 28), (0, 0));
    assert!(width * height <= 768 * 784 && width * height > 700 * 784, "{width} x {height}");
    assert_eq!(page.image.get_pixel(10, 10), &Rgb([255, 0, 0]));
    assert_eq!(page.image.get_pixel(width - 1, height - 1), &Rgb([255, 255, 255]));
}

#[test]
fn a_page_without_content_is_white_and_wordless() {
    let page = page_of(pdf("", &[""]));
    assert!(page.image.pixels().all(|pixel| pixel == &Rgb([255, 255, 255])));
    assert!(page.text.unwrap().is_empty());
}

#[test]
fn pages_count_from_one() {
    let pages = pdf("", &["BT /F1 12 Tf 20 150 Td (one) Tj ET", "BT /F1 12 Tf 20 150 Td (two) Tj ET"]);
    let document = Document::from_bytes("made.pdf", pages.clone()).unwrap();
    assert_eq!(document.page_count(), 2);
    assert_eq!(document.format(), Format::Pdf);
    assert_eq!(document.content_hash(), *blake3::hash(&pages).as_bytes());
    let mut reader = document.reader();
    let texts: Vec<String> =
        reader.pages(PixelBudget::default()).map(|page| page.unwrap().text.unwrap().text()).collect();
    assert_eq!(texts, ["one", "two"]);
    for number in [0, 3] {
        let error = reader.page(number, &PixelBudget::default()).unwrap_err();
        assert!(matches!(error, PageError::PageOutOfRange { page_count: 2, .. }), "{error}");
    }
}

#[test]
fn broken_pdfs_are_told_apart() {
    assert!(matches!(error_of(b""), PageError::Empty { .. }));
    assert!(matches!(error_of(b"<html>not found</html>"), PageError::UnknownFormat { .. }));
    assert!(matches!(error_of(b"%PDF-1.7\nnothing else\n%%EOF"), PageError::Damaged { .. }));
    assert!(matches!(error_of(&pdf("", &[])), PageError::NoPages { .. }));
    assert!(matches!(error_of(include_bytes!("data/encrypted.pdf")), PageError::Encrypted { .. }));
    let whole = pdf("", &["BT /F1 12 Tf 20 150 Td (one) Tj ET"]);
    for end in [20, whole.len() / 3, whole.len() / 2, whole.len() - 60] {
        let error = error_of(&whole[..end]);
        assert!(matches!(error, PageError::Truncated { .. }), "{end} of {} bytes: {error}", whole.len());
    }
}

#[test]
fn images_of_a_pdf_that_say_they_are_huge_are_refused() {
    let image = |size: &str| {
        let image =
            format!("<< /Type /XObject /Subtype /Image {size} /BitsPerComponent 1 /Length 1 >>\nstream\nx\nendstream");
        pdf_with("", &[""], &[&image])
    };
    let message = |size: &str| format!("an image says that it has {size} pixels, expected at most 1073741824");
    for (dictionary, size) in [
        ("/Width 1000000 /Height 1000000", "1000000 x 1000000"),
        // Faxes have a width of their own, and are that wide if nothing is said.
        ("/Width 8 /Height 1000000 /Filter /CCITTFaxDecode /DecodeParms << /Columns 1000000 >>", "1000000 x 1000000"),
        (
            "/Width 8 /Height 1000000 /Filter [/FlateDecode /CCITTFaxDecode] /DecodeParms [null << /Columns 9000 >>]",
            "9000 x 1000000",
        ),
        ("/Width 8 /Height 1000000 /Filter /CCITTFaxDecode", "1728 x 1000000"),
    ] {
        let error = error_of(&image(dictionary));
        assert!(matches!(error, PageError::Damaged { .. }) && error.to_string().contains(&message(size)), "{error}");
    }
    assert!(Document::from_bytes("made.pdf", image("/Width 30000 /Height 30000")).is_ok());
    // One within the content is known when its page is read; the other page is fine.
    let inline = "q 400 0 0 200 0 0 cm BI /W 1000000 /H 1000000 /BPC 8 /CS /G ID x EI Q";
    let document = Document::from_bytes("made.pdf", pdf("", &[inline, ""])).unwrap();
    let mut reader = document.reader();
    let error = reader.page(1, &PixelBudget::default()).unwrap_err();
    assert!(matches!(error, PageError::Interpreter { page: 1, .. }), "{error}");
    assert!(error.to_string().contains(&message("1000000 x 1000000")), "{error}");
    assert!(reader.page(2, &PixelBudget::default()).is_ok());
}

#[test]
fn encryption_without_a_password_is_no_obstacle() {
    let page = page_of(include_bytes!("data/restricted.pdf").to_vec());
    assert_eq!(page.size_points, Some([200.0, 100.0]));
}

#[test]
fn a_missing_file_is_named() {
    let error = Document::open("no/such/file.pdf").unwrap_err();
    assert!(matches!(error, PageError::Io { .. }));
    assert!(error.to_string().starts_with("no/such/file.pdf: "), "{error}");
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = std::fs::read(sample("glow-worm-note.pdf").path()).unwrap();
    let budget = PixelBudget { max_pixels: 16 * 784, ..PixelBudget::default() };
    // A small generator of pseudo-random numbers, so that failures come again.
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random(20) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if let Ok(document) = Document::from_bytes("odd.pdf", bytes) {
            let _ = document.page(1, &budget);
        }
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Left half black, right half white, 64 x 32 pixels.
fn halves() -> RgbImage {
    RgbImage::from_fn(64, 32, |x, _| if x < 32 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) })
}

#[test]
fn pictures_are_pages_whatever_their_name() {
    for (format, expected) in [
        (ImageFormat::Png, Format::Png),
        (ImageFormat::Jpeg, Format::Jpeg),
        (ImageFormat::WebP, Format::WebP),
        (ImageFormat::Tiff, Format::Tiff),
    ] {
        let document = Document::from_bytes("scan.dat", encoded(&halves().into(), format)).unwrap();
        assert_eq!((document.format(), document.page_count()), (expected, 1));
        let page = document.page(1, &PixelBudget::default()).unwrap();
        assert_eq!(page.image.dimensions(), (64, 32));
        assert!(page.text.is_none() && page.size_points.is_none());
        assert!(page.image.get_pixel(8, 8).0[0] < 8 && page.image.get_pixel(56, 8).0[0] > 247, "{format:?}");
    }
}

#[test]
fn transparency_shows_white_paper() {
    let image = RgbaImage::from_fn(2, 1, |x, _| if x == 0 { Rgba([9, 9, 9, 0]) } else { Rgba([0, 0, 0, 128]) });
    let document = Document::from_bytes("clear.png", encoded(&image.into(), ImageFormat::Png)).unwrap();
    let page = document.page(1, &PixelBudget::default()).unwrap();
    assert_eq!(page.image.as_raw()[..], [255, 255, 255, 127, 127, 127]);
}

#[test]
fn photographs_are_turned_upright() {
    // An EXIF block that says: the top of the scene is at the right.
    let exif = b"\xFF\xE1\x00\x22Exif\0\0II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut bytes = encoded(&halves().into(), ImageFormat::Jpeg);
    bytes.splice(2..2, exif.iter().copied());
    let page = Document::from_bytes("photo.jpg", bytes).unwrap().page(1, &PixelBudget::default()).unwrap();
    assert_eq!(page.image.dimensions(), (32, 64));
    assert!(page.image.get_pixel(16, 8).0[0] < 8 && page.image.get_pixel(16, 56).0[0] > 247);
}

#[test]
fn a_picture_that_says_it_is_huge_is_refused_before_there_is_room_for_it() {
    let mut bytes = encoded(&halves().into(), ImageFormat::Jpeg);
    // Height and width in the frame header: 65,535 each.
    let header = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    bytes[header + 5..header + 9].fill(0xFF);
    let error = Document::from_bytes("huge.jpg", bytes).unwrap().page(1, &PixelBudget::default()).unwrap_err();
    assert!(
        matches!(&error, PageError::Image { source: image::ImageError::Limits(_), .. }),
        "huge.jpg: expected a limit: {error}"
    );
}

/// Appends the directory of `next` to the chain of the TIFF `first`; both little-endian.
fn chained(first: &[u8], next: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let short = |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let mut file = first.to_vec();
    file.resize(first.len().next_multiple_of(4), 0);
    let base = file.len();
    file.extend_from_slice(next);
    let directory = number(next, 4);
    for entry in 0..short(next, directory) {
        let at = directory + 2 + 12 * entry;
        let size = [0, 1, 1, 2, 4, 8][short(next, at + 2).min(5)] * number(next, at + 4);
        // Offsets of strips and of values that do not fit their entry.
        if size > 4 || short(next, at) == 273 {
            let moved = (number(next, at + 8) + base) as u32;
            file[base + at + 8..base + at + 12].copy_from_slice(&moved.to_le_bytes());
        }
    }
    let end = number(first, 4);
    let link = end + 2 + 12 * short(first, end);
    file[link..link + 4].copy_from_slice(&((directory + base) as u32).to_le_bytes());
    file
}

#[test]
fn every_picture_of_a_tiff_is_a_page() {
    let first = encoded(&halves().into(), ImageFormat::Tiff);
    let second = encoded(&RgbImage::from_pixel(10, 20, Rgb([1, 2, 3])).into(), ImageFormat::Tiff);
    let document = Document::from_bytes("fax.tif", chained(&first, &second)).unwrap();
    assert_eq!(document.page_count(), 2);
    let mut reader = document.reader();
    assert_eq!(reader.page(1, &PixelBudget::default()).unwrap().image, halves());
    let page = reader.page(2, &PixelBudget::default()).unwrap();
    assert_eq!((page.number, page.image.dimensions()), (2, (10, 20)));
    assert_eq!(page.image.get_pixel(9, 19), &Rgb([1, 2, 3]));
}

#[test]
fn a_cut_off_picture_is_an_error_of_its_page() {
    let whole = encoded(&halves().into(), ImageFormat::Png);
    let result = Document::from_bytes("cut.png", whole[..60].to_vec())
        .and_then(|document| document.page(1, &PixelBudget::default()));
    let error = result.unwrap_err();
    assert!(matches!(error, PageError::Image { page: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("cut.png: page 1: "), "{error}");
}
