"""A tokenizer of a few hundred entries that works like Qwen2-VL's: NFC, the same word splitting, byte-level BPE, the same
special tokens (at other ids, so that an assumed id shows)."""
import json

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = ["the", "user", " image", "Describe", " is", " of", " revenue", " what", "Query", " in", " was", " net", "rés"]


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols, extra = {byte: chr(byte) for byte in kept}, 0
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(256 + extra)
            extra += 1
    return symbols


def tokenizer_json(words=WORDS):
    symbols = byte_symbols()
    vocab = {symbols[byte]: byte for byte in range(256)}
    merges = []
    for word in words:
        pieces = [symbols[byte] for byte in word.encode()]
        whole = pieces[0]
        for piece in pieces[1:]:
            if whole + piece not in vocab:
                vocab[whole + piece] = len(vocab)
                merges.append([whole, piece])
            whole += piece
    added = [{"id": len(vocab) + at, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for at, token in enumerate(SPECIAL)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, level]},
        "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }


def special_ids(tokenizer):
    return {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def vocab_size(tokenizer):
    return len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])


def write(path, tokenizer):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False, separators=(",", ":"))
