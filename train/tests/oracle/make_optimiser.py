"""Makes the fixture of the optimiser: weights after each of several steps of PyTorch's AdamW with clipped gradients.

usage: python make_optimiser.py [optimiser.json]     (versions: requirements.txt)
"""
import json, os, sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "optimiser.json")
torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
matrix, bias = torch.randn(2, 3, requires_grad=True), torch.randn(3, requires_grad=True)
groups = [dict(params=[matrix], weight_decay=0.1), dict(params=[bias], weight_decay=0.0)]
optimiser = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.95), eps=1e-6)
digits = lambda x: [float(f"{value:.9g}") for value in x.detach().flatten().tolist()]
start = dict(matrix=digits(matrix), bias=digits(bias))
steps = []
for step in range(8):
    rate = 0.05 / (1 + step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    matrix.grad, bias.grad = torch.randn(2, 3) * 10 ** (step % 3 - 1), torch.randn(3)
    gradients = dict(matrix_gradient=digits(matrix.grad), bias_gradient=digits(bias.grad))
    norm = torch.nn.utils.clip_grad_norm_([matrix, bias], 2.0)
    optimiser.step()
    steps.append(dict(rate=rate, norm=float(norm), matrix=digits(matrix), bias=digits(bias), **gradients))
with open(OUT, "w") as file:
    json.dump(dict(torch=torch.__version__.split("+")[0], start=start, steps=steps), file, separators=(",", ":"))
    file.write("\n")
