//! Effort against recall, time, bytes and build: the rows of one shape.

use std::path::Path;

use colqwen_index::field::{Effort, Precision};
use comfy_table::Table;
use serde::Serialize;

use crate::Args;
use crate::answers::{Answers, mean, numbers, recall};
use crate::clock::Clock;
use crate::collection::{Collection, Shape};
use crate::engine::{Engine, Failure, Only};
use crate::peer;

/// The table of one shape.
#[derive(Serialize)]
pub struct ShapeTable {
    shape: Shape,
    rows: Vec<Row>,
}

/// One engine at one setting.
#[derive(Serialize)]
pub struct Row {
    pub engine: String,
    pub setting: String,
    /// Against exact MaxSim of the f16 vectors.
    pub recall10: f64,
    pub cpu_ms: f64,
    pub bytes_per_token: f64,
    pub build_cpu_s: f64,
    /// What peers do not say.
    #[serde(flatten)]
    pub own: Option<Own>,
}

/// Figures of our side only.
#[derive(Serialize)]
pub struct Own {
    /// Against exact search of the same index.
    of_exact: f64,
    expected_recall: f64,
    proven: f64,
    /// Among one document in a hundred.
    filter_cpu_ms: f64,
    filter_recall10: f64,
    tokens: f64,
    segments: usize,
}

/// The efforts of a table unless others are asked for.
pub const EFFORTS: [Effort; 6] =
    [Effort::Share(0.1), Effort::LOW, Effort::Share(0.5), Effort::HIGH, Effort::Share(1.0), Effort::Exact];

impl ShapeTable {
    /// Builds the indexes in `folder` and searches them.
    pub fn measure(args: &Args, shape: Shape, clock: &Clock, folder: &Path) -> Result<Self, Failure> {
        let collection = Collection::new(shape);
        let truth = Answers::exact(&collection, &folder.join("f16"))?;
        let mut rows = Vec::new();
        for bits in args.bits.as_deref().unwrap_or(&[8, 4, 2]) {
            let folder = folder.join(format!("{bits}-bits"));
            let (engine, built) = Engine::build(&collection, Precision::from_bits(*bits)?, args.commit_every, &folder)?;
            let exact = numbers(&engine, &clock.round(&engine, Effort::Exact, Only::All)?.1)?;
            for effort in args.efforts.as_deref().unwrap_or(&EFFORTS) {
                let (cpu_ms, found) = clock.mean(&engine, *effort, Only::All)?;
                let (filter_cpu_ms, in_bucket) = clock.mean(&engine, *effort, Only::Bucket)?;
                let hits = numbers(&engine, &found)?;
                rows.push(Row {
                    engine: format!("{bits} bits"),
                    setting: effort_name(*effort),
                    recall10: recall(&hits, &truth.all),
                    cpu_ms,
                    bytes_per_token: built.bytes_per_token,
                    build_cpu_s: built.seconds,
                    own: Some(Own {
                        of_exact: recall(&hits, &exact),
                        expected_recall: mean(&found, |report| f64::from(report.expected_recall)),
                        proven: mean(&found, |report| report.proven as f64),
                        filter_cpu_ms,
                        filter_recall10: recall(&numbers(&engine, &in_bucket)?, &truth.bucket),
                        tokens: mean(&found, |report| report.work.tokens as f64),
                        segments: built.segments,
                    }),
                });
            }
            drop(engine);
            std::fs::remove_dir_all(folder)?;
        }
        if args.peer {
            rows.extend(peer::run(&collection, &truth.all, &folder.join("peer"))?);
        }
        Ok(Self { shape: collection.shape, rows })
    }

    /// The rows as Markdown.
    pub fn markdown(&self) -> Table {
        let mut table = markdown(&[
            "engine",
            "effort",
            "recall@10",
            "of exact",
            "expected",
            "proven",
            "CPU ms",
            "filter 1 % ms",
            "its recall",
            "tokens",
            "bytes/token",
            "build CPU s",
            "segments",
        ]);
        for row in &self.rows {
            let own = |figure: fn(&Own) -> String| row.own.as_ref().map_or(String::new(), figure);
            table.add_row([
                row.engine.clone(),
                row.setting.clone(),
                format!("{:.3}", row.recall10),
                own(|own| format!("{:.3}", own.of_exact)),
                own(|own| format!("{:.3}", own.expected_recall)),
                own(|own| format!("{:.2}", own.proven)),
                format!("{:.2}", row.cpu_ms),
                own(|own| format!("{:.2}", own.filter_cpu_ms)),
                own(|own| format!("{:.3}", own.filter_recall10)),
                own(|own| format!("{:.0}", own.tokens)),
                format!("{:.1}", row.bytes_per_token),
                format!("{:.1}", row.build_cpu_s),
                own(|own| own.segments.to_string()),
            ]);
        }
        table
    }
}

/// An empty table that prints as Markdown.
pub fn markdown(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(columns);
    table
}

/// As `--efforts` takes it.
pub fn effort_name(effort: Effort) -> String {
    match effort {
        Effort::Exact => "exact".to_owned(),
        effort if effort == Effort::LOW => "low".to_owned(),
        effort if effort == Effort::default() => "default".to_owned(),
        effort if effort == Effort::HIGH => "high".to_owned(),
        Effort::Share(share) => share.to_string(),
    }
}
