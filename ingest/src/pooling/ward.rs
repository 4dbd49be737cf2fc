//! Ward clustering of a page's tokens, as scipy does it for colpali-engine:
//! `fcluster(linkage(1 - X X^T, metric="euclidean", method="ward"), most, "maxclust")`.
//!
//! What is clustered are the rows of the matrix of cosine distances: two tokens are near if they lie alike to all tokens
//! of the page. The rows are never made: with `C = X^T X`, `|(1 - X x_i) - (1 - X x_j)|^2 = (x_i - x_j)^T C (x_i - x_j)`.

use colqwen_index_field::MultiVector;

/// One merge of two clusters, each named by one of its tokens.
struct Merge {
    one: usize,
    other: usize,
    /// Squared Ward distance.
    height: f64,
}

/// The cluster of each token: `tokens` numbers, clusters counted from 0 in the order of their first tokens. There are at
/// most `most` (which is at least 1) of them, and fewer where merges tie.
pub(super) fn clusters(vectors: &MultiVector, most: usize) -> Vec<usize> {
    let tokens = vectors.tokens();
    let mut merges = linkage(squared_distances(vectors), tokens);
    merges.sort_by(|one, other| one.height.total_cmp(&other.height));
    // As many merges as are needed, and all that are no higher than the last of these: scipy cuts at a height.
    let needed = tokens.saturating_sub(most);
    let cut = needed.checked_sub(1).and_then(|last| merges.get(last)).map_or(f64::NEG_INFINITY, |merge| merge.height);
    let mut parents: Vec<usize> = (0..tokens).collect();
    for merge in merges.iter().take_while(|merge| merge.height <= cut) {
        let (one, other) = (root(&mut parents, merge.one), root(&mut parents, merge.other));
        // The lowest token of a cluster is its root.
        parents[one.max(other)] = one.min(other);
    }
    let mut numbers = vec![0; tokens];
    let mut count = 0;
    for token in 0..tokens {
        let root = root(&mut parents, token);
        if root == token {
            numbers[token] = count;
            count += 1;
        } else {
            numbers[token] = numbers[root];
        }
    }
    numbers
}

fn root(parents: &mut [usize], mut token: usize) -> usize {
    while parents[token] != token {
        parents[token] = parents[parents[token]];
        token = parents[token];
    }
    token
}

/// Squared distances between the rows of the matrix of cosine distances, `tokens x tokens`.
fn squared_distances(vectors: &MultiVector) -> Vec<f64> {
    let (tokens, dim) = (vectors.tokens(), vectors.dim());
    let rows: Vec<f64> = vectors.values().iter().copied().map(f64::from).collect();
    // C = X^T X, dim x dim; symmetric, so that its rows are its columns.
    let mut moments = vec![0.0; dim * dim];
    for row in rows.chunks_exact(dim) {
        for (moments, value) in moments.chunks_exact_mut(dim).zip(row) {
            moments.iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
        }
    }
    // X C, tokens x dim.
    let mut turned = vec![0.0; tokens * dim];
    for (turned, row) in turned.chunks_exact_mut(dim).zip(rows.chunks_exact(dim)) {
        for (turned, moments) in turned.iter_mut().zip(moments.chunks_exact(dim)) {
            *turned = dot(moments, row);
        }
    }
    let lengths: Vec<f64> =
        turned.chunks_exact(dim).zip(rows.chunks_exact(dim)).map(|(turned, row)| dot(turned, row)).collect();
    let mut distances = vec![0.0; tokens * tokens];
    for (i, turned) in turned.chunks_exact(dim).enumerate() {
        for (j, row) in rows.chunks_exact(dim).enumerate().take(i) {
            // Rounding may fall below zero where tokens are alike.
            let distance = (lengths[i] + lengths[j] - 2.0 * dot(turned, row)).max(0.0);
            distances[i * tokens + j] = distance;
            distances[j * tokens + i] = distance;
        }
    }
    distances
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(one: &[f64], other: &[f64]) -> f64 {
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let rest: f64 = ones.remainder().iter().zip(others.remainder()).map(|(one, other)| one * other).sum();
    let mut sums = [0.0; 8];
    for (ones, others) in ones.zip(others) {
        for lane in 0..8 {
            sums[lane] += ones[lane] * others[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// All `tokens - 1` merges by the nearest-neighbour chain, in the order in which it finds them. Ties go as in scipy: to
/// the cluster before in the chain, then to the lowest number.
fn linkage(mut distances: Vec<f64>, tokens: usize) -> Vec<Merge> {
    let mut sizes = vec![1.0f64; tokens];
    // The clusters left, ascending, so that a search does not look at those that are merged.
    let mut alive: Vec<usize> = (0..tokens).collect();
    let mut merges = Vec::with_capacity(tokens.saturating_sub(1));
    let mut chain: Vec<usize> = Vec::new();
    while alive.len() > 1 {
        let (x, y, height) = loop {
            let x = *chain.last().unwrap_or(&alive[0]);
            if chain.is_empty() {
                chain.push(x);
            }
            let before = chain.len().checked_sub(2).map(|at| chain[at]);
            let row = &distances[x * tokens..][..tokens];
            let (mut nearest, mut height) = before.map_or((x, f64::INFINITY), |before| (before, row[before]));
            for other in &alive {
                if row[*other] < height && *other != x {
                    (nearest, height) = (*other, row[*other]);
                }
            }
            // Without a nearer one (a distance that is no number) any other cluster ends the chain too.
            if Some(nearest) == before || nearest == x {
                let partner = before.or_else(|| alive.iter().copied().find(|other| *other != x)).unwrap_or(x);
                break (x.min(partner), x.max(partner), height);
            }
            chain.push(nearest);
        };
        chain.truncate(chain.len().saturating_sub(2));
        merges.push(Merge { one: x, other: y, height });
        alive.retain(|cluster| *cluster != x);
        // Lance and Williams' update; y goes on as the merged cluster.
        for other in alive.iter().copied().filter(|other| *other != y) {
            let total = sizes[x] + sizes[y] + sizes[other];
            let merged = (sizes[x] + sizes[other]) * distances[other * tokens + x]
                + (sizes[y] + sizes[other]) * distances[other * tokens + y]
                - sizes[other] * height;
            let merged = (merged / total).max(0.0);
            distances[other * tokens + y] = merged;
            distances[y * tokens + other] = merged;
        }
        sizes[y] += sizes[x];
    }
    merges
}
