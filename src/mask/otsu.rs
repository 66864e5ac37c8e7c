//! Otsu's threshold, which splits values into two groups.

/// Returns Otsu's threshold of values in 0..=1, and the share of the variance that is between the two groups.
///
/// Values are counted in 256 bins. The threshold is the upper edge of the bin that splits the values into two groups
/// with the largest variance between the groups. If several edges are equally good, the threshold is their mean.
///
/// Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979).
pub(crate) fn otsu(values: &[f64]) -> (f64, f64) {
    const BINS: usize = 256;
    let middle = |bin: usize| (bin as f64 + 0.5) / BINS as f64;
    let mut shares = vec![0.0; BINS];
    for value in values {
        if let Some(share) = shares.get_mut(((value * BINS as f64) as usize).min(BINS - 1)) {
            *share += 1.0 / values.len() as f64;
        }
    }
    let mean: f64 = shares.iter().enumerate().map(|(bin, share)| share * middle(bin)).sum();
    let total: f64 = shares.iter().enumerate().map(|(bin, share)| share * (middle(bin) - mean).powi(2)).sum();
    let (mut below, mut sum) = (0.0, 0.0);
    let between: Vec<f64> = shares
        .iter()
        .enumerate()
        .map(|(bin, share)| {
            below += share;
            sum += share * middle(bin);
            let spread = (mean * below - sum).powi(2) / (below * (1.0 - below));
            if spread.is_finite() { spread } else { 0.0 }
        })
        .collect();
    let most = between.iter().copied().fold(0.0, f64::max);
    let best: Vec<usize> =
        (0..BINS).filter(|bin| between.get(*bin).is_some_and(|here| *here >= most - 1e-15)).collect();
    let edge = best.iter().map(|bin| (bin + 1) as f64 / BINS as f64).sum::<f64>() / best.len().max(1) as f64;
    (edge, if total > 0.0 { most / total } else { 0.0 })
}
