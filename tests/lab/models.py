#!/usr/bin/env python3
"""A language model of 100 KB that counts, for every engine that reads GGUF.

Whatever it is asked, it answers " 1 2 3 ... 31" and ends: one token per number, at any temperature and seed. So a test
knows each token of an answer, and sees at once what was lost or doubled on the way. With loop it begins again at 1
instead of ending, for as long as the caller's limit on tokens allows.

How: the network's blocks are zeros, so what reaches the output is the embedding of the last token. Number n has an
embedding of its own axis, and the output row of n + 1 lies on that axis; everything that is no number shares axis 0,
where the row of 1 lies. Zeros are holes in the file: a model of 300 MB is a fraction of that on disk, but takes the
time and the memory of any other to load and to run.

GGUF version 3 as in llama.cpp, gguf-py/gguf/constants.py; manifests as ollama's registry has them.

usage: models.py FILE [--count N] [--loop] [--slow] [--store DIR --as NAME]
"""
import argparse
import hashlib
import json
import os
import shutil
import struct

F32, F16 = 0, 1
U32, I32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
UNKNOWN, BEGIN, END = 0, 1, 2
MEAN = 1                                        # of a text's tokens: its embedding (enum llama_pooling_type)
BYTES_AT = 3                                    # the 256 byte tokens every such vocabulary has
NUMBERS_AT = BYTES_AT + 256
ALIGN = 32
SURE = 16.0                                     # of one token over all others: beyond any temperature in use
SLOW = {"spare_tokens": 700_000, "pad_bytes": 80 << 20}     # 2-3 s to load, some 30 tokens/s on one core


def answer(count=31):
    """What the model says."""
    return "".join(f" {n}" for n in range(1, count + 1))


class Writer:
    """Collects keys and tensors, then writes them in the one order GGUF has."""

    def __init__(self):
        self.keys, self.tensors = [], []

    @staticmethod
    def packed(kind, value):
        if kind == STRING:
            raw = value.encode()
            return struct.pack("<Q", len(raw)) + raw
        return struct.pack({U32: "<I", I32: "<i", FLOAT32: "<f"}[kind], value)

    def key(self, name, kind, value):
        self.keys.append(self.packed(STRING, name) + struct.pack("<I", kind) + self.packed(kind, value))

    def array(self, name, kind, values):
        self.keys.append(self.packed(STRING, name) + struct.pack("<IIQ", ARRAY, kind, len(values))
                         + b"".join(self.packed(kind, v) for v in values))

    def tensor(self, name, dims, kind, data=b""):
        """DATA may be shorter than the tensor: the rest is zeros."""
        self.tensors.append((name, dims, kind, data))

    def write(self, path):
        head, end, places = [struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.keys))] + self.keys, 0, []
        for name, dims, kind, data in self.tensors:
            head.append(self.packed(STRING, name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, end))
            places.append((end, data))
            size = 4 if kind == F32 else 2
            for d in dims:
                size *= d
            end += -(-size // ALIGN) * ALIGN
        head = b"".join(head)
        start = -(-len(head) // ALIGN) * ALIGN
        new = path + ".new"
        with open(new, "wb") as f:
            f.write(head)
            for at, data in places:
                f.seek(start + at)
                f.write(data)
            f.truncate(start + end)
        os.rename(new, path)                    # a store may hold a link to the old one


def axis(width, n, length):
    return struct.pack("<f", 0.0) * n + struct.pack("<f", length) + struct.pack("<f", 0.0) * (width - n - 1)


def write_gguf(path, count=31, loop=False, spare_tokens=0, pad_bytes=0, context=4096, name="tiny", pooling=None):
    """spare_tokens makes it slow to load, pad_bytes slow to run. pooling: MEAN makes it one that embeds, for its engines."""
    width = -(-(count + 1) // 32) * 32
    inner = max(32, pad_bytes // (3 * 2 * width) // 32 * 32)
    texts = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    texts += [f"\u2581{n}" for n in range(1, count + 1)] + [f"[spare{n}]" for n in range(spare_tokens)]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (count + spare_tokens)        # unknown, control, byte, normal
    scores = [0.0] * NUMBERS_AT + [-float(n) for n in range(count + spare_tokens)]
    w = Writer()
    for key, kind, value in (
            ("general.architecture", STRING, "llama"), ("general.name", STRING, name), ("general.file_type", U32, 1),
            ("llama.context_length", U32, context), ("llama.embedding_length", U32, width),
            ("llama.block_count", U32, 1), ("llama.feed_forward_length", U32, inner),
            ("llama.attention.head_count", U32, 1), ("llama.attention.head_count_kv", U32, 1),
            ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5), ("llama.rope.dimension_count", U32, width),
            ("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.bos_token_id", U32, BEGIN),
            ("tokenizer.ggml.eos_token_id", U32, END), ("tokenizer.ggml.unknown_token_id", U32, UNKNOWN)):
        w.key(key, kind, value)
    if pooling is not None:
        w.key("llama.pooling_type", U32, pooling)
    w.array("tokenizer.ggml.tokens", STRING, texts)
    w.array("tokenizer.ggml.scores", FLOAT32, scores)
    w.array("tokenizer.ggml.token_type", I32, kinds)

    embeddings = [axis(width, max(0, t - NUMBERS_AT + 1), 1.0) for t in range(NUMBERS_AT + count)]
    rows = [bytes(4 * width)] * (NUMBERS_AT + count)
    for n in range(count):
        rows[NUMBERS_AT + n] = axis(width, n, SURE)
    if loop:
        first = [0.0] * width
        first[0] = first[count] = SURE
        rows[NUMBERS_AT] = struct.pack(f"<{width}f", *first)
    else:
        rows[END] = axis(width, count, SURE)
    ones = struct.pack("<f", 1.0) * width
    w.tensor("token_embd.weight", [width, len(texts)], F32, b"".join(embeddings))
    w.tensor("output_norm.weight", [width], F32, ones)
    w.tensor("output.weight", [width, len(texts)], F32, b"".join(rows))
    w.tensor("blk.0.attn_norm.weight", [width], F32, ones)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        w.tensor(f"blk.0.{part}.weight", [width, width], F16)
    w.tensor("blk.0.ffn_norm.weight", [width], F32, ones)
    w.tensor("blk.0.ffn_gate.weight", [width, inner], F16)
    w.tensor("blk.0.ffn_up.weight", [width, inner], F16)
    w.tensor("blk.0.ffn_down.weight", [inner, width], F16)
    w.write(path)
    return path


def sha256_of(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for part in iter(lambda: f.read(1 << 20), b""):
            h.update(part)
    return h.hexdigest()


def name_parts(name):
    """deepseek-r1:7b -> registry.ollama.ai, library, deepseek-r1, 7b: as ollama reads names."""
    path, tag = name, "latest"
    if ":" in name.rsplit("/", 1)[-1]:
        path, tag = name.rsplit(":", 1)
    parts = path.split("/")
    return ["registry.ollama.ai", "library"][:max(0, 3 - len(parts))] + parts + [tag]


def put_blob(store, media_type, data=None, path=None):
    """Into the store by its digest; returns the entry a manifest has for it."""
    digest = sha256_of(path) if path else hashlib.sha256(data).hexdigest()
    place = f"{store}/blobs/sha256-{digest}"
    os.makedirs(store + "/blobs", exist_ok=True)
    if path and not os.path.exists(place):
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)
    elif data is not None:
        with open(place, "wb") as f:
            f.write(data)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": os.path.getsize(place)}


def store_in_ollama(store, name, gguf, params=None):
    """Files GGUF in an OLLAMA_MODELS directory as if NAME had been pulled. One thread, because threads of a busy machine
    wait for each other by spinning."""
    params = dict({"stop": ["</s>"], "num_thread": 1}, **(params or {}))
    config = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "7B",
              "file_type": "F16", "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    kind = "application/vnd.ollama.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": put_blob(store, "application/vnd.docker.container.image.v1+json", json.dumps(config).encode()),
        "layers": [put_blob(store, kind + "model", path=gguf),
                   put_blob(store, kind + "params", json.dumps(params).encode())],
    }
    place = os.path.join(store, "manifests", *name_parts(name))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place + ".new", "w") as f:
        json.dump(manifest, f)
    os.rename(place + ".new", place)            # last: a model is there with all its blobs, or not at all
    return manifest


def main():
    p = argparse.ArgumentParser(description="writes a tiny counting model")
    p.add_argument("file")
    p.add_argument("--count", type=int, default=31)
    p.add_argument("--loop", action="store_true")
    p.add_argument("--slow", action="store_true")
    p.add_argument("--store", help="file it in this OLLAMA_MODELS directory too,")
    p.add_argument("--as", dest="name", default="tiny:latest", help="under this name")
    o = p.parse_args()
    write_gguf(o.file, o.count, o.loop, **(SLOW if o.slow else {}))
    if o.store:
        store_in_ollama(o.store, o.name, o.file)


if __name__ == "__main__":
    main()
