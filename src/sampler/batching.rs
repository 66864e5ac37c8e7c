//! [`Batching`]: sharing of a forward pass by branches and images.

use serde::{Deserialize, Serialize};

/// Sharing of a forward pass by branches and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Batching {
    /// Everything in one batch, which is fastest.
    #[default]
    Together,
    /// One branch of one image at a time, which needs the least memory. Image i of a batch then equals, bit for bit,
    /// the same image generated alone with all seeds higher by i.
    OneByOne,
}

impl Batching {
    /// Returns the number of branches and of images of one call, for `branches` branches of `images` images in calls of
    /// at most `most` rows. A row is a branch of an image.
    pub(super) fn of_a_call(self, branches: usize, images: usize, most: usize) -> (usize, usize) {
        match self {
            Self::OneByOne => (1, 1),
            Self::Together => {
                let branches = branches.clamp(1, most.max(1));
                (branches, images.clamp(1, (most / branches).max(1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_keep_branches_together_within_the_limit() {
        let together = |branches, images, most| Batching::Together.of_a_call(branches, images, most);
        assert_eq!(together(3, 4, usize::MAX), (3, 4));
        assert_eq!((together(3, 4, 7), together(3, 4, 3), together(3, 4, 2)), ((3, 2), (3, 1), (2, 1)));
        assert_eq!((together(3, 4, 0), Batching::OneByOne.of_a_call(3, 4, 9)), ((1, 1), (1, 1)));
    }
}
