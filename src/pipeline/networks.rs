//! [`Added::take`]: finds the LoRAs and learned words that the prompts of a request name.

use super::adapted::{Added, Version};
use super::config::RequestConfig;
use super::folders::{Folders, Named};
use crate::error::{Error, Result};
use crate::prompt::{PromptSyntax, networks};

/// Largest number of LoRAs and learned words that the prompts of a request name.
const MOST_NAMED: usize = 64;

impl Added {
    /// Takes the tags of networks out of the prompts, and returns the LoRAs and learned words that the prompts name,
    /// and the layer of CLIP that reads them; `None` if the model stays as it is. `own` is the model's own layer.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that no file has, and if prompts of one request name different LoRAs.
    pub(super) fn take(config: &mut RequestConfig, folders: &Folders, own: Option<usize>) -> Result<Option<Self>> {
        let mut loras = Vec::new();
        if config.syntax != PromptSyntax::Plain {
            let tags = networks(&config.prompt);
            (config.prompt, loras) = (tags.text, tags.loras);
            let details = config.details.iter_mut().filter_map(|detail| Some(("details", detail.prompt.as_mut()?)));
            let second = config.second_prompt.iter_mut().map(|prompt| ("second_prompt", prompt));
            let third = config.third_prompt.iter_mut().map(|prompt| ("third_prompt", prompt));
            for (field, prompt) in second.chain(third).chain(details) {
                let tags = networks(prompt);
                if !tags.loras.is_empty() && tags.loras != loras {
                    let value = format!("{:?} with other LoRAs than the prompt", crate::wording::shortened(prompt));
                    let expected = "the LoRAs of the prompt, or none, because all prompts of a run share one model";
                    return Err(Error::parameter(field, value, expected));
                }
                *prompt = tags.text;
            }
        }
        check_count(loras.len())?;
        let mut added = Self::default();
        for tag in loras {
            added.loras.push((Version::of(folders.lora(&tag.name)?)?, tag));
        }
        let details = config.details.iter().flat_map(|detail| [&detail.prompt, &detail.negative]).flatten();
        let others = [&config.second_prompt, &config.second_negative, &config.third_prompt, &config.third_negative];
        let others = others.into_iter().flatten().chain(details);
        let texts: Vec<String> =
            [&config.prompt, &config.negative].into_iter().chain(others).map(|text| text.to_lowercase()).collect();
        for Named { name, file, .. } in folders.embeddings()? {
            for word in [name.clone(), format!("embedding:{name}")] {
                let lower = word.to_lowercase();
                if texts.iter().any(|text| has_word(text, &lower)) {
                    added.words.push((Version::of(file.clone())?, word));
                }
            }
        }
        let count = added.loras.len() + added.words.len();
        check_count(count)?;
        added.clip_skip = config.clip_skip.filter(|layer| Some(*layer) != own);
        Ok((added != Self::default()).then_some(added))
    }
}

/// Checks the number of LoRAs and learned words.
fn check_count(count: usize) -> Result<()> {
    if count <= MOST_NAMED {
        return Ok(());
    }
    let expected = format!("at most {MOST_NAMED}");
    Err(Error::parameter("number of LoRAs and learned words in the prompt", count, expected))
}

/// Returns true if a text has a word that no letter or digit touches, where `word` itself begins or ends with one.
fn has_word(text: &str, word: &str) -> bool {
    let joins =
        |a: Option<char>, b: Option<char>| a.zip(b).is_some_and(|(a, b)| a.is_alphanumeric() && b.is_alphanumeric());
    !word.trim().is_empty()
        && text.match_indices(word).any(|(at, found)| {
            let (before, after) = (text.get(..at), text.get(at + found.len()..));
            !joins(before.and_then(|before| before.chars().next_back()), word.chars().next())
                && !joins(word.chars().next_back(), after.and_then(|after| after.chars().next()))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn prompt_with_other_loras_is_named() {
        let other = || Some("a boat <lora:ink>".to_owned());
        for field in ["second_prompt", "third_prompt"] {
            let mut config = RequestConfig { prompt: "a boat <lora:oil>".into(), ..RequestConfig::default() };
            *if field == "third_prompt" { &mut config.third_prompt } else { &mut config.second_prompt } = other();
            let error = Added::take(&mut config, &Folders::default(), None).err().unwrap().to_string();
            assert!(error.starts_with(&format!("{field} is \"a boat <lora:ink>\" with other LoRAs")), "{error}");
        }
    }

    #[test]
    fn words_are_found_at_their_ends() {
        assert!(has_word("a badhands, cat", "badhands") && has_word("(bad-hands:1.2)", "bad-hands"));
        assert!(has_word("embedding:ink", "ink") && has_word("a <x>b", "<x>"));
        assert!(!has_word("badhandsome", "badhands") && !has_word("a", "") && !has_word("éink", "ink"));
    }
}
