"""Makes the checkpoint of tests that need no meaning: ColQwen2's architecture with random weights in f16.

usage: python make_tiny.py fixtures/tiny     (after make_fixtures.py; needs numpy and safetensors; the same bytes each time)
"""
import json, os, sys

import numpy as np
from safetensors.numpy import save_file

import tiny_tokenizer

OUT = sys.argv[1]
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, EMBED, DEPTH, DIM = 128, 256, 2, 4, 2, 64, 2, 128
WORDS = ["user", "Describe", " the", " image", "Query", " of", " and", " in", " to", " is", "ing", "tion"]
random = np.random.Generator(np.random.PCG64(2))
tokenizer = tiny_tokenizer.tokenizer_json(WORDS)
ids, vocabulary = tiny_tokenizer.special_ids(tokenizer), tiny_tokenizer.vocab_size(tokenizer)
weights = {}


def matrix(name, outputs, inputs, bias, shape=None):
    # A spread that keeps the length of a vector.
    values = random.standard_normal((outputs, inputs)) / np.sqrt(inputs)
    weights[f"{name}.weight"] = values.reshape(shape or (outputs, inputs))
    if bias:
        weights[f"{name}.bias"] = np.zeros(outputs)


def norm(name, width, bias):
    weights[f"{name}.weight"] = np.ones(width)
    if bias:
        weights[f"{name}.bias"] = np.zeros(width)


matrix("visual.patch_embed.proj", EMBED, 1176, False, (EMBED, 3, 2, 14, 14))
for at in range(DEPTH):
    block = f"visual.blocks.{at}"
    norm(f"{block}.norm1", EMBED, True)
    norm(f"{block}.norm2", EMBED, True)
    matrix(f"{block}.attn.qkv", 3 * EMBED, EMBED, True)
    matrix(f"{block}.attn.proj", EMBED, EMBED, True)
    matrix(f"{block}.mlp.fc1", 4 * EMBED, EMBED, True)
    matrix(f"{block}.mlp.fc2", EMBED, 4 * EMBED, True)
norm("visual.merger.ln_q", EMBED, True)
matrix("visual.merger.mlp.0", 4 * EMBED, 4 * EMBED, True)
matrix("visual.merger.mlp.2", HIDDEN, 4 * EMBED, True)
weights["language_model.embed_tokens.weight"] = random.standard_normal((vocabulary, HIDDEN))
for at in range(LAYERS):
    layer = f"language_model.layers.{at}"
    norm(f"{layer}.input_layernorm", HIDDEN, False)
    norm(f"{layer}.post_attention_layernorm", HIDDEN, False)
    matrix(f"{layer}.self_attn.q_proj", HIDDEN, HIDDEN, True)
    matrix(f"{layer}.self_attn.k_proj", HIDDEN * KV_HEADS // HEADS, HIDDEN, True)
    matrix(f"{layer}.self_attn.v_proj", HIDDEN * KV_HEADS // HEADS, HIDDEN, True)
    matrix(f"{layer}.self_attn.o_proj", HIDDEN, HIDDEN, False)
    matrix(f"{layer}.mlp.gate_proj", INNER, HIDDEN, False)
    matrix(f"{layer}.mlp.up_proj", INNER, HIDDEN, False)
    matrix(f"{layer}.mlp.down_proj", HIDDEN, INNER, False)
norm("language_model.norm", HIDDEN, False)
matrix("custom_text_proj", DIM, HIDDEN, True)

os.makedirs(OUT, exist_ok=True)
save_file({name: values.astype(np.float16) for name, values in weights.items()}, os.path.join(OUT, "model.safetensors"))
tiny_tokenizer.write(os.path.join(OUT, "tokenizer.json"), tokenizer)
for name, value in {
    "config.json": {
        "architectures": ["ColQwen2"], "model_type": "qwen2_vl", "image_token_id": ids["<|image_pad|>"],
        "text_config": {
            "vocab_size": vocabulary, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default", "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True},
        "vision_config": {"depth": DEPTH, "embed_dim": EMBED, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 4,
                          "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
                          "hidden_act": "quick_gelu"}},
    "preprocessor_config.json": {"size": {"shortest_edge": 56 * 56, "longest_edge": 256 * 784}},
    "colqwen_index.json": {"trained": False, "query_format": "plain"},
}.items():
    with open(os.path.join(OUT, name), "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
