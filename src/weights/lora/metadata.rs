//! Facts that trainers write into the metadata of a LoRA file.

use crate::json;
use crate::size::Size;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The metadata of a file, by name.
type Metadata = BTreeMap<String, String>;

/// Largest number of tags that are returned.
const MOST_TAGS: usize = 10;
/// Names under which trainers write the resolution of training pictures.
const RESOLUTIONS: [&str; 2] = ["modelspec.resolution", "ss_resolution"];

/// Returns the words that a prompt needs: the trigger phrase, else the words that kohya's trainer takes from the names
/// of folders, such as `10_inky boat`.
///
/// Source: Stability AI's ModelSpec; `ss_datasets` and `ss_dataset_dirs` of kohya's sd-scripts.
pub(super) fn trigger_words(metadata: &Metadata) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let phrase = metadata.get("modelspec.trigger_phrase").map(|phrase| split(phrase)).unwrap_or_default();
    if !phrase.is_empty() {
        return phrase;
    }
    let json = |name: &str| metadata.get(name).and_then(|text| json::parse::<Value>(text).ok());
    let sets = json("ss_datasets");
    let sets = sets.iter().filter_map(Value::as_array).flatten();
    let subsets = sets.filter_map(|set| set.get("subsets")?.as_array()).flatten();
    let classes = subsets.filter_map(|subset| Some(subset.get("class_tokens")?.as_str()?.to_owned()));
    let folders = json("ss_dataset_dirs");
    let folders = folders.iter().filter_map(Value::as_object).flat_map(|folders| folders.keys());
    let named = folders.filter_map(|folder| {
        let (repeats, words) = folder.split_once('_')?;
        repeats.parse::<u32>().ok().map(|_| words.to_owned())
    });
    let words: BTreeSet<String> = classes.chain(named).flat_map(|words| split(&words)).collect();
    words.into_iter().collect()
}

/// Returns the most frequent tags of the training pictures, the most frequent one first.
///
/// Source: `ss_tag_frequency` of kohya's sd-scripts, an object of folders with the number of times each tag occurs.
pub(super) fn tags(metadata: &Metadata) -> Vec<String> {
    let Some(Ok(Value::Object(folders))) = metadata.get("ss_tag_frequency").map(json::parse) else { return Vec::new() };
    let mut counts = BTreeMap::<&str, u64>::new();
    for (tag, count) in folders.values().filter_map(Value::as_object).flatten() {
        let sum = counts.entry(tag.trim()).or_default();
        *sum = sum.saturating_add(count.as_u64().unwrap_or_default());
    }
    let mut tags: Vec<_> = counts.into_iter().filter(|(tag, _)| !tag.is_empty()).collect();
    tags.sort_by_key(|&(tag, count)| (Reverse(count), tag));
    tags.into_iter().take(MOST_TAGS).map(|(tag, _)| tag.to_owned()).collect()
}

/// Returns the resolution of the training pictures, which trainers write as `1024x1024`, `(512, 768)` or `512`.
pub(super) fn resolution(metadata: &Metadata) -> Option<Size> {
    let read = |text: &String| {
        let mut sides = text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let width = sides.next()?.parse().ok()?;
        let height = sides.next().map_or(Some(width), |side| side.parse().ok())?;
        Some(Size::new(width, height))
    };
    RESOLUTIONS.iter().find_map(|name| metadata.get(*name).and_then(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, &str)]) -> Metadata {
        entries.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn trigger_phrase_comes_before_names_of_folders() {
        let dirs = ("ss_dataset_dirs", r#"{"10_inky boat, sea": {"n_repeats": 10}, "reg": {}}"#);
        let sets = ("ss_datasets", r#"[{"subsets": [{"class_tokens": "ink"}, {"class_tokens": null}]}]"#);
        assert_eq!(trigger_words(&metadata(&[dirs, sets])), ["ink", "inky boat", "sea"]);
        let phrase = ("modelspec.trigger_phrase", "zzq, ");
        assert_eq!(trigger_words(&metadata(&[dirs, sets, phrase])), ["zzq"]);
        assert_eq!(trigger_words(&metadata(&[("ss_datasets", "[{"), ("ss_dataset_dirs", "7")])), [""; 0]);
    }

    #[test]
    fn tags_are_sorted_by_their_sum_over_folders() {
        let text = r#"{"a": {"1girl": 5, " hat ": 9, "": 99}, "b": {"1girl": 6, "sea": 2.5}, "c": 3}"#;
        assert_eq!(tags(&metadata(&[("ss_tag_frequency", text)])), ["1girl", "hat", "sea"]);
        assert_eq!(tags(&metadata(&[("ss_tag_frequency", "[1]")])), [""; 0]);
    }

    #[test]
    fn resolutions_of_all_trainers_are_read() {
        let read = |text: &str| resolution(&metadata(&[("ss_resolution", text)]));
        assert_eq!(read("(512, 768)"), Some(Size::new(512, 768)));
        assert_eq!(read("1024x1024"), Some(Size::new(1024, 1024)));
        assert_eq!(read("512"), Some(Size::new(512, 512)));
        assert_eq!(read("None"), None);
        assert_eq!(read("99999999999"), None);
    }
}
