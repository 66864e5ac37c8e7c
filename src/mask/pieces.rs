//! Connected pieces of a region of pixels.

/// Returns the pixels of each connected piece. `inside` has the pixels of a picture in rows of `width`. Pixels that
/// share an edge are connected.
pub(crate) fn pieces(inside: Vec<bool>, width: usize) -> Vec<Vec<usize>> {
    label_pieces(inside.into_iter().map(|inside| inside.then_some(())).collect(), width)
}

/// Returns the pixels of each connected piece of one label. `labels` has the pixels of a picture in rows of `width`;
/// pixels without a label are in no piece. The time grows with the number of pixels alone.
pub(crate) fn label_pieces<T: Copy + PartialEq>(mut labels: Vec<Option<T>>, width: usize) -> Vec<Vec<usize>> {
    let (mut pieces, mut open) = (Vec::new(), Vec::new());
    for start in 0..labels.len() {
        let Some(label) = labels.get_mut(start).and_then(Option::take) else { continue };
        let mut take =
            |at: usize| labels.get_mut(at).is_some_and(|other| other.take_if(|other| *other == label).is_some());
        let mut piece = Vec::new();
        open.push(start);
        while let Some(at) = open.pop() {
            piece.push(at);
            open.extend(neighbors(at, width).filter(|at| take(*at)));
        }
        pieces.push(piece);
    }
    pieces
}

/// Returns the pixels that share an edge with a pixel, in rows of `width`. The pixel below may be beyond the last row.
pub(crate) fn neighbors(at: usize, width: usize) -> impl Iterator<Item = usize> {
    let left = (!at.is_multiple_of(width)).then(|| at - 1);
    let right = (!(at + 1).is_multiple_of(width)).then_some(at + 1);
    [left, right, at.checked_sub(width), Some(at + width)].into_iter().flatten()
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

    #[test]
    fn neighbors_with_other_labels_are_other_pieces() {
        let labels = "aabb.ab".chars().map(|label| (label != '.').then_some(label)).collect();
        assert_eq!(label_pieces(labels, 7), [vec![0, 1], vec![2, 3], vec![5], vec![6]]);
    }
}
