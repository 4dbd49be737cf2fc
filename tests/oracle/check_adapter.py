"""Loads an adapter that this project wrote with peft, on its base, and compares the token vectors.

usage: cargo run --release -p colqwen-index-train --example save_adapter OUT
       python check_adapter.py OUT     (versions: requirements.txt)

Neither building nor testing needs this script.
"""
import os, sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from colpali_engine.models import ColQwen2
from peft import PeftModel
from safetensors.torch import load_file

import make_gradients

OUT = sys.argv[1]
base = os.path.join(make_gradients.FIXTURES, "colpali_engine")
model = ColQwen2.from_pretrained(base, dtype=torch.float32)
plain = ColQwen2.from_pretrained(base, dtype=torch.float32).eval()
model = PeftModel.from_pretrained(model, os.path.join(OUT, "adapter")).eval()
with torch.no_grad():
    found = make_gradients.vectors(model, "colpali_engine")
    before = make_gradients.vectors(plain, "colpali_engine")
expected = load_file(os.path.join(OUT, "vectors.safetensors"))
for kind in ["page", "query"]:
    difference = (found[kind] - expected[kind]).abs().max().item()
    moved = (before[kind] - expected[kind]).abs().max().item()
    print(f"{kind}: {len(found[kind])} vectors, largest difference {difference:.2e}; from the base {moved:.2e}")
    assert difference < 1e-4 and moved > 1e-2
