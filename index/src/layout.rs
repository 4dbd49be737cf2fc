//! Where a page's tokens lie on the page image.

use crate::Error;

/// The grid of merged patches that a page's image tokens stand for.
///
/// Tokens `first_patch .. first_patch + rows x cols` are the patches, row by row; the tokens before and after belong
/// to the prompt. When tokens were pooled, `token_patches` names the patches of every token instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageLayout {
    /// Width of the image the model saw, in pixels.
    pub width: u32,
    /// Height of the image the model saw, in pixels.
    pub height: u32,
    /// Rows of merged patches.
    pub grid_rows: u16,
    /// Columns of merged patches.
    pub grid_cols: u16,
    /// Index of the first image token.
    pub first_patch: u16,
    /// For pooled tokens: the patches (row-major indices into the grid) that each token stands for, possibly none.
    pub token_patches: Option<Vec<Vec<u16>>>,
}

/// A rectangle in pixels of the image the model saw: left, top, right, bottom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PatchBox {
    /// Patch index, row-major in the grid.
    pub patch: u16,
    /// First pixel column.
    pub left: u32,
    /// First pixel row.
    pub top: u32,
    /// One past the last pixel column.
    pub right: u32,
    /// One past the last pixel row.
    pub bottom: u32,
}

impl PageLayout {
    /// Number of patches in the grid.
    pub fn patches(&self) -> usize {
        usize::from(self.grid_rows) * usize::from(self.grid_cols)
    }

    pub(crate) fn check(&self, tokens: usize) -> Result<(), Error> {
        let problem = match &self.token_patches {
            None if usize::from(self.first_patch) + self.patches() > tokens => Some(format!(
                "a grid of {} x {} patches from token {} on needs more tokens than the page's {tokens}",
                self.grid_rows, self.grid_cols, self.first_patch
            )),
            Some(lists) if lists.len() != tokens => {
                Some(format!("token_patches has {} lists for {tokens} tokens", lists.len()))
            }
            Some(lists) => lists.iter().enumerate().find_map(|(token, patches)| self.list_problem(token, patches)),
            None => None,
        };
        problem.map_or(Ok(()), |problem| Err(Error::Layout { problem }))
    }

    /// What is wrong with the patches of one pooled token.
    fn list_problem(&self, token: usize, patches: &[u16]) -> Option<String> {
        let (rows, columns) = (self.grid_rows, self.grid_cols);
        // Each patch once; and lengths are stored as u16.
        let most = self.patches().min(usize::from(u16::MAX));
        if patches.len() > most {
            let received = patches.len();
            return Some(format!(
                "token_patches of token {token} names {received} patches, a grid of {rows} x {columns} has at most {most}"
            ));
        }
        let outside = patches.iter().find(|patch| usize::from(**patch) >= self.patches())?;
        Some(format!("token_patches names patch {outside} of a grid of {rows} x {columns}"))
    }

    /// The patches that `token` stands for: one for an image token, none for a prompt token, any number when pooled.
    pub fn patches_of(&self, token: usize) -> Vec<PatchBox> {
        match &self.token_patches {
            Some(lists) => {
                let patches = lists.get(token).into_iter().flatten();
                // Of a layout that nobody has checked, names of patches outside the grid mean nothing.
                let inside = patches.filter(|patch| usize::from(**patch) < self.patches());
                inside.map(|patch| self.patch_box(*patch)).collect()
            }
            None => token
                .checked_sub(usize::from(self.first_patch))
                .filter(|patch| *patch < self.patches())
                .and_then(|patch| u16::try_from(patch).ok())
                .map(|patch| self.patch_box(patch))
                .into_iter()
                .collect(),
        }
    }

    fn patch_box(&self, patch: u16) -> PatchBox {
        let (rows, cols) = (u32::from(self.grid_rows), u32::from(self.grid_cols));
        let (row, col) = (u32::from(patch) / cols, u32::from(patch) % cols);
        let edge = |pixels: u32, at: u32, of: u32| (u64::from(pixels) * u64::from(at) / u64::from(of)) as u32;
        PatchBox {
            patch,
            left: edge(self.width, col, cols),
            top: edge(self.height, row, rows),
            right: edge(self.width, col + 1, cols),
            bottom: edge(self.height, row + 1, rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> PageLayout {
        PageLayout { width: 84, height: 56, grid_rows: 2, grid_cols: 3, first_patch: 4, token_patches: None }
    }

    #[test]
    fn image_tokens_have_boxes_and_prompt_tokens_none() {
        assert!(layout().patches_of(3).is_empty() && layout().patches_of(10).is_empty());
        let last = layout().patches_of(9)[0];
        assert_eq!((last.patch, last.left, last.top, last.right, last.bottom), (5, 56, 28, 84, 56));
    }

    #[test]
    fn pooled_tokens_name_their_patches() {
        let pooled = PageLayout { token_patches: Some(vec![vec![], vec![0, 5]]), ..layout() };
        pooled.check(2).unwrap();
        assert_eq!(pooled.patches_of(1).iter().map(|at| at.patch).collect::<Vec<_>>(), [0, 5]);
        assert!(pooled.check(3).is_err());
        let outside = PageLayout { token_patches: Some(vec![vec![6]]), ..layout() };
        assert!(outside.check(1).unwrap_err().to_string().contains("patch 6"));
    }

    #[test]
    fn lists_longer_than_the_grid_are_refused() {
        let pooled = |grid_rows, grid_cols, patches: usize| {
            let token_patches = Some(vec![vec![0; patches]]);
            PageLayout { grid_rows, grid_cols, token_patches, ..layout() }.check(1).map_err(|error| error.to_string())
        };
        assert_eq!(pooled(2, 3, 6), Ok(()));
        assert!(pooled(2, 3, 7).unwrap_err().contains("names 7 patches, a grid of 2 x 3 has at most 6"));
        // As u16 the length would be 0.
        assert_eq!(pooled(256, 256, 65_535), Ok(()));
        assert!(pooled(256, 256, 65_536).unwrap_err().contains("at most 65535"));
    }

    #[test]
    fn a_grid_without_patches_has_no_boxes() {
        for (grid_rows, grid_cols) in [(0, 3), (2, 0), (0, 0)] {
            let token_patches = Some(vec![vec![0]]);
            let unchecked = PageLayout { grid_rows, grid_cols, token_patches, ..layout() };
            assert!(unchecked.patches_of(0).is_empty() && unchecked.check(1).is_err());
        }
    }

    #[test]
    fn a_grid_larger_than_the_page_is_refused() {
        assert!(layout().check(10).is_ok() && layout().check(9).is_err());
    }
}
