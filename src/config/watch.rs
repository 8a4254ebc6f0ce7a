//! The watch on what the operator writes: says so when the policies folder, or the settings file, is no longer as it was.
//!
//! Owns when to look. It does not own what is in the files (`policy::Folder`, `settings`) nor what to do with the news
//! (`app`). A folder is watched, not its files, because editors and mounted volumes replace files; a poll stands behind the
//! notifications, so that a folder that is removed and made again, or a file system that does not notify, is still seen.
//! A change is told once it has stood still for [`QUIET`]. Dropping the future ends the watch.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::settings::SettingsFile;
use crate::policy::Folder;

/// A change is believed when the files stay the same for this long.
const QUIET: Duration = Duration::from_millis(100);
/// How often it is looked at without any notification.
const POLL: Duration = Duration::from_secs(2);
/// What never stands still is taken as it is after this many looks.
const LOOKS: usize = 20;

/// What was seen of something on the disk; equal ones hold equal bytes.
pub trait Watched: Clone + PartialEq + Send + 'static {
    /// The folder that notifies of changes; where there is none, the poll alone sees them.
    fn folder(&self) -> Option<&Path>;

    /// The same thing as it is now.
    fn now(&self) -> Self;
}

impl Watched for Folder {
    fn folder(&self) -> Option<&Path> {
        Some(self.path())
    }

    fn now(&self) -> Self {
        Self::read(self.path())
    }
}

impl Watched for SettingsFile {
    /// Beside it stand other files, maybe our own log, whose changes are no hint.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// A file that is missing for a moment is being replaced; a pipe can be read but once.
    fn now(&self) -> Self {
        let there = std::fs::metadata(&self.path).is_ok_and(|about| about.is_file());
        let bytes = there.then(|| std::fs::read(&self.path).ok()).flatten();
        Self { path: self.path.clone(), bytes: bytes.unwrap_or_else(|| self.bytes.clone()) }
    }
}

/// Calls `on_change` whenever what is on the disk differs from what was told last, at first from `seen`. Never returns.
pub async fn watch<W: Watched>(mut seen: W, mut on_change: impl FnMut(&W)) {
    let (hint, mut hints) = mpsc::channel(1);
    let mut watcher = arm(seen.folder(), &hint);
    loop {
        // hint or timeout, the answer is to look; `hint` lives here, so the channel never closes
        let _ = timeout(POLL, hints.recv()).await;
        if look(&seen).await == seen {
            continue;
        }
        let settled = settle(&seen).await;
        // the folder may be a new one of the same name
        drop(watcher);
        watcher = arm(seen.folder(), &hint);
        if settled != seen {
            seen = settled;
            on_change(&seen);
        }
    }
}

/// A watcher that hints at changes; none where the folder is not there or cannot be watched (the poll remains).
fn arm(folder: Option<&Path>, hint: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let (folder, hint) = (folder?, hint.clone());
    let tell = move |event: notify::Result<notify::Event>| {
        // our own reading is no news; a full channel already says all there is to say
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = hint.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

async fn settle<W: Watched>(seen: &W) -> W {
    let mut last = look(seen).await;
    for _ in 0..LOOKS {
        sleep(QUIET).await;
        let next = look(seen).await;
        if next == last {
            break;
        }
        last = next;
    }
    last
}

/// It as it is now; as it was when looking could not be finished.
async fn look<W: Watched>(seen: &W) -> W {
    let before = seen.clone();
    tokio::task::spawn_blocking(move || before.now()).await.unwrap_or_else(|_| seen.clone())
}
