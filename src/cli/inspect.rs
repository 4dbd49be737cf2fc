//! `colqwen-index inspect`

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use colqwen_index::PageIndex;
use colqwen_index::field::CodebookSummary;
use colqwen_index::page_index::Inspection;

/// Show what an index holds: pages, tokens, bytes, precision, models, segments.
///
/// Example: colqwen-index inspect shelf --verify
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Read all vectors and compare their checksums.
    #[arg(long)]
    verify: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let index = PageIndex::open(&arguments.index)?;
    let inspection = index.inspect(arguments.verify)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", json(&inspection, arguments.verify))?;
        return Ok(());
    }
    writeln!(out, "{} pages of {} documents, dim {}", inspection.pages, inspection.documents, inspection.dim)?;
    match &inspection.model {
        Some(model) => {
            writeln!(out, "model {} ({}), query format {}", model.name, model.page_fingerprint, model.query_format)?
        }
        None => writeln!(out, "model not recorded")?,
    }
    writeln!(out, "generation {}, parts of embeddings in the index: {}", inspection.generation, inspection.last_part)?;
    if inspection.pages_by_pool_factor.keys().any(|factor| !factor.is_none()) || !inspection.pool_factor.is_none() {
        let counts: Vec<_> =
            inspection.pages_by_pool_factor.iter().map(|(by, pages)| format!("{pages} by {by}")).collect();
        writeln!(out, "tokens pooled by {} from now on; pages pooled: {}", inspection.pool_factor, counts.join(", "))?;
    }
    for segment in &inspection.segments {
        let (live, deleted, bytes) = (segment.live_docs, segment.deleted_docs, segment.file_bytes);
        writeln!(out, "segment {}: {live} pages, {deleted} deleted, {bytes} bytes of vectors", segment.segment)?;
        for field in &segment.fields {
            let origins: Vec<String> = field.origins.iter().map(ToString::to_string).collect();
            let per_token = field.vector_bytes as f64 / field.tokens.max(1) as f64;
            let (pages, tokens, bits) = (field.pages, field.tokens, field.precision.bits());
            writeln!(
                out,
                "  {}: {pages} pages, {tokens} tokens, {bits} bits, {per_token:.1} bytes per token",
                field.field
            )?;
            if field.direct_pages > 0 {
                writeln!(out, "  {} pages without a codebook, scanned", field.direct_pages)?;
            }
            for codebook in &field.codebooks {
                let (per_token, tokens) =
                    (|bytes: u64| bytes as f64 / field.tokens.max(1) as f64, codebook.trained_tokens);
                writeln!(
                    out,
                    "  codebook {}: {} centroids trained for {tokens} tokens {} days ago, {} pages with {:.1} centroids each",
                    &codebook.id[..8],
                    codebook.centroids,
                    age_in_days(codebook.created),
                    codebook.pages,
                    codebook.page_centroids as f64 / codebook.pages.max(1) as f64,
                )?;
                writeln!(
                    out,
                    "    bytes per token: centroids {:.2}, centroids of pages {:.2}, inverted lists {:.2}",
                    per_token(codebook.centroid_bytes),
                    per_token(codebook.group_bytes),
                    per_token(codebook.list_bytes),
                )?;
            }
            writeln!(
                out,
                "  pages of model {}",
                if origins.is_empty() { "none".to_owned() } else { origins.join(", ") }
            )?;
        }
    }
    if arguments.verify {
        writeln!(out, "all checksums match")?;
    }
    Ok(())
}

fn age_in_days(created: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    now.saturating_sub(created) / (24 * 60 * 60)
}

fn codebook_json(codebook: &CodebookSummary) -> serde_json::Value {
    serde_json::json!({
        "id": codebook.id,
        "centroids": codebook.centroids,
        "created": codebook.created,
        "trained_tokens": codebook.trained_tokens,
        "pages": codebook.pages,
        "page_centroids": codebook.page_centroids,
        "centroid_bytes": codebook.centroid_bytes,
        "group_bytes": codebook.group_bytes,
        "list_bytes": codebook.list_bytes,
    })
}

fn json(inspection: &Inspection, verified: bool) -> serde_json::Value {
    let segments: Vec<_> = inspection
        .segments
        .iter()
        .map(|segment| {
            let fields: Vec<_> = segment
                .fields
                .iter()
                .map(|field| {
                    serde_json::json!({
                        "field": field.field,
                        "dim": field.dim,
                        "bits": field.precision.bits(),
                        "pages": field.pages,
                        "tokens": field.tokens,
                        "vector_bytes": field.vector_bytes,
                        "keeps_f16": field.keeps_f16,
                        "direct_pages": field.direct_pages,
                        "codebooks": field.codebooks.iter().map(codebook_json).collect::<Vec<_>>(),
                        "models": field.origins.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    })
                })
                .collect();
            serde_json::json!({
                "segment": segment.segment,
                "pages": segment.live_docs,
                "deleted": segment.deleted_docs,
                "file_bytes": segment.file_bytes,
                "fields": fields,
            })
        })
        .collect();
    let by_factor = inspection.pages_by_pool_factor.iter();
    let pages_by_pool_factor: serde_json::Map<String, serde_json::Value> =
        by_factor.map(|(factor, pages)| (factor.to_string(), (*pages).into())).collect();
    serde_json::json!({
        "pages": inspection.pages,
        "documents": inspection.documents,
        "dim": inspection.dim,
        "generation": inspection.generation,
        "last_part": inspection.last_part,
        "model": inspection.model,
        "pool_factor": inspection.pool_factor,
        "pages_by_pool_factor": pages_by_pool_factor,
        "verified": verified,
        "segments": segments,
    })
}
