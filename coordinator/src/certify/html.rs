//! The certificate as one HTML page: no script, nothing fetched, printable; totals first, long lists
//! folded in pages. Every value that comes from data is escaped.

use chrono::{DateTime, Utc};

use super::{Certificate, StationReport};
use crate::cli::words;
use crate::read::certificate::ChunkLine;

/// Lines in one folded part of a long list.
const PAGE: usize = 500;

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d0d7de; }
.verdict { border: 2px solid; border-radius: 6px; padding: .75rem 1rem; margin: 1rem 0; }
.yes { border-color: #1a7f37; background: #eefbf1; } .no { border-color: #b42318; background: #fff3f1; }
.verdict strong { font-size: 1.25rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e3e7eb; vertical-align: top; overflow-wrap: anywhere; }
th { background: #f6f8fa; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere; } summary { cursor: pointer; padding: .25rem 0; }
.scroll { overflow-x: auto; } footer { margin-top: 2rem; color: #57606a; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } details { break-inside: auto; } tr { break-inside: avoid; } }";

/// Writes the page; `sha256` is that of the JSON document, `json` its file's name.
#[must_use]
pub fn page(certificate: &Certificate, json: &str, sha256: &str) -> String {
    let mut html = Html::default();
    let name = format!("{}:{}", certificate.flow, certificate.dataset);
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">");
    html.tag("title", &format!("Certificate of {name}"));
    html.raw(&format!("<style>{STYLE}</style></head><body>\n"));
    html.tag("h1", &format!("Certificate of {name}"));
    verdict(&mut html, certificate);
    totals(&mut html, certificate);
    origin(&mut html, certificate, json, sha256);
    way(&mut html, certificate);
    tiling(&mut html, certificate);
    rules(&mut html, certificate);
    reconciliation(&mut html, certificate);
    exceptions(&mut html, certificate);
    chunks(&mut html, certificate);
    html.raw("<footer>");
    html.raw("This page says in words what ");
    html.tag("code", json);
    html.raw(" says for programs. Its SHA-256 is ");
    html.tag("code", sha256);
    html.raw("; <code>sha256sum</code> of the file must print the same.</footer></body></html>\n");
    html.0
}

/// A page that is being written.
#[derive(Default)]
struct Html(String);

impl Html {
    /// Text of ours, as it is.
    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Text of others.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in a page; line breaks are spaces.
                c if c.is_control() => self.0.push(' '),
                // Marks that turn the direction of what follows could make a page say something else.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    self.0.push('\u{fffd}');
                }
                c => self.0.push(c),
            }
        }
    }

    fn tag(&mut self, tag: &str, text: &str) {
        self.raw(&format!("<{tag}>"));
        self.text(text);
        self.raw(&format!("</{tag}>"));
    }

    /// A table; a `>` before a head aligns its column to the right.
    fn table(&mut self, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let class = |head: &str| {
            if head.starts_with('>') {
                " class=\"n\""
            } else {
                ""
            }
        };
        self.raw("<div class=\"scroll\"><table><thead><tr>");
        for head in heads {
            self.raw(&format!("<th{}>", class(head)));
            self.text(head.trim_start_matches('>'));
            self.raw("</th>");
        }
        self.raw("</tr></thead><tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for (cell, head) in row.iter().zip(heads) {
                self.raw(&format!("<td{}>", class(head)));
                self.text(cell);
                self.raw("</td>");
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table></div>\n");
    }

    /// A list in folded pages; the first is open where `open` says so.
    fn folded(&mut self, heads: &[&str], rows: &[Vec<String>], open: bool) {
        for (index, part) in rows.chunks(PAGE).enumerate() {
            let state = if open && index == 0 { " open" } else { "" };
            self.raw(&format!("<details{state}><summary>"));
            let first = index * PAGE + 1;
            self.text(&format!(
                "{first} to {} of {}",
                first + part.len() - 1,
                rows.len()
            ));
            self.raw("</summary>");
            self.table(heads, part.iter().cloned());
            self.raw("</details>\n");
        }
    }
}

fn verdict(html: &mut Html, certificate: &Certificate) {
    let (class, word) = if certificate.certified {
        ("yes", "CERTIFIED")
    } else {
        ("no", "NOT CERTIFIED")
    };
    html.raw(&format!(
        "<div class=\"verdict {class}\"><strong>{word}</strong><p>"
    ));
    html.text(if certificate.certified {
        "The chunks are those of the sealed plan, all of them are published and validated, none is stale, \
         and the target holds what the source held at its extract."
    } else {
        "It does not hold, for these reasons:"
    });
    html.raw("</p>");
    for list in [&certificate.reasons] {
        if !list.is_empty() {
            html.raw("<ul>");
            for reason in list {
                html.tag("li", reason);
            }
            html.raw("</ul>");
        }
    }
    html.raw("</div>\n");
    if !certificate.notes.is_empty() {
        html.raw("<p>To be known beside:</p><ul>");
        for note in &certificate.notes {
            html.tag("li", note);
        }
        html.raw("</ul>\n");
    }
}

fn number(n: Option<i64>) -> String {
    n.map_or_else(String::new, words::grouped)
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(String::new, |at| at.format("%F %T UTC").to_string())
}

fn totals(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>Totals</h2>");
    let found = &certificate.reconciliation;
    let Some(target) = certificate.way.last() else {
        return;
    };
    html.table(
        &[
            ">chunks",
            ">published",
            ">validated",
            ">equal to the source",
            ">rows at extract",
            ">rows in target",
            "published from",
            "to",
        ],
        [vec![
            words::grouped(target.figures.chunks),
            words::grouped(target.figures.published),
            words::grouped(target.figures.validated),
            words::grouped(found.equal),
            number(found.expected_rows),
            number(found.found_rows),
            time(target.figures.first_published),
            time(target.figures.last_published),
        ]],
    );
}

fn origin(html: &mut Html, certificate: &Certificate, json: &str, sha256: &str) {
    let origin = &certificate.origin;
    html.raw("<h2>What this rests on</h2>");
    html.table(
        &["", ""],
        [
            (
                "read",
                format!("{} by {}", time(Some(origin.made_at)), origin.made_by),
            ),
            ("installation", origin.installation.clone()),
            ("program", certificate.program.clone()),
            (
                "flow",
                format!(
                    "{} version {}, applied {} by {}",
                    certificate.flow,
                    origin.flow_version,
                    time(Some(origin.applied_at)),
                    origin.applied_by
                ),
            ),
            ("flow digest", origin.flow_digest.clone()),
            ("document", format!("{json}, sha256 {sha256}")),
        ]
        .map(|(name, value)| vec![name.to_owned(), value]),
    );
}

fn place(station: &StationReport) -> String {
    let field = |name: &str| station.at.get(name).and_then(serde_json::Value::as_str);
    [field("connection"), field("table"), field("path")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

fn way(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>From source to target</h2>");
    let heads = [
        "data set",
        "at",
        ">chunks",
        ">published",
        ">validated",
        ">unvalidated",
        ">forced",
        ">stale",
        ">removed",
        ">rows",
        ">bytes",
    ];
    html.table(
        &heads,
        certificate.way.iter().map(|station| {
            let figures = &station.figures;
            let kind = if station.made { "" } else { " (source)" };
            let mut row = vec![format!("{}{kind}", station.dataset), place(station)];
            let counts = [
                figures.chunks,
                figures.published,
                figures.validated,
                figures.unvalidated,
                figures.forced,
                figures.stale,
                figures.removed,
            ];
            row.extend(counts.map(words::grouped));
            row.extend([number(figures.rows), number(figures.bytes)]);
            row
        }),
    );
    html.raw("<p>Rows and bytes are as the jobs reported them. <em>Forced</em> chunks were published though a rule of severity warn had failed.</p>");
}

fn tiling(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>The chunks are those of the plan</h2>");
    html.table(
        &[
            "data set",
            ">plan",
            "sealed",
            ">chunks",
            "digest when sealed",
            "digest now",
            "",
        ],
        certificate.way.iter().map(|station| {
            let figures = &station.figures;
            let same = figures.sealed_digest.as_deref() == Some(figures.computed_digest.as_str());
            vec![
                station.dataset.clone(),
                figures
                    .plan_version
                    .map_or_else(String::new, |n| n.to_string()),
                time(figures.sealed_at),
                number(figures.sealed_chunks),
                figures.sealed_digest.clone().unwrap_or_default(),
                figures.computed_digest.clone(),
                if same { "the same" } else { "NOT the same" }.to_owned(),
            ]
        }),
    );
    html.raw("<h3>and tile the source as it is now</h3>");
    html.table(
        &[
            "source",
            ">rows",
            ">in exactly one chunk",
            ">in none",
            ">in several",
            "",
        ],
        certificate
            .tiling
            .iter()
            .map(|tiling| match &tiling.report {
                Some(report) => vec![
                    tiling.dataset.clone(),
                    words::grouped(report.rows),
                    words::grouped(report.covered_once),
                    words::grouped(report.uncovered),
                    words::grouped(report.covered_more),
                    if report.tiles() {
                        "they tile it"
                    } else {
                        "they do NOT tile it"
                    }
                    .to_owned(),
                ],
                None => {
                    let why = tiling.not_checked.clone().unwrap_or_default();
                    let mut row = vec![tiling.dataset.clone()];
                    row.extend(std::iter::repeat_n(String::new(), 4));
                    row.push(format!("not looked at: {why}"));
                    row
                }
            }),
    );
}

fn rules(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>Rules that were checked before publication</h2>");
    let rows: Vec<Vec<String>> = certificate
        .way
        .iter()
        .flat_map(|station| {
            station.rules.iter().map(|rule| {
                vec![
                    station.dataset.clone(),
                    rule.rule.clone(),
                    rule.severity.clone(),
                    words::grouped(rule.held),
                    words::grouped(rule.failed),
                ]
            })
        })
        .collect();
    if rows.is_empty() {
        html.raw("<p>None beside those of the file formats (rows and row sum recounted).</p>");
        return;
    }
    html.table(&["data set", "rule", "severity", ">held", ">failed"], rows);
}

fn reconciliation(html: &mut Html, certificate: &Certificate) {
    let found = &certificate.reconciliation;
    html.raw("<h2>Target against source at extract</h2>");
    html.table(
        &[
            ">equal",
            ">rows only",
            ">differ",
            ">unknown",
            ">not compared",
            "looked at from",
            "to",
            "by",
        ],
        [vec![
            words::grouped(found.equal),
            words::grouped(found.rows_equal),
            words::grouped(found.differs),
            words::grouped(found.unknown),
            words::grouped(found.not_compared),
            time(found.first_checked),
            time(found.last_checked),
            found.checked_by.join(", "),
        ]],
    );
    html.raw("<p>Equal: as many rows, and the same sum of the hashes of all rows, as were read in the extract's own snapshot.</p>");
}

fn exceptions(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>Exceptions</h2>");
    if certificate.exceptions.is_empty() {
        html.raw("<p>None.</p>");
        return;
    }
    let rows: Vec<Vec<String>> = certificate
        .exceptions
        .iter()
        .map(|exception| {
            let line = &exception.line;
            vec![
                exception.chunk.clone(),
                exception.what.join("; "),
                number(line.expected_rows),
                number(line.found_rows),
                line.keys.as_ref().map_or_else(String::new, keys),
            ]
        })
        .collect();
    html.folded(
        &[
            "chunk",
            "what is not as it should be",
            ">rows at extract",
            ">rows in target",
            "keys",
        ],
        &rows,
        true,
    );
}

/// The keys that were listed for a chunk: `150 missing in target, ...`.
fn keys(list: &serde_json::Value) -> String {
    let listed = list.get("listed").and_then(serde_json::Value::as_array);
    let words = listed.into_iter().flatten().map(|found| {
        let parts = found.get("key").and_then(serde_json::Value::as_array);
        let key: Vec<&str> = parts
            .into_iter()
            .flatten()
            .map(|part| part.as_str().unwrap_or("null"))
            .collect();
        let what = found.get("what").and_then(serde_json::Value::as_str);
        format!(
            "{} {}",
            key.join("/"),
            what.unwrap_or_default().replace('_', " ")
        )
    });
    words.collect::<Vec<_>>().join(", ")
}

fn chunks(html: &mut Html, certificate: &Certificate) {
    html.raw("<h2>Chunks</h2>");
    let Some(chunks) = &certificate.chunks else {
        html.raw("<p>Too many to list one by one; the figures above count all of them, and the exceptions are listed in full.</p>");
        return;
    };
    let row = |chunk: &ChunkLine| {
        vec![
            chunk.key.clone(),
            chunk.generation.to_string(),
            time(chunk.published_at),
            number(chunk.expected_rows),
            number(chunk.found_rows),
            chunk.found_sum.clone().unwrap_or_default(),
            chunk
                .verdict
                .clone()
                .unwrap_or_else(|| "not compared".to_owned())
                .replace('_', " "),
            chunk.expected_from.clone().unwrap_or_default(),
        ]
    };
    html.folded(
        &[
            "chunk",
            ">generation",
            "published",
            ">rows at extract",
            ">rows in target",
            "row sum in target",
            "verdict",
            "expected from",
        ],
        &chunks.iter().map(row).collect::<Vec<_>>(),
        false,
    );
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_of_others_cannot_become_part_of_the_page() {
        let mut html = Html::default();
        html.tag("td", "<script>alert('1')</script>&\"\u{202e}\u{0}\n");
        assert_eq!(
            html.0,
            "<td>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}  </td>"
        );
    }

    #[test]
    fn long_lists_are_folded_in_pages() {
        let mut html = Html::default();
        let rows: Vec<Vec<String>> = (1..=1001).map(|n| vec![n.to_string()]).collect();
        html.folded(&[">n"], &rows, true);
        assert_eq!(html.0.matches("<details").count(), 3);
        assert_eq!(html.0.matches("<details open>").count(), 1);
        assert!(html.0.contains("1001 to 1001 of 1001"));
        assert_eq!(html.0.matches("<tr><td").count(), 1001);
    }
}
