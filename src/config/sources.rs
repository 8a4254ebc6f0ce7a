//! The sources beside the file: flags and environment variables, and how one of them is asked.
//!
//! Owns the names of flags and variables as they appear in problems. The only reader of the environment.

use std::path::PathBuf;

use crate::policy::{Problem, show_text};

/// What the command line said; `None` (or empty) leaves the setting to the environment, the file, the default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen ADDRESS`.
    pub listen: Option<String>,
    /// `--admin-listen ADDRESS`.
    pub admin_listen: Option<String>,
    /// `--origins ORIGIN`, repeatable; each may hold several, separated by commas.
    pub origins: Vec<String>,
    /// `--hosts NAME`, likewise.
    pub hosts: Vec<String>,
    /// `--tls-cert FILE`.
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key FILE`.
    pub tls_key: Option<PathBuf>,
    /// `--ollama URL`, repeatable; each may hold several, separated by commas.
    pub ollama: Vec<String>,
    /// `--policies DIR`.
    pub policies: Option<PathBuf>,
    /// `--state DIR`.
    pub state: Option<PathBuf>,
    /// `--log FILTER`.
    pub log: Option<String>,
    /// `--drain TIME`.
    pub drain: Option<String>,
    /// `--num-parallel N`.
    pub num_parallel: Option<String>,
}

/// A variable of this process's environment; `None` when it is not set or not text.
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Asks flag, then variable; gathers problems.
pub(super) struct Sources<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) problems: Vec<Problem>,
}

impl Sources<'_> {
    /// The value of a variable; quotes and blanks around it do not count, and an empty one is as good as none.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let value = (self.env)(name)?;
        let value = value.trim().trim_matches(['"', '\'']).trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// What the flag says, else the variable. Something unreadable is a problem and counts as unsaid.
    pub(super) fn pick<T>(
        &mut self,
        flag: (&str, Option<&str>),
        variable: &str,
        parse: impl Fn(&str) -> Option<T>,
        allowed: &str,
    ) -> Option<T> {
        let (source, name, text) = match (flag, self.variable(variable)) {
            ((name, Some(text)), _) => ("command line", name, text.to_owned()),
            (_, Some(text)) => ("environment", variable, text),
            _ => return None,
        };
        let parsed = parse(&text);
        if parsed.is_none() {
            let shown = show_text(&text);
            let message = format!("{shown} is not allowed: use {allowed}");
            self.problems.push(Problem::whole(source, name, &shown, message));
        }
        parsed
    }
}
