//! Files to write: checked before a run that may take an hour, and written without replacing other files.

use crate::console;
use crate::failure::Failure;
use impasto::Error;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Extensions of files that hold a picture.
pub const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// A file of the command line, and the option that names the file.
#[derive(Clone, Debug)]
pub struct Named {
    pub option: &'static str,
    pub file: PathBuf,
}

impl Named {
    pub fn new(option: &'static str, file: impl Into<PathBuf>) -> Self {
        Self { option, file: file.into() }
    }
}

/// Treatment of a name that another file has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// An error before the run, for a name that the user gave.
    Refuse,
    /// A count after the name, for a name that the program chose.
    Count,
    /// The file is replaced, because the user allows it.
    Replace,
}

impl IfTaken {
    /// Returns the treatment for a name that the user gave.
    pub const fn given(overwrite: bool) -> Self {
        if overwrite { Self::Replace } else { Self::Refuse }
    }
}

/// A file to write.
#[derive(Clone, Debug)]
pub struct OutputFile {
    pub named: Named,
    pub if_taken: IfTaken,
}

impl OutputFile {
    /// Returns the file of `--output`. `chosen` is the file if the user gives none. Its name is also used inside a
    /// folder that the user gives.
    pub fn new(given: Option<&Path>, chosen: PathBuf, overwrite: bool) -> Self {
        let (file, is_chosen) = match given {
            None => (chosen, true),
            Some(folder) if folder.is_dir() => (folder.join(chosen.file_name().unwrap_or_default()), true),
            Some(file) => (file.into(), false),
        };
        let if_taken = if is_chosen && !overwrite { IfTaken::Count } else { IfTaken::given(overwrite) };
        Self { named: Named::new("--output", file), if_taken }
    }

    /// Returns a file with a name that the user gave.
    pub fn given(option: &'static str, file: impl Into<PathBuf>, overwrite: bool) -> Self {
        Self { named: Named::new(option, file), if_taken: IfTaken::given(overwrite) }
    }

    /// Returns this output under another name.
    pub fn at(&self, file: PathBuf) -> Self {
        Self { named: Named { file, ..self.named }, ..*self }
    }

    /// Saves the file and returns its name. `replace` writes a file, and `create` writes a file unless the name is
    /// taken. A name that was taken since the command began gets a count, so that no picture is lost.
    pub fn save(
        &self,
        replace: impl Fn(&Path) -> impasto::Result<()>,
        create: impl Fn(&Path) -> impasto::Result<()>,
    ) -> Result<PathBuf, Failure> {
        let file = &self.named.file;
        if self.if_taken == IfTaken::Replace {
            replace(file)?;
            return Ok(file.clone());
        }
        let names = (2_u64..).map(|count| marked(file, &[count]));
        for name in std::iter::once(file.clone()).chain(names).filter(|name| !is_taken(name)) {
            match create(&name) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                saved => {
                    saved?;
                    if self.if_taken == IfTaken::Refuse && name != *file {
                        let (taken, name) = (file.display(), name.display());
                        console::tell(format_args!("  note: {taken} was written meanwhile; this file is {name}"));
                    }
                    return Ok(name);
                }
            }
        }
        Err(Failure::Message(format!("{}: every name is taken; choose another folder", file.display())))
    }
}

/// Returns the path of a PNG in the folder of `file`, with `ending` added to the file's name.
pub fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_os_string();
    name.push(ending);
    name.push(".png");
    file.with_file_name(name)
}

/// Adds numbers to the name of a file, before its extension: `FILE-LINE-SEED.EXTENSION`.
pub fn marked(file: &Path, numbers: &[u64]) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_os_string();
    numbers.iter().for_each(|number| name.push(format!("-{number}")));
    if let Some(extension) = file.extension() {
        name.push(".");
        name.push(extension);
    }
    file.with_file_name(name)
}

/// Checks that the name of a file ends in one of the extensions of pictures, such as `png`.
pub fn check_extension(Named { option, file }: &Named, extensions: &[&str]) -> Result<(), Failure> {
    if has_extension(file, extensions) {
        return Ok(());
    }
    let expected = extensions.iter().map(|known| format!(".{known}")).collect::<Vec<_>>().join(" or ");
    let problem = format!("{option} is \"{}\"; expected a name that ends in {expected}", file.display());
    Err(Failure::CommandLine(problem))
}

/// Returns true if the name of a file ends in one of the extensions, in small or capital letters.
pub fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    file.extension().is_some_and(|extension| extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Checks the files of a command before its run:
///
/// - inputs are there;
/// - the folders of outputs are there and can be written to;
/// - no output is an input or another output, under any name of the file;
/// - no output is a file in a folder that is an input, such as the folder of a model;
/// - no output replaces a file, unless the user allows it.
pub fn check(outputs: &[OutputFile], inputs: &[Named]) -> Result<(), Failure> {
    let folders: BTreeSet<&Path> = outputs.iter().map(|output| folder(&output.named.file)).collect();
    folders.into_iter().try_for_each(check_folder)?;
    let mut read = HashMap::new();
    for Named { option, file } in inputs {
        fs::metadata(file).map_err(|source| Error::Io { path: file.clone(), source })?;
        read.insert(canonical(file), *option);
    }
    let mut written = HashMap::new();
    for OutputFile { named: Named { option, file }, if_taken } in outputs {
        let (place, shown) = (canonical(file), file.display());
        // A counted name and a new name replace no file, and so no input.
        let replaces = *if_taken != IfTaken::Count && is_taken(file);
        let input = read.get(&place).copied().filter(|_| replaces);
        if let Some(other) = input.or_else(|| written.insert(place.clone(), *option)) {
            let problem = format!("{shown} is both {other} and {option}; give {option} another file");
            return Err(Failure::CommandLine(problem));
        }
        // A link in a folder is replaced itself, and so its own place counts, too.
        let inside = |place: &Path| place.ancestors().find_map(|folder| read.get(folder));
        if replaces && let Some(folder) = inside(&place).or_else(|| inside(&entry(file)?)) {
            let problem = format!("{shown} is a file in the folder of {folder}; give {option} another file");
            return Err(Failure::CommandLine(problem));
        }
        check_name(file, option, *if_taken)?;
    }
    Ok(())
}

/// Checks that a file may get its name.
fn check_name(file: &Path, option: &str, if_taken: IfTaken) -> Result<(), Failure> {
    let shown = file.display();
    match if_taken {
        IfTaken::Count => Ok(()),
        _ if !is_taken(file) => Ok(()),
        // Writing replaces the entry of the folder, and so would remove a device or a pipe.
        _ if !file.is_file() => Err(Failure::Message(format!(
            "{shown} is no regular file and cannot be replaced; give another name with {option}"
        ))),
        IfTaken::Refuse => Err(Failure::Message(format!(
            "{shown} exists already; give another name with {option}, or replace the file with --overwrite"
        ))),
        IfTaken::Replace => Ok(()),
    }
}

/// Checks that a folder exists and that files can be created in the folder.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    if !folder.is_dir() {
        return Err(Failure::Message(format!("{shown}: this folder does not exist; create it first")));
    }
    let created = tempfile::tempfile_in(folder).map(drop);
    created.map_err(|error| Failure::Message(format!("{shown}: no file can be written to this folder: {error}")))
}

/// Returns the folder of a file.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns true if a file, a folder or a link has the name.
fn is_taken(name: &Path) -> bool {
    fs::symlink_metadata(name).is_ok()
}

/// Returns the one path that all names of a file lead to. The file need not exist yet.
fn canonical(file: &Path) -> PathBuf {
    file.canonicalize().ok().or_else(|| entry(file)).unwrap_or_else(|| file.into())
}

/// Returns the one path of a file's entry in its folder, which may be a link.
fn entry(file: &Path) -> Option<PathBuf> {
    Some(folder(file).canonicalize().ok()?.join(file.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: Result<(), Failure>) -> String {
        failure.unwrap_err().to_string()
    }

    #[test]
    fn numbers_stand_before_the_extension() {
        let marked = |numbers: &[u64]| marked(Path::new("folder/out.png"), numbers).display().to_string();
        assert_eq!(marked(&[]), "folder/out.png");
        assert_eq!(marked(&[3, 8]), "folder/out-3-8.png");
        assert_eq!(super::marked(Path::new("out"), &[1]).display().to_string(), "out-1");
    }

    #[test]
    fn file_that_exists_is_replaced_only_if_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        let check = |overwrite| check(&[OutputFile::given("--output", &file, overwrite)], &[]);
        assert!(check(false).is_ok());
        fs::write(&file, "old").unwrap();
        assert!(text(check(false)).contains("a.png exists already; give another name with --output"));
        assert!(check(true).is_ok());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(text(check(true)).contains("is no regular file"));
    }

    #[test]
    fn outputs_differ_from_inputs_and_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).unwrap();
        fs::write(path("start.png"), "a picture").unwrap();
        let input = [Named::new("--start", path("start.png"))];
        let report = OutputFile::given("--report", path("inner/../new.png"), true);
        let output = |file: PathBuf| OutputFile::given("--output", file, true);
        let message = text(check(&[output(path("new.png")), report.clone()], &input));
        assert!(message.contains("is both --output and --report; give --report another file"), "{message}");
        let message = text(check(&[output(path("inner/../start.png"))], &input));
        assert!(message.contains("is both --start and --output"), "{message}");
        assert!(check(&[output(path("other.png")), report], &input).is_ok());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(path("start.png"), path("link.png")).unwrap();
            assert!(text(check(&[output(path("link.png"))], &input)).contains("--start"));
            assert!(
                text(check(&[output(path("start.png"))], &[Named::new("--mask", path("link.png"))])).contains("--mask")
            );
        }
        let missing = check(&[output(path("other.png"))], &[Named::new("--map", path("none.png"))]);
        assert!(text(missing).contains("none.png"));
    }

    #[test]
    fn files_in_the_folder_of_a_model_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("model/unet")).unwrap();
        fs::write(path("blob"), "weights").unwrap();
        fs::write(path("model/unet/config.json"), "{}").unwrap();
        let input = [Named::new("--model", path("model"))];
        let check = |name: &str| check(&[OutputFile::given("--report", path(name), true)], &input);
        let message = text(check("model/../model/unet/config.json"));
        assert!(message.contains("config.json is a file in the folder of --model; give --report another"), "{message}");
        for free in ["model/new.html", "blob", "models"] {
            assert!(check(free).is_ok(), "{free}");
        }
        let counted = OutputFile::new(Some(&path("model/unet")), "config.json".into(), false);
        assert!(super::check(&[counted], &input).is_ok());
        #[cfg(unix)]
        {
            // The cache of the hub has links in the folder of a model.
            std::os::unix::fs::symlink(path("blob"), path("model/weights")).unwrap();
            assert!(text(check("model/weights")).contains("the folder of --model"));
            std::os::unix::fs::symlink(path("model"), path("link")).unwrap();
            assert!(text(check("link/unet/config.json")).contains("the folder of --model"));
        }
    }

    #[test]
    fn name_taken_during_the_run_gets_a_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        let create = |file: &Path| {
            let created = fs::OpenOptions::new().write(true).create_new(true).open(file);
            created.map(drop).map_err(|source| Error::Io { path: file.into(), source })
        };
        let save = |if_taken| {
            let output = OutputFile { named: Named::new("--output", &file), if_taken };
            output.save(|file| fs::write(file, "new").map_err(Error::custom), create).unwrap()
        };
        let names = [IfTaken::Refuse, IfTaken::Count, IfTaken::Refuse].map(save);
        assert_eq!(names, ["a.png", "a-2.png", "a-3.png"].map(|name| folder.path().join(name)));
        assert_eq!(save(IfTaken::Replace), file);
        assert_eq!((fs::read(&file).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"new".to_vec(), 3));
    }
}
