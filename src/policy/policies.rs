//! A snapshot of all policies: every application's rules, every runner profile, the key hashes.
//!
//! Owns look-up and loading. A snapshot is immutable; a reload makes a new one ([`super::Desk`] swaps it).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::app_rules::AppRules;
use super::compile::{self, KeyHashes};
use super::document::{AppDocument, ModelsDocument, Problem, read_document};
use super::folder::Folder;
use super::profile::{Profiles, RunnerProfile};
use crate::domain::{AppName, ModelName};

/// Policies that were read and found right.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    default: Arc<AppRules>,
    apps: HashMap<AppName, Arc<AppRules>>,
    profiles: Profiles,
    key_hashes: Vec<(AppName, [u8; 32])>,
}

impl Policies {
    /// The policies that hold where there is no folder: the built-in defaults for everyone.
    #[must_use]
    pub fn built_in() -> Self {
        Self::default()
    }

    /// Reads and compiles a folder.
    ///
    /// # Errors
    /// Every problem of every file, in order of file and line.
    pub fn load(dir: &Path) -> Result<Self, Vec<Problem>> {
        Self::compile(&Folder::read(dir))
    }

    /// Compiles a folder as it was read.
    ///
    /// # Errors
    /// Every problem of every file, in order of file and line.
    pub fn compile(folder: &Folder) -> Result<Self, Vec<Problem>> {
        let mut problems = folder.problems();
        let mut policies = Self::built_in();
        let mut written_apps = Vec::new();
        for (path, bytes) in folder.files.iter().filter_map(|(path, read)| Some((path, read.as_ref().ok()?))) {
            match path.file_stem().and_then(|stem| stem.to_str()) {
                Some("default") => policies.default = Arc::new(default_rules(path, bytes, &mut problems)),
                Some("models") => {
                    let written: Option<ModelsDocument> = read_document(path, bytes, &mut problems);
                    if let Some(models) = written.and_then(|document| document.models) {
                        policies.profiles = Profiles::compile(&models.value, &mut problems);
                    }
                }
                stem => {
                    let app = app_name(path, stem.unwrap_or_default(), &mut problems);
                    let written: Option<AppDocument> = read_document(path, bytes, &mut problems);
                    written_apps.extend(app.zip(written));
                }
            }
        }
        policies.add_apps(&written_apps, &mut problems);
        problems.sort_by(Problem::by_place);
        if problems.is_empty() { Ok(policies) } else { Err(problems) }
    }

    fn add_apps(&mut self, written: &[(AppName, AppDocument)], problems: &mut Vec<Problem>) {
        let mut hashes = KeyHashes::default();
        for (app, document) in written {
            let rules = compile::app_rules(document, &self.default, problems);
            hashes.add(app, document, problems);
            self.apps.insert(app.clone(), Arc::new(rules));
        }
        self.key_hashes = hashes.into_sorted();
    }

    /// The rules of an application; those of `default.toml` for one without a file.
    #[must_use]
    pub fn app(&self, app: &AppName) -> Arc<AppRules> {
        Arc::clone(self.apps.get(app).unwrap_or(&self.default))
    }

    /// The applications that have a file, with their rules, in order of name.
    #[must_use]
    pub fn apps(&self) -> Vec<(&AppName, &Arc<AppRules>)> {
        let mut apps: Vec<_> = self.apps.iter().collect();
        apps.sort_by_key(|(name, _)| *name);
        apps
    }

    /// Whether any application has a file: from then on callers need a key.
    #[must_use]
    pub fn has_app_files(&self) -> bool {
        !self.apps.is_empty()
    }

    /// The runner profile of a model.
    #[must_use]
    pub fn profile(&self, name: &ModelName) -> Arc<RunnerProfile> {
        self.profiles.of(name)
    }

    /// Every runner profile that was written.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<RunnerProfile>> {
        self.profiles.all()
    }

    /// Key hashes (SHA-256) carried by policy files, with their applications.
    pub fn key_hashes(&self) -> impl Iterator<Item = (&AppName, [u8; 32])> {
        self.key_hashes.iter().map(|(app, hash)| (app, *hash))
    }
}

fn default_rules(path: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> AppRules {
    let written: AppDocument = read_document(path, bytes, problems).unwrap_or_default();
    if let Some(hashes) = &written.key_hashes {
        let message = "a key stands for one application: move key_hashes to that application's own file";
        problems.push(hashes.place.problem("", message));
    }
    compile::app_rules(&written, &AppRules::default(), problems)
}

fn app_name(path: &Path, stem: &str, problems: &mut Vec<Problem>) -> Option<AppName> {
    match AppName::parse(stem) {
        Ok(app) => Some(app),
        Err(why) => {
            problems.push(Problem::whole(path, "", stem, format!("the file's name is the application's: {why}")));
            None
        }
    }
}
