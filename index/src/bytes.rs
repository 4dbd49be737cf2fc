//! Reading little-endian values from bytes that may be damaged.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The bytes end too early or say what cannot be; the caller knows which file or value they belong to.
#[derive(Debug)]
pub(crate) struct Malformed;

/// The values of little-endian f16.
pub(crate) fn halves(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|pair| f16::from_le_bytes(*pair).to_f32())
}

/// As [`halves`], into `values`: several at once on machines that can.
pub(crate) fn read_halves(bytes: &[u8], values: &mut Vec<f32>) {
    const BLOCK: usize = 64;
    let pairs = bytes.as_chunks().0;
    values.resize(pairs.len(), 0.0);
    let mut block = [f16::ZERO; BLOCK];
    for (pairs, values) in pairs.chunks(BLOCK).zip(values.chunks_mut(BLOCK)) {
        block.iter_mut().zip(pairs).for_each(|(half, pair)| *half = f16::from_le_bytes(*pair));
        block[..values.len()].convert_to_f32_slice(values);
    }
}

/// Appends values as little-endian f16.
pub(crate) fn put_halves(values: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
}

/// Takes values off the front of a byte slice.
pub(crate) struct ByteReader<'a>(pub &'a [u8]);

impl<'a> ByteReader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn bytes32(&mut self) -> Result<[u8; 32], Malformed> {
        self.array()
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn f32(&mut self) -> Result<f32, Malformed> {
        Ok(f32::from_le_bytes(self.array()?))
    }
}
