//! Tables of a page: their cells, and the marks of methods.

use crate::failure::Failure;
use crate::statistics::{Figure, short};
use crate::task::Method;
use std::fmt::Write;

pub fn dot(method: Method) -> String {
    format!("<span class=\"dot\" style=\"background:{}\"></span>{}", method.row().color, method.name())
}

pub fn cell(figure: Option<&Figure>) -> String {
    match figure {
        None => "<td>–</td>".into(),
        Some(figure) => {
            let (value, low, high) = (number(figure.value), number(figure.low), number(figure.high));
            // An interval without width says nothing and is left out.
            let interval = if low == high { "&nbsp;".into() } else { format!("{low} – {high}") };
            format!("<td title=\"{figure}\">{value}<small>{interval}</small></td>")
        }
    }
}

/// Writes a table with a row for each of `rows`.
pub fn table(page: &mut String, corner: &str, heads: &[&str], rows: &[(String, Vec<String>)]) -> Result<(), Failure> {
    write!(page, "<div class=\"wide\"><table><tr><th>{corner}</th>")?;
    heads.iter().try_for_each(|head| write!(page, "<th>{head}</th>"))?;
    writeln!(page, "</tr>")?;
    for (name, cells) in rows {
        writeln!(page, "<tr><td>{name}</td>{}</tr>", cells.concat())?;
    }
    writeln!(page, "</table></div>")?;
    Ok(())
}

pub fn number(value: Option<f64>) -> String {
    value.map_or("∞".into(), short)
}
