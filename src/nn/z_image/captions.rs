//! Numbers of tokens of the captions in a batch, and the rows that the network evaluates together.

use crate::branch::Branch;
use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Number of tokens to whose multiples learned tokens fill a caption and a picture.
pub(crate) const MULTIPLE: i64 = 32;

/// Returns the number of tokens of a stream with the learned tokens that fill it.
pub(super) const fn round_up(tokens: i64) -> i64 {
    (tokens + MULTIPLE - 1) / MULTIPLE * MULTIPLE
}

/// Returns the number of tokens of each caption of a context, [b, tokens, width]. Rows of zeros at the end are no
/// tokens: they make the contexts of a batch equally long.
pub(super) fn lengths(context: &Tensor) -> Result<Vec<i64>> {
    let tokens = context.size3()?.1;
    let places = Tensor::f_arange_start(1, tokens + 1, (Kind::Int64, context.device()))?;
    let is_token = context.f_ne(0.0)?.f_any_dim(2, false)?.f_to_kind(Kind::Int64)?;
    let last = is_token.f_mul(&places)?.f_amax([1i64], false)?;
    Ok(Vec::try_from(last.f_to_device(Device::Cpu)?)?)
}

/// Rows of a batch whose captions are equally long, with the learned tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Number of the caption's tokens, a multiple of [`MULTIPLE`].
    pub tokens: i64,
    pub rows: Vec<i64>,
    /// Branches that the rows belong to; none for a call without branches.
    pub branches: Vec<Branch>,
}

/// Divides the rows of a batch into groups by the `lengths` of their captions. A call with branches has the same number
/// of rows for each, one after the other, and a group has all rows of a branch. Branches stay in their order, because a
/// branch may read what a branch before it left, such as the colors of a reference.
///
/// # Errors
/// [`Error::Shape`] if captions of one branch belong to different groups.
pub(super) fn groups(lengths: &[i64], branches: &[Branch]) -> Result<Vec<Group>> {
    let rows = if branches.is_empty() { 1 } else { lengths.len().div_ceil(branches.len()) };
    let mut groups: Vec<Group> = Vec::new();
    for (unit, own) in lengths.chunks(rows.max(1)).enumerate() {
        let mut filled = own.iter().map(|length| round_up(*length).max(MULTIPLE));
        let tokens = filled.next().unwrap_or(MULTIPLE);
        if filled.any(|other| other != tokens) {
            let expected =
                format!("captions of one branch that are equally long when filled to multiples of {MULTIPLE}");
            return Err(Error::Shape { what: "the transformer's context", got: own.to_vec(), expected });
        }
        let first = (unit * rows) as i64;
        let (own, branch) = (first..first + own.len() as i64, branches.get(unit));
        match groups.last_mut().filter(|group| group.tokens == tokens) {
            Some(group) => {
                group.rows.extend(own);
                group.branches.extend(branch);
            }
            None => groups.push(Group { tokens, rows: own.collect(), branches: branch.copied().into_iter().collect() }),
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_zeros_at_the_end_are_no_tokens() -> Result<()> {
        let context = Tensor::ones([3, 5, 2], (Kind::Float, Device::Cpu));
        let _ = context.narrow(0, 0, 1).narrow(1, 3, 2).zero_();
        let _ = context.narrow(0, 1, 1).narrow(1, 1, 2).zero_(); // a word of weight 0 stays a token
        let _ = context.narrow(0, 2, 1).zero_();
        assert_eq!(lengths(&context)?, [3, 5, 0]);
        Ok(())
    }

    #[test]
    fn branches_of_equal_length_are_one_group() -> Result<()> {
        let branches = [Branch::Uncond, Branch::Cond, Branch::Extra(0)];
        let group = |(tokens, rows, branches): (_, &[i64], &[Branch])| Group {
            tokens,
            rows: rows.to_vec(),
            branches: branches.to_vec(),
        };
        let found = groups(&[9, 30, 1, 32, 33, 40], &branches)?;
        assert_eq!(found, [(32, &[0, 1, 2, 3][..], &branches[..2]), (64, &[4, 5], &branches[2..])].map(group));
        let found = groups(&[9, 33, 1], &branches)?;
        let want = [(32, &[0][..], &branches[..1]), (64, &[1], &branches[1..2]), (32, &[2], &branches[2..])];
        assert_eq!(found, want.map(group), "branches stay in their order");
        let alone = groups(&[0, 33], &[])?;
        assert_eq!(alone.iter().map(|group| group.tokens).collect::<Vec<_>>(), [32, 64]);
        let message = groups(&[9, 33], &branches[..1]).unwrap_err().to_string();
        assert!(message.contains("captions of one branch"), "{message}");
        Ok(())
    }
}
