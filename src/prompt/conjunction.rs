//! Prompts that `AND` combines, each with its weight.

use super::brackets::is_space;

/// One of the prompts that `AND` combines.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightedPrompt {
    /// The prompt.
    pub text: String,
    /// Weight of the prompt's prediction; 1 is usual, and a negative weight leads away from the prompt.
    pub weight: f64,
}

/// Splits a prompt at the word `AND`. A number after a colon at the end of a part is the part's weight, which is 1
/// otherwise.
///
/// ```
/// let parts = impasto::prompt::conjunction("a cat AND gold eyes :0.6");
/// assert_eq!((parts[0].text.as_str(), parts[0].weight), ("a cat", 1.0));
/// assert_eq!((parts[1].text.as_str(), parts[1].weight), (" gold eyes", 0.6));
/// ```
///
/// Source: `modules/prompt_parser.py` of stable-diffusion-webui 1.10. As there, a prompt without `AND` may have a
/// weight too.
pub fn conjunction(prompt: &str) -> Vec<WeightedPrompt> {
    let (mut parts, mut begun) = (Vec::new(), 0);
    for (at, and) in prompt.match_indices("AND") {
        let end = at + and.len();
        let (before, after) = (prompt.get(..at).unwrap_or_default(), prompt.get(end..).unwrap_or_default());
        if !before.ends_with(is_word) && !after.starts_with(is_word) {
            parts.push(take_weight(prompt.get(begun..at).unwrap_or_default()));
            begun = end;
        }
    }
    parts.push(take_weight(prompt.get(begun..).unwrap_or_default()));
    parts
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Takes the weight off the end of a part.
fn take_weight(part: &str) -> WeightedPrompt {
    let trimmed = part.trim_end_matches(is_space);
    let number = trimmed.rsplit_once(':').and_then(|(text, number)| {
        let number = number.trim_start_matches(is_space);
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        let is_number = digits.contains(|letter: char| letter.is_ascii_digit())
            && digits.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
        Some((text, number.parse().ok().filter(|number: &f64| is_number && number.is_finite())?))
    });
    match number {
        Some((text, weight)) => WeightedPrompt { text: text.trim_end_matches(is_space).into(), weight },
        None => WeightedPrompt { text: trimmed.into(), weight: 1.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn parts_and_weights_equal_the_reference() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/specs/prompt_schedule.json")).unwrap();
        for case in golden["conjunction"].as_array().unwrap() {
            let parts = conjunction(case["prompt"].as_str().unwrap());
            let parts: Vec<Value> = parts.iter().map(|part| json!([part.text, part.weight])).collect();
            assert_eq!(Value::from(parts), case["parts"], "{case}");
        }
    }
}
