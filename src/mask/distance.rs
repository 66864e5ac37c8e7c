//! Distances of a grid's cells from marked cells.

use crate::step::Grid;

/// Returns the Euclidean distance of each cell from the nearest marked cell, in cells and row by row; infinity if no
/// cell is marked. The time grows with the number of cells alone.
///
/// Source: Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions" (2012).
pub(crate) fn distances(marked: &[bool], grid: Grid) -> Vec<f64> {
    let (h, w) = (grid.h as usize, grid.w as usize);
    let mut squares: Vec<f64> = marked.iter().map(|marked| if *marked { 0.0 } else { f64::INFINITY }).collect();
    for x in 0..w {
        let column: Vec<f64> = squares.iter().skip(x).step_by(w).copied().collect();
        squares.iter_mut().skip(x).step_by(w).zip(envelope(&column)).for_each(|(square, least)| *square = least);
    }
    for row in squares.chunks_mut(w.max(1)).take(h) {
        let least = envelope(row);
        row.copy_from_slice(&least);
    }
    squares.into_iter().map(f64::sqrt).collect()
}

/// Returns the least of (x − k)² + f(k) over all k, for each x: the lower envelope of parabolas.
fn envelope(f: &[f64]) -> Vec<f64> {
    let at = |k: usize| f.get(k).copied().unwrap_or(f64::INFINITY);
    // Parabolas of the envelope from left to right: the place of each, and the x from which it is the lowest.
    let mut parabolas: Vec<(usize, f64)> = Vec::new();
    for k in (0..f.len()).filter(|k| at(*k).is_finite()) {
        let mut from = f64::NEG_INFINITY;
        while let Some(&(other, start)) = parabolas.last() {
            let squares = |k: usize| at(k) + (k * k) as f64;
            from = (squares(k) - squares(other)) / (2 * (k - other)) as f64;
            if from > start {
                break;
            }
            parabolas.pop();
            from = f64::NEG_INFINITY;
        }
        parabolas.push((k, from));
    }
    let mut parabolas = parabolas.into_iter().peekable();
    let mut lowest = None;
    let least = |x: usize| {
        while let Some(next) = parabolas.next_if(|(_, from)| *from <= x as f64) {
            lowest = Some(next.0);
        }
        lowest.map_or(f64::INFINITY, |k| at(k) + x.abs_diff(k).pow(2) as f64)
    };
    (0..f.len()).map(least).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_equal_the_least_over_all_cells() {
        let grid = Grid::new(9, 13);
        for rarity in [1, 3, 40, 200] {
            let marked: Vec<bool> = (0..grid.cells()).map(|cell| (cell * cell + 7) % rarity == 0).collect();
            let place = |cell: usize| ((cell / 13) as f64, (cell % 13) as f64);
            for (cell, found) in distances(&marked, grid).into_iter().enumerate() {
                let all = (0..marked.len()).filter(|other| marked[*other]).map(|other| {
                    let ((y, x), (v, u)) = (place(cell), place(other));
                    (y - v).hypot(x - u)
                });
                assert_eq!(found, all.fold(f64::INFINITY, f64::min), "1 in {rarity}, cell {cell}");
            }
        }
    }
}
