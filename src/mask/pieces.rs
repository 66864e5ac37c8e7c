//! Connected pieces of a region of pixels.

/// Returns the pixels of each connected piece. `inside` has the pixels of a picture in rows of `width`. Pixels that
/// share an edge are connected.
pub(crate) fn pieces(mut inside: Vec<bool>, width: usize) -> Vec<Vec<usize>> {
    let mut pieces = Vec::new();
    for start in 0..inside.len() {
        let (mut piece, mut open) = (Vec::new(), vec![start]);
        while let Some(at) = open.pop() {
            if !inside.get_mut(at).is_some_and(std::mem::take) {
                continue;
            }
            piece.push(at);
            open.extend((at % width > 0).then(|| at - 1));
            open.extend(((at + 1) % width > 0).then_some(at + 1));
            open.extend(at.checked_sub(width));
            open.push(at + width);
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
