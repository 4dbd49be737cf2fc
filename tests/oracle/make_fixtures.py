"""Makes the parity fixtures: tiny random ColQwen2 checkpoints in every layout, and what colpali-engine computes with them.

usage: python make_fixtures.py [fixtures]     (versions: requirements.txt; the folder is replaced)

transformers' own ColQwen2ForRetrieval is no reference: it gives pages 1-D positions instead of M-RoPE.
"""
import copy, json, os, re, shutil, sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from PIL import Image, ImageDraw
from colpali_engine.models import ColQwen2, ColQwen2Processor
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

import tiny_tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "fixtures")
QUERIES = ["What was the revenue growth in 2023?", "Quel est le re\u0301sultat net, d\u2019après 東京 🙂 <|im_end|>?"]
MIN_PIXELS, MAX_PIXELS = 56 * 56, 40 * 784
LORA = r"(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"
torch.set_num_threads(1)


def pages():
    """Sizes: no resizing needed; odd, near its size; much too large; much too small."""
    made = []
    for at, size in enumerate([(84, 112), (131, 90), (437, 611), (23, 41)]):
        page = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(page)
        for line in range(size[1] // 12):
            draw.text((3, 2 + 12 * line), f"{line}: {line * 37 % 101} million", fill=(line * 5 % 255, 0, 120))
        draw.ellipse((size[0] * 0.4, size[1] * 0.3, size[0] * 0.9, size[1] * 0.8), outline="red", fill=(30, 160, 90 + at))
        made.append(page)
    return made


def config(tokenizer, hidden, heads, kv_heads, inner, section, tied, embed=16, vision_heads=2, layers=2, depth=2):
    ids = tiny_tokenizer.special_ids(tokenizer)
    return Qwen2VLConfig(
        text_config=dict(vocab_size=tiny_tokenizer.vocab_size(tokenizer), hidden_size=hidden, intermediate_size=inner,
                         num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads, rms_norm_eps=1e-6,
                         max_position_embeddings=32768, hidden_act="silu", tie_word_embeddings=tied,
                         rope_parameters=dict(rope_theta=1e6, rope_type="default", mrope_section=section),
                         bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|im_end|>"]),
        vision_config=dict(depth=depth, embed_dim=embed, hidden_size=hidden, num_heads=vision_heads, mlp_ratio=4, in_channels=3,
                           patch_size=14, spatial_merge_size=2, temporal_patch_size=2, hidden_act="quick_gelu"),
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=tied)


def random_model(settings, seed, dim=128):
    torch.manual_seed(seed)
    model = ColQwen2(settings).eval()
    if dim != 128:
        model.custom_text_proj = torch.nn.Linear(settings.text_config.hidden_size, dim)
    with torch.no_grad():  # biases and norms too, so that a wrong mapping shows
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(3.0)
    return model


def flat_config(settings):
    """The legacy form: text fields at the top, only what differs from the defaults in vision_config."""
    text, vision = settings.text_config, settings.vision_config
    return {
        "architectures": ["ColQwen2"], "model_type": "qwen2_vl", "hidden_act": "silu", "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size, "num_hidden_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads, "num_key_value_heads": text.num_key_value_heads, "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_section": text.rope_parameters["mrope_section"], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 32768, "vocab_size": text.vocab_size,
        "tie_word_embeddings": settings.tie_word_embeddings, "image_token_id": settings.image_token_id,
        "vision_config": {"depth": vision.depth, "embed_dim": vision.embed_dim, "num_heads": vision.num_heads,
                          "hidden_size": text.hidden_size, "in_chans": 3, "model_type": "qwen2_vl", "spatial_patch_size": 14},
    }


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=1)


def expected(model, processor, queries, path):
    batch = processor.process_images(PAGES)
    ids = processor.process_texts(texts=queries)
    with torch.no_grad():
        positions, _ = model.get_rope_index(batch["input_ids"], mm_token_type_ids=batch["mm_token_type_ids"],
                                            image_grid_thw=batch["image_grid_thw"], attention_mask=batch["attention_mask"])
        save_file({"page_ids": batch["input_ids"], "page_mask": batch["attention_mask"], "page_grids": batch["image_grid_thw"],
                   "page_positions": positions.contiguous(), "page_embeddings": model(**batch).contiguous(),
                   "query_ids": ids["input_ids"], "query_mask": ids["attention_mask"],
                   "query_embeddings": model(**ids).contiguous()}, path)
    return batch


def query_texts(form):
    before, after = {"prefixed": ("Query: ", ""), "plain": ("", ""), "prefixed-newline": ("Query: ", "\n")}[form]
    return [before + query + "<|endoftext|>" * 10 + after for query in QUERIES]


def fixture(name, settings, seed, form, rename, dtype=torch.float32, dim=128, shards=1, processor_form="new", wrap=None):
    """One checkpoint folder, written by hand in the layout that `rename` gives, and what the oracle makes of it."""
    folder = os.path.join(OUT, name)
    os.makedirs(folder)
    model = random_model(settings, seed, dim)
    with torch.no_grad():
        for parameter in model.parameters():  # the weights as stored, computed with in f32
            parameter.copy_(parameter.to(dtype).float())
    state = {rename(key): value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    if not settings.tie_word_embeddings and wrap:
        state["vlm.lm_head.weight"] = torch.randn(settings.text_config.vocab_size, settings.text_config.hidden_size).to(dtype)
    keys = sorted(state)
    if shards == 1:
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    else:
        where = {}
        for at in range(shards):
            file = f"model-{at + 1:05}-of-{shards:05}.safetensors"
            part = keys[at::shards]
            save_file({key: state[key] for key in part}, os.path.join(folder, file), metadata={"format": "pt"})
            where.update({key: file for key in part})
        write_json(os.path.join(folder, "model.safetensors.index.json"), {"metadata": {}, "weight_map": where})
    write_json(os.path.join(folder, "config.json"), wrap(settings) if wrap else flat_config(settings))
    write_processor(folder, processor_form)
    tiny_tokenizer.write(os.path.join(folder, "tokenizer.json"), TOKENIZER)
    expected(model, PROCESSOR, query_texts(form), os.path.join(folder, "expected.safetensors"))
    print(name, sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder)) // 1024, "KiB")
    return model


def write_processor(folder, form):
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    if form == "old":
        write_json(os.path.join(folder, "preprocessor_config.json"),
                   {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS, "patch_size": 14, "merge_size": 2, "resample": 3})
    elif form == "new":
        write_json(os.path.join(folder, "preprocessor_config.json"), {"size": size})
    else:
        write_json(os.path.join(folder, "processor_config.json"), {"image_processor": {"size": size}})


def plain_name(key):
    return key.replace("language_model.", "model.", 1)


def transformers_name(key):
    return key.replace("custom_text_proj.", "embedding_proj_layer.") if key.startswith("custom") else "vlm." + key


def v1_hf_name(key):
    return key.replace("custom_text_proj.", "embedding_proj_layer.") if key.startswith("custom") else "vlm.model." + key


def adapter(base, base_name):
    """A peft adapter over a saved base, and the same one with the names of older versions."""
    torch.manual_seed(7)
    lora = LoraConfig(r=4, lora_alpha=12, lora_dropout=0.1, init_lora_weights="gaussian", bias="none",
                      task_type="FEATURE_EXTRACTION", target_modules=LORA)
    model = get_peft_model(copy.deepcopy(base), lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    model.eval()
    for name, form in [("adapter", "plain"), ("adapter_old_names", "prefixed")]:
        folder = os.path.join(OUT, name)
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        path = os.path.join(folder, "adapter_config.json")
        settings = json.load(open(path))
        settings["base_model_name_or_path"] = f"../{base_name}"
        write_json(path, settings)
        path = os.path.join(folder, "adapter_model.safetensors")
        if name == "adapter_old_names":
            renamed = {re.sub(r"^base_model\.model\.language_model\.", "base_model.model.model.", key): value
                       for key, value in load_file(path).items()}
            save_file(renamed, path, metadata={"format": "pt"})
        expected(model, PROCESSOR, query_texts(form), os.path.join(folder, "expected.safetensors"))
        print(name, sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder)) // 1024, "KiB")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    TOKENIZER = tiny_tokenizer.tokenizer_json()
    tiny_tokenizer.write(os.path.join(OUT, "tokenizer.json"), TOKENIZER)
    PROCESSOR = ColQwen2Processor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}),
        tokenizer=PreTrainedTokenizerFast(tokenizer_file=os.path.join(OUT, "tokenizer.json"), pad_token="<|endoftext|>",
                                          eos_token="<|im_end|>", padding_side="left", model_max_length=32768),
        video_processor=Qwen2VLVideoProcessor(), chat_template=None)
    os.remove(os.path.join(OUT, "tokenizer.json"))
    PAGES = pages()
    for at, page in enumerate(PAGES):
        page.save(os.path.join(OUT, f"page{at}.png"), optimize=True)

    make = lambda **shape: config(TOKENIZER, **shape)
    fixture("plain", make(hidden=48, heads=6, kv_heads=2, inner=80, section=[1, 1, 2], tied=True), 1, "prefixed", plain_name,
            processor_form="old")
    engine = make(hidden=64, heads=4, kv_heads=4, inner=96, section=[2, 3, 3], tied=False, embed=24, vision_heads=3)
    base = fixture("colpali_engine", engine, 2, "plain", lambda key: key, wrap=lambda settings: settings.to_dict(),
                   processor_form="nested")
    hf = make(hidden=32, heads=4, kv_heads=1, inner=64, section=[1, 2, 1], tied=True, layers=3, depth=3)
    fixture("transformers", hf, 3, "prefixed-newline", transformers_name, dim=64, processor_form="nested",
            wrap=lambda settings: {"model_type": "colqwen2", "embedding_dim": 64, "vlm_config": settings.to_dict()})
    v1 = make(hidden=48, heads=4, kv_heads=2, inner=80, section=[2, 2, 2], tied=False)
    fixture("v1_hf_f16", v1, 4, "prefixed-newline", v1_hf_name, dtype=torch.float16,
            wrap=lambda settings: {"model_type": "colqwen2", "embedding_dim": 128, "vlm_config": settings.to_dict()})
    sharded = make(hidden=48, heads=6, kv_heads=3, inner=80, section=[1, 1, 2], tied=True)
    fixture("sharded_bf16", sharded, 5, "prefixed", plain_name, dtype=torch.bfloat16, shards=3, processor_form="old")
    adapter(base, "colpali_engine")

    # The pixel values are the same for every checkpoint; the second of two equal frames is left out.
    batch = PROCESSOR.process_images(PAGES)
    pixels = {}
    for at, (values, grid) in enumerate(zip(batch["pixel_values"], batch["image_grid_thw"])):
        values = values[: grid[1] * grid[2]].reshape(-1, 3, 2, 196)
        assert torch.equal(values[:, :, 0], values[:, :, 1])
        pixels[f"page{at}"] = values[:, :, 0].contiguous()
    save_file(pixels, os.path.join(OUT, "pixels.safetensors"))
    sizes = [os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(OUT) for file in files]
    print("together", sum(sizes) // 1024, "KiB; limit 5120")
