#!/usr/bin/env python3
"""Models that are not in the page cache: what is read of them is counted, with its time, mapped and copied; looking at one leaves it on the disk.

The model is one big hole with a header: nothing of it is in the page cache after it was made, on any file system, and it takes no space."""
import ctypes
import json
import mmap
import os
import shutil
import struct
import tempfile

from cli_helper import MODEL, Checks, run

LAYERS, HIDDEN, FFN = 14, 256, 3072  # beyond 64 MiB: smaller models are looked through by inspect, and copied through the page cache
MIB = 1 << 20
ASK = ["--raw", "--temp", "0", "-n", "1", "-c", "64"]
MEASURE = ["-p", "1", "-n", "1", "-r", "1", "--parallel", "0", "--no-machine"]


def shapes(config):
    """As Qwen3 names them, vectors between the matrices."""
    heads, kv, dim = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    yield "model.embed_tokens.weight", [config["vocab_size"], HIDDEN]
    for i in range(LAYERS):
        for name, shape in (("input_layernorm", [HIDDEN]), ("self_attn.q_proj", [heads * dim, HIDDEN]), ("self_attn.q_norm", [dim]),
                            ("self_attn.k_proj", [kv * dim, HIDDEN]), ("self_attn.k_norm", [dim]), ("self_attn.v_proj", [kv * dim, HIDDEN]),
                            ("self_attn.o_proj", [HIDDEN, heads * dim]), ("mlp.gate_proj", [FFN, HIDDEN]), ("mlp.up_proj", [FFN, HIDDEN]),
                            ("post_attention_layernorm", [HIDDEN]), ("mlp.down_proj", [HIDDEN, FFN])):
            yield f"model.layers.{i}.{name}.weight", shape
    yield "model.norm.weight", [HIDDEN]


def tensors(config, packed, head):
    """Name, type, shape and bytes of everything; `packed` as MLX's mxfp4 has matrices, `head` with one that repeats the embedding."""
    extra = [("lm_head.weight", [config["vocab_size"], HIDDEN])] if head else []
    for name, shape in [*shapes(config), *extra]:
        if packed and len(shape) == 2:
            yield name, "U32", [shape[0], shape[1] // 8], shape[0] * shape[1] // 2
            yield name.replace(".weight", ".scales"), "U8", [shape[0], shape[1] // 32], shape[0] * shape[1] // 32
        else:
            yield name, "BF16", shape, 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def make_config(folder, packed=False):
    with open(os.path.join(MODEL, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config.update(num_hidden_layers=LAYERS, max_window_layers=LAYERS, hidden_size=HIDDEN, intermediate_size=FFN)
    if packed:
        config["quantization"] = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(MODEL, name), folder)
    return config


def make_cold(folder, config, head=False):
    """Writes the weights anew, all of them zero; their path and size."""
    header, end = {}, 0
    for name, dtype, shape, n_bytes in tensors(config, "quantization" in config, head):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + n_bytes]}
        end += n_bytes
    text = json.dumps(header).encode()
    path = os.path.join(folder, "model.safetensors")
    if os.path.exists(path):
        os.remove(path)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + end)
    return path, 8 + len(text) + end


def resident(path):
    """Bytes in the page cache."""
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE) as m:
        pages = (ctypes.c_ubyte * -(-len(m) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(m)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(m)), pages)
        del first
        return len(m) if failed else mmap.PAGESIZE * sum(p & 1 for p in pages)


def document(checks, what, *arguments):
    done = run(*arguments)
    return json.loads(done.stdout)["read_in"] if checks.exit_code(done, 0, what) else None


def check_cold(checks, folder, config):
    path, size = make_cold(folder, config)
    checks.exit_code(run("inspect", folder), 0, "inspect")
    checks.that(resident(path) <= 4 * MIB, "inspect leaves the weights on the disk", f"{resident(path)} of {size} bytes were read")
    for load in ("mmap", "copy"):
        for what, arguments in (("run", ["run", folder, "x", *ASK]), ("bench", ["bench", folder, *MEASURE])):
            make_cold(folder, config)
            read = document(checks, f"{what} {load}", *arguments, "--load", load, "--json")
            good = read and size * 0.95 < read["cold_bytes"] <= read["bytes"] <= size and read["seconds"] > 0
            checks.that(good and (load == "mmap" or read["bytes"] == size), f"{what} --load {load}: all is counted", f"{read} of {size}")
        make_cold(folder, config)
        done = run("run", folder, "x", *ASK, "--load", load, "-v")
        checks.that(b" from the disk in " in done.stderr and b"/s)" in done.stderr, f"run -v --load {load}: the speed is told", done.stderr)
        make_cold(folder, config)
        done = run("bench", folder, *MEASURE, "--load", load)
        checks.that(b" came from the disk in " in done.stdout, f"bench --load {load}: the speed is told", done.stdout)


def check_read_while_bound(checks, folder):
    """What is copied into another form, or compared, as the model is opened: read from the disk before all else."""
    for what, packed, head in (("mxfp4", True, False), ("a head that is the embedding", False, True)):
        size = make_cold(folder, make_config(folder, packed), head)[1]
        read = document(checks, what, "run", folder, "x", *ASK, "--json")
        good = read and size * 0.85 < read["cold_bytes"] <= read["bytes"] <= size and read["seconds"] > 0
        checks.that(good, f"{what}: all is counted", f"{read} of {size}")


def pages_taken_back():
    """A number that grows when the system lets go of pages of files; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="utf-8") as f:
            counts = (line.split() for line in f)
            return sum(int(n) for name, n in counts if name in ("pgsteal_file", "drop_pagecache"))
    except OSError:
        return 0


def read_warm(path, ask, good):
    """What `ask` returns with the file in the page cache; asked again, twice at most, only where the system took pages of some file back meanwhile."""
    for _ in range(3):
        before = pages_taken_back()
        with open(path, "rb") as f:
            shutil.copyfileobj(f, open(os.devnull, "wb"), MIB)
        answer = ask()
        if good(answer) or pages_taken_back() == before:
            break
    return answer


def check_warm(checks, folder, config):
    path, size = make_cold(folder, config)
    for load in ("mmap", "copy"):
        read = read_warm(path, lambda: document(checks, f"warm {load}", "run", folder, "x", *ASK, "--load", load, "--json"),
                         lambda answer: answer and answer["cold_bytes"] == 0)
        checks.that(read and read["cold_bytes"] == 0 and size * 0.95 < read["bytes"] <= size and read["seconds"] > 0, f"warm {load}: counted", read)
        done = read_warm(path, lambda: run("run", folder, "x", *ASK, "--load", load, "-v"), lambda answer: b"from the disk" not in answer.stderr)
        checks.that(done.returncode == 0 and b"from the disk" not in done.stderr, f"warm {load}: nothing to tell", done.stderr)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(folder)
        path, size = make_cold(folder, config)
        if resident(path) > size // 2:
            print("SKIP: cold_pages: this file system does not tell what is in the page cache")
            raise SystemExit(77)
        check_cold(checks, folder, config)
        check_warm(checks, folder, config)
        check_read_while_bound(checks, folder)
    checks.close()


if __name__ == "__main__":
    main()
