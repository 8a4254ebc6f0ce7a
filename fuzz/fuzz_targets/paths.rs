//! The key in `/k/<key>/…`: it leaves the path, and nothing else does.
#![no_main]

use gaucho_fuzz::lift;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // as it stands, behind a key, and in absolute form
    for target in [text.to_owned(), format!("/k/{text}"), format!("http://gaucho/k/{text}")] {
        check(&target);
    }
});

fn check(target: &str) {
    let Some((left, key)) = lift(target) else { return };
    let uri: http::Uri = target.parse().expect("it was read as one");
    let left: http::Uri = left.parse().expect("what is left is a target");
    assert_eq!((left.scheme(), left.authority(), left.query()), (uri.scheme(), uri.authority(), uri.query()));
    let Some(key) = key else {
        assert_eq!(left, uri);
        assert!(!uri.path().starts_with("/k/"), "{target:?} kept its key");
        return;
    };
    assert!(!key.contains('/'));
    let rest = uri.path().strip_prefix("/k/").and_then(|rest| rest.strip_prefix(&*key)).expect("the key stands first");
    assert_eq!(left.path(), if rest.is_empty() { "/" } else { rest });
}
