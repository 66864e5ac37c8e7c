//! The brackets of a prompt that changes from step to step, as a tree.

use super::cursor::looked;
use std::ops::Range;

/// Largest number of brackets inside each other.
const DEEPEST: usize = 100;

/// A piece of a prompt.
#[derive(Debug)]
pub(super) enum Node {
    /// Bytes of text, which may be brackets of weights.
    Text(Range<usize>),
    /// One text up to a step, and another text from then on.
    Switch { before: Vec<Node>, after: Vec<Node>, when: When },
    /// Texts in turn.
    Turn(Vec<Vec<Node>>),
}

/// The number of a switch.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub value: f64,
    /// True for a number with a point, which is a share of the steps.
    pub is_share: bool,
}

/// The reader of a prompt's brackets.
pub(super) struct Brackets<'p> {
    prompt: &'p str,
    /// True for each byte with an opening bracket that begins no complete group.
    fails: Vec<bool>,
    depth: usize,
    is_too_deep: bool,
}

impl<'p> Brackets<'p> {
    /// Reads a prompt; `None` if the markup cannot be read.
    pub(super) fn parse(prompt: &'p str) -> Option<Vec<Node>> {
        let mut brackets = Self { prompt, fails: vec![false; prompt.len()], depth: 0, is_too_deep: false };
        let (mut nodes, mut at) = (Vec::new(), 0);
        while at < prompt.len() {
            let (mut some, end) = brackets.sequence(at);
            nodes.append(&mut some);
            at = end;
            match brackets.byte(at) {
                None => {}
                Some(b'[' | b']' | b'(' | b')' | b':') => {
                    nodes.push(Node::Text(at..at + 1));
                    at += 1;
                }
                Some(_) => return None, // a lone bar, or a backslash at the end
            }
        }
        (!brackets.is_too_deep).then_some(nodes)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        looked(1);
        self.prompt.as_bytes().get(at).copied()
    }

    /// Returns the end of the text from `at` on. A backslash takes the next character with it, unless the line ends
    /// there.
    fn text(&self, mut at: usize) -> usize {
        while let Some(byte) = self.byte(at) {
            match byte {
                b'[' | b']' | b'(' | b')' | b':' | b'|' => break,
                b'\\' => match self.prompt.get(at + 1..).and_then(|rest| rest.chars().next()) {
                    None | Some('\n') => break,
                    Some(next) => at += 1 + next.len_utf8(),
                },
                _ => at += 1,
            }
        }
        at
    }

    /// Reads texts and groups up to the first character that is neither, and returns them with the place of that
    /// character.
    fn sequence(&mut self, mut at: usize) -> (Vec<Node>, usize) {
        let mut nodes = Vec::new();
        loop {
            let end = self.text(at);
            if end > at {
                nodes.push(Node::Text(at..end));
                at = end;
                continue;
            }
            let Some((mut group, end)) = self.group(at) else { return (nodes, at) };
            nodes.append(&mut group);
            at = end;
        }
    }

    /// Reads the group that begins at `at`; `None` if there is no complete one.
    fn group(&mut self, at: usize) -> Option<(Vec<Node>, usize)> {
        let opening = self.byte(at).filter(|byte| matches!(byte, b'(' | b'['))?;
        if self.fails.get(at).copied().unwrap_or(true) {
            return None;
        }
        if self.depth >= DEEPEST {
            self.is_too_deep = true;
            return None;
        }
        self.depth += 1;
        let group = if opening == b'(' { self.round(at) } else { self.square(at) };
        self.depth -= 1;
        if let (None, Some(fails)) = (&group, self.fails.get_mut(at)) {
            *fails = true;
        }
        group
    }

    /// Reads `(a)` or `(a:b)`, which stays as it is.
    fn round(&mut self, at: usize) -> Option<(Vec<Node>, usize)> {
        let mut nodes = vec![Node::Text(at..at + 1)];
        let (mut inside, mut end) = self.sequence(at + 1);
        nodes.append(&mut inside);
        if self.byte(end) == Some(b':') {
            nodes.push(Node::Text(end..end + 1));
            let (mut second, second_end) = self.sequence(end + 1);
            nodes.append(&mut second);
            end = second_end;
        }
        if self.byte(end) != Some(b')') {
            return None;
        }
        nodes.push(Node::Text(end..end + 1));
        Some((nodes, end + 1))
    }

    /// Reads `[a]`, which stays as it is, a switch, or texts in turn.
    fn square(&mut self, at: usize) -> Option<(Vec<Node>, usize)> {
        let (first, end) = self.sequence(at + 1);
        match self.byte(end)? {
            b']' => {
                let mut nodes = vec![Node::Text(at..at + 1)];
                nodes.extend(first);
                nodes.push(Node::Text(end..end + 1));
                Some((nodes, end + 1))
            }
            b':' => {
                if let Some((when, end)) = self.number(end + 1) {
                    return Some((vec![Node::Switch { before: Vec::new(), after: first, when }], end));
                }
                let (after, end) = self.sequence(end + 1);
                self.byte(end).filter(|byte| *byte == b':')?;
                let (when, end) = self.number(end + 1)?;
                Some((vec![Node::Switch { before: first, after, when }], end))
            }
            b'|' => {
                let (mut options, mut end) = (vec![first], end);
                while self.byte(end) == Some(b'|') {
                    let (option, next) = self.sequence(end + 1);
                    options.push(option);
                    end = next;
                }
                self.byte(end).filter(|byte| *byte == b']')?;
                Some((vec![Node::Turn(options)], end + 1))
            }
            _ => None,
        }
    }

    /// Reads a number with white space around it and the closing bracket after it, and returns it with the place after
    /// the bracket.
    fn number(&self, at: usize) -> Option<(When, usize)> {
        let rest = self.prompt.get(at..)?;
        let close =
            rest.find(|letter: char| !(is_space(letter) || letter.is_ascii_alphanumeric() || "+-.".contains(letter)))?;
        looked(close);
        let written = rest.get(..close).filter(|_| rest.get(close..).is_some_and(|rest| rest.starts_with(']')))?;
        let written = written.trim_matches(is_space);
        // Rust also reads "inf", "nan" and a lone point.
        let is_number = written.contains(|letter: char| letter.is_ascii_digit())
            && written.chars().all(|letter| letter.is_ascii_digit() || "+-.eE".contains(letter));
        let value = written.parse().ok().filter(|_| is_number)?;
        Some((When { value, is_share: written.contains('.') }, at + close + 1))
    }
}

/// Returns true for white space as Python counts it.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;

    #[test]
    fn brackets_are_read_in_linear_time() {
        let pieces = [
            "[", "(", "[a", "[a:", "[a|", "(a:", "([", "[:", "[(a)", "[a:b:", "[a]", "(a)", "[a:b:3]", "[a|b]", "a",
            "\\", "[1", "[:1", "[a:1 ", "::", "é",
        ];
        assert_linear("brackets", &pieces, |text| drop(Brackets::parse(text)));
    }

    #[test]
    fn deep_brackets_are_no_markup() {
        let nested = |depth: usize| format!("{}a{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Brackets::parse(&nested(DEEPEST)).is_some());
        assert!(Brackets::parse(&nested(DEEPEST + 1)).is_none());
        assert!(Brackets::parse(&nested(10_000)).is_none() && Brackets::parse(&"(".repeat(60_000)).is_none());
    }
}
