"""Makes gradients.safetensors: what PyTorch's autograd and colpali-engine give for the weights of two parity fixtures.

usage: python make_gradients.py     (after make_fixtures.py; versions: requirements.txt)

The loss is the sum of all token vectors times slopes that are written below, over the four pages and the two queries. Of
each gradient its length and at most 512 evenly spaced values are kept.
"""
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from colpali_engine.models import ColQwen2
from peft import PeftModel
from safetensors.torch import load_file, save_file

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
KEPT = 512
torch.set_num_threads(1)


def vectors(model, folder):
    """The token vectors of the fixtures' pages and queries, without padding, one after the other."""
    inputs = load_file(os.path.join(FIXTURES, folder, "expected.safetensors"))
    pixels = load_file(os.path.join(FIXTURES, "pixels.safetensors"))
    pages = [pixels[f"page{at}"] for at in range(4)]
    # Each frame stands twice in a patch: patches x (channels, time, pixels).
    pages = [torch.stack([page, page], dim=2).reshape(len(page), -1) for page in pages]
    most = max(len(page) for page in pages)
    pages = torch.stack([torch.nn.functional.pad(page, (0, 0, 0, most - len(page))) for page in pages])
    made = {}
    for kind, more in [("page", dict(pixel_values=pages, image_grid_thw=inputs["page_grids"])), ("query", {})]:
        ids, mask = inputs[f"{kind}_ids"], inputs[f"{kind}_mask"]
        if kind == "page":
            more["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
        made[kind] = model(input_ids=ids, attention_mask=mask, **more)[mask.bool()]
    return made


def loss(model, folder):
    total = 0
    for made in vectors(model, folder).values():
        token, value = torch.arange(len(made))[:, None], torch.arange(made.shape[1])[None]
        slopes = ((token * 31 + value * 17) % 23 - 11) / 11
        total = total + (made * slopes).sum()
    return total


def keep(prefix, named, made):
    for name, parameter in named:
        if parameter.grad is None:
            continue
        flat = parameter.grad.flatten()
        step = -(-len(flat) // KEPT)
        made[f"{prefix}.values.{name}"] = flat[::step].contiguous()
        made[f"{prefix}.length.{name}"] = flat.norm().reshape(1)


if __name__ == "__main__":
    made = {}
    base = os.path.join(FIXTURES, "colpali_engine")
    model = ColQwen2.from_pretrained(base, dtype=torch.float32).eval()
    value = loss(model, "colpali_engine")
    value.backward()
    made["full.loss"] = value.detach().reshape(1)
    keep("full", model.named_parameters(), made)

    model = ColQwen2.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, os.path.join(FIXTURES, "adapter"), is_trainable=True).eval()
    value = loss(model, "adapter")
    value.backward()
    made["lora.loss"] = value.detach().reshape(1)
    learning = ((name.replace(".default", ""), parameter) for name, parameter in model.named_parameters()
                if parameter.requires_grad)
    keep("lora", learning, made)
    path = os.path.join(FIXTURES, "gradients.safetensors")
    save_file(made, path)
    print(len(made) // 2, "gradients,", os.path.getsize(path) // 1024, "KiB")
