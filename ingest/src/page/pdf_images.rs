//! Images of a PDF that say they are too large: room for all their pixels is made before their data are looked at, and memory
//! that is refused ends the process.

use hayro_syntax::object::{Array, Dict, Object, Stream};
use hayro_syntax::{Filter, Pdf};

/// The most pixels of an image: a drawing of size A0 has half as many at 600 dots per inch.
const MOST_PIXELS: u64 = 1 << 30;
/// The width of a fax whose parameters do not say it.
const FAX_COLUMNS: u32 = 1728;

/// What is wrong with the first image of the file that is too large, on any page.
pub(super) fn oversized_in(pdf: &Pdf) -> Option<String> {
    pdf.objects().into_iter().find_map(|object| match object {
        Object::Stream(stream) => oversized(&stream),
        _ => None,
    })
}

/// What is wrong with an image that is too large; masks need not say that they are images, so any stream may be one.
pub(super) fn oversized(stream: &Stream<'_>) -> Option<String> {
    let dict = stream.dict();
    // Images within a page's content have short names.
    let number = |short: &str, long: &str| dict.get::<u32>(short).or_else(|| dict.get::<u32>(long));
    let (width, height) = (number("W", "Width")?, number("H", "Height")?);
    let is_fax = stream.filters().contains(&Filter::CcittFaxDecode);
    let width = if is_fax { width.max(fax_columns(dict)) } else { width };
    (u64::from(width) * u64::from(height) > MOST_PIXELS).then(|| {
        format!("an image says that it has {width} x {height} pixels, expected at most {MOST_PIXELS} pixels in all")
    })
}

/// The width that a fax is decoded at.
fn fax_columns(dict: &Dict<'_>) -> u32 {
    let columns = |parameters: Dict<'_>| parameters.get::<u32>("Columns");
    let of = |name: &str| {
        // Several filters have a list of parameters.
        let several = dict.get::<Array<'_>>(name).into_iter().flat_map(|all| all.iter::<Object<'_>>());
        dict.get::<Dict<'_>>(name).into_iter().chain(several.filter_map(Object::into_dict)).filter_map(columns).max()
    };
    of("DP").max(of("DecodeParms")).unwrap_or(FAX_COLUMNS)
}
