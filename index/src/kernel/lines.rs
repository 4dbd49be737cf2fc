//! Values that begin where a line of the cache does, so that few loads touch two lines.

/// Bytes of a line, and of the widest register.
const LINE: usize = 64;

/// A growing row of numbers.
#[derive(Debug, Default)]
pub(crate) struct Lines<T> {
    room: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Copy + Default> Lines<T> {
    /// `length` zeros.
    pub fn new(length: usize) -> Self {
        let mut lines = Self { room: Vec::new(), start: 0, length: 0 };
        lines.resize(length);
        lines
    }

    /// Makes room for `length` values, which may be any.
    pub fn resize(&mut self, length: usize) {
        let spare = LINE / size_of::<T>();
        if self.room.len() < length + spare {
            self.room = vec![T::default(); length + spare];
            // What cannot be aligned is only slower.
            self.start = self.room.as_ptr().align_offset(LINE).min(spare);
        }
        self.length = length;
    }

    pub fn values(&self) -> &[T] {
        &self.room[self.start..][..self.length]
    }

    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.room[self.start..][..self.length]
    }
}
