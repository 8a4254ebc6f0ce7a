//! What stands inside blocks: pictures, texts in lists, results of tools and of searches.

use std::borrow::Cow;

use crate::domain::Fault;
use crate::wire::fields::shown;
use crate::wire::go_json::{check_base64, elements, member, unquote};
use crate::wire::request::bad;
use crate::wire::text::Text;

/// Pictures, as base64.
pub(super) type Images<'a> = Vec<Cow<'a, str>>;

/// A block that Ollama would leave out without a word.
pub(super) fn odd(place: &str, kind: &str, instead: &str) -> Fault {
    let place = format!("{place}.type");
    bad(format!("{place} is {kind:?}, which no model here can read: send {instead}")).at(place)
}

/// The system prompt: a text, or text blocks that are joined.
pub(super) fn system(system: &str) -> Result<Text<'_>, Fault> {
    match system.bytes().next() {
        Some(b'"') => Ok(Text::Written(system)),
        Some(b'[') => blocks(system, "system", None),
        _ => {
            let text = format!("system is {}: use a text or a list of text blocks", shown(system));
            Err(bad(text).at("system"))
        }
    }
}

/// The text and the pictures of a tool's result.
pub(super) fn result<'a>(content: Option<&'a str>, place: &str) -> Result<(Text<'a>, Images<'a>), Fault> {
    let Some(content) = content else { return Ok(Default::default()) };
    let place = format!("{place}.content");
    match content.bytes().next() {
        Some(b'"') => Ok((Text::Written(content), Vec::new())),
        Some(b'[') => {
            let mut images = Vec::new();
            Ok((blocks(content, &place, Some(&mut images))?, images))
        }
        _ => {
            let text = format!("{place} is {}: use a text or a list of text and image blocks", shown(content));
            Err(bad(text).at(place))
        }
    }
}

/// The texts of a list's blocks, joined; pictures go to `images` where they may be.
fn blocks<'a>(list: &'a str, place: &str, mut images: Option<&mut Images<'a>>) -> Result<Text<'a>, Fault> {
    let mut items = Vec::new();
    let _ = elements(list, |item| items.push(item));
    let instead = if images.is_some() { "text or image blocks" } else { "text blocks" };
    let mut all = Text::default();
    for (at, block) in items.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        match (&*text(block, "type"), &mut images) {
            ("text", _) => match member(block, "text").filter(|text| *text != "null") {
                Some(text) if !text.starts_with('"') => {
                    return Err(bad(format!("{place}.text is {}: use a text", shown(text))).at(format!("{place}.text")));
                }
                text => all.join(Text::of(text)),
            },
            ("image", Some(images)) => {
                let source = member(block, "source").filter(|source| source.starts_with('{'));
                let source = source.ok_or_else(|| bad("invalid tool_result image source"))?;
                images.push(image(&text(source, "type"), text(source, "data"))?);
            }
            (kind, _) => return Err(odd(&place, kind, instead)),
        }
    }
    Ok(all)
}

/// A picture's base64, by the `type` and the `data` of its source.
pub(super) fn image<'a>(kind: &str, data: Cow<'a, str>) -> Result<Cow<'a, str>, Fault> {
    if kind != "base64" {
        return Err(bad(format!("invalid image source type: {kind}. Only base64 images are supported.")));
    }
    check_base64(&data).map_err(|e| bad(format!("invalid base64 image data: {e}")))?;
    Ok(data)
}

/// What an earlier search found, as Ollama tells it to a model.
pub(super) fn found(content: Option<&str>) -> String {
    let content = content.unwrap_or("null");
    if let Some(failed) = failed(content) {
        return failed;
    }
    match content.bytes().next() {
        Some(b'"') => unquote(content).into_owned(),
        Some(b'[') => {
            let (mut all, mut failure) = (String::new(), None);
            let _ = elements(content, |item| {
                if failure.is_none() && text(item, "type") == "web_search_result" {
                    all.push_str(&format!("- {}: {}\n", text(item, "title"), text(item, "url")));
                }
                failure = failure.take().or_else(|| failed(item));
            });
            failure.unwrap_or(all)
        }
        _ => content.to_owned(),
    }
}

/// What a search that failed says of it.
fn failed(item: &str) -> Option<String> {
    let kind = text(item, "type");
    if kind != "web_search_tool_result_error" {
        return None;
    }
    let code = text(item, "error_code");
    Some(if code.is_empty() { kind.into_owned() } else { format!("{kind}: {code}") })
}

/// A member that is a text, else nothing; keys are exact, because Ollama reads these objects into maps.
fn text<'a>(object: &'a str, name: &str) -> Cow<'a, str> {
    member(object, name).filter(|value| value.starts_with('"')).map(unquote).unwrap_or_default()
}
