#!/usr/bin/env python3
"""Writes a tiny LLaMA model with random weights, which llama.cpp loads and serves like any other.

    tiny_gguf.py OUT.gguf [--seed N]

What it says is nonsense, but the protocol around it is real. Only the standard library is used, so that a fresh machine
needs nothing to make the model, and the same seed gives the same bytes everywhere.
"""

import argparse
import array
import random
import struct
import sys

EMBEDDING = 64
FEED_FORWARD = 128
HEADS = 4
LAYERS = 2
CONTEXT = 4096
ALIGNMENT = 32

# Value types of the GGUF format.
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
# Kinds of tokens in it.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

SPACE = "\u2581"  # how SentencePiece writes a blank
WORDS = (
    "agent bench card device every first graph hello input job kernel load model next output prompt queue run "
    "server test unit value worker"
).split()


def tokens():
    """The vocabulary: (text, score, kind). All 256 bytes are in it, so every input can be tokenized."""
    yield "<unk>", 0.0, UNKNOWN
    yield "<s>", 0.0, CONTROL
    yield "</s>", 0.0, CONTROL
    for byte in range(256):
        yield f"<0x{byte:02X}>", 0.0, BYTE
    pieces = [SPACE] + [SPACE + word for word in WORDS] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    for rank, piece in enumerate(pieces):
        yield piece, -float(rank), NORMAL


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], v)


def entry(key, kind, v):
    return string(key) + struct.pack("<I", kind) + value(kind, v)


def entries(key, kind, vs):
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(vs)) + b"".join(value(kind, v) for v in vs)


def metadata():
    texts, scores, kinds = zip(*tokens())
    llama, tokenizer = "llama.", "tokenizer.ggml."
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "tiny-random"),
        entry("general.alignment", UINT32, ALIGNMENT),
        entry("general.file_type", UINT32, 0),
        entry(llama + "context_length", UINT32, CONTEXT),
        entry(llama + "embedding_length", UINT32, EMBEDDING),
        entry(llama + "block_count", UINT32, LAYERS),
        entry(llama + "feed_forward_length", UINT32, FEED_FORWARD),
        entry(llama + "attention.head_count", UINT32, HEADS),
        entry(llama + "attention.head_count_kv", UINT32, HEADS),
        entry(llama + "attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        entry(llama + "rope.dimension_count", UINT32, EMBEDDING // HEADS),
        entry(llama + "vocab_size", UINT32, len(texts)),
        entry(tokenizer + "model", STRING, "llama"),
        entries(tokenizer + "tokens", STRING, texts),
        entries(tokenizer + "scores", FLOAT32, scores),
        entries(tokenizer + "token_type", INT32, kinds),
        entry(tokenizer + "unknown_token_id", UINT32, 0),
        entry(tokenizer + "bos_token_id", UINT32, 1),
        entry(tokenizer + "eos_token_id", UINT32, 2),
        entry(tokenizer + "add_bos_token", BOOL, True),
        entry(tokenizer + "add_eos_token", BOOL, False),
        entry(
            "tokenizer.chat_template",
            STRING,
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
        ),
    ]


def shapes():
    """(name, dimensions), the fastest-running dimension first, as the format wants it. One dimension: a norm."""
    vocabulary = sum(1 for _ in tokens())
    yield "token_embd.weight", (EMBEDDING, vocabulary)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (EMBEDDING,)
        for part in ("q", "k", "v", "output"):
            yield f"{block}attn_{part}.weight", (EMBEDDING, EMBEDDING)
        yield block + "ffn_norm.weight", (EMBEDDING,)
        yield block + "ffn_gate.weight", (EMBEDDING, FEED_FORWARD)
        yield block + "ffn_up.weight", (EMBEDDING, FEED_FORWARD)
        yield block + "ffn_down.weight", (FEED_FORWARD, EMBEDDING)
    yield "output_norm.weight", (EMBEDDING,)
    yield "output.weight", (EMBEDDING, vocabulary)


def weights(dimensions, rng):
    if len(dimensions) == 1:
        numbers = array.array("f", [1.0] * dimensions[0])
    else:
        numbers = array.array("f", (rng.gauss(0.0, 0.25) for _ in range(dimensions[0] * dimensions[1])))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def padding(length):
    return b"\0" * (-length % ALIGNMENT)


def model(seed):
    rng = random.Random(seed)
    infos, data = [], b""
    for name, dimensions in shapes():
        infos.append(
            string(name)
            + struct.pack("<I", len(dimensions))
            + struct.pack(f"<{len(dimensions)}Q", *dimensions)
            + struct.pack("<IQ", 0, len(data))
        )
        blob = weights(dimensions, rng)
        data += blob + padding(len(blob))
    keys = metadata()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    return head + padding(len(head)) + data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.gguf")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = model(arguments.seed)
    with open(arguments.out, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
