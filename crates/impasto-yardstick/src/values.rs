//! Values of options.

/// Returns the first item that a list has twice.
pub(crate) fn repeated<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(i, item)| items.iter().take(*i).any(|other| other == *item)).map(|(_, item)| item)
}
