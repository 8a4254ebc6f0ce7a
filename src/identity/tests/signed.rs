//! Requests signed as the Ollama client signs them: fresh, true, of a known key, and not used before.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::super::ssh::SshKeyError;
use super::*;

const HERE: &str = "192.0.2.7";

/// An Ollama client's key pair.
struct Client(Ed25519KeyPair);

impl Client {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn wire(&self) -> String {
        STANDARD.encode([b"\0\0\0\x0bssh-ed25519\0\0\0\x20".as_slice(), self.0.public_key().as_ref()].concat())
    }

    fn public(&self) -> SshKey {
        SshKey::parse(&format!("ssh-ed25519 {} me", self.wire())).unwrap().0
    }

    fn sign(&self, text: &str) -> String {
        format!("{}:{}", self.wire(), STANDARD.encode(self.0.sign(text.as_bytes())))
    }
}

struct Door {
    site: Site,
    keyring: Arc<Keyring>,
    door: Doorkeeper,
}

impl Door {
    /// A door that `client` may open for `app`, some time after it was set up.
    fn new(client: &Client, name: &str) -> Self {
        let site = Site::new();
        site.keys.add_ssh(&app(name), client.public(), None, Some("laptop")).unwrap();
        let keyring = Arc::new(site.keyring(&PolicyKeys::default()));
        let door = Doorkeeper::new(Arc::clone(&keyring), site.clock.clone(), LocalRules::default());
        site.clock.advance(HOUR);
        Self { site, keyring, door }
    }

    fn now(&self) -> u64 {
        self.site.clock.wall().as_secs()
    }

    fn knock(&self, peer: &str, target: Target<'_>, authorization: &str) -> Result<Principal, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        let peer: IpAddr = peer.parse().unwrap();
        self.door.identify(&CallerFacts::read(peer, target, &headers, None)?)
    }

    /// `POST /api/chat?ts=…`, signed at `ts` by `client`, from `peer`.
    fn chat(&self, client: &Client, ts: u64, peer: &str) -> Result<Principal, Fault> {
        let query = format!("ts={ts}");
        let target = Target { method: "POST", path: "/api/chat", query: Some(&query) };
        self.knock(peer, target, &client.sign(&format!("POST,/api/chat?ts={ts}")))
    }
}

#[test]
fn a_registered_key_signs_for_its_application() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let principal = door.chat(&client, door.now(), HERE).unwrap();
    assert_eq!((principal.app(), principal.key()), (&app("shop"), Some(&door.site.keys.list().unwrap()[0].id)));
    let text = refused(door.chat(&Client::new(2), door.now(), HERE));
    assert!(text.contains("not registered") && text.contains("gaucho key add-ssh APP 'ssh-ed25519 "), "{text}");
    // revoked, and everything that runs under it ends
    door.site.keys.revoke(&principal.key().unwrap().0).unwrap();
    door.site.reload(&door.keyring);
    assert!(principal.is_gone());
    let text = refused(door.chat(&client, door.now() + 1, HERE));
    assert!(text.contains("not registered here, or no longer"), "{text}");
}

#[test]
fn method_path_and_time_are_signed_and_other_parameters_are_not() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let now = door.now();
    let good = client.sign(&format!("POST,/api/show?ts={now}"));
    let (ts, among) = (format!("ts={now}"), format!("a=b&ts={now}&c=%3F"));
    let (other, twice, odd) = (format!("ts={}", now + 1), format!("ts={now}&ts={now}"), format!("ts=0{now}"));
    let target = |method, path, query| Target { method, path, query };
    for query in [&ts, &among] {
        assert!(door.knock(HERE, target("POST", "/api/show", Some(query)), &good).is_ok(), "{query}");
    }
    for (method, path, query, said) in [
        ("GET", "/api/show", Some(&ts), "not one of `GET,/api/show?ts="),
        ("POST", "/api/chat", Some(&ts), "not one of"),
        ("POST", "/api/show", Some(&other), "not one of"),
        ("POST", "/api/show", Some(&twice), "not one `ts`"),
        ("POST", "/api/show", Some(&odd), "not one `ts`"),
        ("POST", "/api/show", None, "not one `ts`"),
    ] {
        let text = refused(door.knock(HERE, target(method, path, query.map(String::as_str)), &good));
        assert!(text.contains(said), "{method} {path} {query:?}: {text}");
    }
    let (key, signature) = good.split_once(':').unwrap();
    let rsa = STANDARD.encode(b"\0\0\0\x07ssh-rsa");
    for malformed in [
        format!("{key}:"),
        format!(":{signature}"),
        format!("{key}:{}", &signature[4..]),
        format!("{key}:{signature}AAAA"),
        format!("{key}:{}", signature.replace('=', "")),
        format!("{rsa}:{signature}"),
        "!!!:???".to_owned(),
        key.to_owned(),
    ] {
        let text = refused(door.knock(HERE, target("POST", "/api/show", Some(&ts)), &malformed));
        assert!(text.contains("PUBLICKEY:SIGNATURE"), "{malformed}: {text}");
    }
}

#[test]
fn a_signature_is_good_for_a_minute_by_both_clocks() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let now = door.now();
    for ts in [now - 60, now, now + 60] {
        assert!(door.chat(&client, ts, HERE).is_ok(), "{ts}");
    }
    for (ts, side) in [(now - 61, "61 s behind"), (now + 61, "61 s ahead of"), (0, "behind"), (u64::MAX, "ts")] {
        let text = refused(door.chat(&client, ts, HERE));
        assert!(text.contains(side), "{ts}: {text}");
    }
}

#[test]
fn an_honest_repetition_is_taken_and_a_replay_is_not() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let now = door.now();
    assert!(door.chat(&client, now, HERE).is_ok());
    assert!(door.chat(&client, now, HERE).is_ok(), "twice within a second, as scripts do");
    assert!(refused(door.chat(&client, now, "192.0.2.8")).contains("signed anew"), "overheard");
    // a reload of the keys forgets nothing
    door.site.create("other");
    door.site.reload(&door.keyring);
    assert!(refused(door.chat(&client, now, "192.0.2.8")).contains("signed anew"));
    door.site.clock.advance(Duration::from_secs(4));
    assert!(refused(door.chat(&client, now, HERE)).contains("signed anew"), "kept for later");
    assert!(door.chat(&client, now + 4, HERE).is_ok(), "signed anew");
}

#[test]
fn what_was_signed_before_the_gateway_began_may_have_been_used() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let now = door.now();
    assert!(door.chat(&client, now, HERE).is_ok());
    door.site.clock.advance(Duration::from_secs(10));
    let keyring = Arc::new(door.site.keyring(&PolicyKeys::default()));
    let door = Door { door: Doorkeeper::new(keyring, door.site.clock.clone(), LocalRules::default()), ..door };
    assert!(refused(door.chat(&client, now, HERE)).contains("before this gateway began"));
    assert!(door.chat(&client, now + 9, HERE).is_ok(), "a second is no proof of anything");
}

#[test]
fn a_key_beside_a_signature_must_be_of_the_same_application() {
    let client = Client::new(1);
    let door = Door::new(&client, "shop");
    let (own, foreign) = (door.site.create("shop"), door.site.create("other"));
    door.site.reload(&door.keyring);
    let query = format!("ts={}", door.now());
    let target = Target { method: "HEAD", path: "/", query: Some(&query) };
    let with = |key: &NewKey| {
        let mut headers = HeaderMap::new();
        let signed = client.sign(&format!("HEAD,/?{query}"));
        headers.insert("authorization", HeaderValue::from_str(&signed).unwrap());
        let facts = CallerFacts::read(HERE.parse().unwrap(), target, &headers, Some(key.text.expose())).unwrap();
        door.door.identify(&facts)
    };
    assert_eq!(with(&own).unwrap().app(), &app("shop"));
    assert!(refused(with(&foreign)).contains("signed for another"));
}

#[test]
fn public_keys_are_kept_listed_and_ended_like_others() {
    let client = Client::new(1);
    let site = Site::new();
    let added = site.keys.add_ssh(&app("shop"), client.public(), Some(HOUR), None).unwrap();
    let again = site.keys.add_ssh(&app("wiki"), client.public(), None, None).unwrap_err();
    assert!(matches!(again, KeyError::Ssh(SshKeyError::Taken { .. })) && again.to_string().contains("shop"), "{again}");
    let rotated = site.keys.rotate(&added.id.0, HOUR).unwrap_err();
    assert!(rotated.to_string().contains("gaucho key add-ssh shop"), "{rotated}");
    assert_eq!(site.keys.list().unwrap(), std::slice::from_ref(&added));
    assert!(site.keyring(&PolicyKeys::default()).is_sealed());
    site.keys.revoke(&added.id.0).unwrap();
    let moved = site.keys.add_ssh(&app("wiki"), client.public(), None, None).unwrap();
    let keyring = Arc::new(site.keyring(&PolicyKeys::default()));
    let door = Doorkeeper::new(Arc::clone(&keyring), site.clock.clone(), LocalRules::default());
    let door = Door { site, keyring, door };
    let principal = door.chat(&client, door.now(), HERE).unwrap();
    assert_eq!((principal.app(), principal.key()), (&app("wiki"), Some(&moved.id)), "the valid record counts");
    // a text key cannot be made of a public one
    assert!(door.keyring.prove(&client.wire(), door.site.clock.wall()).is_err());
}
