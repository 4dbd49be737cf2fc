//! The bytes of one field value on their way from [`LateInteraction::add`](crate::LateInteraction::add) into a segment.
//!
//! ```text
//! "CQV" 1 | origin: tag u8, 32 bytes | dim u32 | tokens u32 | layout length u32 | layout | vectors, f16, tokens x dim
//! ```
//! All integers are little-endian.

use crate::bytes::{ByteReader, Malformed, put_halves};
use crate::{Fingerprint, Origin, PageLayout, PageVectors};

const MAGIC: [u8; 4] = *b"CQV\x01";

/// A field value, decoded but not copied.
pub(crate) struct FieldValue<'a> {
    pub origin: Origin,
    pub dim: usize,
    /// As written by [`encode_layout`]; empty where the page has none.
    pub layout: &'a [u8],
    /// f16, `tokens x dim`.
    pub vectors: &'a [u8],
}

impl<'a> FieldValue<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = ByteReader(bytes);
        if reader.take(4)? != MAGIC {
            return Err(Malformed);
        }
        let origin = decode_origin(&mut reader)?;
        let (dim, tokens) = (reader.u32()? as usize, reader.u32()? as usize);
        let layout_length = reader.u32()? as usize;
        let layout = reader.take(layout_length)?;
        let vectors = reader.0;
        if dim == 0 || tokens == 0 || tokens > crate::MAX_TOKENS || dim.checked_mul(tokens * 2) != Some(vectors.len()) {
            return Err(Malformed);
        }
        Ok(Self { origin, dim, layout, vectors })
    }
}

pub(crate) fn encode_value(page: &PageVectors) -> Vec<u8> {
    let vectors = &page.vectors;
    let layout = page.layout.as_ref().map(encode_layout).unwrap_or_default();
    let mut bytes = Vec::with_capacity(49 + layout.len() + vectors.values().len() * 2);
    bytes.extend_from_slice(&MAGIC);
    encode_origin(page.origin, &mut bytes);
    for length in [vectors.dim(), vectors.tokens(), layout.len()] {
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
    }
    bytes.extend_from_slice(&layout);
    put_halves(vectors.values(), &mut bytes);
    bytes
}

pub(crate) fn encode_origin(origin: Origin, bytes: &mut Vec<u8>) {
    bytes.push(u8::from(origin.fingerprint().is_some()));
    bytes.extend_from_slice(origin.fingerprint().unwrap_or(Fingerprint::from_bytes([0; 32])).as_bytes());
}

pub(crate) fn decode_origin(reader: &mut ByteReader<'_>) -> Result<Origin, Malformed> {
    let (known, fingerprint) = (reader.u8()?, reader.bytes32()?);
    match known {
        0 => Ok(Origin::Unknown),
        1 => Ok(Origin::Model(Fingerprint::from_bytes(fingerprint))),
        _ => Err(Malformed),
    }
}

/// width u32 | height u32 | grid rows u16 | grid cols u16 | first patch u16 | pooled u8 | per token: length u16, patches u16
fn encode_layout(layout: &PageLayout) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(15);
    bytes.extend_from_slice(&layout.width.to_le_bytes());
    bytes.extend_from_slice(&layout.height.to_le_bytes());
    for value in [layout.grid_rows, layout.grid_cols, layout.first_patch] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.push(u8::from(layout.token_patches.is_some()));
    for patches in layout.token_patches.iter().flatten() {
        // Longer lists are refused where layouts are checked.
        bytes.extend_from_slice(&(patches.len() as u16).to_le_bytes());
        bytes.extend(patches.iter().flat_map(|patch| patch.to_le_bytes()));
    }
    bytes
}

/// The reverse of [`encode_layout`]; `None` for no bytes.
pub(crate) fn decode_layout(bytes: &[u8], tokens: usize) -> Result<Option<PageLayout>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = ByteReader(bytes);
    let mut layout = PageLayout {
        width: reader.u32()?,
        height: reader.u32()?,
        grid_rows: reader.u16()?,
        grid_cols: reader.u16()?,
        first_patch: reader.u16()?,
        token_patches: None,
    };
    if reader.u8()? == 1 {
        let mut lists = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            let length = reader.u16()?;
            lists.push((0..length).map(|_| reader.u16()).collect::<Result<_, _>>()?);
        }
        layout.token_patches = Some(lists);
    }
    layout.check(tokens).map_err(|_| Malformed)?;
    Ok(Some(layout))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::{MultiVector, UnitLength};

    fn page() -> PageVectors {
        let vectors = MultiVector::try_new(2, vec![1.0, 0.0, 0.0, 1.0, 0.5, -0.5], UnitLength::Any).unwrap();
        PageVectors::new(vectors).with_origin(Origin::Model(Fingerprint::from_bytes([7; 32])))
    }

    #[test]
    fn values_round_trip() {
        let pooled = PageLayout {
            width: 56,
            height: 56,
            grid_rows: 2,
            grid_cols: 2,
            first_patch: 0,
            token_patches: Some(vec![vec![0, 1], vec![], vec![3]]),
        };
        for layout in [None, Some(PageLayout { token_patches: None, grid_cols: 1, ..pooled.clone() }), Some(pooled)] {
            let page = match layout.clone() {
                Some(layout) => page().with_layout(layout).unwrap(),
                None => page(),
            };
            let bytes = encode_value(&page);
            let value = FieldValue::decode(&bytes).unwrap();
            assert_eq!((value.origin, value.dim, value.vectors.len()), (page.origin, 2, 12));
            assert_eq!(decode_layout(value.layout, 3).unwrap(), layout);
            assert_eq!(value.vectors[..2], f16::from_f32(1.0).to_le_bytes());
        }
    }

    #[test]
    fn damaged_values_are_refused_at_every_length() {
        let bytes = encode_value(&page());
        for length in 0..bytes.len() {
            assert!(FieldValue::decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        assert!(FieldValue::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
