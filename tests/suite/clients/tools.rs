//! Python and Node with the pinned clients, installed once into `target/clients/`.
//!
//! A marker that holds what was installed is written last, so that a changed list, another interpreter or an install
//! that was broken off starts over; a file lock keeps test processes that run at the same time apart.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::script::Runner;

/// An interpreter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tool {
    Python,
    Node,
    /// Python with what people put on top of the official clients: heavy, so apart.
    OnTop,
}

/// Why there is no runner.
#[derive(Debug)]
enum Lack {
    /// It is not on this machine.
    Missing(String),
    /// It is, but the clients could not be installed.
    Broken(String),
}

impl Tool {
    /// The interpreter with its clients; `None`, and a line that says so, where it is missing and may be.
    ///
    /// It blocks while it installs: nothing else runs in the test that asks.
    pub(super) fn ready(self) -> Option<&'static Runner> {
        static PYTHON: OnceLock<Result<Runner, Lack>> = OnceLock::new();
        static NODE: OnceLock<Result<Runner, Lack>> = OnceLock::new();
        static ON_TOP: OnceLock<Result<Runner, Lack>> = OnceLock::new();
        let runner = match self {
            Self::Python => PYTHON.get_or_init(|| install("python", "Python 3.11 or newer", python)),
            Self::OnTop => ON_TOP.get_or_init(|| install("on_top", "Python 3.11 or newer", python)),
            Self::Node => NODE.get_or_init(|| install("js", "Node 20 or newer, with npm,", node)),
        };
        match runner {
            Ok(runner) => Some(runner),
            Err(Lack::Missing(_)) if !required() => None,
            Err(Lack::Missing(why) | Lack::Broken(why)) => panic!("{why}"),
        }
    }
}

/// Whether a missing interpreter is a failure.
fn required() -> bool {
    std::env::var("GAUCHO_REQUIRE_CLIENTS").as_deref() == Ok("1")
}

/// Installs into `target/clients/<folder>` what `tests/clients/<folder>` pins, unless it is there.
fn install(folder: &str, wanted: &str, make: fn(&Path, &Path) -> Result<Runner, Lack>) -> Result<Runner, Lack> {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(folder);
    // cargo's folder for tests lies in the target folder, wherever that is
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients").join(folder);
    fs::create_dir_all(&into).unwrap();
    let lock = File::create(into.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    make(&pinned, &into).map_err(|lack| match lack {
        Lack::Missing(why) => {
            let why = format!("{wanted} is needed for the official clients: {why}");
            if !required() {
                // past libtest's capture, which hides what passing tests print
                let _ = writeln!(std::io::stderr(), "SKIPPED tests in clients::{folder}_*: {why}");
            }
            Lack::Missing(why)
        }
        Lack::Broken(why) => Lack::Broken(format!("the clients could not be installed into {}: {why}", into.display())),
    })
}

fn python(pinned: &Path, into: &Path) -> Result<Runner, Lack> {
    let facts = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11), sys.version; \
                 print(sys.version, sys.base_prefix)";
    let interpreter = run(Command::new("python3").args(["-c", facts])).map_err(Lack::Missing)?;
    let list = pinned.join("requirements.txt");
    let bin = into.join("venv/bin");
    once(into, &format!("{interpreter}{}", read(&list)), || {
        let _ = fs::remove_dir_all(into.join("venv"));
        run(Command::new("python3").args(["-m", "venv"]).arg(into.join("venv")))?;
        let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r"];
        run(Command::new(bin.join("python")).args(pip).arg(&list))
    })?;
    Ok(Runner { program: bin.join("python"), scripts: pinned.to_owned() })
}

fn node(pinned: &Path, into: &Path) -> Result<Runner, Lack> {
    let facts = "if (parseInt(process.versions.node) < 20) throw process.version; console.log(process.execPath)";
    let program = run(Command::new("node").args(["-e", facts])).map_err(Lack::Missing)?;
    run(Command::new("npm").arg("--version")).map_err(Lack::Missing)?;
    let lists = ["package.json", "package-lock.json"];
    once(into, &format!("{program}{}", read(&pinned.join(lists[1]))), || {
        for list in lists {
            place(&pinned.join(list), into);
        }
        let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(ci).current_dir(into))
    })?;
    // node looks for packages beside the script that imports them
    for entry in fs::read_dir(pinned).unwrap() {
        let script = entry.unwrap().path();
        if script.extension().is_some_and(|extension| extension == "mjs") {
            place(&script, into);
        }
    }
    Ok(Runner { program: PathBuf::from(program.trim()), scripts: into.to_owned() })
}

/// Copies a file that differs, whole or not at all: another test process may be reading the old one.
fn place(file: &Path, into: &Path) {
    let (target, fresh) = (into.join(file.file_name().unwrap()), into.join("fresh"));
    if !target.exists() || read(&target) != read(file) {
        fs::copy(file, &fresh).unwrap();
        fs::rename(fresh, target).unwrap();
    }
}

/// Does it unless the marker says that exactly this was done.
fn once(into: &Path, what: &str, doing: impl FnOnce() -> Result<String, String>) -> Result<(), Lack> {
    let marker = into.join("installed");
    if fs::read_to_string(&marker).is_ok_and(|done| done == what) {
        return Ok(());
    }
    let _ = fs::remove_file(&marker);
    doing().map_err(Lack::Broken)?;
    fs::write(marker, what).unwrap();
    Ok(())
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

/// Runs it; its output, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Err(format!("{command:?}: {}\n{said}{errors}", done.status))
}
