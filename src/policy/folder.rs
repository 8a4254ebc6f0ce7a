//! The folder of policy files as it is now: names and bytes, so that "has it changed?" and "is it right?" look at the same thing.
//!
//! Owns reading the folder. It does not own what the bytes say (`compile`) or when to look again (`config::watch`).
//! Only `*.toml` is read; hidden files (an editor's, or a mounted volume's `..data`) are left alone, and what else looks as
//! if it were meant as a policy (`chat.TOML`, `chat.yaml`) is named, so that somebody can say so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::document::Problem;

/// Larger than any policy file; a bound on what one file may cost.
const LARGEST: u64 = 1 << 20;

/// The files of a policies folder. Equal folders hold equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    path: PathBuf,
    /// Each `*.toml`, or why it could not be read; in order of name.
    pub(super) files: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    /// Files that look meant and are not read.
    strays: BTreeSet<PathBuf>,
    /// Why the folder itself could not be read.
    trouble: Option<String>,
}

impl Folder {
    /// Reads the folder. Trouble is kept as part of the result: it becomes a problem when the folder is compiled.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let mut folder = Self { path: path.to_owned(), files: BTreeMap::new(), strays: BTreeSet::new(), trouble: None };
        if let Err(error) = folder.fill() {
            folder.trouble = Some(error.to_string());
        }
        folder
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files that look meant as policies and are not read, because their names do not end in `.toml`; in order of name.
    pub fn strays(&self) -> impl Iterator<Item = &Path> {
        self.strays.iter().map(PathBuf::as_path)
    }

    fn fill(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let toml = path.extension().is_some_and(|extension| extension == "toml");
            if toml && !hidden && !path.is_dir() {
                let bytes = read_file(&path).map_err(|error| error.to_string());
                self.files.insert(path, bytes);
            } else if !toml && !hidden && !is_leftover(&path) && path.is_file() {
                self.strays.insert(path);
            }
        }
        Ok(())
    }

    /// The problems of reading: a folder or a file that cannot be read.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let folder = self.trouble.iter().map(|why| {
            let message =
                format!("the policies folder cannot be read ({why}): create it, or name another with --policies");
            Problem::whole(&self.path, "", "", message)
        });
        let files = self.files.iter().filter_map(|(path, read)| {
            let why = read.as_ref().err()?;
            Some(Problem::whole(path, "", "", format!("cannot be read: {why}")))
        });
        folder.chain(files).collect()
    }
}

/// A README, or what editors and people leave behind.
fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    const ENDS: [&str; 8] = ["~", "#", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp"];
    name.starts_with("readme") || ENDS.iter().any(|end| name.ends_with(end))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // to open a pipe is to wait for somebody who writes to it
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("larger than 1MiB, which no policy file needs"));
    }
    Ok(bytes)
}
