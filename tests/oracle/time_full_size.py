"""Times PyTorch in f32 on the checkpoint and page that the example `full_size` made, and compares the embeddings.

usage: python time_full_size.py DIR     (after `full_size make DIR` and `full_size encode DIR`)
"""
import os, resource, sys, time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from PIL import Image
from colpali_engine.models import ColQwen2, ColQwen2Processor
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

folder = sys.argv[1]
tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), pad_token="<|endoftext|>",
                                    eos_token="<|im_end|>", padding_side="left")
processor = ColQwen2Processor(image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 602112}),
                              tokenizer=tokenizer, video_processor=Qwen2VLVideoProcessor(), chat_template=None)
batch = processor.process_images([Image.open(os.path.join(folder, "page.png"))])
start = time.time()
model = ColQwen2.from_pretrained(folder, dtype=torch.float32).eval()
print(f"loaded in {time.time() - start:.1f} s")
with torch.no_grad():
    start, cpu = time.time(), time.process_time()
    embeddings = model(**batch)[0]
print(f"PyTorch f32, {torch.get_num_threads()} threads: one page of {len(embeddings)} tokens in {time.time() - start:.1f} s, "
      f"{time.process_time() - cpu:.1f} CPU-seconds, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} kB")
ours = load_file(os.path.join(folder, "page.safetensors"))["embeddings"]
print(f"max abs difference {(ours - embeddings).abs().max():.2e}, least cosine {(ours * embeddings).sum(-1).min():.6f}")
