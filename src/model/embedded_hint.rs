//! The hints of a control, embedded by its ControlNet.

use super::control::Control;
use super::rows::rows_of;
use crate::error::{Error, Result};
use crate::nn::ControlNet;
use crate::nn::union::{ControlType, UnionHint};
use crate::size::Size;
use crate::wording::Remedy;
use tch::Tensor;

/// Embeds the hints of a control, [1 or n, channels, h, w], and returns their types, which only a union has. Hints are
/// embedded row by row, so that an image's embedded hint does not depend on its batch.
pub(super) fn embed(net: &ControlNet, control: &Control<'_>, size: Option<Size>) -> Result<(Tensor, Vec<ControlType>)> {
    if net.is_union() {
        return embed_union(net, control, size);
    }
    if let Some(control_type) = control.control_type {
        let expected = "none, because this ControlNet is no union";
        return Err(Error::parameter("control_type", format!("{control_type:?}"), expected));
    }
    if let Some(other) = control.others.first() {
        let expected = "none, because this ControlNet is no union; attach the control by itself";
        return Err(Error::parameter("Control::and", other, expected));
    }
    let hint = control.hint(size)?;
    let rows = (0..hint.size4()?.0).map(|row| net.embed(&hint.f_narrow(0, row, 1)?));
    Ok((Tensor::f_cat(&rows.collect::<Result<Vec<_>>>()?, 0)?, Vec::new()))
}

/// Embeds the hints of a union.
fn embed_union(net: &ControlNet, control: &Control<'_>, size: Option<Size>) -> Result<(Tensor, Vec<ControlType>)> {
    let (mut hints, mut types, mut count) = (Vec::new(), Vec::new(), 1);
    for control_of_hint in control.each() {
        if !control_of_hint.net.is(control.net) {
            let expected = "a control of the same ControlNet union; attach controls of other networks by themselves";
            return Err(Error::parameter("Control::and", control_of_hint, expected));
        }
        let missing = || {
            let expected = Remedy::HintTypes.after("the type of each hint, because this ControlNet is a union");
            Error::parameter("control_type", "missing", expected)
        };
        types.push(control_of_hint.control_type.ok_or_else(missing)?);
        let hint = control_of_hint.hint(size)?;
        count = count.max(hint.size4()?.0);
        hints.push(hint);
    }
    let row = |row: i64| -> Result<Tensor> {
        let own =
            |hint: &Tensor| -> Result<Tensor> { Ok(rows_of(hint, count, None, control.what())?.f_narrow(0, row, 1)?) };
        let own = hints.iter().map(own).collect::<Result<Vec<_>>>()?;
        let told = own.iter().zip(control.each()).zip(&types);
        let told = told.map(|((hint, control), control_type)| UnionHint {
            hint,
            control_type: *control_type,
            scale: control.scale,
        });
        net.embed_union(&told.collect::<Vec<_>>())
    };
    Ok((Tensor::f_cat(&(0..count).map(row).collect::<Result<Vec<_>>>()?, 0)?, types))
}
