//! The format of a file, told from its first bytes; its name does not matter.

/// A file format whose pages can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PDF: any number of pages, with a text layer.
    Pdf,
    /// PNG: one page.
    Png,
    /// JPEG: one page.
    Jpeg,
    /// WebP: one page (the first frame of an animation).
    WebP,
    /// TIFF: one page per full-resolution picture.
    Tiff,
}

/// Readers accept some bytes before a PDF's header.
const PDF_HEADER_WITHIN: usize = 1024;

impl Format {
    /// The format of a file that starts with `head` (1,024 bytes or more, where the file has them).
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ => {
                let head = &head[..head.len().min(PDF_HEADER_WITHIN)];
                head.windows(5).any(|bytes| bytes == b"%PDF-").then_some(Self::Pdf)
            }
        }
    }

    /// The format's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
        }
    }
}
