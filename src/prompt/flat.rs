//! The texts of a prompt without their steps.

use super::{PromptSchedule, PromptSyntax, check_length, conjunction, networks};
use crate::error::Result;

/// Returns the different texts of a prompt over a number of steps, with commas between them, for notes about words.
///
/// # Errors
/// The errors of [`PromptSchedule::new`].
pub(crate) fn all_texts(prompt: &str, syntax: PromptSyntax, steps: usize) -> Result<String> {
    flat(prompt, syntax, steps, |schedule| {
        let mut texts: Vec<String> = Vec::new();
        for (_, text) in schedule.entries() {
            if !texts.iter().any(|known| known == text) {
                texts.push(text.to_owned());
            }
        }
        texts
    })
}

/// Returns the text of the last step of each prompt that `AND` combines, with commas between them: the description of
/// a finished picture.
///
/// # Errors
/// The errors of [`PromptSchedule::new`].
pub(crate) fn last_text(prompt: &str, syntax: PromptSyntax, steps: usize) -> Result<String> {
    flat(prompt, syntax, steps, |schedule| {
        schedule.entries().last().map(|(_, text)| text.to_owned()).into_iter().collect()
    })
}

fn flat(
    prompt: &str,
    syntax: PromptSyntax,
    steps: usize,
    texts: impl Fn(&PromptSchedule) -> Vec<String>,
) -> Result<String> {
    if syntax == PromptSyntax::Plain {
        return Ok(prompt.to_owned());
    }
    check_length(prompt)?;
    let mut all = Vec::new();
    for part in conjunction(&networks(prompt).text) {
        all.append(&mut texts(&PromptSchedule::new(&part.text, syntax, steps)?));
    }
    Ok(all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_joined_without_their_steps() -> Result<()> {
        let prompt = "a [red:blue:0.5] boat<lora:ink:1> AND [sea|sky] :0.5";
        assert_eq!(all_texts(prompt, PromptSyntax::WebUi, 4)?, "a red boat, a blue boat,  sea,  sky");
        assert_eq!(last_text(prompt, PromptSyntax::WebUi, 4)?, "a blue boat,  sky");
        assert_eq!(last_text(prompt, PromptSyntax::Plain, 4)?, prompt);
        Ok(())
    }
}
