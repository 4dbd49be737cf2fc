"""Makes the fixture of token pooling: small pages, and what colpali-engine's HierarchicalTokenPooler makes of them.

usage: python make_pooling.py [fixtures/pooling.json]     (versions: requirements.txt)

Inputs are rounded to 4 digits, and colpali-engine sees the rounded values. Clusters are in the order of their first tokens.
"""
import json, os, sys

import numpy as np
import torch
from colpali_engine.compression.token_pooling import HierarchicalTokenPooler

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "fixtures", "pooling.json")
random = np.random.Generator(np.random.PCG64(5))
torch.set_num_threads(1)


def page(tokens, dim, groups, spread):
    """Tokens around a few directions, as those of a page are; with groups == tokens they have no groups."""
    centres = random.standard_normal((groups, dim))
    rows = centres[random.integers(groups, size=tokens)] if groups < tokens else centres
    rows = rows + spread * random.standard_normal((tokens, dim))
    return np.round(rows / np.linalg.norm(rows, axis=1, keepdims=True), 4)


def blank(rows, tokens):
    """A page most of whose tokens are the same, bit for bit: their merges tie."""
    rows = rows.copy()
    rows[random.permutation(len(rows))[:tokens]] = rows[0]
    return rows


PAGES = [
    (page(44, 10, 9, 0.4), [2, 3, 7]),
    (page(31, 6, 31, 0.0), [2, 4, 31, 100]),
    (blank(page(24, 6, 24, 0.0), 14), [2, 3]),
    (page(2, 4, 2, 0.0), [2]),
    (page(3, 4, 3, 0.0), [2]),
]
pages = []
for rows, factors in PAGES:
    rows = rows.astype(np.float32)
    outcomes = []
    for factor in factors:
        out = HierarchicalTokenPooler().pool_embeddings([torch.from_numpy(rows)], pool_factor=factor, return_dict=True)
        clusters = [indices[0].tolist() for indices in out.cluster_id_to_indices[0].values()]
        clusters = [cluster for cluster in clusters if cluster]
        order = sorted(range(len(clusters)), key=lambda at: clusters[at][0])
        pooled = out.pooled_embeddings[0].numpy()[order]
        # The members are all; of the vectors the first three and the last.
        shown = sorted({0, 1, 2, len(order) - 1} & set(range(len(order))))
        vectors = {str(at): [round(float(value), 7) for value in pooled[at]] for at in shown}
        outcomes.append({"factor": factor, "members": [clusters[at] for at in order], "vectors": vectors})
    pages.append({"dim": rows.shape[1], "values": [round(float(v), 4) for v in rows.flatten()], "pooled": outcomes})
with open(OUT, "w") as file:
    file.write('{"pages": [\n' + ",\n".join(json.dumps(page, separators=(",", ":")) for page in pages) + "\n]}\n")
