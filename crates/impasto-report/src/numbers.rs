//! Numbers and times as readable text.

use impasto::guidance::Curve;
use std::time::Duration;

/// Formats a time for reading, such as `1.3 s` or `2 min 0 s`.
pub fn lasted(time: Duration) -> String {
    match time.as_secs_f64() {
        long if long.round() >= 60.0 => format!("{} min {} s", long.round() as u64 / 60, long.round() as u64 % 60),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        short if short >= 0.01 => format!("{:.0} ms", 1e3 * short),
        tiny => format!("{:.1} ms", 1e3 * tiny),
    }
}

/// Formats the least and the greatest value, such as `1 to 2`. Nearly equal values give one number. Without a finite
/// value, the text is empty.
pub fn range(curves: &[&Curve]) -> String {
    let values =
        curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    match values.fold(ends, |(least, greatest), value| (least.min(value), greatest.max(value))) {
        (least, greatest) if least > greatest => String::new(),
        (least, greatest) if greatest - least < 5e-4 * greatest.abs() => short(greatest),
        (least, greatest) => format!("{} to {}", short(least), short(greatest)),
    }
}

/// Returns the ends of a vertical axis that covers 0 and all values. The ends always differ.
pub fn ends(curves: &[&Curve]) -> (f64, f64) {
    let values =
        curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = values.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    (low, if high > low { high } else { low + 1.0 })
}

/// Formats a number with about three digits.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 || small == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_before_they_are_split() {
        let told = [0.000_4, 0.25, 1.26, 59.4, 59.7, 61.2, 119.6, 3600.0].map(|s| lasted(Duration::from_secs_f64(s)));
        assert_eq!(told, ["0.4 ms", "250 ms", "1.3 s", "59.4 s", "1 min 0 s", "1 min 1 s", "2 min 0 s", "60 min 0 s"]);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [1234.6, 12.34, 1.0, 0.9312, 0.0, -0.5].map(short);
        assert_eq!(texts, ["1235", "12.3", "1", "0.931", "0", "-0.5"]);
    }
}
