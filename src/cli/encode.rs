//! `colqwen-index encode`

use std::path::PathBuf;

use anyhow::Context;
use colqwen_index::ingest::embeddings::{
    PageFileOptions, PageRecord, PageWriter, Precision, QueryFileOptions, QueryRecord, QueryWriter,
};
use colqwen_index::ingest::page::{Document, PixelBudget};
use colqwen_index::ingest::pooling::{PoolFactor, pool_page};
use colqwen_index::model::Model;

use super::{model, progress};

/// Encode page images or query texts into a Parquet file, without an index.
///
/// Images give one row each, in order, with `doc_id` the file's name (its path as given, where two names are the same); every page of a PDF or TIFF gives a row. Texts give
/// rows with `query_id` "0", "1" and so on, as `search --queries` takes them.
///
/// Examples:
///   colqwen-index encode --text "how is the filter cleaned" "opening hours" --model builtin --out queries.parquet
///   colqwen-index encode --image scan1.png scan2.png --model ./colqwen2 --out pages.parquet --dtype f32
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Page images or PDFs.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "text", conflicts_with = "text")]
    image: Vec<PathBuf>,
    /// Query texts.
    #[arg(long, num_args = 1.., value_name = "QUERY")]
    text: Vec<String>,
    /// The model: a folder, a hub id, or `builtin`, a small demonstration inside the program that reads printed Latin words.
    #[arg(long, value_name = "M")]
    model: String,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The type of the values written [default: f16 for images, f32 for texts].
    #[arg(long, value_name = "f16|f32")]
    dtype: Option<Precision>,
    /// Merge tokens of a page that resemble each other, so that about one in N is left; queries are never pooled.
    #[arg(long, value_name = "N", default_value_t = PoolFactor::NONE, conflicts_with = "text")]
    pool_factor: PoolFactor,
    /// Where the model computes: cpu or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let model = Model::load(&arguments.model, &arguments.device)?;
    if !model.encoder.is_trained() {
        progress::remark(quiet, model::UNTRAINED);
    }
    if arguments.image.is_empty() { texts(&arguments, &model) } else { images(&arguments, &model, quiet) }
}

fn images(arguments: &Arguments, model: &Model, quiet: bool) -> anyhow::Result<()> {
    let encoder = &model.encoder;
    let mut options = PageFileOptions::new(encoder.dim()).pooled_by(arguments.pool_factor);
    options.origin = Some(encoder.page_fingerprint()).into();
    options.query_format = Some(encoder.query_format().to_owned());
    options.precision = arguments.dtype.unwrap_or(Precision::F16);
    let mut writer = PageWriter::create(&arguments.out, options)?;
    let budget: PixelBudget = encoder.page_budget();
    let bar = progress::pages(arguments.image.len() as u64, quiet);
    let mut names: Vec<_> = arguments.image.iter().map(|path| path.file_name()).collect();
    names.sort_unstable();
    let distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    for path in &arguments.image {
        let document = Document::open(path)?;
        bar.inc_length(u64::from(document.page_count()) - 1);
        for page in document.reader().pages(budget) {
            let page = page?;
            let name = path.file_name().filter(|_| distinct).unwrap_or(path.as_os_str());
            let doc_id = name.to_string_lossy();
            for vectors in encoder.encode_pages(&[page.image])? {
                let vectors = pool_page(vectors, arguments.pool_factor)
                    .with_context(|| format!("{path:?}, page {}", page.number))?;
                let mut record = PageRecord::new(doc_id.clone(), page.number, vectors);
                record.text = page.text.as_ref().map(|text| text.text());
                record.source = Some(path.to_string_lossy().into_owned());
                record.content_hash = Some(arguments.pool_factor.content_hash(&document.content_hash()));
                writer.write(&record)?;
            }
            bar.inc(1);
        }
    }
    writer.finish()?;
    bar.finish_and_clear();
    Ok(())
}

fn texts(arguments: &Arguments, model: &Model) -> anyhow::Result<()> {
    let encoder = &model.encoder;
    let mut options = QueryFileOptions::new(encoder.dim());
    options.origin = Some(encoder.serves_pages_of()).into();
    options.query_format = Some(encoder.query_format().to_owned());
    options.precision = arguments.dtype.unwrap_or(Precision::F32);
    let mut writer = QueryWriter::create(&arguments.out, options)?;
    let texts: Vec<&str> = arguments.text.iter().map(String::as_str).collect();
    for (number, (text, vectors)) in texts.iter().zip(encoder.encode_queries(&texts)?).enumerate() {
        writer.write(&QueryRecord { query_id: number.to_string(), text: Some((*text).to_owned()), vectors })?;
    }
    writer.finish()?;
    Ok(())
}
