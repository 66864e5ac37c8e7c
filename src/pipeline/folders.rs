//! [`Folders`]: the folders of a pipeline in which prompts find LoRAs and learned words by their names.

use crate::error::{Error, Result};
use crate::wording::{Note, Remedy};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Endings of files of weights.
const ENDINGS: [&str; 5] = ["safetensors", "ckpt", "pt", "pth", "bin"];
/// Largest number of files and folders of a listing.
const MOST_FILES: usize = 20_000;
/// Largest number of folders inside each other.
const DEEPEST: usize = 8;
/// Largest number of names in a message.
const MOST_NAMED: usize = 5;

/// The folders in which prompts find LoRAs and learned words by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Folders {
    pub loras: Vec<PathBuf>,
    pub embeddings: Vec<PathBuf>,
}

/// A file of weights in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Name of the file without its ending.
    pub name: String,
    /// Path of the file below its folder, with `/` between names and without its ending.
    path: String,
    pub file: PathBuf,
}

impl Folders {
    pub(super) const NONE: Self = Self { loras: Vec::new(), embeddings: Vec::new() };

    /// Returns the file of the LoRA with a name: the file's name without its ending, or its path below a folder.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that no file has, with the nearest names, and for a name that several files
    /// have; the errors of reading a folder.
    pub(super) fn lora(&self, name: &str) -> Result<PathBuf> {
        let wrong = |expected: Note| Err(Error::parameter("the LoRA's name", format!("{name:?}"), expected));
        if self.loras.is_empty() {
            return wrong(Remedy::LoraFolder.after("no LoRA, because no folder of LoRAs is named"));
        }
        let all = list(&self.loras)?;
        let wanted = name.trim();
        let is_alike = |known: &&Named| {
            let equal = |text: &str| text.to_lowercase() == wanted.to_lowercase();
            equal(&known.name) || equal(&known.path)
        };
        let with = |is_it: &dyn Fn(&&Named) -> bool| all.iter().filter(is_it).collect::<Vec<_>>();
        // A path comes first, because the path of a file that lies in the folder itself is its name.
        let mut found = with(&|known| known.path == wanted);
        if found.is_empty() {
            found = with(&|known| known.name == wanted);
        }
        if found.is_empty() {
            found = with(&is_alike);
        }
        match found.as_slice() {
            [one] => Ok(one.file.clone()),
            [] => wrong(match nearest(wanted, &all) {
                names if names.is_empty() => "a file in a folder of LoRAs, which have none".into(),
                names => format!("a name of a file in a folder of LoRAs, such as {}", names.join(", ")).into(),
            }),
            several => {
                let paths = several.iter().take(MOST_NAMED).map(|known| format!("{:?}", known.path));
                wrong(format!("one of several files: {}", paths.collect::<Vec<_>>().join(", ")).into())
            }
        }
    }

    /// Returns the names by which [`lora`](Self::lora) finds the files: their names, or paths where names are equal.
    pub(super) fn lora_names(&self) -> Result<Vec<String>> {
        let all = list(&self.loras)?;
        let mut counts = BTreeMap::<&str, usize>::new();
        all.iter().for_each(|known| *counts.entry(&known.name).or_default() += 1);
        let is_only = |known: &Named| counts.get(known.name.as_str()) == Some(&1);
        Ok(all.iter().map(|known| if is_only(known) { known.name.clone() } else { known.path.clone() }).collect())
    }

    /// Returns the files of learned words.
    pub(super) fn embeddings(&self) -> Result<Vec<Named>> {
        list(&self.embeddings)
    }
}

/// Returns the most similar names, the nearest first.
fn nearest(wanted: &str, all: &[Named]) -> Vec<String> {
    let wanted: String = wanted.chars().take(256).collect::<String>().to_lowercase();
    let far = |known: &Named| {
        let name: String = known.name.chars().take(256).collect::<String>().to_lowercase();
        (!name.contains(&wanted), strsim::osa_distance(&name, &wanted))
    };
    let mut names: Vec<&Named> = all.iter().collect();
    names.sort_by_cached_key(|known| far(known));
    names.into_iter().take(MOST_NAMED).map(|known| format!("{:?}", known.name)).collect()
}

/// Lists the files of weights in folders and the folders below them, sorted by their paths.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read; [`Error::Parameter`] for more than 20,000 files.
fn list(folders: &[PathBuf]) -> Result<Vec<Named>> {
    let (mut named, mut seen) = (Vec::new(), 0);
    for root in folders {
        let mut left = vec![(root.clone(), 0)];
        while let Some((folder, depth)) = left.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| Error::io(&folder, error))? {
                let file = entry.map_err(|error| Error::io(&folder, error))?.path();
                seen += 1;
                if seen > MOST_FILES {
                    let expected = format!("at most {MOST_FILES} files and folders; name a smaller folder");
                    return Err(Error::parameter("folder", root.display(), expected));
                }
                if file.is_dir() {
                    left.extend((depth < DEEPEST).then_some((file, depth + 1)));
                } else {
                    named.extend(Named::of(&file, root));
                }
            }
        }
    }
    named.sort_by(|a: &Named, b| a.file.cmp(&b.file));
    Ok(named)
}

impl Named {
    /// Returns a file of weights below a folder; `None` for another file.
    fn of(file: &Path, root: &Path) -> Option<Self> {
        let ending = file.extension()?.to_str()?;
        let name = file.file_stem()?.to_str()?.to_owned();
        let below = file.strip_prefix(root).ok()?.with_extension("");
        let path = below.iter().filter_map(|name| name.to_str()).collect::<Vec<_>>().join("/");
        let is_known = ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending));
        is_known.then(|| Self { name, path, file: file.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, Folders) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("style")).unwrap();
        for file in
            ["ink.safetensors", "ink wash.pt", "style/oil.safetensors", "style/Ink.bin", "note.txt", "v1.5.ckpt"]
        {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let folders = Folders { loras: vec![folder.path().to_owned()], ..Folders::NONE };
        (folder, folders)
    }

    #[test]
    fn names_are_those_of_files_or_paths() {
        let (folder, folders) = folders();
        for (name, file) in [
            ("ink", "ink.safetensors"),
            ("Ink", "style/Ink.bin"),
            ("ink wash", "ink wash.pt"),
            ("oil", "style/oil.safetensors"),
            ("OIL", "style/oil.safetensors"),
            ("style/oil", "style/oil.safetensors"),
            ("v1.5", "v1.5.ckpt"),
        ] {
            assert_eq!(folders.lora(name).unwrap(), folder.path().join(file), "{name}");
        }
        let refused = |name: &str| folders.lora(name).unwrap_err().to_string();
        assert!(refused("inc").contains("\"inc\"; expected a name of a file in a folder of LoRAs, such as \"ink\""));
        assert!(refused("INK").contains("one of several files: \"ink\", \"style/Ink\""), "{}", refused("INK"));
        assert!(refused("../ink").contains("expected a name") && refused("note").contains("expected a name"));
    }

    #[test]
    fn listed_names_are_found() {
        let (folder, folders) = folders();
        assert_eq!(folders.lora_names().unwrap(), ["ink wash", "ink", "Ink", "oil", "v1.5"]);
        fs::write(folder.path().join("style/ink.pt"), "").unwrap();
        let names = folders.lora_names().unwrap();
        assert!(
            names.contains(&"style/ink".into()) && names.iter().all(|name| folders.lora(name).is_ok()),
            "{names:?}"
        );
    }

    #[test]
    fn missing_folders_are_named() {
        let none = Folders::NONE.lora("ink").unwrap_err();
        assert_eq!(none.remedy(), Some(Remedy::LoraFolder));
        let folders = Folders { loras: vec!["/nowhere/at/all".into()], ..Folders::NONE };
        assert!(folders.lora("ink").unwrap_err().to_string().contains("/nowhere/at/all"));
    }
}
