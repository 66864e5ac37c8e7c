//! One prompt made of the texts of a prompt that changes during a run.
//!
//! Methods find their words once, before the first step. So words that several texts have in common need the same
//! columns of the context at every step. The softmax does not depend on the order of the columns: a text's columns can
//! be put in another order, and the prediction stays the same up to rounding. Only a network that gives the columns
//! positions ([`Prompt::keep_order`]) needs them in their own order.

use super::{Changes, Prompt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Largest number of pairs of tokens that are compared for the longest common sequence of two texts. The tokens of
/// larger differences are paired in their order.
const MOST_PAIRS: usize = 1 << 20;

/// A token of the merged texts: its letters, and its column.
#[derive(Clone, Debug)]
struct Slot {
    letters: String,
    column: i64,
}

impl Prompt {
    /// Joins the texts of a prompt that changes during a run. `turns` are the steps at which the text changes, with the
    /// index of the text from then on. Returns a prompt in which the phrases of all texts are found, and for each text
    /// the order of its context's `columns` columns at which the phrases are found; `None` for an order that stays. A
    /// word of several texts has one column, and so do words of two texts in each other's place. `None` without a text.
    pub(crate) fn join_texts(
        mut texts: Vec<Self>,
        turns: Vec<(usize, usize)>,
        columns: i64,
    ) -> Option<(Self, Vec<Option<Vec<i64>>>)> {
        if texts.len() == 1 {
            return texts.pop().map(|text| (text, vec![None]));
        }
        let mut slots: Option<Vec<Vec<Slot>>> = None;
        let (mut placed, mut orders) = (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
        for text in &texts {
            let (mut text, tokens) = (text.clone(), text.slots());
            let order = match &mut slots {
                None => {
                    slots = Some(tokens);
                    None
                }
                // Tokens whose places are read cannot be put in another order, and neither can the texts of two
                // encoders that share their columns.
                Some(_) if text.is_ordered || shares_columns(&tokens) => None,
                Some(slots) => merge_all(slots, &tokens, columns).map(|new| {
                    text.put(&new);
                    order(&tokens.concat(), &new.concat(), columns)
                }),
            };
            placed.push(text);
            orders.push(order.filter(|order| order.iter().zip(0..).any(|(from, to)| *from != to)));
        }
        let columns: Vec<Vec<i64>> = placed.iter().map(Self::columns).collect();
        let mut joined: Option<Self> = None;
        for text in placed.into_iter().rev() {
            joined = Some(match joined {
                Some(later) => text.append(later),
                None => text,
            });
        }
        let changes = Some(Arc::new(Changes { texts: texts.into_iter().zip(columns).collect(), turns }));
        joined.map(|joined| (Self { changes, ..joined }, orders))
    }

    /// Returns the texts of a prompt that changes during a run.
    pub(crate) fn changes(&self) -> Option<&Changes> {
        self.changes.as_deref()
    }

    /// Returns the columns of all tokens, sorted.
    fn columns(&self) -> Vec<i64> {
        let second = self.second.iter().flat_map(|second| second.columns());
        let all: BTreeSet<i64> = self.places.iter().copied().flatten().chain(second).collect();
        all.into_iter().collect()
    }

    /// Adds a text after this text and its second prompt.
    #[must_use]
    pub(crate) fn append(mut self, later: Self) -> Self {
        self.second = Some(Box::new(match self.second.take() {
            Some(second) => second.append(later),
            None => later,
        }));
        self
    }

    /// Returns the tokens that reach each text encoder.
    fn slots(&self) -> Vec<Vec<Slot>> {
        let letters = |bytes: std::ops::Range<usize>| self.text.get(bytes).unwrap_or_default().to_lowercase();
        let tokens = self.tokens.iter().zip(&self.places);
        let own = tokens
            .filter_map(|(bytes, place)| Some(Slot { letters: letters(bytes.clone()), column: (*place)? }))
            .collect();
        std::iter::once(own).chain(self.second.iter().flat_map(|second| second.slots())).collect()
    }

    /// Puts the tokens that reach each text encoder at other columns.
    fn put(&mut self, columns: &[Vec<i64>]) {
        let Some((own, others)) = columns.split_first() else { return };
        let seen = self.places.iter_mut().filter(|place| place.is_some());
        seen.zip(own).for_each(|(place, column)| *place = Some(*column));
        self.second.iter_mut().for_each(|second| second.put(others));
    }
}

/// Returns true if tokens of two text encoders have the same column.
fn shares_columns(tokens: &[Vec<Slot>]) -> bool {
    let mut columns = BTreeSet::new();
    tokens.iter().flatten().any(|token| !columns.insert(token.column))
}

/// Merges the tokens that a text has for each encoder into the slots of the texts before it, and returns the tokens'
/// columns. `None` if there are not enough columns.
fn merge_all(slots: &mut Vec<Vec<Slot>>, tokens: &[Vec<Slot>], columns: i64) -> Option<Vec<Vec<i64>>> {
    if slots.len() != tokens.len() {
        return None;
    }
    let mut taken: BTreeSet<i64> = slots.iter().flatten().map(|slot| slot.column).collect();
    let (mut merged, mut new) = (slots.clone(), Vec::with_capacity(tokens.len()));
    for (slots, tokens) in merged.iter_mut().zip(tokens) {
        // Column 0 has the start token, to which much attention goes.
        let placed = merge(slots, tokens, (1..columns).rev().filter(|column| !taken.contains(column)))?;
        taken.extend(&placed);
        new.push(placed);
    }
    *slots = merged;
    Some(new)
}

/// Merges the tokens of a text into the slots of the texts before it, and returns the tokens' columns: those of equal
/// tokens, those of tokens in the same place, or the next `free` ones. `None` if there are not enough columns.
fn merge(slots: &mut Vec<Slot>, tokens: &[Slot], mut free: impl Iterator<Item = i64>) -> Option<Vec<i64>> {
    let (mut merged, mut placed) = (Vec::with_capacity(slots.len()), Vec::with_capacity(tokens.len()));
    let (mut known, mut own) = (slots.iter(), tokens.iter());
    let ends = (slots.len(), tokens.len());
    for (slot, token) in common(slots, tokens).into_iter().chain([ends]) {
        let known_before = slot - (slots.len() - known.len());
        let own_before = token - (tokens.len() - own.len());
        let gap: Vec<&Slot> = known.by_ref().take(known_before).collect();
        for (index, token) in own.by_ref().take(own_before).enumerate() {
            let column = match gap.get(index) {
                Some(slot) => slot.column,
                None => {
                    let column = free.next()?;
                    merged.push(Slot { letters: token.letters.clone(), column });
                    column
                }
            };
            placed.push(column);
        }
        merged.extend(gap.into_iter().cloned());
        if let (Some(slot), Some(_)) = (known.next(), own.next()) {
            placed.push(slot.column);
            merged.push(slot.clone());
        }
    }
    *slots = merged;
    Some(placed)
}

/// Returns the pairs of a longest common sequence of tokens, by their indexes.
fn common(slots: &[Slot], tokens: &[Slot]) -> Vec<(usize, usize)> {
    let equal = |(a, b): &(&Slot, &Slot)| a.letters == b.letters;
    let start = slots.iter().zip(tokens).take_while(equal).count();
    let (slots_left, tokens_left) = (slots.get(start..).unwrap_or_default(), tokens.get(start..).unwrap_or_default());
    let end = slots_left.iter().rev().zip(tokens_left.iter().rev()).take_while(equal).count();
    let (a, b) = (slots_left.len() - end, tokens_left.len() - end);
    let mut pairs: Vec<(usize, usize)> = (0..start).map(|at| (at, at)).collect();
    if a * b <= MOST_PAIRS {
        let between = sequence(slots_left.get(..a).unwrap_or_default(), tokens_left.get(..b).unwrap_or_default());
        pairs.extend(between.into_iter().map(|(slot, token)| (start + slot, start + token)));
    }
    pairs.extend((0..end).map(|at| (start + a + at, start + b + at)));
    pairs
}

/// Returns the pairs of a longest common sequence, by the table of the lengths of the common sequences of all ends.
fn sequence(slots: &[Slot], tokens: &[Slot]) -> Vec<(usize, usize)> {
    let width = tokens.len() + 1;
    let mut lengths = vec![0u32; (slots.len() + 1) * width];
    let of =
        |lengths: &[u32], slot: usize, token: usize| lengths.get(slot * width + token).copied().unwrap_or_default();
    for (i, slot) in slots.iter().enumerate().rev() {
        for (j, token) in tokens.iter().enumerate().rev() {
            let length = if slot.letters == token.letters {
                of(&lengths, i + 1, j + 1) + 1
            } else {
                of(&lengths, i + 1, j).max(of(&lengths, i, j + 1))
            };
            lengths.get_mut(i * width + j).into_iter().for_each(|known| *known = length);
        }
    }
    let (mut pairs, mut i, mut j) = (Vec::new(), 0, 0);
    while let (Some(slot), Some(token)) = (slots.get(i), tokens.get(j)) {
        if slot.letters == token.letters {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if of(&lengths, i + 1, j) >= of(&lengths, i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Returns for each column of the new order the column that moves there. Tokens move to the columns `new`, and all
/// other columns stay if they can.
fn order(tokens: &[Slot], new: &[i64], columns: i64) -> Vec<i64> {
    let mut from: Vec<Option<i64>> = vec![None; columns.max(0) as usize];
    for (token, to) in tokens.iter().zip(new) {
        from.get_mut(*to as usize).into_iter().for_each(|from| *from = Some(token.column));
    }
    let moved: BTreeSet<i64> = tokens.iter().map(|token| token.column).collect();
    for (column, from) in (0..columns).zip(&mut from).filter(|(column, from)| from.is_none() && !moved.contains(column))
    {
        *from = Some(column);
    }
    let used: BTreeSet<i64> = from.iter().copied().flatten().collect();
    let mut left = (0..columns).filter(|column| !used.contains(column));
    from.into_iter().map(|from| from.or_else(|| left.next()).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;
    use crate::prompt::TokenSpan;

    const COLUMNS: i64 = 12;

    /// A prompt with one token per word.
    fn prompt(text: &str) -> Prompt {
        Prompt::new(text, words(text).into_iter().map(|word| word.bytes).collect(), COLUMNS as usize - 2)
    }

    fn joined(texts: &[&str]) -> (Prompt, Vec<Option<Vec<i64>>>) {
        Prompt::join_texts(texts.iter().map(|text| prompt(text)).collect(), Vec::new(), COLUMNS).unwrap()
    }

    /// Returns the words of each text by column, in the order of the text's context.
    fn contexts(texts: &[&str], orders: &[Option<Vec<i64>>]) -> Vec<Vec<String>> {
        let context = |(text, order): (&&str, &Option<Vec<i64>>)| {
            let words = ["<start>"].into_iter().chain(text.split([' ', ',']).filter(|word| !word.is_empty()));
            let words: Vec<&str> = words.chain(std::iter::repeat("<end>")).take(COLUMNS as usize).collect();
            let order = order.clone().unwrap_or_else(|| (0..COLUMNS).collect());
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..COLUMNS).collect::<Vec<_>>(), "an order has every column once");
            order.iter().map(|from| words[*from as usize].to_owned()).collect()
        };
        texts.iter().zip(orders).map(context).collect()
    }

    #[test]
    fn common_words_have_one_column() -> crate::Result<()> {
        let texts = ["a cat with blue eyes", "a big red fox with eyes", "an owl, eyes, a hat"];
        let (prompt, orders) = joined(&texts);
        let contexts = contexts(&texts, &orders);
        for word in ["eyes", "cat", "fox", "owl", "hat", "with"] {
            let spans = prompt.find(word)?;
            let columns: Vec<i64> = spans.iter().flat_map(|span| span.start..span.end).collect();
            for (text, context) in texts.iter().zip(&contexts) {
                let here: Vec<&String> = columns.iter().map(|column| &context[*column as usize]).collect();
                let has = words(text).iter().any(|other| other.lower == word);
                assert_eq!(here.iter().any(|other| *other == word), has, "{word} in {text}: {here:?}");
            }
        }
        assert_eq!(prompt.find("eyes")?, [TokenSpan { start: 5, end: 6 }], "the first text keeps its order");
        assert!(orders[0].is_none() && contexts.iter().all(|context| context[0] == "<start>"));
        Ok(())
    }

    #[test]
    fn equally_long_alternatives_keep_their_order() {
        let (prompt, orders) = joined(&["a cat, eyes", "a fox, eyes", "a owl, eyes"]);
        assert_eq!(orders, [None, None, None]);
        assert_eq!(prompt.find("cat").unwrap(), prompt.find("owl").unwrap());
    }

    #[test]
    fn words_of_two_encoders_have_columns_of_their_own() -> crate::Result<()> {
        // The second encoder's tokens follow the first one's in the context, as T5's do in Stable Diffusion 3.
        let both = |text: &str| {
            let bytes: Vec<_> = words(text).into_iter().map(|word| word.bytes).collect();
            let places = (0..bytes.len()).map(|at| Some(6 + at as i64)).collect();
            let written = super::super::Written { text: text.into(), source: (0..text.len()).map(Some).collect() };
            prompt(text).beside(Prompt::written(written, text.into(), bytes, places))
        };
        let (found, orders) =
            Prompt::join_texts(vec![both("a cat, eyes"), both("cat, eyes")], Vec::new(), COLUMNS).unwrap();
        let columns = |word: &str| -> crate::Result<Vec<i64>> {
            Ok(found.find(word)?.iter().flat_map(|span| span.start..span.end).collect())
        };
        assert_eq!((columns("cat")?, columns("eyes")?), (vec![2, 7], vec![3, 8]));
        let order = orders[1].as_ref().expect("the words change their places");
        assert_eq!([2, 7, 3, 8].map(|column: usize| order[column]), [1, 6, 2, 7]);
        // Encoders that share their columns cannot have their words in two orders.
        let same = |text: &str| prompt(text).beside(prompt(text));
        let (_, orders) =
            Prompt::join_texts(vec![same("a cat, eyes"), same("cat, eyes")], Vec::new(), COLUMNS).unwrap();
        assert_eq!(orders, [None, None]);
        Ok(())
    }

    #[test]
    fn texts_without_room_keep_their_order() {
        let long = "a b c d e f g h i j";
        let (prompt, orders) = joined(&[long, "x y z a b c d e"]);
        assert_eq!(orders, [None, None]);
        assert!(prompt.find("z").is_ok());
    }

    #[test]
    fn tokens_whose_places_are_read_keep_their_order() {
        let texts = ["a cat, eyes", "a dog with a hat, eyes"];
        let ordered = texts.iter().map(|text| prompt(text).keep_order()).collect();
        let (prompt, orders) = Prompt::join_texts(ordered, Vec::new(), COLUMNS).unwrap();
        assert_eq!(orders, [None, None]);
        let columns = prompt.find("eyes").unwrap().iter().flat_map(|span| span.start..span.end).collect::<Vec<_>>();
        assert_eq!(columns, [3, 6], "the word is found in both texts");
        assert!(joined(&texts).1[1].is_some(), "other texts change their order");
    }
}
