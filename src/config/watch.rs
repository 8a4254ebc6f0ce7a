//! The watch on the policies folder: says so when its files have changed, with what they now mean.
//!
//! Owns when to look. It does not own what is in the files (`policy::Folder`) nor what to do with the news (`app`).
//! The folder is watched, not its files, because editors and mounted volumes replace files; a poll stands behind the
//! notifications, so that a folder that is removed and made again, or a file system that does not notify, is still seen.
//! A change is told once it has stood still for [`QUIET`]. Dropping the future ends the watch.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::policy::{Folder, Policies, Problem};

/// A change is believed when the files stay the same for this long.
const QUIET: Duration = Duration::from_millis(100);
/// How often the folder is looked at without any notification.
const POLL: Duration = Duration::from_secs(2);
/// A folder that never stands still is taken as it is after this many looks.
const LOOKS: usize = 20;

/// Watches the folder from which `seen` was read, and calls `on_change` whenever its files differ from what was told last.
/// Never returns.
pub async fn watch(mut seen: Folder, mut on_change: impl FnMut(Result<Policies, Vec<Problem>>)) {
    let (hint, mut hints) = mpsc::channel(1);
    let mut watcher = arm(seen.path(), &hint);
    loop {
        // hint or timeout, the answer is to look; `hint` lives here, so the channel never closes
        let _ = timeout(POLL, hints.recv()).await;
        if look(&seen).await == seen {
            continue;
        }
        let settled = settle(&seen).await;
        // the folder may be a new one of the same name
        drop(watcher);
        watcher = arm(seen.path(), &hint);
        if settled != seen {
            seen = settled;
            on_change(Policies::compile(&seen));
        }
    }
}

/// A watcher that hints at changes; none where the folder is not there or cannot be watched (the poll remains).
fn arm(folder: &Path, hint: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let hint = hint.clone();
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

async fn settle(seen: &Folder) -> Folder {
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

/// The folder as it is now; as it was when reading it could not be finished.
async fn look(seen: &Folder) -> Folder {
    let path = seen.path().to_owned();
    tokio::task::spawn_blocking(move || Folder::read(&path)).await.unwrap_or_else(|_| seen.clone())
}
