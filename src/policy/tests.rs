//! Policies as operators and callers meet them: what loads, what each mistake says, what each refusal says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{
    AppName, Class, Clock, FaultClass, InferenceRequest, Intent, Json, Measure, ModelName, ReplyShape, Surface,
};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Loads files that must be right.
fn load(files: &[(&str, &str)]) -> Policies {
    Policies::load(folder(files).path()).unwrap()
}

/// Loads files that must be wrong; the problems without the folder's own path.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let dir = folder(files);
    let found = Policies::load(dir.path()).map(|_| ()).unwrap_err();
    let prefix = format!("{}/", dir.path().display());
    found.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn app(text: &str) -> AppName {
    AppName::parse(text).unwrap()
}

fn request(surface: Surface) -> InferenceRequest {
    InferenceRequest {
        surface,
        model: "m".into(),
        stream: false,
        intent: Intent::Answer,
        fields: Vec::new(),
        options: Vec::new(),
        runner_options: Vec::new(),
        keep_alive: None,
        shape: ReplyShape::default(),
        echo: Vec::new(),
        measure: Measure { body_bytes: 10, prompt_bytes: 5, inputs: 1, output_cap: None },
    }
}

fn asking(key: &str, value: &str) -> InferenceRequest {
    let field = (key.to_owned().into(), Json::known(value));
    InferenceRequest { runner_options: vec![field], ..request(Surface::Chat) }
}

// ---- files ----

#[test]
fn shipped_policies_load_and_suit_the_demo_models() {
    let policies = Policies::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap();
    let apps: Vec<&str> = policies.apps().into_iter().map(|(app, _)| app.as_str()).collect();
    assert_eq!(apps, ["agent", "chat-ui", "ci", "embeddings-indexer", "nightly-batch"]);
    let uses = |who: &str| {
        let rules = policies.app(&app(who));
        ["llama3.2:3b", "qwen2.5:7b", "deepseek-r1:7b", "nomic-embed-text:latest"].map(|m| rules.models.allow(&name(m)))
    };
    assert_eq!(uses("chat-ui"), [true, true, true, false]);
    assert_eq!(uses("agent"), [true, true, false, false]);
    assert_eq!(uses("ci"), [true, false, false, false]);
    assert_eq!(uses("embeddings-indexer"), [false, false, false, true]);
    assert_eq!(uses("nightly-batch"), [true, true, true, true]);
    let context = |m: &str| policies.profile(&name(m)).options.get("num_ctx").cloned();
    assert_eq!(context("llama3.2:3b"), Some(json!(8192)));
    assert_eq!(context("qwen2.5:7b"), Some(json!(16384)));
    assert_eq!(context("mistral:7b"), None);
    assert_eq!(policies.profile(&name("nomic-embed-text")).keep_alive, Some(KeepAlive::FOREVER));
    assert_eq!(policies.profile(&name("mistral")).keep_alive, Some(KeepAlive::new(Duration::from_secs(1800))));
}

#[test]
fn an_empty_folder_is_fine_and_means_the_built_in_rules() {
    let policies = load(&[("README.md", "# not a policy"), (".hidden.toml", "nonsense")]);
    assert!(!policies.has_app_files());
    assert_eq!(*policies.app(&app("x")), AppRules::default());
    assert_eq!(*policies.profile(&name("m")), RunnerProfile::default());
}

#[test]
fn what_a_file_leaves_out_comes_from_default_then_from_the_built_in_rules() {
    let policies = load(&[
        (
            "default.toml",
            "class = \"batch\"\nrequests_per_minute = 60\nburst = 5\nmax_concurrent = 3\nmax_context = 4096",
        ),
        ("a.toml", "weight = 2.5\nburst = 9"),
        ("b.toml", "requests_per_minute = 30\nmax_concurrent = \"unlimited\"\nmax_body = \"1MiB\"\nmax_wait = 90"),
        ("c.toml", "requests_per_minute = \"unlimited\"\nmodels = []\nsurfaces = [\"/v1/*\"]"),
    ]);
    let (a, b, c) = (policies.app(&app("a")), policies.app(&app("b")), policies.app(&app("c")));
    let d = policies.app(&app("without-a-file"));
    assert_eq!((a.weight, a.class, a.rate), (2.5, Class::Batch, Some(Rate { requests_per_minute: 60, burst: 9 })));
    assert_eq!(b.rate, Some(Rate { requests_per_minute: 30, burst: 30 }));
    assert_eq!((b.max_concurrent, b.max_body, b.max_wait), (None, 1 << 20, Duration::from_secs(90)));
    assert_eq!((a.max_concurrent, a.max_context, a.max_queued), (Some(3), Some(4096), 100));
    assert_eq!(c.rate, None);
    let v1 =
        [Surface::V1Chat, Surface::V1Completions, Surface::V1Embeddings, Surface::V1Messages, Surface::V1Responses];
    assert_eq!(c.surfaces, v1);
    assert!(!c.models.allow(&name("llama3.2")));
    assert_eq!(d.rate, Some(Rate { requests_per_minute: 60, burst: 5 }));
    assert!(policies.has_app_files());
}

#[test]
fn every_mistake_of_every_file_is_listed_with_its_place() {
    let found = problems(&[
        ("default.toml", "wieght = 2\nclass = \"urgent\"\nkey_hashes = []\n"),
        (
            "a.toml",
            "models = [\"llama3.2:*\", \"gpt-oss:120b-cloud\", 7]\nweight = 0\n\nburst = 3\nmax_wait = \"5 minutes\"\n\
             max_body = \"8 megs\"\nsurfaces = [\"/api/chats\"]\nmax_queued = -1\nkey_hashes = [\"sha256:abc\"]\n\
             réponse = 1\n",
        ),
        ("Big App.toml", "weight = 2000"),
        (
            "models.toml",
            "[models.\"a b\"]\n[models.llama]\nnum_ctx = \"8k\"\nnum_cxt = 1\nkeep_alive = \"10\"\n[model]\n",
        ),
    ]);
    let expected = [
        "Big App.toml: the file's name is the application's: application name \"Big App\" is not usable: use 1 to 63 of \
         a-z, 0-9, '-', '_' and '.', starting with a letter or digit",
        "Big App.toml:1:10: weight: 2000 is not allowed: use a number from 0.001 to 1000",
        "a.toml:1:25: models[1]: \"gpt-oss:120b-cloud\" is not allowed: use a model name such as \"llama3.2:3b\", or a \
         pattern with * and ? such as \"llama3.2:*\" (never a :cloud name: prompts do not leave the site)",
        "a.toml:1:47: models[2]: 7 is not allowed: use a model name such as \"llama3.2:3b\", or a pattern with * and ? \
         such as \"llama3.2:*\" (never a :cloud name: prompts do not leave the site)",
        "a.toml:2:10: weight: 0 is not allowed: use a number from 0.001 to 1000",
        "a.toml:4:9: burst: 3 has no effect without a rate: add requests_per_minute (here or in default.toml), or remove \
         burst",
        "a.toml:5:12: max_wait: \"5 minutes\" is not allowed: use a number of seconds or a time such as \"30s\", \"2m\" or \
         \"1h30m\", from 0s to 24h",
        "a.toml:6:12: max_body: \"8 megs\" is not allowed: use a number of bytes or a size such as \"512KiB\" or \"8MiB\", \
         from 1KiB to 1GiB",
        "a.toml:7:13: surfaces[0]: \"/api/chats\" is not allowed: use one of /api/chat, /api/generate, /api/embed, \
         /api/embeddings, /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/messages, /v1/responses, or a pattern such as \"/v1/*\" that \
         covers at least one of them",
        "a.toml:8:14: max_queued: -1 is not allowed: use a whole number from 0 to 1000000",
        "a.toml:9:15: key_hashes[0]: this value (hidden: it may be a key) is not allowed: use \"sha256:\" and 64 hex digits, the SHA-256 of the \
         key",
        "a.toml:10:2: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
        "default.toml:1:1: wieght: unknown key; did you mean \"weight\"?",
        "default.toml:2:9: class: \"urgent\" is not allowed: use \"interactive\", \"standard\" or \"batch\"",
        "default.toml:3:14: key_hashes: a key stands for one application: move key_hashes to that application's own file",
        "models.toml:1:9: models.\"a b\": \"a b\" is not allowed: use a model name such as \"llama3.2:3b\", or a pattern with \
         * and ? such as \"llama3.2:*\" (never a :cloud name: prompts do not leave the site)",
        "models.toml:3:11: models.llama.num_ctx: \"8k\" is not allowed: use a whole number from 4 to 100000000",
        "models.toml:4:1: models.llama.num_cxt: unknown key; did you mean \"num_ctx\"?",
        "models.toml:5:14: models.llama.keep_alive: \"10\" is not allowed: use a number of seconds, a time such as \"30m\", 0 \
         to unload at once, or -1 to keep it for ever",
        "models.toml:6:2: model: unknown key; did you mean \"models\"?",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn overflow_goes_to_a_model_that_the_application_may_use() {
    let route = "on_overflow = { route = \"qwen2.5:7b\" }\n";
    let found = problems(&[("a.toml", &format!("models = [\"llama3.2:*\"]\n{route}"))]);
    assert_eq!(
        found,
        [
            "a.toml:2:15: on_overflow: on_overflow routes to qwen2.5:7b, which models leaves out: add it to models (here or in \
          default.toml), or route elsewhere"
        ]
    );
    let found = problems(&[("default.toml", route), ("a.toml", "models = [\"llama3.2:*\"]")]);
    assert!(found.len() == 1 && found[0].starts_with("a.toml:1:10: models: "), "{found:?}");
    let policies = load(&[
        ("default.toml", route),
        ("a.toml", "models = [\"qwen2.5:*\"]"),
        ("b.toml", "on_overflow = \"refuse\""),
    ]);
    assert_eq!(policies.app(&app("a")).on_overflow, OnOverflow::Route(name("qwen2.5:7b")));
    assert_eq!(policies.app(&app("b")).on_overflow, OnOverflow::Refuse);
    assert_eq!(Policies::built_in().app(&app("c")).on_overflow, OnOverflow::Truncate);
    for (text, shown) in [("\"cut\"", "\"cut\""), ("{ route = \"m:cloud\" }", "")] {
        let found = problems(&[("a.toml", &format!("on_overflow = {text}"))]);
        assert!(found.len() == 1 && found[0].contains(shown) && found[0].contains("{ route = "), "{found:?}");
    }
    let found = problems(&[("a.toml", "on_overflow = { rout = \"x\", route = \"y\" }")]);
    assert_eq!(found, ["a.toml:1:17: on_overflow.rout: unknown key; did you mean \"route\"?"]);
}

#[test]
fn a_granted_request_may_be_judged_for_another_model_without_being_counted_again() {
    let (desk, _) = desk(&[
        ("a.toml", "models = [\"small\", \"large\"]\nrequests_per_minute = 1\n"),
        ("models.toml", "[models.large]\nnum_ctx = 8192"),
    ]);
    let request = request(Surface::Chat);
    let grant = desk.grant(&app("a"), &request, &name("small")).unwrap();
    assert_eq!(grant.standing.map(|limit| limit.remaining), Some(0));
    let again = desk.regrant(&grant, &request, &name("large")).unwrap();
    assert_eq!(again.standing, grant.standing);
    assert!(again.profile.options.contains_key("num_ctx") && grant.profile.options.is_empty());
    assert_eq!(desk.regrant(&grant, &request, &name("other")).unwrap_err().class, FaultClass::Forbidden);
}

#[test]
fn several_syntax_errors_are_listed_at_once_beside_wrong_values() {
    let text = "weight = \nclass = \"x\"\nburst == 3\nweigth = 2\nmodels = [\"a\"";
    let found = problems(&[("a.toml", text)]);
    let expected = [
        "a.toml:1:10: not valid TOML: string values must be quoted, expected literal string",
        "a.toml:2:9: class: \"x\" is not allowed: use \"interactive\", \"standard\" or \"batch\"",
        "a.toml:3:8: not valid TOML: extra `=`, expected nothing",
        "a.toml:4:1: weigth: unknown key; did you mean \"weight\"?",
        "a.toml:5:14: not valid TOML: unclosed array, expected `]`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_is_not_utf8_says_where() {
    let dir = folder(&[]);
    fs::write(dir.path().join("a.toml"), b"weight = 1\n# caf\xe9\n").unwrap();
    let found = Policies::load(dir.path()).map(|_| ()).unwrap_err();
    assert_eq!((found[0].line, found[0].column, &*found[0].value), (2, 6, "0xe9"));
    assert!(found[0].message.contains("UTF-8"));
}

#[test]
fn a_pipe_in_the_folder_is_refused_and_nobody_waits_for_a_writer() {
    let dir = folder(&[]);
    nix::unistd::mkfifo(&dir.path().join("a.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let found = Policies::load(dir.path()).map(|_| ()).unwrap_err();
    assert!(found[0].to_string().ends_with("a.toml: cannot be read: not a regular file"), "{}", found[0]);
}

#[test]
fn a_folder_that_is_not_there_says_what_to_do() {
    let found = Policies::load(Path::new("/nonexistent/policies")).map(|_| ()).unwrap_err();
    assert!(
        found[0].to_string().starts_with("/nonexistent/policies: the policies folder cannot be read ("),
        "{}",
        found[0]
    );
}

#[test]
fn one_key_stands_for_one_application() {
    let hash = format!("key_hashes = [\"sha256:{}\"]", "aB".repeat(32));
    let found = problems(&[("a.toml", &hash), ("b.toml", &hash)]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("b.toml:1:15: key_hashes[0]: sha256:abababab… already stands for application \"a\" (")
    );
    let policies = load(&[("a.toml", &hash)]);
    assert_eq!(policies.key_hashes().collect::<Vec<_>>(), [(&app("a"), [0xab; 32])]);
}

#[test]
fn a_model_gets_its_own_profile_then_the_narrowest_pattern() {
    let policies = load(&[(
        "models.toml",
        "[models]\n\"*\" = { num_ctx = 1000 }\n\"llama*\" = { num_ctx = 2000 }\n\"llama3.2:*\" = { num_ctx = 3000, shift = false }\n\
         \"LLAMA3.2\" = { num_ctx = 4000, num_parallel = 2, keep_alive = \"90s\" }\n\"library/qwen*\" = { num_ctx = 5000 }",
    )]);
    let context = |m: &str| policies.profile(&name(m)).options.get("num_ctx").and_then(serde_json::Value::as_i64);
    assert_eq!(context("mistral"), Some(1000));
    assert_eq!(context("u/llama3"), Some(1000));
    assert_eq!(context("llama2"), Some(2000));
    assert_eq!(context("llama3.2:3b"), Some(3000));
    assert_eq!(context("llama3.2"), Some(4000));
    assert_eq!(context("qwen2.5:7b"), Some(5000));
    assert_eq!(policies.profile(&name("llama3.2:3b")).options.get("shift"), Some(&json!(false)));
    let exact = policies.profile(&name("llama3.2"));
    assert_eq!((exact.num_parallel, exact.keep_alive.unwrap().to_json()), (Some(2), json!(90)));
}

#[test]
fn a_fallback_is_the_profile_with_some_things_smaller() {
    let text = "[models.m]\nnum_ctx = 8192\nshift = false\nkeep_alive = 60\nfallback = { num_ctx = 4096 }\n";
    let profile = load(&[("models.toml", text)]).profile(&name("m"));
    let fallback = profile.fallback.as_deref().unwrap();
    assert_eq!((profile.options["num_ctx"].as_i64(), fallback.options["num_ctx"].as_i64()), (Some(8192), Some(4096)));
    assert_eq!(fallback.options["shift"], false, "what it does not say is as in the profile");
    assert_eq!((fallback.keep_alive, &fallback.fallback), (profile.keep_alive, &None));
    let found = problems(&[(
        "models.toml",
        "[models.a]\nnum_ctx = 4096\nfallback = { num_ctx = 4096 }\n[models.b]\nfallback = {}\n\
         [models.c]\nfallback = { num_cxt = 5, fallback = { num_ctx = 5 } }\n[models.d]\nfallback = 4096\n",
    )]);
    let expected = [
        "models.toml:3:24: models.a.fallback.num_ctx: 4096 is not less than the profile's 4096",
        "models.toml:5:12: models.b.fallback: says nothing: name what is smaller",
        "models.toml:7:14: models.c.fallback.num_cxt: unknown key; did you mean \"num_ctx\"?",
        "models.toml:7:27: models.c.fallback.fallback: unknown key; allowed here are num_ctx",
        "models.toml:9:12: models.d.fallback: 4096 is not allowed: use a table with the keys num_ctx",
    ];
    for begin in expected {
        assert!(found.iter().any(|problem| problem.starts_with(begin)), "{begin}\n{found:#?}");
    }
}

#[test]
fn profiles_that_tie_for_a_model_are_a_problem() {
    let ties = |a: &str, b: &str| {
        let text = format!("[models.\"{a}\"]\n[models.\"{b}\"]\n");
        Policies::load(folder(&[("models.toml", &text)]).path()).is_err()
    };
    assert!(ties("llama*:3b", "llama3*:*b"));
    assert!(ties("llama3.2", "llama3.2:latest"));
    assert!(ties("llama3.2:*", "library/LLAMA3.2:*"));
    assert!(!ties("llama3:*", "gemma3:*"));
    assert!(!ties("llama3:*", "llama3:8b"));
}

// ---- requests ----

fn desk(files: &[(&str, &str)]) -> (Desk, Clock) {
    let clock = Clock::manual();
    (Desk::new(load(files), clock.clone()), clock)
}

/// The fault of a refused request: class, parameter, text.
fn refusal(desk: &Desk, request: &InferenceRequest, model: &str) -> (FaultClass, Option<String>, String) {
    let fault = desk.grant(&app("a"), request, &name(model)).map(|_| ()).unwrap_err();
    (fault.class, fault.param, fault.message)
}

#[test]
fn routes_and_models_outside_the_policy_are_forbidden() {
    let (desk, _) = desk(&[("a.toml", "models = [\"llama3.2:*\"]\nsurfaces = [\"/api/chat\"]")]);
    let (class, _, text) = refusal(&desk, &request(Surface::V1Chat), "llama3.2:3b");
    assert_eq!(class, FaultClass::Forbidden);
    assert_eq!(text, "application \"a\" may not use /v1/chat/completions; its policy allows /api/chat");
    for spelling in ["qwen2.5:7b", "library/QWEN2.5:7b", "https://registry.ollama.ai/library/qwen2.5:7b:local"] {
        let (class, param, text) = refusal(&desk, &request(Surface::Chat), spelling);
        assert_eq!((class, param.as_deref()), (FaultClass::Forbidden, Some("model")));
        assert_eq!(text, "application \"a\" may not use model \"qwen2.5:7b\"; its policy allows llama3.2:*");
    }
    assert!(desk.grant(&app("a"), &request(Surface::Chat), &name("LLAMA3.2:3B")).is_ok());
    assert!(desk.may_see(&app("a"), &name("llama3.2")) && !desk.may_see(&app("a"), &name("qwen2.5")));
}

#[test]
fn cloud_models_are_refused_whatever_the_policy_says() {
    let desk = Desk::new(Policies::built_in(), Clock::manual());
    let (class, _, text) = refusal(&desk, &request(Surface::Chat), "GPT-OSS:120b-Cloud");
    assert_eq!(class, FaultClass::Forbidden);
    assert!(
        text.starts_with("model \"gpt-oss:120b-cloud\" runs on ollama.com: prompts never leave this site"),
        "{text}"
    );
    assert!(!desk.may_see(&app("a"), &name("x:cloud")));
}

#[test]
fn sizes_over_their_ceilings_are_refused_with_both_numbers() {
    let (desk, _) = desk(&[("a.toml", "max_embed_inputs = 2\nmax_body = \"1KiB\"")]);
    let mut embed = request(Surface::Embed);
    embed.measure.inputs = 3;
    let (class, param, text) = refusal(&desk, &embed, "m");
    assert_eq!((class, param.as_deref()), (FaultClass::BadRequest, Some("input")));
    assert_eq!(text, "input has 3 entries and application \"a\" may send 2 in one request: split it into several");
    let mut large = request(Surface::Chat);
    large.measure.body_bytes = 1025;
    assert_eq!(refusal(&desk, &large, "m").0, FaultClass::TooLarge);
}

#[test]
fn runner_options_that_differ_from_the_profile_are_refused_only_where_the_policy_says_so() {
    let models = ("models.toml", "[models.m]\nnum_ctx = 8192\nshift = true\nkeep_alive = \"5m\"");
    let (clamping, _) = desk(&[models]);
    let (refusing, _) = desk(&[models, ("a.toml", "runner_options = \"refuse\"")]);
    let judged = |key, value| refusal(&refusing, &asking(key, value), "m");
    assert_eq!(
        judged("num_ctx", "4096"),
        (
            FaultClass::BadRequest,
            Some("options.num_ctx".to_owned()),
            "options.num_ctx is 4096, but model \"m:latest\" runs with 8192 here and application \"a\" may not change it: \
             leave it out"
                .to_owned()
        )
    );
    assert_eq!(judged("shift", "false").1.as_deref(), Some("shift"));
    assert!(judged("num_gpu", "1").2.contains("leaves it to the server"));
    let keeping = InferenceRequest { keep_alive: Some(Duration::MAX), ..request(Surface::Chat) };
    assert!(
        refusal(&refusing, &keeping, "m").2.starts_with("keep_alive is for ever, but model \"m:latest\" runs with 5m")
    );
    for (key, value) in [("num_ctx", "8192"), ("num_ctx", "8192.7"), ("shift", "true"), ("num_gpu", "null")] {
        assert!(refusing.grant(&app("a"), &asking(key, value), &name("m")).is_ok(), "{key} {value}");
    }
    assert!(clamping.grant(&app("a"), &asking("num_ctx", "4096"), &name("m")).is_ok());
    assert!(clamping.grant(&app("a"), &keeping, &name("m")).is_ok());
}

#[test]
fn the_output_cap_is_the_lower_of_policy_and_caller() {
    let (desk, _) = desk(&[("a.toml", "max_output_tokens = 100")]);
    let cap = |surface, asked| {
        let mut request = request(surface);
        request.measure.output_cap = asked;
        desk.grant(&app("a"), &request, &name("m")).unwrap().output_cap
    };
    assert_eq!(cap(Surface::Chat, None), Some(100));
    assert_eq!(cap(Surface::Chat, Some(7)), Some(7));
    assert_eq!(cap(Surface::Chat, Some(700)), Some(100));
    assert_eq!(cap(Surface::Embed, None), None);
    let rules = AppRules { max_output_tokens: Some(100), ..AppRules::default() };
    let made = Grant::for_tests(app("a"), rules, RunnerProfile::default());
    assert_eq!(made.output_cap, cap(Surface::Chat, None), "the grant for tests promises the same");
}

#[test]
fn the_rate_refuses_says_when_and_frees_in_time() {
    let (desk, clock) = desk(&[("a.toml", "requests_per_minute = 30\nburst = 2\nsurfaces = [\"/api/chat\"]")]);
    let ask = || desk.grant(&app("a"), &request(Surface::Chat), &name("m"));
    let standing = ask().unwrap().standing.unwrap();
    assert_eq!((standing.limit, standing.remaining, standing.reset), (2, 1, Duration::from_secs(2)));
    assert!(desk.grant(&app("a"), &request(Surface::Embed), &name("m")).is_err(), "refused by a rule: not counted");
    assert_eq!(ask().unwrap().standing.unwrap().remaining, 0);
    clock.advance(Duration::from_millis(500));
    let fault = ask().map(|_| ()).unwrap_err();
    assert_eq!((fault.class, fault.retry_after), (FaultClass::RateLimited, Some(Duration::from_secs(2))));
    assert_eq!(
        fault.message,
        "application \"a\" has used up its 30 requests per minute (requests_per_minute, burst 2): the next one is allowed \
         in 2 s"
    );
    let limit = fault.limit.unwrap();
    assert_eq!((limit.limit, limit.remaining, limit.reset), (2, 0, Duration::from_millis(3500)));
    clock.advance(Duration::from_secs(2));
    assert!(ask().is_ok());
    assert!(ask().is_err());
    clock.advance(Duration::from_secs(60));
    assert!(ask().is_ok() && ask().is_ok() && ask().is_err(), "the bucket holds no more than the burst");
}

#[test]
fn each_application_has_its_own_bucket_and_keeps_it_over_a_reload() {
    let (desk, _) = desk(&[("default.toml", "requests_per_minute = 1")]);
    let ask = |who: &str| desk.grant(&app(who), &request(Surface::Chat), &name("m"));
    assert!(ask("a").is_ok() && ask("a").is_err() && ask("b").is_ok());
    desk.replace(load(&[("default.toml", "requests_per_minute = 1\nweight = 3")]));
    assert!(ask("a").is_err(), "the same rate: what was used stays used");
    desk.replace(load(&[("default.toml", "requests_per_minute = 2")]));
    assert!(ask("a").is_ok() && ask("a").is_ok() && ask("a").is_err());
    desk.replace(load(&[]));
    assert!(ask("a").unwrap().standing.is_none());
}

// ---- properties ----

/// Lines of an application's file, each with a mistake, and the path it must be reported at.
const MISTAKES: [(&str, &str); 12] = [
    ("weight = \"heavy\"", "weight"),
    ("class = 3", "class"),
    ("models = \"*\"", "models"),
    ("endpoints = [\"\"]", "endpoints[0]"),
    ("surfaces = [\"*\", \"/nowhere\"]", "surfaces[1]"),
    ("requests_per_minute = 0", "requests_per_minute"),
    ("max_concurrent = \"none\"", "max_concurrent"),
    ("max_wait = \"25h\"", "max_wait"),
    ("max_body = 1", "max_body"),
    ("runner_options = true", "runner_options"),
    ("key_hashes = [\"sha256:00\", 4]", "key_hashes[1]"),
    ("nonsense = { deep = [[[]]] }", "nonsense"),
];

proptest! {
    #[test]
    fn each_injected_mistake_is_reported_at_its_line(chosen in proptest::sample::subsequence(MISTAKES.to_vec(), 1..=12)) {
        let lines: Vec<&str> = chosen.iter().map(|(line, _)| *line).collect();
        let dir = folder(&[("a.toml", &lines.join("\n"))]);
        let found = Policies::load(dir.path()).map(|_| ()).unwrap_err();
        for (n, (_, path)) in chosen.iter().enumerate() {
            prop_assert!(found.iter().any(|p| p.path == *path && p.line == n + 1), "{} in {:?}", path, found);
        }
    }

    #[test]
    fn no_file_makes_loading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), toml in "[\\[\\]a-z_=\"'.{},\n0-9#-]{0,120}") {
        let mut problems = Vec::new();
        let _: Option<document::AppDocument> = document::read_document(Path::new("a.toml"), &bytes, &mut problems);
        let _: Option<document::ModelsDocument> = document::read_document(Path::new("m.toml"), toml.as_bytes(), &mut problems);
        let text: String = problems.iter().map(ToString::to_string).collect();
        prop_assert!(problems.is_empty() || !text.is_empty());
    }
}

proptest! {
    #[test]
    fn a_preview_finds_what_a_grant_would_find_and_takes_nothing(
        rpm in 1u32..200, burst in 1u32..20, steps in proptest::collection::vec((0u64..40_000, 0usize..4), 1..30)
    ) {
        let text = format!("requests_per_minute = {rpm}\nburst = {burst}");
        let (desk, clock) = desk(&[("a.toml", &text)]);
        let (request, model) = (request(Surface::Chat), name("m"));
        for (millis, looks) in steps {
            clock.advance(Duration::from_millis(millis));
            for _ in 0..looks {
                let _ = desk.preview(&app("a"), &request, &model);
            }
            let seen = desk.preview(&app("a"), &request, &model).map(|grant| grant.standing.unwrap().remaining);
            let got = desk.grant(&app("a"), &request, &model).map(|grant| grant.standing.unwrap().remaining + 1);
            let wait = |fault: crate::domain::Fault| fault.retry_after;
            prop_assert_eq!(seen.map_err(wait), got.map_err(wait));
        }
    }
}
