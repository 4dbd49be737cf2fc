//! The peer's side: the same data in raw files, and its runner in a process of its own, on one thread for searching.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::shape::Collection;

/// Lists that the peer probes, and pages that it scores in full.
const SETTINGS: [(usize, usize); 2] = [(4, 256), (8, 1024)];
/// The bits that its authors measure it with.
const BITS: &str = "4";

/// Rows of the table.
pub fn run(collection: &Collection, truth: &[Vec<usize>], folder: &Path) -> Result<Vec<[String; 13]>, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    write(collection, truth, folder)?;
    let index = folder.join("index");
    let data = folder.to_str().ok_or("the folder's name is not UTF-8")?;
    let index = index.to_str().ok_or("the folder's name is not UTF-8")?;
    let built = call(&[data, index, "build", BITS], false)?;
    let mut rows = Vec::new();
    for (lists, full) in SETTINGS {
        let found = call(&[data, index, "search", &lists.to_string(), &full.to_string()], true)?;
        let figure = |json: &serde_json::Value, name: &str| json[name].to_string();
        let none = String::new;
        rows.push([
            format!("next-plaid {BITS} bit"),
            format!("{lists}/{full}"),
            figure(&found, "recall10"),
            none(),
            none(),
            none(),
            figure(&found, "cpu_ms"),
            none(),
            none(),
            none(),
            figure(&built, "bytes_per_token"),
            figure(&built, "build_cpu_s"),
            none(),
        ]);
    }
    Ok(rows)
}

/// Raw little-endian values, and what cuts them into documents.
fn write(collection: &Collection, truth: &[Vec<usize>], folder: &Path) -> Result<(), Box<dyn Error>> {
    let dim = collection.shape.dim;
    let documents: Vec<u8> = collection.documents.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("docs.f16"), documents)?;
    let queries: Vec<u8> = collection.queries.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("queries.f32"), queries)?;
    let lens: Vec<usize> = collection.documents.iter().map(|document| document.len() / dim).collect();
    let shape = serde_json::json!({
        "docs": [lens.len(), collection.shape.tokens.1, dim],
        "lens": lens,
        "queries": [collection.queries.len(), collection.shape.query_tokens, dim],
    });
    std::fs::write(folder.join("shape.json"), shape.to_string())?;
    std::fs::write(folder.join("truth.json"), serde_json::to_string(truth)?)?;
    Ok(())
}

fn call(args: &[&str], one_thread: bool) -> Result<serde_json::Value, Box<dyn Error>> {
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
