//! Reading little-endian values from bytes that may be damaged.

/// The bytes end too early; the caller knows which file or value they belong to.
#[derive(Debug)]
pub(crate) struct TooShort;

/// Takes values off the front of a byte slice.
pub(crate) struct ByteReader<'a>(pub &'a [u8]);

impl<'a> ByteReader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], TooShort> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TooShort> {
        self.take(N)?.try_into().map_err(|_| TooShort)
    }

    pub fn bytes32(&mut self) -> Result<[u8; 32], TooShort> {
        self.array()
    }

    pub fn u8(&mut self) -> Result<u8, TooShort> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, TooShort> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, TooShort> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, TooShort> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
