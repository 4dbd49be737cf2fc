//! `colqwen-index search`

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use colqwen_index::click_log::{Impression, LoggedQuery, ShownPage};
use colqwen_index::ingest::embeddings::{QueryReader, QueryRecord};
use colqwen_index::page_index::{Answer, Effort, Hit, Mode, SearchRequest};
use colqwen_index::{ClickLog, Fingerprint, PageIndex};

use super::stats::Stats;
use super::{results, wrong_usage};

/// Letters of a page that a table shows beside each hit.
const SNIPPET_LETTERS: usize = 120;

/// Search an index by a question, or by a file of encoded queries.
///
/// A question is encoded with the model that the index records (or --model) and compared with every page by MaxSim.
/// --mode bm25 searches the pages' text instead and needs no model; --mode hybrid fuses both rankings.
///
/// With --queries the queries' embeddings come from a Parquet file (`query_id`, `embeddings`), as `colqwen-index encode
/// --text` writes it; no model is needed.
///
/// Examples:
///   colqwen-index search shelf "how is the filter cleaned" -k 5
///   colqwen-index search shelf "revenue" --filter 'doc_id:"report.pdf" AND page:[1 TO 9]'
///   colqwen-index search shelf --queries queries.parquet -k 10 --effort exact --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// The question.
    #[arg(value_name = "QUERY", required_unless_present = "queries", conflicts_with = "queries")]
    query: Option<String>,
    /// A Parquet file of encoded queries.
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// How many hits per query.
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: usize,
    /// How pages are ranked [default: late].
    #[arg(long, value_enum, conflicts_with = "queries")]
    mode: Option<ModeName>,
    /// A tantivy query that every hit matches, applied before ranking.
    #[arg(long, value_name = "QUERY", allow_hyphen_values = true)]
    filter: Option<String>,
    /// How much work goes into a search: low (0.2), default (0.5), high (0.8), 1.0 (every candidate), exact (every page).
    ///
    /// An effort is how many of the true hits a search may expect to lose: 1 in 12 at low, 1 in 100 at default, 1 in 800 at high.
    #[arg(long, value_name = "E", default_value = "default")]
    effort: Effort,
    /// The model to encode the question with: a folder, a hub id, or `builtin` [default: the one the index records].
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Threads that search [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Measure the queries of --queries and write CPU and wall times to this file, as JSON.
    #[arg(long, value_name = "FILE", requires = "queries", conflicts_with = "query")]
    stats: Option<PathBuf>,
    /// Append what is shown to this log of impressions and clicks, and print the impression's id: with --json as
    /// `impression`, else below the table. `train-from-clicks` reads such logs.
    #[arg(long, value_name = "FILE", conflicts_with = "queries")]
    log: Option<PathBuf>,
    /// Who searches, for the log: an id that says nothing about the person [default: a random one, as if each search were another
    /// person's].
    #[arg(long, value_name = "S", requires = "log")]
    session: Option<String>,
    /// Print one JSON line per query.
    #[arg(long)]
    json: bool,
}

/// The ways of ranking.
#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    /// MaxSim of the embeddings.
    Late,
    /// BM25 of the text.
    Bm25,
    /// Reciprocal rank fusion of both.
    Hybrid,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Late => Self::Late,
            ModeName::Bm25 => Self::Bm25,
            ModeName::Hybrid => Self::Hybrid,
        }
    }
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let index = PageIndex::open(&arguments.index)?;
    let threads = arguments.threads.map_or_else(rayon::current_num_threads, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    match (&arguments.queries, &arguments.query) {
        (Some(file), _) => pool.install(|| batch(&arguments, &index, file, threads)),
        (None, Some(query)) => pool.install(|| single(&arguments, &index, query, quiet)),
        (None, None) => Err(wrong_usage("give a QUERY or --queries FILE")),
    }
}

fn batch(arguments: &Arguments, index: &PageIndex, file: &Path, threads: usize) -> anyhow::Result<()> {
    let queries: Vec<QueryRecord> = QueryReader::open(file)?.collect::<Result<_, _>>()?;
    if arguments.stats.is_some() && queries.is_empty() {
        anyhow::bail!("{} holds no queries, so there is nothing to measure", file.display());
    }
    let searcher = index.searcher();
    let request = |query: &QueryRecord| SearchRequest {
        vectors: Some(query.vectors.clone()),
        k: arguments.k,
        filter: arguments.filter.as_deref(),
        effort: arguments.effort,
        ..SearchRequest::default()
    };
    let requests: Vec<SearchRequest<'_>> = queries.iter().map(request).collect();
    let answers = index.report_batch(&searcher, &requests)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (query, answer) in queries.iter().zip(&answers) {
        if arguments.json {
            results::json_line(&mut out, &query.query_id, answer, None)?;
        } else {
            writeln!(out, "{}", query.query_id)?;
            results::table(&mut out, &with_snippets(index, &searcher, &answer.hits, query.text.as_deref())?)?;
        }
    }
    out.flush()?;
    if let Some(stats) = &arguments.stats {
        let work = answers.iter().flat_map(|answer| &answer.late);
        let measured = Stats::measure(queries.len(), |at| Ok(index.report(&searcher, &requests[at]).map(drop)?))?;
        measured.write(stats, threads, arguments.effort, work)?;
    }
    Ok(())
}

fn single(arguments: &Arguments, index: &PageIndex, query: &str, quiet: bool) -> anyhow::Result<()> {
    let searcher = index.searcher();
    let mode = arguments.mode.map_or(Mode::default(), Mode::from);
    let mut request = SearchRequest {
        text: Some(query),
        k: arguments.k,
        mode,
        filter: arguments.filter.as_deref(),
        effort: arguments.effort,
        ..SearchRequest::default()
    };
    let mut model = None;
    if mode != Mode::Bm25 {
        model = Some(encode_query(arguments, index, query, &mut request, quiet)?);
    }
    let answer = index.report(&searcher, &request)?;
    let impression = log(arguments, index, query, &answer, model)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        results::json_line(&mut out, "0", &answer, impression.as_deref())?;
    } else {
        results::table(&mut out, &with_snippets(index, &searcher, &answer.hits, Some(query))?)?;
        if let Some(impression) = impression {
            writeln!(out, "impression {impression}")?;
        }
    }
    Ok(())
}

/// Logs what is about to be shown; returns the impression's id.
fn log(
    arguments: &Arguments,
    index: &PageIndex,
    query: &str,
    answer: &Answer,
    query_fingerprint: Option<Fingerprint>,
) -> anyhow::Result<Option<String>> {
    let Some(file) = &arguments.log else { return Ok(None) };
    let session = arguments.session.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let impression = Impression {
        session: &session,
        query: LoggedQuery::Text(query),
        shown: &ShownPage::ranked(&answer.hits),
        generation: index.generation(),
        query_fingerprint,
        randomised: false,
    };
    Ok(Some(ClickLog::append(file)?.impression(&impression)?.to_string()))
}

/// Gives the request the query's vectors; returns the query fingerprint of their model.
#[cfg(feature = "encode")]
fn encode_query(
    arguments: &Arguments,
    index: &PageIndex,
    query: &str,
    request: &mut SearchRequest<'_>,
    quiet: bool,
) -> anyhow::Result<Fingerprint> {
    let encoder = super::model::for_search(index, arguments.model.as_deref())?;
    if !encoder.is_trained() {
        super::progress::remark(quiet, super::model::UNTRAINED);
        request.late_weight = Some(colqwen_index::page_index::UNTRAINED_LATE_WEIGHT);
    }
    request.vectors = encoder.encode_queries(&[query])?.pop();
    Ok(encoder.query_fingerprint())
}

#[cfg(not(feature = "encode"))]
fn encode_query(
    _: &Arguments,
    _: &PageIndex,
    _: &str,
    _: &mut SearchRequest<'_>,
    _: bool,
) -> anyhow::Result<Fingerprint> {
    Err(wrong_usage("this build cannot encode a question; use --mode bm25, or --queries with encoded queries"))
}

fn with_snippets(
    index: &PageIndex,
    searcher: &colqwen_index::tantivy::Searcher,
    hits: &[Hit],
    text: Option<&str>,
) -> anyhow::Result<Vec<(Hit, String)>> {
    let text = text.unwrap_or_default();
    hits.iter().map(|hit| Ok((hit.clone(), index.snippet(searcher, hit, text, SNIPPET_LETTERS)?))).collect()
}
