//! [`LoadReport`]: the outcome of loading weights.

use std::fmt::{Display, Formatter, Result};
use tch::Kind;

/// Number of entries that a report shows of each list.
const SHOWN: usize = 10;
/// Number of unused tensors that the name of a missing one is compared with; SDXL's UNet has 1,680.
const COMPARED: usize = 4096;

/// A tensor without a counterpart: missing in the file, or unused by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Named {
    /// Full name of the tensor.
    pub name: String,
    /// Shape of the tensor: as requested if missing, as stored if unused.
    pub shape: Vec<i64>,
}

/// A tensor that exists but does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misshapen {
    /// Full name of the tensor.
    pub name: String,
    /// The shape that the network has.
    pub expected: Vec<i64>,
    /// The stored shape; if this equals `expected`, only the kind does not fit.
    pub got: Vec<i64>,
    /// The stored kind.
    pub kind: Kind,
}

/// The outcome of loading weights: all problems in one report instead of one error per try. The text of a report shows
/// the first ten entries of each list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// The file or folder.
    pub file: String,
    /// Number of tensors that were found and fit.
    pub loaded: usize,
    /// Tensors that were requested but do not exist, in the order of the requests.
    pub missing: Vec<Named>,
    /// Tensors with another shape, or with numbers that are not floating-point.
    pub misshapen: Vec<Misshapen>,
    /// Tensors that were not requested.
    pub unused: Vec<Named>,
    /// Tensors that hold a NaN or an infinity.
    pub not_finite: Vec<String>,
    /// Tensors that hold numbers too large for the requested kind, such as f16.
    pub overflown: Vec<String>,
}

impl LoadReport {
    /// Returns the unused tensor whose name is most like that of `missing`, preferably of the same shape; `None` if no
    /// name is similar enough. Only the first [`COMPARED`] names are compared, and only names at most twice as long,
    /// because the time of a comparison grows with the product of both lengths.
    fn nearest(&self, missing: &Named) -> Option<&str> {
        let likeness = |unused: &Named| strsim::normalized_levenshtein(&missing.name, &unused.name);
        let best = |same_shape: bool, least: f64| {
            let similar = |unused: &&Named| unused.name.len() <= 2 * missing.name.len();
            let candidates = self.unused.iter().take(COMPARED).filter(similar);
            let candidates = candidates.filter(|unused| !same_shape || unused.shape == missing.shape);
            let (name, likeness) =
                candidates.map(|unused| (&*unused.name, likeness(unused))).max_by(|a, b| a.1.total_cmp(&b.1))?;
            (likeness >= least).then_some(name)
        };
        best(true, 0.5).or_else(|| best(false, 0.8))
    }

    /// Returns notes about values that are not finite and about unused tensors, one sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let Self { file, not_finite: broken, .. } = self;
        let mut notes = Vec::new();
        if !broken.is_empty() {
            let names = broken.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if broken.len() > 10 { format!(", … ({} in all)", broken.len()) } else { String::new() };
            notes.push(format!("{file}: NaNs or infinities in {names}{more}"));
        }
        // Text encoders contain a projection that no network requests. Text encoders of SD 2.x also contain a last
        // layer that no network requests.
        let spare = |name: &str| name == "text_projection.weight" || name.contains("encoder.layers.23.");
        let mut names = self.unused.iter().map(|unused| &unused.name).filter(|name| !spare(name));
        if let Some(first) = names.next() {
            notes.push(format!("{file}: {} tensors are not used, such as {first}", 1 + names.count()));
        }
        notes
    }
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { file, loaded, missing, misshapen, unused, not_finite, overflown } = self;
        let (lost, wrong, left) = (missing.len(), misshapen.len(), unused.len());
        write!(f, "{file}: {loaded} tensors loaded, {lost} missing, {wrong} misshapen, {left} unused")?;
        section(f, "missing", missing, |f, missing| {
            write!(f, "{} {:?}", missing.name, missing.shape)?;
            match self.nearest(missing) {
                Some(name) => write!(f, "; did you mean {name}?"),
                None => Ok(()),
            }
        })?;
        section(f, "misshapen", misshapen, |f, Misshapen { name, expected, got, kind }| match got == expected {
            true => write!(f, "{name}: stored as {kind:?}, expected floating-point numbers"),
            false => write!(f, "{name}: expected {expected:?}, got {got:?}"),
        })?;
        section(f, "not finite", not_finite, |f, name| f.write_str(name))?;
        section(f, "too large for the requested kind", overflown, |f, name| f.write_str(name))?;
        section(f, "unused", unused, |f, unused| write!(f, "{} {:?}", unused.name, unused.shape))
    }
}

fn section<T>(
    f: &mut Formatter<'_>,
    title: &str,
    items: &[T],
    line: impl Fn(&mut Formatter<'_>, &T) -> Result,
) -> Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n{title}:")?;
    for item in items.iter().take(SHOWN) {
        f.write_str("\n  ")?;
        line(f, item)?;
    }
    if items.len() > SHOWN {
        write!(f, "\n  and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, shape: &[i64]) -> Named {
        Named { name: name.into(), shape: shape.into() }
    }

    #[test]
    fn report_shows_counts_ten_names_and_a_guess() {
        let report = LoadReport {
            file: "unet.safetensors".into(),
            loaded: 3,
            missing: (0..12).map(|i| named(&format!("mid_block.to_k.{i}"), &[4, 4])).collect(),
            misshapen: vec![
                Misshapen { name: "conv_in.weight".into(), expected: vec![8, 4], got: vec![8, 9], kind: Kind::Float },
                Misshapen { name: "conv_in.bias".into(), expected: vec![8], got: vec![8], kind: Kind::Int8 },
            ],
            unused: vec![named("mid_block.to_k.00", &[5]), named("mid_block.key.0", &[4, 4])],
            ..LoadReport::default()
        };
        let text = report.to_string();
        assert!(text.starts_with("unet.safetensors: 3 tensors loaded, 12 missing, 2 misshapen, 2 unused"), "{text}");
        assert!(text.contains("\n  mid_block.to_k.0 [4, 4]; did you mean mid_block.key.0?"), "{text}");
        assert!(
            text.contains("mid_block.to_k.9") && !text.contains("to_k.11") && text.contains("and 2 more"),
            "{text}"
        );
        assert!(text.contains("conv_in.weight: expected [8, 4], got [8, 9]"), "{text}");
        assert!(text.contains("conv_in.bias: stored as Int8, expected floating-point numbers"), "{text}");
    }
}
