//! Who comes in: by key, by being on this machine, or not at all.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::record::{IDENTITY, KEYS, SEAL};
use super::*;
use crate::store::Change;

const HERE: &str = "127.0.0.1";
const TARGET: Target<'static> = Target { method: "GET", path: "/api/tags", query: None };

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn door_on(keyring: &Arc<Keyring>, clock: &Clock) -> Doorkeeper {
    let rules = LocalRules {
        hostname: Some("GpuBox".into()),
        origins: vec!["https://*.corp.example".into()],
        ..LocalRules::default()
    };
    Doorkeeper::new(Arc::clone(keyring), clock.clone(), rules)
}

impl Site {
    fn door(&self, policy: &PolicyKeys) -> Doorkeeper {
        door_on(&Arc::new(self.keyring(policy)), &self.clock)
    }
}

fn knock(door: &Doorkeeper, peer: &str, list: &[(&str, &str)], path_key: Option<&str>) -> Result<Principal, Fault> {
    let headers = headers(list);
    door.identify(&CallerFacts::read(peer.parse::<IpAddr>().unwrap(), TARGET, &headers, path_key)?)
}

fn knock_here(door: &Doorkeeper, list: &[(&str, &str)]) -> Result<Principal, Fault> {
    knock(door, HERE, list, None)
}

#[test]
fn without_keys_and_policies_loopback_is_the_local_application() {
    let site = Site::new();
    let door = site.door(&PolicyKeys::default());
    for peer in [HERE, "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
        let principal = knock(&door, peer, &[("host", "localhost:11435")], None).expect(peer);
        assert_eq!((principal.app(), principal.key()), (&AppName::local(), None));
    }
    for peer in ["10.0.0.1", "192.168.1.7", "172.17.0.1", "8.8.8.8", "::", "0.0.0.0", "fe80::1", "::ffff:10.0.0.1"] {
        let text = refused(knock(&door, peer, &[("host", "localhost:11435")], None));
        assert!(text.contains("gaucho key create APP"), "{text}");
    }
}

#[test]
fn a_proxy_does_not_open_the_door() {
    let site = Site::new();
    let door = site.door(&PolicyKeys::default());
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "x-forwarded",
        "Via",
        "X-Real-IP",
        "CF-Connecting-IP",
    ] {
        let text = refused(knock_here(&door, &[("host", "localhost"), (name, "")]));
        assert!(text.contains("proxy"), "{name}: {text}");
    }
    assert!(knock_here(&door, &[("host", "localhost"), ("x-request-id", "1")]).is_ok());
}

#[test]
fn hosts_are_judged_as_ollama_judges_them() {
    let site = Site::new();
    let door = site.door(&PolicyKeys::default());
    assert!(knock_here(&door, &[]).is_ok(), "no host at all");
    for host in [
        "",
        "localhost",
        "localhost:11435",
        "LocalHost:1",
        "gpubox",
        "GPUBOX:80",
        "a.localhost",
        "printer.local:631",
        "host.docker.internal:11435",
        "127.0.0.1",
        "127.0.0.1:11435",
        "127.3.2.1",
        "0.0.0.0:1",
        "10.1.2.3:1",
        "172.16.0.1",
        "192.168.0.9:80",
        "::1",
        "[::1]",
        "[::1]:11435",
        "[::]:1",
        "[fd00::1]:1",
    ] {
        assert!(knock_here(&door, &[("host", host)]).is_ok(), "{host:?}");
    }
    for host in [
        "evil.example",
        "evil.example:11435",
        "localhost.evil.example",
        "notlocalhost",
        "local",
        "internal",
        "gpubox.evil.example",
        "127.0.0.1.evil.example",
        "8.8.8.8",
        "8.8.8.8:11435",
        "172.32.0.1",
        "[2001:db8::1]:80",
        "2130706433",
        "localhost.",
    ] {
        let outcome = knock_here(&door, &[("host", host)]);
        assert_eq!(outcome.as_ref().unwrap_err().param.as_deref(), Some("host"), "{host:?}");
        assert!(refused(outcome).contains(host));
    }
}

#[test]
fn origins_are_judged_as_ollama_judges_them() {
    let site = Site::new();
    let door = site.door(&PolicyKeys::default());
    for origin in [
        "",
        "http://localhost",
        "https://localhost",
        "http://localhost:3000",
        "https://localhost:8443",
        "http://127.0.0.1",
        "https://127.0.0.1",
        "http://127.0.0.1:5173",
        "https://127.0.0.1:1",
        "http://0.0.0.0",
        "https://0.0.0.0",
        "http://0.0.0.0:8080",
        "https://0.0.0.0:1",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://1a2b",
        "vscode-file://vscode-app",
        "https://wiki.corp.example",
        "http://gpubox:11435",
    ] {
        assert!(knock_here(&door, &[("host", "gpubox:11435"), ("origin", origin)]).is_ok(), "{origin:?}");
    }
    for origin in [
        "null",
        "http://evil.example",
        "https://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://192.168.0.9",
        "http://gpubox:80",
        "ftp://gpubox:11435",
        "http://wiki.corp.example",
        "https://corp.example",
        "chrome-extension://abc",
        "HTTP://LOCALHOST",
    ] {
        let outcome = knock_here(&door, &[("host", "gpubox:11435"), ("origin", origin)]);
        assert_eq!(outcome.as_ref().unwrap_err().param.as_deref(), Some("origin"), "{origin:?}");
        refused(outcome);
    }
}

#[test]
fn a_key_is_taken_from_each_place_and_frees_from_the_local_rules() {
    let site = Site::new();
    let key = site.create("shop");
    let text = key.text.expose();
    let door = site.door(&PolicyKeys::default());
    let far = [("host", "gw.example"), ("origin", "https://evil.example"), ("x-forwarded-for", "1.2.3.4")];
    let bearer = format!("Bearer {text}");
    for (name, value) in [
        ("authorization", &*bearer),
        ("authorization", &*format!("bearer   {text}")),
        ("x-api-key", text),
        ("accept", "*/*"),
    ] {
        let path_key = (name == "accept").then_some(text);
        let outcome = knock(&door, "8.8.8.8", &[&far[..], &[(name, value)]].concat(), path_key);
        assert_eq!(outcome.unwrap().app(), &app("shop"), "{name}");
    }
    let everywhere = [("authorization", &*bearer), ("x-api-key", text)];
    assert!(knock(&door, "8.8.8.8", &everywhere, Some(text)).is_ok(), "the same key thrice is one key");
    refused(knock(&door, HERE, &[("host", "localhost")], None));
}

#[test]
fn doubtful_credentials_are_refused_clearly() {
    let site = Site::new();
    let key = site.create("shop");
    let text = key.text.expose();
    let door = site.door(&PolicyKeys::default());
    let bearer = format!("Bearer {text}");
    let check = |list: &[(&str, &str)], path_key, words: &str| {
        let fault = knock(&door, HERE, list, path_key).unwrap_err();
        assert!(fault.message.contains(words), "{words:?} in {:?}", fault.message);
        assert!(!format!("{fault:?}").contains(text), "no key in {fault:?}");
    };
    check(&[("authorization", &bearer), ("x-api-key", "other")], None, "different keys");
    check(&[("authorization", &bearer)], Some("other"), "different keys");
    check(&[("authorization", text)], None, "not `Bearer KEY`");
    check(&[("authorization", "Basic dTpw")], None, "not `Bearer KEY`");
    check(&[("authorization", "AAAAC3NzaC1lZDI1NTE5:c2ln")], None, "OLLAMA_AUTH");
    check(&[("authorization", &bearer), ("authorization", "Bearer other")], None, "more than once");
    check(&[("x-api-key", "\u{e9}")], None, "plain ASCII");
    check(&[("host", "localhost"), ("host", "evil.example")], None, "more than once");
    check(&[("authorization", "Bearer ")], None, "not valid");
    check(&[("x-api-key", "")], None, "not valid");
    check(&[], Some(""), "not valid");
}

#[test]
fn before_the_first_key_a_key_counts_for_nothing_and_after_it_a_wrong_one_never_falls_back_to_local() {
    let site = Site::new();
    let with_key = [("host", "localhost"), ("authorization", "Bearer ollama")];
    let door = site.door(&PolicyKeys::default());
    assert_eq!(knock_here(&door, &with_key).unwrap().app(), &AppName::local());
    refused(knock(&door, "192.0.2.7", &with_key, Some("x")));
    site.create("shop");
    let door = site.door(&PolicyKeys::default());
    let text = refused(knock_here(&door, &with_key));
    assert!(text.contains("not valid") && text.contains("gaucho key create APP"), "{text}");
}

#[test]
fn the_seal_outlives_every_key_and_policy() {
    let local = [("host", "localhost")];
    let sealed = |site: &Site| {
        let text = refused(knock_here(&site.door(&PolicyKeys::default()), &local));
        assert!(text.contains("a key is needed"), "{text}");
    };

    let site = Site::new();
    let key = site.create("shop");
    sealed(&site);
    let document = site.store.get(KEYS, &key.record.id.0).unwrap().unwrap();
    site.store.commit(&[Change::Delete(KEYS, &document.id, document.version)]).unwrap().unwrap();
    sealed(&site);

    let site = Site::new();
    assert!(knock_here(&site.door(&PolicyKeys::default()), &local).is_ok());
    refused(knock_here(&site.door(&PolicyKeys { applications: true, hashes: Vec::new() }), &local));
    sealed(&site);

    let site = Site::new();
    let keyring = Arc::new(site.keyring(&PolicyKeys::default()));
    let door = door_on(&keyring, &site.clock);
    assert!(knock_here(&door, &local).is_ok());
    site.create("shop");
    site.reload(&keyring);
    refused(knock_here(&door, &local));
}

/// A key that came without its seal (a folder put together by hand) seals all the same.
#[test]
fn a_key_without_a_seal_is_sealed_on_sight() {
    let site = Site::new();
    site.create("shop");
    let seal = site.store.get(IDENTITY, SEAL).unwrap().unwrap();
    site.store.commit(&[Change::Delete(IDENTITY, SEAL, seal.version)]).unwrap().unwrap();
    assert!(site.keyring(&PolicyKeys::default()).is_sealed());
    assert!(site.store.get(IDENTITY, SEAL).unwrap().is_some());
}

#[test]
fn facts_hide_keys_from_debug() {
    let list = headers(&[("authorization", "Bearer topsecret"), ("x-api-key", "topsecret")]);
    let facts = CallerFacts::read(HERE.parse().unwrap(), TARGET, &list, Some("topsecret")).unwrap();
    assert!(!format!("{facts:?}").contains("topsecret"));
}
