//! The report of a night's run: one HTML file that needs nothing else.

use std::fmt::Write;

use colqwen_index_train::data::PageId;

/// What the report shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// `published`, `would publish` or `refused`.
    pub decision: String,
    /// Why, in a sentence.
    pub reason: String,
    /// What went into the run and what came of it: names and values.
    pub facts: Vec<(String, String)>,
    /// What the gate compared.
    pub gate: Vec<GateRow>,
    /// The plot of the training, the text of an SVG file.
    pub curves: Option<String>,
    /// The queries that gained most, best first.
    pub improved: Vec<MovedQuery>,
    /// The queries that lost most, worst first.
    pub harmed: Vec<MovedQuery>,
}

/// One metric on one set of queries.
#[derive(Clone, PartialEq, Debug)]
pub struct GateRow {
    /// `clicks` or `judged`.
    pub set: String,
    /// Such as `nDCG@10`.
    pub metric: String,
    /// Of the model that serves.
    pub old: f64,
    /// Of the new one.
    pub new: f64,
    /// The interval of the difference, where it was resampled.
    pub interval: Option<[f64; 2]>,
}

/// A held-out query under both models.
#[derive(Clone, PartialEq, Debug)]
pub struct MovedQuery {
    /// Its name: a hash, or its text where that is wanted.
    pub name: String,
    /// nDCG@10 before and after.
    pub ndcg: [f64; 2],
    /// Pages that moved.
    pub pages: Vec<MovedPage>,
}

/// A page whose rank changed.
#[derive(Clone, PartialEq, Debug)]
pub struct MovedPage {
    /// The page.
    pub page: PageId,
    /// Its rank before, from 1; `None` below the hits that were looked at.
    pub before: Option<usize>,
    /// Its rank after.
    pub after: Option<usize>,
    /// Whether clicks say that it answers the query.
    pub wanted: bool,
    /// Its picture as a `data:` address, where it could be rendered.
    pub picture: Option<String>,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.pages{display:flex;flex-wrap:wrap;gap:1rem}\
figure{margin:0;width:9rem;font-size:12px}figure img{width:100%;border:1px solid #ccc}figure.wanted img{border:3px solid #2a7}\
.decision{padding:.8rem 1rem;border-left:5px solid #999;background:#f6f6f6}.published{border-color:#2a7}.refused{border-color:#c33}\
svg{max-width:100%;height:auto}h3{margin-bottom:.3rem}";

impl Report {
    /// The report as the text of an HTML file.
    pub fn html(&self) -> String {
        let mut html = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
        let class = if self.decision == "refused" { "refused" } else { "published" };
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<title>Training from clicks: {decision}</title><style>{STYLE}</style><h1>Training from clicks</h1>\
             <p class=\"decision {class}\"><b>{decision}</b>: {reason}</p>",
            decision = escaped(&self.decision),
            reason = escaped(&self.reason)
        );
        html.push_str("<h2>The gate</h2>");
        self.write_gate(&mut html);
        html.push_str("<h2>The run</h2><table>");
        for (name, value) in &self.facts {
            let _ = write!(html, "<tr><th>{}<td>{}", escaped(name), escaped(value));
        }
        html.push_str("</table>");
        if let Some(curves) = &self.curves {
            // An SVG element as it is; a declaration before it has no place within HTML.
            let from = curves.find("<svg").unwrap_or(0);
            let _ = write!(html, "<h2>The training</h2>{}", &curves[from..]);
        }
        write_queries(&mut html, "Queries that gained most", &self.improved);
        write_queries(&mut html, "Queries that lost most", &self.harmed);
        html.push_str("</html>\n");
        html
    }

    fn write_gate(&self, html: &mut String) {
        if self.gate.is_empty() {
            html.push_str("<p>Nothing was compared.</p>");
            return;
        }
        html.push_str(
            "<table><tr><th>queries<th>metric<th class=n>serving<th class=n>new<th class=n>difference<th class=n>interval",
        );
        for row in &self.gate {
            let interval =
                row.interval.map(|[low, high]| format!("{low:+.4} to {high:+.4}")).unwrap_or_else(|| "-".to_owned());
            let _ = write!(
                html,
                "<tr><td>{}<td>{}<td class=n>{:.4}<td class=n>{:.4}<td class=n>{:+.4}<td class=n>{interval}",
                escaped(&row.set),
                escaped(&row.metric),
                row.old,
                row.new,
                row.new - row.old
            );
        }
        html.push_str("</table>");
    }
}

fn write_queries(html: &mut String, title: &str, queries: &[MovedQuery]) {
    let _ = write!(html, "<h2>{title}</h2>");
    if queries.is_empty() {
        html.push_str("<p>None.</p>");
    }
    for query in queries {
        let [before, after] = query.ndcg;
        let _ = write!(
            html,
            "<h3>{}</h3><p>nDCG@10 {before:.3} before, {after:.3} after</p><div class=pages>",
            escaped(&query.name)
        );
        for page in &query.pages {
            let class = if page.wanted { "wanted" } else { "other" };
            let rank = |rank: Option<usize>| rank.map_or_else(|| "below".to_owned(), |rank| rank.to_string());
            let _ = write!(html, "<figure class={class}>");
            if let Some(picture) = &page.picture {
                let _ = write!(html, "<img alt=\"\" src=\"{}\">", escaped(picture));
            }
            let _ = write!(
                html,
                "<figcaption>{} page {}: rank {} to {}{}</figcaption></figure>",
                escaped(&page.page.doc_id),
                page.page.page,
                rank(page.before),
                rank(page.after),
                if page.wanted { ", wanted" } else { "" }
            );
        }
        html.push_str("</div>");
    }
}

/// Text that means nothing to HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_file_in_which_names_are_only_text() {
        let page = MovedPage {
            page: PageId::new("<b>a.pdf", 3),
            before: None,
            after: Some(1),
            wanted: true,
            picture: Some("data:image/png;base64,AAAA".to_owned()),
        };
        let query = MovedQuery { name: "\"><script>".to_owned(), ndcg: [0.0, 1.0], pages: vec![page] };
        let row = GateRow {
            set: "clicks".to_owned(),
            metric: "nDCG@10".to_owned(),
            old: 0.5,
            new: 0.625,
            interval: Some([0.05, 0.2]),
        };
        let report = Report {
            decision: "published".to_owned(),
            reason: "better & not worse".to_owned(),
            gate: vec![row],
            curves: Some("<?xml?>\n<svg width=\"1\"></svg>".to_owned()),
            improved: vec![query],
            ..Report::default()
        };
        let html = report.html();
        for part in ["better &amp; not worse", "+0.1250", "+0.0500 to +0.2000", "rank below to 1, wanted", "<svg"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        for part in ["<script", "<?xml", "<b>a.pdf", "http:", "https:"] {
            assert!(!html.contains(part), "{part} in {html}");
        }
    }
}
