//! The report: one HTML file with drawings, no scripts, nothing from elsewhere. For people who rather look than read.
//!
//! Owns the page; `timeline` draws what was in memory and who ran, `bars` the waits.

mod bars;
mod timeline;

use std::fmt::Write as _;

use super::compare::{Comparison, compare};
use super::targets::Target;
use super::{mixes, scenes};

/// Colours of applications, in turn; they can be told apart by most eyes.
const COLOURS: [&str; 8] = ["#3b6fb6", "#d1603d", "#3f9b6d", "#8e5bb0", "#b8860b", "#4aa3b5", "#a34a6b", "#6b6b6b"];

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1000px;padding:0 1rem;color:#1d2530;\
background:#fff}h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2.4rem 0 .2rem;border-top:1px solid #d8dde5;padding-top:1rem}\
p{margin:.3rem 0 .6rem;color:#4a5565}table{border-collapse:collapse;margin:.4rem 0 .8rem}td,th{padding:.15rem .7rem;\
text-align:right;font-variant-numeric:tabular-nums}th{font-weight:600;border-bottom:1px solid #d8dde5}td:first-child,\
th:first-child{text-align:left}.missed{color:#b3261e;font-weight:600}.ok{color:#2c7a4b}svg{display:block;width:100%;\
height:auto;margin:.3rem 0 1rem}svg text{font:11px system-ui,sans-serif;fill:#4a5565}.key span{display:inline-block;\
margin-right:1.1rem;white-space:nowrap}.key i{display:inline-block;width:.9em;height:.9em;margin-right:.35em;\
vertical-align:-.1em}nav a{margin-right:.9rem;white-space:nowrap}";

/// The built-in scenes and workloads, played and drawn.
///
/// # Errors
/// When a name in one is no name.
pub fn built_in() -> Result<String, String> {
    let measured = scenes::NAMES.iter().filter_map(|name| scenes::scene(name, 1));
    let all = measured.chain(mixes::mixes(1)).map(compare).collect::<Result<Vec<_>, _>>()?;
    Ok(html(&all))
}

/// The page for some comparisons.
#[must_use]
pub fn html(all: &[Comparison]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Sharing one GPU</title><style>{STYLE}</style>\n<h1>Sharing one GPU: raw Ollama, a queue, a quantum, Gaucho</h1>\n\
         <p>The same requests in four modes, in virtual time. <b>raw</b>: every client asks Ollama itself. <b>fifo</b>: a \
         gateway lets in as many as a runner has slots, in order of arrival. <b>quantum</b>: a resident model stays for \
         three times its load. <b>gaucho</b>: this program's scheduler. A wait is from asking to the slot, in seconds; \
         <i>swap</i> is the share of the time in which nothing ran because models came and went.</p>\n<nav>"
    );
    for comparison in all {
        let name = escape(&comparison.workload.name);
        let _ = write!(page, "<a href=\"#{name}\">{name}</a> ");
    }
    page.push_str("</nav>\n");
    for comparison in all {
        section(&mut page, comparison);
    }
    page.push_str("</html>\n");
    page
}

fn section(page: &mut String, comparison: &Comparison) {
    let workload = &comparison.workload;
    let name = escape(&workload.name);
    let _ = writeln!(page, "<h2 id=\"{name}\">{name}</h2>\n<p>{}</p>", escape(&workload.note));
    table(page, comparison);
    for Target { what, text, kept } in &comparison.targets {
        let (class, word) = if *kept { ("ok", "kept") } else { ("missed", "missed") };
        let _ = writeln!(page, "<div><span class=\"{class}\">{word}</span> {}: {}</div>", escape(what), escape(text));
    }
    key(page, comparison);
    timeline::draw(page, comparison);
    bars::draw(page, comparison);
}

fn table(page: &mut String, comparison: &Comparison) {
    let what = comparison.results.first().map_or("", |result| result.score.what);
    let _ = write!(
        page,
        "<table><tr><th>mode<th>all done at, s<th>loads<th>answers<th>lost<th>wait p50<th>p99<th>longest<th>Jain<th>swap\
         <th>{}<th>of ideal</tr>",
        escape(what)
    );
    for result in &comparison.results {
        let measure = &result.measure;
        let lost: usize = measure.endings[2..].iter().sum();
        let got = if result.score.got.is_finite() { format!("{:.1}", result.score.got) } else { "never".to_owned() };
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.0}<td>{}<td>{}<td>{lost}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.2}<td>{:.0} %<td>{got}<td>{:.0} %</tr>",
            result.mode.as_str(),
            measure.makespan,
            measure.loads,
            measure.endings[0],
            measure.waits.p50,
            measure.waits.p99,
            measure.waits.max,
            measure.jain,
            100.0 * measure.overhead(),
            100.0 * result.score.ratio,
        );
    }
    page.push_str("</table>\n");
}

/// What the colours mean.
fn key(page: &mut String, comparison: &Comparison) {
    page.push_str("<div class=\"key\">");
    for (at, app) in comparison.workload.apps.iter().enumerate() {
        let _ = write!(page, "<span><i style=\"background:{}\"></i>{}</span>", colour(at), escape(&app.name));
    }
    for (fill, what) in [(timeline::IDLE, "resident"), (timeline::LOADING, "loading"), (timeline::LEAVING, "unloading")]
    {
        let _ = write!(page, "<span><i style=\"background:{fill}\"></i>{what}</span>");
    }
    page.push_str("</div>\n");
}

fn colour(app: usize) -> &'static str {
    COLOURS[app % COLOURS.len()]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_page_stands_alone_and_shows_every_mode() {
        let page = html(&[compare(scenes::scene("starve", 1).unwrap()).unwrap()]);
        for part in ["starve", ">raw<", ">fifo<", ">quantum<", ">gaucho<", "<svg", "app-b"] {
            assert!(page.contains(part), "no {part}");
        }
        for foreign in ["<script", "http://", "https://", "src="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    }
}
