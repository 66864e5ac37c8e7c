//! Connected pieces of a region of pixels.

/// Returns the pixels of each connected piece. `inside` has the pixels of a picture in rows of `width`. Pixels that
/// share an edge are connected.
pub(crate) fn pieces(mut inside: Vec<bool>, width: usize) -> Vec<Vec<usize>> {
    let (mut pieces, mut open) = (Vec::new(), Vec::new());
    let count = inside.len();
    let mut take = |at: usize| inside.get_mut(at).is_some_and(std::mem::take);
    for start in 0..count {
        let mut piece = Vec::new();
        open.extend(take(start).then_some(start));
        while let Some(at) = open.pop() {
            piece.push(at);
            let left = (at % width > 0).then(|| at - 1);
            let right = ((at + 1) % width > 0).then_some(at + 1);
            let near = [left, right, at.checked_sub(width), Some(at + width)];
            open.extend(near.into_iter().flatten().filter(|at| take(*at)));
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_share_an_edge_are_one_piece() {
        let rows = ["11..001", "11..100", ".......", "1......"];
        let inside = rows.iter().flat_map(|row| row.chars()).map(|at| at != '.').collect();
        let sizes: Vec<usize> = pieces(inside, 7).iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 6, 1]);
    }
}
