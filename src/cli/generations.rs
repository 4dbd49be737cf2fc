//! `colqwen-index generations`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use colqwen_index::PageIndex;
use colqwen_index::page_index::GenerationInfo;
use comfy_table::{CellAlignment, Table, presets};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// List the generations of an index that are kept: number, model, pages, time, size, and which one is in use.
///
/// Every publishing of another model makes a generation; `rollback` goes back to one.
///
/// Example: colqwen-index generations shelf
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Print one JSON line per generation.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let generations = PageIndex::open(&arguments.index)?.generations()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for generation in &generations {
            writeln!(out, "{}", json(generation)?)?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "generation", "made", "pages", "bytes", "fingerprint", "model"]);
    for generation in &generations {
        let model = generation.model.as_ref();
        table.add_row([
            if generation.current { "in use" } else { "" }.to_owned(),
            match generation.pages_of {
                Some(shared) => format!("{}, pages of {shared}", generation.number),
                None => generation.number.to_string(),
            },
            time(generation)?.unwrap_or_default(),
            generation.pages.to_string(),
            generation.bytes.to_string(),
            model.map_or("unknown".to_owned(), |model| model.page_fingerprint.short()),
            model.map_or("not recorded".to_owned(), |model| model.name.clone()),
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")?;
    Ok(())
}

fn json(generation: &GenerationInfo) -> anyhow::Result<serde_json::Value> {
    let model = generation.model.as_ref();
    Ok(serde_json::json!({
        "generation": generation.number,
        "current": generation.current,
        "model": model.map(|model| &model.name),
        "fingerprint": model.map(|model| model.page_fingerprint),
        "query_format": model.map(|model| &model.query_format),
        "pages": generation.pages,
        "created": time(generation)?,
        "bytes": generation.bytes,
        "pages_of": generation.pages_of,
    }))
}

/// When it was made, to the second.
fn time(generation: &GenerationInfo) -> anyhow::Result<Option<String>> {
    let Some(seconds) = generation.created else { return Ok(None) };
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let time = time.with_context(|| format!("generation {} was made at no possible time", generation.number))?;
    Ok(Some(time.format(&Rfc3339)?))
}
