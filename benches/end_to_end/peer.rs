//! The peer's side: the same data in raw files, and its runner in a process of its own, on one thread for searching.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use crate::collection::Collection;
use crate::engine::Failure;
use crate::table::Row;

/// Lists that the peer probes, and pages that it scores in full.
const SETTINGS: [(usize, usize); 2] = [(4, 256), (8, 1024)];
/// The bits that its authors measure it with.
const BITS: &str = "4";

/// Rows of the table.
pub fn run(collection: &Collection, truth: &[Vec<usize>], folder: &Path) -> Result<Vec<Row>, Failure> {
    std::fs::create_dir_all(folder)?;
    write(collection, truth, folder)?;
    let index = folder.join("index");
    let data = folder.to_str().ok_or("the folder's name is not UTF-8")?;
    let index = index.to_str().ok_or("the folder's name is not UTF-8")?;
    let built = call(&[data, index, "build", BITS], false)?;
    let row = |(lists, full): (usize, usize)| {
        let found = call(&[data, index, "search", &lists.to_string(), &full.to_string()], true)?;
        Ok(Row {
            engine: format!("next-plaid {BITS} bits"),
            setting: format!("{lists}/{full}"),
            recall10: figure(&found, "recall10")?,
            cpu_ms: figure(&found, "cpu_ms")?,
            bytes_per_token: figure(&built, "bytes_per_token")?,
            build_cpu_s: figure(&built, "build_cpu_s")?,
            own: None,
        })
    };
    SETTINGS.into_iter().map(row).collect()
}

fn figure(answer: &serde_json::Value, name: &str) -> Result<f64, Failure> {
    Ok(answer[name].as_f64().ok_or_else(|| format!("the peer's answer has no number {name}: {answer}"))?)
}

/// Raw little-endian values, and what cuts them into documents.
fn write(collection: &Collection, truth: &[Vec<usize>], folder: &Path) -> Result<(), Failure> {
    let shape = &collection.shape;
    let mut file = BufWriter::new(File::create(folder.join("docs.f16"))?);
    let mut lens = Vec::with_capacity(shape.documents);
    for number in 0..shape.documents {
        let document = collection.document(number);
        lens.push(document.len() / shape.dim);
        file.write_all(&document.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    file.flush()?;
    let queries: Vec<u8> = collection.queries().iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("queries.f32"), queries)?;
    let shape = serde_json::json!({
        "docs": [shape.documents, shape.tokens.1, shape.dim],
        "lens": lens,
        "queries": [shape.queries, shape.query_tokens, shape.dim],
    });
    std::fs::write(folder.join("shape.json"), shape.to_string())?;
    std::fs::write(folder.join("truth.json"), serde_json::to_string(truth)?)?;
    Ok(())
}

fn call(args: &[&str], one_thread: bool) -> Result<serde_json::Value, Failure> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/next-plaid/Cargo.toml");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(["run", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--"]).args(args);
    if one_thread {
        command.env("RAYON_NUM_THREADS", "1");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the peer ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
