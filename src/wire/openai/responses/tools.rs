//! `tools`: functions as the native call takes them, and as a reply repeats them.

use super::super::request::{bad, refuse};
use super::json::{Member, Order, object, sorted, text};
use super::tables;
use crate::domain::Fault;
use crate::wire::go_json::{Document, elements, go_quote, read, unquote};
use crate::wire::ollama::PARAMETERS;
use crate::wire::out::{push, string};

/// Deepest nesting of namespaces taken.
const MOST_NESTED: usize = 8;

/// The tools as a native list; what the server would have to run itself is refused.
pub(super) fn convert(list: &str) -> Result<String, Fault> {
    let mut out = vec![b'['];
    let mut bad_tool = Ok(());
    let mut at = 0;
    let _ = elements(list, |tool| {
        if bad_tool.is_ok() {
            bad_tool = one(&mut out, tool, at, &mut Vec::new());
        }
        at += 1;
    });
    bad_tool?;
    out.push(b']');
    String::from_utf8(out).map_err(|_| bad("the tools are not UTF-8"))
}

/// Appends a function, or all functions of the namespace at `at`; `spaces` are the names around it, the outermost first.
fn one(out: &mut Vec<u8>, tool: &str, at: usize, spaces: &mut Vec<String>) -> Result<(), Fault> {
    let tool = read(tool.as_bytes(), &tables::TOOL).map_err(refuse)?;
    let kind = tool.text("type");
    match &*kind {
        "" | "function" => function(out, &tool, spaces),
        "namespace" if spaces.len() == MOST_NESTED => {
            let text = format!("tools[{at}]: namespaces nest deeper than {MOST_NESTED}: put the functions further out");
            Err(bad(text).at(format!("tools[{at}]")))
        }
        "namespace" => {
            spaces.push(tool.text("name").into_owned());
            let mut bad_tool = Ok(());
            let _ = elements(tool.get("tools").unwrap_or("[]"), |member| {
                if bad_tool.is_ok() {
                    bad_tool = one(out, member, at, spaces);
                }
            });
            spaces.pop();
            bad_tool
        }
        other => {
            let text = format!(
                "tools[{at}].type is {}, but only functions can be called here: use \"function\", or leave it out",
                go_quote(other)
            );
            Err(bad(text).at(format!("tools[{at}].type")))
        }
    }
}

fn function(out: &mut Vec<u8>, tool: &Document<'_>, spaces: &[String]) -> Result<(), Fault> {
    if let Some(parameters) = tool.get("parameters") {
        read(parameters.as_bytes(), &PARAMETERS)
            .map_err(|why| bad(format!("failed to unmarshal tool parameters: {}", why.text())))?;
    }
    let mut name = tool.text("name").into_owned();
    for space in spaces.iter().rev().filter(|space| !space.is_empty()) {
        let prefix = format!("{space}.");
        if !name.starts_with(&prefix) {
            name = prefix + &name;
        }
    }
    push(out, if out.len() == 1 { "{\"type\":" } else { ",{\"type\":" });
    string(out, &tool.text("type"));
    push(out, ",\"function\":{\"name\":");
    string(out, &name);
    if let Some(description) = tool.get("description") {
        push(out, ",\"description\":");
        push(out, description);
    }
    if let Some(parameters) = tool.get("parameters") {
        // sorted, as Ollama reads them into a map on this route: their order reaches the prompt
        push(out, ",\"parameters\":");
        sorted(out, parameters);
    }
    push(out, "}}");
    Ok(())
}

/// Appends the tools as a reply repeats them: flat, with null for what was not said.
pub(super) fn echo(out: &mut Vec<u8>, list: &str, order: Order) {
    out.push(b'[');
    let start = out.len();
    let _ = elements(list, |tool| {
        if out.len() > start {
            out.push(b',');
        }
        // cannot fail: it was converted before
        if let Ok(tool) = read(tool.as_bytes(), &tables::TOOL) {
            echo_one(out, &tool, order);
        }
    });
    out.push(b']');
}

fn echo_one(out: &mut Vec<u8>, tool: &Document<'_>, order: Order) {
    let said = |name: &'static str, write: fn(&mut Vec<u8>, &str)| {
        move |out: &mut Vec<u8>| match tool.get(name) {
            Some(value) => write(out, value),
            None => push(out, "null"),
        }
    };
    let parameters = said("parameters", sorted);
    let (description, strict) = (said("description", text), said("strict", push));
    let members = tool.get("tools").filter(|list| order == Order::Declared && !list.is_empty());
    let members_of = |out: &mut Vec<u8>| echo(out, members.unwrap_or("[]"), order);
    let kind = |out: &mut Vec<u8>| string(out, &unquote(tool.get("type").unwrap_or("\"\"")));
    let name = |out: &mut Vec<u8>| string(out, &tool.text("name"));
    let mut list: Vec<Member<'_>> = vec![
        ("type", &kind),
        ("name", &name),
        ("description", &description),
        ("strict", &strict),
        ("parameters", &parameters),
    ];
    if members.is_some() {
        list.push(("tools", &members_of));
    }
    object(out, order, &mut list);
}
