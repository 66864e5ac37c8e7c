//! Notes about syntax of the AUTOMATIC1111 web UI that has no effect, or another one than its writer may expect.

use super::{PromptSchedule, PromptSyntax, conjunction, networks};
use crate::wording::{Note, QUOTED, Remedy, excerpt};

/// Kinds of networks that tags in a prompt add, and true for those that this crate can add in another way.
const NETWORKS: [(&str, bool); 3] = [("lora", true), ("lyco", true), ("hypernet", false)];

/// Returns notes about syntax of the web UI in the prompt of a run, one for each kind: tags without an effect, a weight
/// without `AND`, and markup that cannot be read.
pub(crate) fn unread(prompt: &str, syntax: PromptSyntax) -> Vec<Note> {
    if syntax == PromptSyntax::Plain {
        return plain(prompt);
    }
    let (mut notes, tags) = (Vec::new(), networks(prompt));
    if let Some(tag) = tags.ignored.first() {
        let tag = excerpt(tag, QUOTED);
        notes.push(format!("{tag} in the prompt adds nothing; tags have the form <lora:NAME:STRENGTH>").into());
    }
    if let Some((lora, part)) = tags.loras.iter().find_map(|lora| Some((lora, lora.ignored.first()?))) {
        let [name, part] = [&lora.name, part].map(|text| excerpt(text, QUOTED));
        notes.push(format!("\"{part}\" in the tag of the LoRA \"{name}\" has no effect").into());
    }
    let parts = conjunction(&tags.text);
    if let [part] = parts.as_slice()
        && part.weight != 1.0
    {
        notes.push(
            format!(
                "the number {} after the colon at the end of the prompt is the prompt's weight, as in the web UI; end the \
                 prompt with a comma to make the number text",
                part.weight
            )
            .into(),
        );
    }
    notes.extend(parts.iter().find_map(|part| broken(&part.text, syntax)));
    notes
}

/// Returns notes about syntax of the web UI in the negative prompt of a run, one for each kind.
pub(crate) fn unread_against(prompt: &str, syntax: PromptSyntax) -> Vec<Note> {
    if syntax == PromptSyntax::Plain {
        return plain(prompt);
    }
    let tags = network_note(prompt).into_iter().chain(combines(prompt).then(conjunction_note));
    tags.chain(broken(prompt, syntax)).collect()
}

/// Returns a note about markup of schedules that cannot be read.
fn broken(prompt: &str, syntax: PromptSyntax) -> Option<Note> {
    let is_parsed = PromptSchedule::new(prompt, syntax, 1).is_ok_and(|schedule| schedule.is_parsed());
    let shown = excerpt(prompt, QUOTED);
    (!is_parsed).then(|| {
        format!(
            "\"{shown}\" is one text for all steps, because its brackets cannot be read; a | stands between square \
             brackets, or after a backslash"
        )
        .into()
    })
}

/// Returns notes about syntax of the web UI in a prompt that is read as text, one for each kind: networks
/// (`<lora:ink:0.8>`), combined prompts (`AND`) and schedules of words (`[red:blue:0.5]`, `[red|blue]`).
///
/// Source: stable-diffusion-webui's `extra_networks.py` and `prompt_parser.py`.
fn plain(prompt: &str) -> Vec<Note> {
    let tags = network_note(prompt).into_iter().chain(combines(prompt).then(conjunction_note));
    let schedule = schedule(prompt).map(|schedule| {
        let schedule = excerpt(schedule, QUOTED);
        format!("schedules in the prompt, such as {schedule}, are read as text of a smaller weight").into()
    });
    tags.chain(schedule).collect()
}

/// Returns a note about tags of networks that are read as text.
fn network_note(prompt: &str) -> Option<Note> {
    let (network, is_addable) = network(prompt)?;
    let (network, remedy) = (excerpt(network, QUOTED), Some(Remedy::Lora).filter(|_| is_addable));
    Some(Note { remedy, ..format!("networks in the prompt, such as <{network}>, are read as text").into() })
}

fn conjunction_note() -> Note {
    "AND in the prompt is read as a word and does not combine prompts; write one prompt, or give regions of the picture \
     their own prompts"
        .into()
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
        let notes = plain("a <lora:ink:1> boat AND [sea:sky:0.5]");
        assert_eq!(notes.len(), 3);
        let told = ["<lora:ink:1>", "AND", "[sea:sky:0.5]"];
        assert!(notes.iter().zip(told).all(|(note, told)| note.text.contains(told)), "{notes:?}");
        assert_eq!(notes[0].remedy, Some(Remedy::Lora));
        assert_eq!(plain("<hypernet:ink:1>")[0].remedy, None, "a hypernetwork cannot be added");
        assert_eq!(plain("a (red:1.2) boat, [sea], #ffd700 sand"), []);
        let notes = plain(&format!("<lora:{0}> AND [{0}|{0}]", "a ".repeat(10_000)));
        assert!(notes.iter().all(|note| note.text.chars().count() < 200), "{notes:?}");
    }

    #[test]
    fn note_tells_what_has_no_effect() {
        let notes = |prompt: &str| -> Vec<String> {
            unread(prompt, PromptSyntax::WebUi).into_iter().map(|note| note.text.into_owned()).collect()
        };
        for prompt in ["a [red:blue:0.5] boat AND sea :0.5", "[a|b] <lora:ink:0.8>", "a (boat:1.2), [sea]", "1:2,"] {
            assert!(notes(prompt).is_empty(), "{prompt}");
        }
        assert!(notes("<hypernet:ink:1> a")[0].contains("<hypernet:ink:1> in the prompt adds nothing"));
        assert!(notes("a <lora:ink:1:1:8>")[0].contains("\"8\" in the tag of the LoRA \"ink\""));
        assert!(notes("time 12:30")[0].contains("the number 30 after the colon"));
        assert!(notes("a AND b | c")[0].contains("brackets cannot be read"));
        let against = unread_against("<lora:ink:1> AND [a|b], c|", PromptSyntax::WebUi);
        assert_eq!(against.len(), 3, "{against:?}");
    }
}
