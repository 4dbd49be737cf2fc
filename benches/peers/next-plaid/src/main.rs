//! usage: peer-next-plaid DATA INDEX build NBITS | search NPROBE NFULL
//!
//! DATA as the end-to-end benchmark writes it for peers. Prints one JSON line: CPU and wall milliseconds per query, recall@10
//! against exact MaxSim. One thread: RAYON_NUM_THREADS=1.
use ndarray::Array2;
use next_plaid::{IndexConfig, MmapIndex, SearchParameters};
use std::{fs, time::Instant};

/// Token counts of every row, and the dimension: equal lengths from `key`, else from the list named `lens`.
fn shape(v: &serde_json::Value, key: &str, lens: &str) -> (Vec<usize>, usize) {
    let s: Vec<i64> = v[key].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect();
    let lens = match v.get(lens) {
        Some(list) => list.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect(),
        None => vec![s[1] as usize; s[0] as usize],
    };
    (lens, s[2] as usize)
}

/// Cuts `values` into one tokens x dim matrix per row.
fn rows(values: Vec<f32>, lens: &[usize], dim: usize) -> Vec<Array2<f32>> {
    let mut rest = values.as_slice();
    lens.iter()
        .map(|&t| {
            let (row, tail) = rest.split_at(t * dim);
            rest = tail;
            Array2::from_shape_vec((t, dim), row.to_vec()).unwrap()
        })
        .collect()
}

/// User plus system time of this process, in seconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (data, index, mode) = (&a[1], &a[2], a[3].as_str());
    let shapes: serde_json::Value = serde_json::from_str(&fs::read_to_string(format!("{data}/shape.json")).unwrap()).unwrap();
    match mode {
        "build" => {
            let nbits: usize = a[4].parse().unwrap();
            let (lens, d) = shape(&shapes, "docs", "lens");
            let raw = fs::read(format!("{data}/docs.f16")).unwrap();
            let values = raw.chunks(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()).collect();
            let docs = rows(values, &lens, d);
            let config = IndexConfig { nbits, ..Default::default() };
            let (c0, t0) = (cpu(), Instant::now());
            MmapIndex::create_with_kmeans(&docs, index, &config).unwrap();
            let bytes: u64 = fs::read_dir(index).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
            println!("{{\"build_cpu_s\":{:.1},\"build_wall_s\":{:.1},\"bytes_per_token\":{:.1}}}", cpu() - c0, t0.elapsed().as_secs_f64(), bytes as f64 / lens.iter().sum::<usize>() as f64);
        }
        "search" => {
            let (nprobe, nfull): (usize, usize) = (a[4].parse().unwrap(), a[5].parse().unwrap());
            let (lens, d) = shape(&shapes, "queries", "query_lens");
            let raw = fs::read(format!("{data}/queries.f32")).unwrap();
            let queries = rows(raw.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect(), &lens, d);
            let truth: Vec<Vec<i64>> = serde_json::from_str(&fs::read_to_string(format!("{data}/truth.json")).unwrap()).unwrap();
            let p = SearchParameters { top_k: 10, n_full_scores: nfull, n_ivf_probe: nprobe, ..Default::default() };
            let index = MmapIndex::load(index).unwrap();
            for q in queries.iter().take(20) {
                index.search(q, &p, None).unwrap();
            }
            let (c0, mut wall, mut hits) = (cpu(), Vec::new(), 0usize);
            while wall.is_empty() || cpu() - c0 < 2.0 {
                let first = wall.is_empty();
                for (q, best) in queries.iter().zip(&truth) {
                    let t0 = Instant::now();
                    let found = index.search(q, &p, None).unwrap();
                    wall.push(t0.elapsed().as_secs_f64() * 1e3);
                    if first {
                        hits += found.passage_ids.iter().filter(|id| best.iter().take(10).any(|one| one == *id)).count();
                    }
                }
            }
            let wanted: usize = truth.iter().map(|best| best.len().min(10)).sum();
            let (m, cpu_ms) = (wall.len(), (cpu() - c0) * 1e3 / wall.len() as f64);
            wall.sort_by(f64::total_cmp);
            println!("{{\"nprobe\":{nprobe},\"nfull\":{nfull},\"cpu_ms\":{cpu_ms:.2},\"p50_ms\":{:.2},\"p95_ms\":{:.2},\"recall10\":{:.3}}}", wall[m / 2], wall[m * 95 / 100], hits as f64 / wanted as f64);
        }
        _ => panic!("build or search"),
    }
}
