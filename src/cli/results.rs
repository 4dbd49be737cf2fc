//! Hits on stdout, as a table or as JSON lines.

use std::io::Write;

use colqwen_index::page_index::{Answer, Hit};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Letters per line of a table.
const TABLE_WIDTH: u16 = 110;

/// One JSON line per query. Where pages were found by MaxSim it says how many of the first hits are proven, the share of
/// the true hits that is expected to be there, and the bits that hits were scored at; where it was logged, as which impression.
pub fn json_line(
    out: &mut impl Write,
    query_id: &str,
    answer: &Answer,
    impression: Option<&str>,
) -> anyhow::Result<()> {
    let hits: Vec<_> = answer
        .hits
        .iter()
        .map(|hit| serde_json::json!({ "doc_id": hit.doc_id, "page": hit.page, "score": hit.score }))
        .collect();
    let mut line = serde_json::json!({ "query_id": query_id, "hits": hits });
    if let Some(report) = &answer.late {
        line["proven"] = report.proven.into();
        line["expected_recall"] = ((f64::from(report.expected_recall) * 1e4).round() / 1e4).into();
        line["bits"] = report.precision.bits().into();
    }
    if let Some(impression) = impression {
        line["impression"] = impression.into();
    }
    writeln!(out, "{line}")?;
    Ok(())
}

/// A table of hits: rank, file, page, score, snippet.
pub fn table(out: &mut impl Write, hits: &[(Hit, String)]) -> anyhow::Result<()> {
    if hits.is_empty() {
        writeln!(out, "no page found")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH);
    table.set_header(["", "file", "page", "score", "text"]);
    for (rank, (hit, snippet)) in (1..).zip(hits) {
        table.add_row([
            rank.to_string(),
            hit.doc_id.clone(),
            hit.page.to_string(),
            format!("{:.4}", hit.score),
            snippet.clone(),
        ]);
    }
    for column in [0, 2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")?;
    Ok(())
}
