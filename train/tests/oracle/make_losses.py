"""Makes the fixture of losses: small batches of embeddings, and values and gradients that PyTorch finds for them.

usage: python make_losses.py [losses.json]     (versions: requirements.txt)

The losses are colpali-engine's own, in float64, but for those of `written_out`. Its padding is a zero vector that takes part in the maximum, so pages of
one length come from it and pages of different lengths from the few lines of `ragged` below.
"""
import importlib.util, json, os, sys, types

import torch
import torch.nn.functional as F

# Without colpali_engine/__init__.py, which would import transformers.
package = types.ModuleType("colpali_engine")
package.__path__ = list(importlib.util.find_spec("colpali_engine").submodule_search_locations)
sys.modules["colpali_engine"] = package
os.environ["COLPALI_SCORES_BACKEND"] = "torch"
from colpali_engine.loss import late_interaction_losses as colpali

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "losses.json")
torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def vectors(*shape):
    """Unit vectors, all in the half space of the first axis so that scores are of the size that trained models have."""
    x = torch.randn(shape)
    x[..., 0] = x[..., 0].abs() + 1.0
    return ((x / x.norm(dim=-1, keepdim=True)) * 1e4).round() / 1e4


def numbers(x):
    return [float(f"{value:.7g}") for value in x.detach().flatten().tolist()]


def case(name, loss, settings, queries, pages, negatives=None):
    """`queries`, `pages`: lists of tokens x dim; `negatives`: per query a list of such."""
    leaves = [[x.clone().requires_grad_() for x in side] for side in (queries, pages, *(negatives or []))]
    value = loss(leaves[0], leaves[1], leaves[2:])
    value.backward()
    side = lambda xs: dict(lengths=[len(x) for x in xs], values=numbers(torch.cat(list(xs))),
                           gradient=numbers(torch.cat([x.grad for x in xs])))
    return dict(name=name, settings=settings, dim=queries[0].shape[-1], loss=float(f"{value.item():.12g}"), queries=side(leaves[0]),
                pages=side(leaves[1]), negatives=[side(own) for own in leaves[2:]])


def engine(kind, **options):
    module = getattr(colpali, kind)(**options)
    if "Negative" in kind:
        return lambda q, p, n: module(torch.stack(q), torch.stack(p), torch.stack([torch.stack(own) for own in n]))
    return lambda q, p, n: module(torch.stack(q), torch.stack(p))


def maxsim(query, page):
    return (query @ page.T).amax(dim=1).mean()


def ragged(q, p, n):
    scores = torch.stack([torch.stack([maxsim(query, page) for page in p]) for query in q])
    return F.cross_entropy(scores / 0.05, torch.arange(len(q)))


def distillation(teacher, temperature, theirs):
    def loss(q, p, n):
        scores = torch.stack([torch.stack([maxsim(query, page) for page in p]) for query in q])
        own = F.log_softmax(scores / temperature, dim=1)
        return F.kl_div(own, F.log_softmax(torch.tensor(teacher) / theirs, dim=1), reduction="batchmean", log_target=True)
    return loss


def written_out(kind, temperature, ignored, candidates, weight):
    """What colpali-engine has not: negatives above 0.95 of the positive left out, and mined negatives as further candidates.
    With `weight`, mined ones are pairs of their own beside the in-batch loss. Gives the number of those left out, too."""
    def loss(q, p, n):
        mined = [page for own in n for page in own]
        scores = torch.stack([torch.stack([maxsim(query, page) for page in [*p, *mined]]) for query in q])
        queries, columns = scores.shape
        row, column = torch.arange(queries)[:, None], torch.arange(columns)[None]
        positive = row == column
        own = (column >= queries) & ((column - queries) // max(1, len(mined) // queries) == row)
        best = scores.diagonal()[:, None]
        high = (scores.detach() > 0.95 * best.detach()) & ~positive
        taken = (column < queries) | (own if candidates else torch.zeros_like(own))
        loss.suspects = int((taken & high).sum()) if ignored else 0
        taken = taken & ~high if ignored else taken
        rows = taken.sum(1) > 1
        if kind == "info_nce":
            value = F.cross_entropy((scores / temperature).masked_fill(~taken, -torch.inf)[rows], torch.arange(queries)[rows])
        elif kind == "pairwise":
            hardest = scores.masked_fill(~taken | positive, -torch.inf)[rows].amax(dim=1)
            value = F.softplus((hardest - best[rows, 0]) / temperature).mean()
        else:
            value = F.softplus(torch.where(positive, -scores, scores) / temperature)[taken].mean()
        if weight is not None:
            value = weight * value + (1 - weight) * F.softplus((scores - best)[own] / temperature).mean()
        return value
    return loss


B, TOKENS, PAGE, DIM = 4, 3, 5, 4
queries, pages = list(vectors(B, TOKENS, DIM)), list(vectors(B, PAGE, DIM))
mined = [list(own) for own in vectors(B, 2, PAGE, DIM)]
cases = []
KINDS = {"info_nce": "ColbertLoss", "pairwise": "ColbertPairwiseCELoss", "sigmoid": "ColbertSigmoidLoss"}
for kind, module in KINDS.items():
    for changes in [{}, dict(smooth_max=True), dict(divided=False), dict(filtered=True)]:
        settings = dict(kind=kind, temperature=0.05, divided=True, smooth_max=False, filtered=False) | changes
        options = dict(temperature=0.05, normalize_scores=settings["divided"], use_smooth_max=settings["smooth_max"],
                       pos_aware_negative_filtering=settings["filtered"])
        cases.append(case("_".join([kind, *changes]), engine(module, **options), settings, queries, pages))
for kind, module in [("info_nce", "ColbertNegativeCELoss"), ("pairwise", "ColbertPairwiseNegativeCELoss")]:
    for weight in [0.0, 0.3, 1.0]:
        for smooth_max in [False, True]:
            settings = dict(kind=kind, temperature=0.05, divided=True, smooth_max=smooth_max, filtered=False, in_batch_weight=weight)
            loss = engine(module, temperature=0.05, use_smooth_max=smooth_max, in_batch_term_weight=weight)
            cases.append(case(f"{kind}_mined_{weight}_{'smooth' if smooth_max else 'hard'}", loss, settings, queries, pages, mined))
settings = dict(kind="info_nce", temperature=0.05, divided=True, smooth_max=False, filtered=False)
cases.append(case("ragged", ragged, settings, [vectors(n, DIM) for n in (1, 4, 2)], [vectors(n, DIM) for n in (3, 1, 6)]))
teacher = [[9.0, 2.5, 4.0], [1.0, 3.0, 0.5]]
settings = dict(kind="distillation", temperature=0.2, teacher_temperature=2.0, teacher=teacher, divided=True, smooth_max=False)
cases.append(case("distillation", distillation(teacher, 0.2, 2.0), settings, [vectors(n, DIM) for n in (2, 4)], [vectors(n, DIM) for n in (3, 1, 6)]))
for kind in KINDS:
    for ignored, candidates, weight in [(True, False, None), (False, True, None), (True, True, None), (True, False, 0.3)]:
        settings = dict(kind=kind, temperature=0.05, divided=True, smooth_max=False, filtered=False, ignored=ignored,
                        candidates=candidates, in_batch_weight=weight)
        loss = written_out(kind, 0.05, ignored, candidates, weight)
        name = "_".join([kind, *["ignored"] * ignored, *["candidates"] * candidates, *[f"mined_{weight}"] * (weight is not None)])
        made = case(name, loss, settings, queries, pages, mined if candidates or weight is not None else None)
        assert (loss.suspects > 0) == ignored
        cases.append(made | dict(suspects=loss.suspects))

with open(OUT, "w") as file:
    json.dump(dict(torch=torch.__version__.split("+")[0], colpali_engine="0.3.18", cases=cases), file, separators=(",", ":"))
    file.write("\n")
print(len(cases), "cases")
