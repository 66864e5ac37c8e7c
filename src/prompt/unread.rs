//! Syntax of the AUTOMATIC1111 web UI that this crate reads as text.

use crate::wording::{Note, QUOTED, Remedy, excerpt};

/// Kinds of networks that tags in a prompt add, and true for those that this crate can add in another way.
const NETWORKS: [(&str, bool); 3] = [("lora", true), ("lyco", true), ("hypernet", false)];

/// Returns notes about syntax of the web UI in a prompt that is read as text, one for each kind: networks
/// (`<lora:ink:0.8>`), combined prompts (`AND`) and schedules of words (`[red:blue:0.5]`, `[red|blue]`).
///
/// Source: stable-diffusion-webui's `extra_networks.py` and `prompt_parser.py`.
pub(crate) fn unread(prompt: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some((network, is_addable)) = network(prompt) {
        let network = excerpt(network, QUOTED);
        let remedy = Some(Remedy::Lora).filter(|_| is_addable);
        notes.push(Note { remedy, ..format!("networks in the prompt, such as <{network}>, are read as text").into() });
    }
    if combines(prompt) {
        notes.push(
            "AND in the prompt is read as a word and does not combine prompts; write one prompt, or give regions of the \
             picture their own prompts"
                .into(),
        );
    }
    if let Some(schedule) = schedule(prompt) {
        let schedule = excerpt(schedule, QUOTED);
        notes.push(format!("schedules in the prompt, such as {schedule}, are read as text of a smaller weight").into());
    }
    notes
}

const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Returns the inside of the first tag of a network, such as `lora:ink:0.8`, and true if this crate can add the network
/// in another way.
fn network(prompt: &str) -> Option<(&str, bool)> {
    let inside = prompt.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0));
    let tag = |inside: &str| {
        let (kind, _) = inside.split_once(':').filter(|(_, name)| !name.is_empty())?;
        NETWORKS.iter().find(|(known, _)| *known == kind).map(|(_, is_addable)| *is_addable)
    };
    inside.into_iter().find_map(|inside| Some((inside, tag(inside)?)))
}

/// Returns true if the prompt has `AND` as a whole word.
fn combines(prompt: &str) -> bool {
    prompt.match_indices("AND").any(|(at, and)| {
        let (before, after) = (prompt.get(..at), prompt.get(at + and.len()..));
        !before.is_some_and(|before| before.ends_with(is_word))
            && !after.is_some_and(|after| after.starts_with(is_word))
    })
}

/// Returns the first pair of square brackets whose inside ends with a colon and a number, or has a bar.
fn schedule(prompt: &str) -> Option<&str> {
    /// Brackets that are still open.
    struct Open {
        letter: char,
        start: usize,
        /// End of the last colon directly inside.
        colon: Option<usize>,
        bar: bool,
    }
    let mut open: Vec<Open> = Vec::new();
    let mut letters = prompt.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '(' | '[' => open.push(Open { letter, start: at, colon: None, bar: false }),
            ':' => open.last_mut().into_iter().for_each(|open| open.colon = Some(at + 1)),
            '|' => open.last_mut().into_iter().for_each(|open| open.bar = true),
            ')' | ']' => {
                let Some(Open { letter: '[', start, colon, bar }) = open.pop().filter(|_| letter == ']') else {
                    continue;
                };
                let number = colon.and_then(|colon| prompt.get(colon..at)?.trim().parse::<f64>().ok());
                if bar || number.is_some() {
                    return prompt.get(start..=at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_words_are_found() {
        assert_eq!(network("a boat <lora:ink:0.8>, sea"), Some(("lora:ink:0.8", true)));
        assert_eq!(network("a < b > c, <:3>, <b>, <lora:>, <hypernet:x>"), Some(("hypernet:x", false)));
        assert_eq!(network("<<<lyco:a b>"), Some(("lyco:a b", true)));
        assert_eq!(network("a <- b, <cat-toy>, <b:c>, <region:x>"), None);
        assert!(["a AND b", "AND", "a,AND:1.2", "a\nAND b"].iter().all(|prompt| combines(prompt)));
        assert!(["a and b", "BAND", "ANDROID", "SAND AND_B"].iter().all(|prompt| !combines(prompt)));
    }

    #[test]
    fn schedules_are_found_and_weights_are_not() {
        for (prompt, found) in [
            ("a [red:blue:0.5] boat", "[red:blue:0.5]"),
            ("[red:8]", "[red:8]"),
            ("a [red::.5], [x]", "[red::.5]"),
            ("[ red | blue ]", "[ red | blue ]"),
            ("([(a:1.2):b: 3 ])", "[(a:1.2):b: 3 ]"),
            ("[x [a:b:2]", "[a:b:2]"),
        ] {
            assert_eq!(schedule(prompt), Some(found), "{prompt}");
        }
        for prompt in ["[a]", "(a:1.2)", "[(a:1.2)]", r"\[a:b:0.5\]", "[a:b]", "a:b:0.5]", "a | b", "[a, b:", "é:[é]"]
        {
            assert_eq!(schedule(prompt), None, "{prompt}");
        }
    }

    #[test]
    fn note_names_what_the_prompt_has() {
        let notes = unread("a <lora:ink:1> boat AND [sea:sky:0.5]");
        assert_eq!(notes.len(), 3);
        let told = ["<lora:ink:1>", "AND", "[sea:sky:0.5]"];
        assert!(notes.iter().zip(told).all(|(note, told)| note.text.contains(told)), "{notes:?}");
        assert_eq!(notes[0].remedy, Some(Remedy::Lora));
        assert_eq!(unread("<hypernet:ink:1>")[0].remedy, None, "a hypernetwork cannot be added");
        assert_eq!(unread("a (red:1.2) boat, [sea], #ffd700 sand"), []);
        let notes = unread(&format!("<lora:{0}> AND [{0}|{0}]", "a ".repeat(10_000)));
        assert!(notes.iter().all(|note| note.text.chars().count() < 200), "{notes:?}");
    }
}
