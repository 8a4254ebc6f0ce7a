//! Settings from every source, what each mistake says, and the watch on a real folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::domain::{AppName, GpuName};
use crate::policy::{Folder, KeepAlive, Policies, Problem};

/// Loads settings from the text of a file (none when empty), flags, and variables.
fn load_from(text: &str, flags: Overrides, env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gaucho.toml");
    fs::write(&path, text).unwrap();
    let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let file = (!text.is_empty()).then_some(path.as_path());
    let prefix = format!("{}/", dir.path().display());
    load(file, flags, &lookup).map_err(|found| found.iter().map(|p| p.to_string().replace(&prefix, "")).collect())
}

fn env(env: &[(&str, &str)]) -> Settings {
    load_from("", Overrides::default(), env).unwrap()
}

fn urls(settings: &Settings) -> Vec<&str> {
    settings.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect()
}

#[test]
fn nothing_at_all_is_a_working_configuration() {
    let settings = env(&[]);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:11435");
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:11436");
    assert_eq!(urls(&settings), ["http://127.0.0.1:11434/"]);
    assert_eq!((settings.endpoints[0].name.as_str(), settings.endpoints[0].num_parallel), ("127.0.0.1:11434", 1));
    assert_eq!(settings.policies, Some(PathBuf::from("policies")), "tests run where the shipped folder is");
    assert_eq!(settings.state, Path::new("/var/lib/gaucho"));
    assert_eq!((settings.log.as_str(), settings.drain), ("info", Duration::from_secs(300)));
    assert_eq!(settings.upstream.first_event, Duration::from_secs(600));
    assert_eq!((settings.limits.max_queued, settings.limits.max_queued_bytes), (10_000, 1 << 30));
    assert_eq!(settings.keep_alive, None);
}

#[test]
fn flag_beats_environment_beats_file() {
    let file = "listen = \"127.0.0.1:1\"\nollama = \"file:1\"\nlog = \"trace\"\nstate = \"s\"\ndrain = \"1s\"\nnum_parallel = 2";
    let vars = [
        ("GAUCHO_LISTEN", "127.0.0.1:2"),
        ("GAUCHO_OLLAMA", " env-a:2, env-b:2 ,"),
        ("GAUCHO_LOG", ""),
        ("GAUCHO_DRAIN", "90"),
    ];
    let flags = Overrides { listen: Some("127.0.0.1:3".into()), ..Overrides::default() };
    let settings = load_from(file, flags, &vars).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:3");
    assert_eq!(urls(&settings), ["http://env-a:2/", "http://env-b:2/"]);
    assert_eq!((settings.log.as_str(), settings.drain), ("trace", Duration::from_secs(90)));
    assert!(settings.state.is_absolute() && settings.state.ends_with("s"), "relative to the file");
    assert_eq!(settings.endpoints[1].num_parallel, 2);
    let flags = Overrides { ollama: vec!["a".into(), "b,c".into()], ..Overrides::default() };
    assert_eq!(urls(&load_from(file, flags, &vars).unwrap()).len(), 3);
}

#[test]
fn slots_come_from_the_nearest_source() {
    let slots = |text: &str, vars: &[(&str, &str)]| -> Vec<u32> {
        let settings = load_from(text, Overrides::default(), vars).unwrap();
        settings.endpoints.iter().map(|endpoint| endpoint.num_parallel).collect()
    };
    let two = "[[endpoint]]\nurl = \"a\"\nnum_parallel = 7\n[[endpoint]]\nname = \"b\"\nurl = \"b\"\n";
    let by = |text: &str, vars: &[(&str, &str)]| {
        load_from(text, Overrides::default(), vars).unwrap().endpoints[0].num_parallel_by
    };
    assert_eq!(by(two, &[]), "num_parallel of its [[endpoint]]");
    assert_eq!(by("", &[("GAUCHO_NUM_PARALLEL", "5")]), "GAUCHO_NUM_PARALLEL");
    assert_eq!(by("num_parallel = 2", &[("OLLAMA_NUM_PARALLEL", "5")]), "num_parallel");
    assert_eq!(by("", &[]), "the default");
    let (ours, theirs) = (("GAUCHO_NUM_PARALLEL", "5"), ("OLLAMA_NUM_PARALLEL", "3"));
    assert_eq!(slots(two, &[]), [7, 1]);
    assert_eq!(slots(two, &[theirs]), [7, 3]);
    assert_eq!(slots(&format!("num_parallel = 4\n{two}"), &[theirs]), [7, 4]);
    assert_eq!(slots(&format!("num_parallel = 4\n{two}"), &[ours, theirs]), [7, 5]);
    assert_eq!(slots("", &[("OLLAMA_NUM_PARALLEL", "\"0\"")]), [1]);
}

#[test]
fn state_and_keep_alive_come_from_the_environment_as_others_read_it() {
    let settings = env(&[("HOME", "/home/x"), ("OLLAMA_KEEP_ALIVE", "-1")]);
    assert_eq!(settings.state, Path::new("/home/x/.local/state/gaucho"));
    assert_eq!(settings.keep_alive, Some(KeepAlive::FOREVER));
    assert_eq!(env(&[("HOME", "/home/x"), ("XDG_STATE_HOME", "/s")]).state, Path::new("/s/gaucho"));
    assert_eq!(env(&[("OLLAMA_KEEP_ALIVE", "300")]).keep_alive, Some(KeepAlive::new(Duration::from_secs(300))));
}

#[test]
fn servers_are_named_as_ollama_host_names_them() {
    let table = [
        ("gpu-1", "http://gpu-1:11434/"),
        ("gpu-1:80", "http://gpu-1/"),
        (":8000", "http://127.0.0.1:8000/"),
        ("::1", "http://[::1]:11434/"),
        ("[::1]", "http://[::1]:11434/"),
        ("[::1]:99", "http://[::1]:99/"),
        ("http://gpu-1", "http://gpu-1/"),
        ("https://gpu-1/ollama/", "https://gpu-1/ollama"),
        ("gpu-1/base", "http://gpu-1:11434/base"),
        ("HTTP://gpu-1:8000", "http://gpu-1:8000/"),
        ("Https://gpu-1", "https://gpu-1/"),
    ];
    for (written, expected) in table {
        assert_eq!(urls(&env(&[("GAUCHO_OLLAMA", written)])), [expected], "{written}");
    }
    for wrong in
        ["ftp://x", "http://", "http://u:secret@x", "u:secret@x", "x:99999", "x?y=1", "http://x/#f", "a b", ","]
    {
        let found = load_from("", Overrides::default(), &[("GAUCHO_OLLAMA", wrong)]).unwrap_err();
        assert!(found[0].starts_with("environment: GAUCHO_OLLAMA: "), "{wrong}: {found:?}");
        assert!(!found[0].contains("secret"), "{found:?}");
    }
}

#[test]
fn every_mistake_of_every_source_is_listed() {
    let text = "lisen = \"x\"\nadmin_listen = \"localhost\"\nollama = [\"a\", \"http://u:secret@h\"]\ndrain = \"soon\"\n\
                [upstream]\nconnect_timeout = 0\nconect = 1\n[limits]\nmax_queued_bytes = \"1 byte\"\n[[endpoint]]\nname = \"a b\"\n";
    let flags = Overrides { listen: Some("here".into()), ..Overrides::default() };
    let found = load_from(text, flags, &[("GAUCHO_NUM_PARALLEL", "many"), ("OLLAMA_KEEP_ALIVE", "soon")]).unwrap_err();
    let begins = [
        "gaucho.toml:2:16: admin_listen: \"localhost\" is not allowed: use an IP address and a port",
        "gaucho.toml:4:9: drain: \"soon\" is not allowed: use a number of seconds or a time",
        "gaucho.toml:11:8: endpoint[0].name: \"a b\" is not allowed: use 1 to 63 letters",
        "gaucho.toml:9:20: limits.max_queued_bytes: \"1 byte\" is not allowed",
        "gaucho.toml:1:1: lisen: unknown key; did you mean \"listen\"?",
        "gaucho.toml:3:16: ollama[1]: \"…@h\" is not allowed: use an Ollama server as OLLAMA_HOST names it",
        "gaucho.toml:7:1: upstream.conect: unknown key; allowed here are connect_timeout",
        "gaucho.toml:6:19: upstream.connect_timeout: 0 is not allowed",
        "command line: --listen: \"here\" is not allowed: use an IP address and a port",
        "environment: GAUCHO_NUM_PARALLEL: \"many\" is not allowed: use a whole number from 1 to 1024",
        "gaucho.toml:10:1: endpoint[0]: url is missing",
        "environment: OLLAMA_KEEP_ALIVE: \"soon\" is not allowed",
    ];
    for begin in begins {
        assert!(found.iter().any(|problem| problem.starts_with(begin)), "{begin}\n{found:#?}");
    }
    assert_eq!(found.len(), begins.len(), "{found:#?}");
}

#[test]
fn settings_that_cannot_work_together_are_refused() {
    let wrong = |text: &str, expected: &str| {
        let found = load_from(text, Overrides::default(), &[]).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    };
    wrong("listen = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:1\"", "already the address for applications");
    wrong("ollama = \"localhost:11435\"", "is the gateway itself");
    wrong("listen = \"0.0.0.0:9\"\nollama = \"127.0.0.1:9\"", "is the gateway itself");
    wrong("ollama = [\"a\", \"http://A:11434\"]", "is named twice");
    wrong("ollama = []", "name at least one server");
    wrong("[[endpoint]]\nname = \"x\"\nurl = \"a\"\n[[endpoint]]\nname = \"x\"\nurl = \"b\"", "name of two endpoints");
    wrong("ollama = \"a\"\n[[endpoint]]\nurl = \"b\"", "cannot stand beside [[endpoint]]");
    wrong(
        "log = \"info\"\n[endpoint]\nurl = \"a\"",
        "toml:2:1: endpoint: a table is not allowed: use [[endpoint]], once",
    );
    wrong("\n[[endpoint]]\nmemory = \"8GiB\"", "toml:2:1: endpoint[0]: url is missing");
    wrong("\nlog = \"inf\"", "toml:2:7: log: \"inf\" is not allowed: use a level (error, warn");
    assert!(load_from("listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"", Overrides::default(), &[]).is_ok());
    let missing = load(Some(Path::new("/nonexistent/gaucho.toml")), Overrides::default(), &|_| None).unwrap_err();
    assert!(missing[0].to_string().starts_with("/nonexistent/gaucho.toml: cannot be read ("));
}

#[test]
fn gpus_are_named_by_uuid_or_index_and_mistakes_say_which() {
    let text = "[[endpoint]]\nurl = \"a\"\nmemory = \"8GiB\"\ngpus = [\"GPU-0A-1\", 1]\n[[endpoint]]\nurl = \"b\"\ngpus = [1]\n";
    let endpoints = load_from(text, Overrides::default(), &[]).unwrap().endpoints;
    let uuid = GpuName::from_uuid("GPU-0a-1").unwrap();
    assert_eq!(endpoints[0].gpus, [uuid, GpuName::Index(1)]);
    assert_eq!((&endpoints[1].gpus[..], endpoints[0].memory), (&[GpuName::Index(1)][..], Some(8 << 30)));
    let text = "[[endpoint]]\nurl = \"a\"\ngpus = [\"GPU-0a\", -1, \"gpu0\", 2.5]\n[[endpoint]]\nurl = \"b\"\ngpus = []\n\
                [[endpoint]]\nurl = \"c\"\ngpus = [0, \"GPU-0A\", \"GPU-0a\", 0]\n[[endpoint]]\nurl = \"d\"\ngpu = [0]\n";
    let found = load_from(text, Overrides::default(), &[]).unwrap_err();
    let expected = [
        "gaucho.toml:3:19: endpoint[0].gpus[1]: -1 is not allowed: use a GPU's UUID such as",
        "gaucho.toml:3:23: endpoint[0].gpus[2]: \"gpu0\" is not allowed: use a GPU's UUID such as",
        "gaucho.toml:3:31: endpoint[0].gpus[3]: 2.5 is not allowed",
        "gaucho.toml:6:8: endpoint[1].gpus: an empty list is not allowed: name at least one GPU",
        "gaucho.toml:9:22: endpoint[2].gpus[2]: GPU-0a is named twice",
        "gaucho.toml:9:32: endpoint[2].gpus[3]: 0 is named twice",
        "gaucho.toml:12:1: endpoint[3].gpu: unknown key; did you mean \"gpus\"?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, begin) in found.iter().zip(expected) {
        assert!(found.starts_with(begin), "{begin}\n{found}");
    }
}

#[test]
fn the_library_for_gpus_is_a_name_or_a_path_beside_the_file() {
    assert_eq!(env(&[]).nvml, Path::new("libnvidia-ml.so.1"));
    let written = |nvml: &str, vars: &[(&str, &str)]| {
        load_from(&format!("nvml = \"{nvml}\""), Overrides::default(), vars).unwrap().nvml
    };
    assert_eq!(written("other.so", &[]), Path::new("other.so"));
    assert!(written("lib/other.so", &[]).is_absolute());
    assert_eq!(written("/lib/other.so", &[]), Path::new("/lib/other.so"));
    assert_eq!(written("other.so", &[("GAUCHO_NVML", "/x.so")]), Path::new("/x.so"));
}

#[test]
fn the_schema_agrees_with_the_reader() {
    let cases = [
        (
            "listen = \"127.0.0.1:1\"\nollama = [\"a\", \"b\"]\n[limits]\nmax_queued = 5\nmax_queued_bytes = \"1GiB\"",
            true,
        ),
        ("ollama = \"a\"\ndrain = \"5m\"\n[upstream]\nidle_timeout = 9", true),
        ("[[endpoint]]\nurl = \"a\"\nname = \"n\"\nnum_parallel = 2", true),
        ("nvml = \"x.so\"\n[[endpoint]]\nurl = \"a\"\nmemory = \"8GiB\"\ngpus = [\"GPU-0a-1F\", 0]", true),
        ("[[endpoint]]\nurl = \"a\"\ngpus = [\"MIG-0a\"]", false),
        ("[[endpoint]]\nurl = \"a\"\ngpus = [256]", false),
        ("[[endpoint]]\nurl = \"a\"\ngpus = \"GPU-0a\"", false),
        ("[[endpoint]]\nname = \"n\"", false),
        ("listen = 1", false),
        ("ollama = [1]", false),
        ("num_parallel = 0", false),
        ("[limits]\nmax = 1", false),
        ("upstream = 3", false),
    ];
    for (text, right) in cases {
        let instance: serde_json::Value = toml::from_str(text).unwrap();
        assert_eq!(jsonschema::is_valid(&schema(), &instance), right, "schema: {text}");
        assert_eq!(load_from(text, Overrides::default(), &[]).is_ok(), right, "reader: {text}");
    }
}

// ---- watch ----

/// A watch on a paused clock: waits cost no time, the files are real.
struct Watching {
    news: mpsc::Receiver<Result<Policies, Vec<Problem>>>,
    watch: Pin<Box<dyn Future<Output = ()>>>,
}

impl Watching {
    fn new(dir: &Path) -> Self {
        let (tell, news) = mpsc::channel(16);
        let watch = Box::pin(watch(Folder::read(dir), move |folder: &Folder| {
            tell.try_send(Policies::compile(folder)).unwrap();
        }));
        Self { news, watch }
    }

    /// The next news; `None` when a minute brings none.
    async fn next(&mut self) -> Option<Result<Policies, Vec<Problem>>> {
        tokio::select! {
            news = timeout(Duration::from_secs(60), self.news.recv()) => news.ok().flatten(),
            () = &mut self.watch => panic!("the watch ended"),
        }
    }

    async fn weight(&mut self) -> f64 {
        self.next().await.unwrap().unwrap().app(&AppName::parse("a").unwrap()).weight
    }

    async fn problem(&mut self) -> Problem {
        self.next().await.unwrap().map(|_| ()).unwrap_err().remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn edits_replacements_and_mistakes_are_told_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, "weight = 1").unwrap();
    let mut watching = Watching::new(dir.path());
    fs::write(&file, "weight = 2").unwrap();
    assert_eq!(watching.weight().await, 2.0);
    let other = dir.path().join("a.toml.tmp");
    fs::write(&other, "weight = 3").unwrap();
    fs::rename(&other, &file).unwrap();
    assert_eq!(watching.weight().await, 3.0);
    fs::write(&file, "weight = \"heavy\"").unwrap();
    assert_eq!(watching.problem().await.path, "weight");
    fs::write(&file, "weight = 4").unwrap();
    assert_eq!(watching.weight().await, 4.0);
    // a rewrite with the same bytes, and files that are none of ours, are no news
    fs::write(&file, "weight = 4").unwrap();
    fs::write(dir.path().join("README.md"), "x").unwrap();
    assert!(watching.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_goes_and_comes_back_is_still_watched() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("policies");
    fs::create_dir(&dir).unwrap();
    let mut watching = Watching::new(&dir);
    fs::remove_dir(&dir).unwrap();
    assert!(watching.problem().await.message.contains("cannot be read"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.toml"), "weight = 5").unwrap();
    assert_eq!(watching.weight().await, 5.0);
    fs::write(dir.join("a.toml"), "weight = 6").unwrap();
    assert_eq!(watching.weight().await, 6.0);
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_settings_file_is_told_once_and_a_file_that_is_gone_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gaucho.toml");
    fs::write(&path, "drain = 1").unwrap();
    let file = load(Some(&path), Overrides::default(), &|_| None).unwrap().file.unwrap();
    let (tell, mut news) = mpsc::channel(16);
    let mut watch = Box::pin(watch(file, move |changed: &SettingsFile| tell.try_send(changed.clone()).unwrap()));
    let mut told = async || {
        tokio::select! {
            news = timeout(Duration::from_secs(60), news.recv()) => news.is_ok(),
            () = &mut watch => panic!("the watch ended"),
        }
    };
    assert!(!told().await, "as it was read");
    for text in ["drain = 2", "no TOML", "drain = 1"] {
        fs::write(&path, text).unwrap();
        assert!(told().await, "{text}");
        assert!(!told().await, "{text}, once");
    }
    fs::remove_file(&path).unwrap();
    assert!(!told().await);
    fs::write(&path, "drain = 3").unwrap();
    assert!(told().await);
}

#[test]
fn pages_hosts_and_certificates_come_from_every_source() {
    let file =
        "origins = [\"https://a.example\"]\nhosts = [\"GW.example\"]\n[tls]\ncert = \"c.pem\"\nkey = \"/k.pem\"\n";
    let theirs = ("OLLAMA_ORIGINS", "https://o.example");
    let settings = load_from(file, Overrides::default(), &[theirs]).unwrap();
    assert_eq!(settings.web, Web { origins: vec!["https://a.example".into()], hosts: vec!["gw.example".into()] });
    let tls = settings.tls.unwrap();
    assert!(tls.cert.is_absolute() && tls.cert.ends_with("c.pem"), "relative to the file");
    assert_eq!(tls.key, Path::new("/k.pem"));
    let vars = [("GAUCHO_ORIGINS", "https://e.example, app://x,"), ("GAUCHO_TLS_CERT", "e.pem"), theirs];
    let settings = load_from(file, Overrides::default(), &vars).unwrap();
    assert_eq!((settings.web.origins.len(), settings.tls.unwrap().cert), (2, PathBuf::from("e.pem")));
    let flags = Overrides { origins: vec!["*".into()], ..Overrides::default() };
    assert_eq!(load_from(file, flags, &vars).unwrap().web.origins, ["*"]);
    assert_eq!(env(&[theirs]).web.origins, ["https://o.example"], "as the servers have it");
    let problems =
        |text: &str, vars: &[(&str, &str)]| load_from(text, Overrides::default(), vars).unwrap_err().join("\n");
    let half = problems("[tls]\ncert = \"c.pem\"\n", &[]);
    assert!(half.contains("tls.key is missing"), "{half}");
    assert!(problems("", &[("GAUCHO_TLS_KEY", "k.pem")]).contains("tls.cert is missing"));
    let origin = problems("origins = [\"chat.example\"]\n", &[]);
    assert!(origin.contains("gaucho.toml:1:") && origin.contains("https://chat.example"), "{origin}");
    assert!(problems("", &[("GAUCHO_ORIGINS", "https://a/b")]).contains("GAUCHO_ORIGINS"));
    assert!(problems("hosts = [\"gw:80\"]\n", &[]).contains("without scheme and port"));
}
