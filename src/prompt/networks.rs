//! Tags of networks in a prompt: `<lora:ink:0.8>`.

/// A prompt without the tags of networks, and the tags.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NetworkTags {
    /// The prompt without tags. White space around a tag stays.
    pub text: String,
    /// LoRAs in the order of their tags.
    pub loras: Vec<LoraTag>,
    /// Tags of other kinds of networks, and of LoRAs without a name or with a strength that is no number.
    pub ignored: Vec<String>,
}

/// The tag of a LoRA: `<lora:name:text_strength:strength>`. One number is both strengths, and without a number both are
/// 1. `te=` and `unet=` name a strength.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoraTag {
    /// Name of the LoRA, as the tag has it.
    pub name: String,
    /// Strength in the text encoders.
    pub text_strength: f64,
    /// Strength in the UNet.
    pub strength: f64,
    /// Parts of the tag without a meaning here, such as a rank or the strength of some blocks.
    pub ignored: Vec<String>,
}

/// Takes the tags of networks out of a prompt. No backslash makes a tag plain text.
///
/// ```
/// let tags = impasto::prompt::networks("a boat <lora:ink:0.5:0.8>, sea");
/// assert_eq!((tags.text.as_str(), tags.loras[0].name.as_str()), ("a boat , sea", "ink"));
/// assert_eq!((tags.loras[0].text_strength, tags.loras[0].strength), (0.5, 0.8));
/// ```
///
/// Source: `modules/extra_networks.py` and `extensions-builtin/Lora` of stable-diffusion-webui 1.10.
pub fn networks(prompt: &str) -> NetworkTags {
    let (mut tags, mut copied, mut at) = (NetworkTags::default(), 0, 0);
    while let Some(begin) = prompt.get(at..).and_then(|rest| rest.find('<')).map(|found| at + found) {
        at = begin + 1;
        let Some((kind, after)) = kind(prompt, at) else { continue };
        let Some(length) = prompt.get(after..).and_then(|rest| rest.find('>')) else { break };
        if length == 0 {
            continue;
        }
        let (inside, end) = (prompt.get(after..after + length).unwrap_or_default(), after + length + 1);
        tags.text.push_str(prompt.get(copied..begin).unwrap_or_default());
        match lora(inside).filter(|_| ["lora", "lyco"].contains(&kind)) {
            Some(lora) => tags.loras.push(lora),
            None => tags.ignored.push(prompt.get(begin..end).unwrap_or_default().into()),
        }
        (copied, at) = (end, end);
    }
    tags.text.push_str(prompt.get(copied..).unwrap_or_default());
    tags
}

/// Returns the kind of network that a tag names, from byte `at` to a colon, and the byte after the colon.
fn kind(prompt: &str, at: usize) -> Option<(&str, usize)> {
    let rest = prompt.get(at..)?;
    let length = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|length| *length > 0)?;
    let (kind, rest) = rest.split_at(length);
    rest.starts_with(':').then_some((kind, at + length + 1))
}

/// Reads the inside of a LoRA's tag; `None` without a name, or with a strength that is no number.
fn lora(inside: &str) -> Option<LoraTag> {
    let (mut text, mut unet, mut plain, mut ignored) = (None, None, Vec::new(), Vec::new());
    for item in inside.split(':') {
        match item.split_once('=').filter(|(_, value)| !value.contains('=')) {
            Some(("te", value)) => text = Some(value),
            Some(("unet", value)) => unet = Some(value),
            Some(_) => ignored.push(item.to_owned()),
            None => plain.push(item),
        }
    }
    ignored.extend(plain.iter().skip(3).map(|item| (*item).to_owned()));
    let mut plain = plain.into_iter();
    let (name, first, second) = (plain.next()?.to_owned(), plain.next(), plain.next());
    let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    let text_strength = text.or(first).map_or(Some(1.0), number)?;
    let strength = unet.or(second).map_or(Some(text_strength), number)?;
    Some(LoraTag { name, text_strength, strength, ignored })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn tags_equal_the_reference() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/specs/prompt_schedule.json")).unwrap();
        for case in golden["networks"].as_array().unwrap() {
            let tags = networks(case["prompt"].as_str().unwrap());
            let lora = |LoraTag { name, text_strength, strength, .. }: &LoraTag| json!({ "name": name, "te": text_strength, "unet": strength });
            let loras: Vec<Value> = tags.loras.iter().map(lora).collect();
            let read = json!({ "prompt": case["prompt"], "text": tags.text, "lora": loras, "ignored": tags.ignored });
            assert_eq!(read, *case);
        }
    }

    #[test]
    fn parts_of_a_tag_without_a_meaning_are_kept() {
        let tags = networks("<lora:ink:1:0.5:16:out=0.3>");
        assert_eq!(tags.loras[0].ignored, ["out=0.3", "16"]);
        let many = networks(&"<a:".repeat(20_000));
        assert_eq!(many.text.len(), 60_000, "a text without an end of a tag");
    }
}
