//! Pictures and kernels in memory, as the products read and write them.

use crate::number::{Number, numbers};
use std::marker::PhantomData;
use tch::{TchError, Tensor};

/// A picture of shape [n, channels, h, w] with adjacent channels, which threads read or write.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a, N> {
    data: *mut N,
    /// Numbers from one picture, row and cell to the next.
    strides: [usize; 3],
    pub(crate) pictures: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: a thread reads cells, or writes cells that no other thread reads or writes.
unsafe impl<N: Number> Send for Cells<'_, N> {}
// SAFETY: as above.
unsafe impl<N: Number> Sync for Cells<'_, N> {}

/// Returns lengths or strides as `usize`.
fn lengths<const D: usize>(lengths: &[i64]) -> Option<[usize; D]> {
    lengths.iter().map(|&length| usize::try_from(length).ok()).collect::<Option<Vec<_>>>()?.try_into().ok()
}

impl<'a, N: Number> Cells<'a, N> {
    /// Reads the shape of a tensor [n, channels, h, w] of numbers `N`.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        let (sizes, strides) = (tensor.size(), tensor.stride());
        match (lengths(&sizes), lengths(&strides)) {
            (Some([pictures, channels, height, width]), Some([picture, channel, row, cell]))
                if channel == 1 || channels == 1 =>
            {
                Ok(Self {
                    data: numbers(tensor)?,
                    strides: [picture, row, cell],
                    pictures,
                    height,
                    width,
                    tensor: PhantomData,
                })
            }
            _ => {
                let expected = "[n, channels, h, w] with adjacent channels";
                Err(TchError::Kind(format!("the shape is {sizes:?} with strides {strides:?}; expected {expected}")))
            }
        }
    }

    /// Returns the first channel of a cell: picture, row, column.
    #[inline(always)]
    pub(crate) unsafe fn cell(&self, picture: usize, row: usize, column: usize) -> *mut N {
        let [of_picture, of_row, of_cell] = self.strides;
        // SAFETY: the caller asks for a cell of the picture.
        unsafe { self.data.add(picture * of_picture + row * of_row + column * of_cell) }
    }
}

/// A kernel of shape [outputs, inputs, kh, kw] with adjacent outputs, which threads read.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<'a, N> {
    data: *const N,
    /// Numbers from one input, row and column of the kernel to the next.
    strides: [usize; 3],
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: threads only read.
unsafe impl<N: Number> Send for Kernel<'_, N> {}
// SAFETY: as above.
unsafe impl<N: Number> Sync for Kernel<'_, N> {}

impl<'a, N: Number> Kernel<'a, N> {
    /// Reads the shape of a tensor [outputs, inputs, kh, kw] of numbers `N`.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        let (sizes, strides) = (tensor.size(), tensor.stride());
        match (lengths(&sizes), lengths(&strides)) {
            (Some([outputs, inputs, height, width]), Some([1, input, row, column])) => Ok(Self {
                data: numbers(tensor)?,
                strides: [input, row, column],
                outputs,
                inputs,
                height,
                width,
                tensor: PhantomData,
            }),
            _ => {
                let expected = "[outputs, inputs, kh, kw] with adjacent outputs";
                Err(TchError::Kind(format!("the shape is {sizes:?} with strides {strides:?}; expected {expected}")))
            }
        }
    }

    /// Numbers from one input to the next.
    #[inline(always)]
    pub(crate) fn input_stride(&self) -> usize {
        self.strides[0]
    }

    /// Returns the first output of an input at a row and a column of the kernel. The address is computed without a
    /// check, and may be read only where the kernel has such a number.
    #[inline(always)]
    pub(crate) fn number(&self, input: usize, row: usize, column: usize) -> *const N {
        let [of_input, of_row, of_column] = self.strides;
        self.data.wrapping_add(input * of_input + row * of_row + column * of_column)
    }
}
