//! Statistics of the times of several rounds.

/// Returns the median; of an even count, the upper of the two middle values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the 95 % interval of the median under resampling.
pub fn bootstrap(values: &[f64]) -> (f64, f64) {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values[(state >> 33) as usize % values.len()]
    };
    let mut medians: Vec<f64> = (0..2000).map(|_| median((0..values.len()).map(|_| draw()).collect())).collect();
    medians.sort_by(f64::total_cmp);
    (medians[50], medians[1949])
}
