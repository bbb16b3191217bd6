#!/usr/bin/env python3
"""Quality of every type on the built-in model, Quern's files beside llama.cpp's and mlx-lm's. usage: quality.py [--record] [--keep-peers] BUILD/quern [TYPE...]

Each file is measured with `quern eval --suite kld` against the bf16 checkpoint: float32 activations, float32 keys and values, chunks of 256. Two texts:
code unlike what the model knows (the first 60,000 bytes of the gate text), and code like it (the held-out prompts and solutions of ../shared, each
followed by <|endoftext|>; left out where that folder is absent). --record writes bench/quality/demo.json, of which tools/make_quality_md.py makes
docs/quality_table.md and its picture. --keep-peers takes the peers' figures from there instead of making and measuring their files again.
"""
import ctypes
import datetime
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRATCH = os.path.join(ROOT, "build", "peers", "quality")
MODEL = os.path.join(ROOT, "models", "quern-coder-8m")
RECORD = os.path.join(ROOT, "bench", "quality", "demo.json")
# llama.cpp's numbers of the mixtures (general.file_type)
GGUF = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8, "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25,
        "IQ4_XS": 30, "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10, "TQ2_0": 37, "TQ1_0": 36}
# mlx-lm: bits, group, mode or mixture
MLX = {"8bit-g64": (8, 64, None), "6bit-g64": (6, 64, None), "5bit-g64": (5, 64, None), "4bit-g64": (4, 64, None), "4bit-g32": (4, 32, None),
       "3bit-g64": (3, 64, None), "2bit-g64": (2, 64, None), "mixed_4_6-g64": (4, 64, "mixed_4_6"), "mixed_3_6-g64": (3, 64, "mixed_3_6"),
       "mxfp4-g32": (4, 32, "mxfp4")}
# --target-bpw beside the type of the same size
MIXES = {"Q2_K": 3.98, "Q3_K_M": 4.63, "Q4_K_M": 5.21, "Q5_K_M": 5.87, "3bit-g64": 3.51, "4bit-g64": 4.51}
FIGURES = ["ppl_ratio", "ppl_ratio_error", "kld_mean", "kld_p99", "kld_max", "top1_agreement"]


def texts():
    with open(os.path.join(ROOT, "models", "texts", "gate.txt"), "rb") as f:
        found = {"unlike": f.read(60000)}
    path = os.path.join(ROOT, "..", "shared", "models", "quern-coder-8m", "eval", "heldout.jsonl")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        found["like"] = "".join(r["prompt"] + r["canonical_solution"] + "<|endoftext|>" for r in rows).encode()
    paths = {}
    for name, data in found.items():
        paths[name] = os.path.join(SCRATCH, name + ".txt")
        with open(paths[name], "wb") as f:
            f.write(data)
    return paths


def silently(function, *arguments):
    """The peers write to the file descriptors themselves."""
    saved, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        return function(*arguments)
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for fd in saved + [null]:
            os.close(fd)


def make_llama(source, kind, out):
    import llama_cpp
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = GGUF[kind], 2
    if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp cannot make {kind}")


def make_mlx(kind, out):
    import mlx.core as mx
    import mlx_lm
    mx.set_default_device(mx.cpu)
    bits, group, extra = MLX[kind]
    more = {"q_mode": "mxfp4"} if extra == "mxfp4" else {"quant_predicate": extra} if extra else {}
    mlx_lm.convert(MODEL, out, quantize=True, q_bits=bits, q_group_size=group, dtype="bfloat16", **more)


def measure(quern, path, text, base=MODEL):
    command = [quern, "eval", path, "--suite", "kld", "--base", base, "--text", text, "-c", "256", "--arithmetic", "f32_activations", "--kv-type",
               "f32", "--json"]
    suite = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["suites"][0]
    return {k: suite[k] for k in FIGURES}


def quantize(quern, formats, *options):
    """The manifest's outputs of a run into the scratch folder."""
    text = subprocess.run([quern, "quantize", MODEL, "-o", os.path.join(SCRATCH, "ours"), "--name", "demo", "--formats", formats, "--gate", "off",
                           *options, "--json"], check=True, capture_output=True).stdout
    return {(o["format"], o["type"]): o for o in json.loads(text)["outputs"]}


def error_of(output):
    """Relative RMS error of the matrices together."""
    matrices = [(t["rel_rmse"], t["shape"]) for t in output["tensors"] if t["rel_rmse"] is not None and len(t["shape"]) > 1]
    weights = [(error, shape[0] * shape[1]) for error, shape in matrices]
    return (sum(e * e * n for e, n in weights) / sum(n for _, n in weights)) ** 0.5


def peer_measures(quern, family, kind, found, kept):
    """The figures of the peer's file, one a text: kept ones, or of a file made now."""
    if kept is not None:
        return {text: kept["peer_" + text] for text in found}
    peer = os.path.join(SCRATCH, ("llama-" if family == "gguf" else "mlx-") + kind + (".gguf" if family == "gguf" else ""))
    if not os.path.exists(peer):
        if family == "gguf":
            silently(make_llama, os.path.join(SCRATCH, "ours", "gguf", "demo-F32.gguf"), kind, peer)
        else:
            silently(make_mlx, kind, peer)
    return {text: measure(quern, peer, path) for text, path in found.items()}


def rows_of(quern, wanted, kept):
    os.makedirs(SCRATCH, exist_ok=True)
    found = texts()
    ours = os.path.join(SCRATCH, "ours")
    names = [f"gguf:{k}" for k in GGUF if k in wanted] + [f"mlx:{k}".replace("-g64", "").replace("mxfp4-g32", "mxfp4") for k in MLX if k in wanted]
    outputs = quantize(quern, ",".join(["gguf:F32"] + names))
    for (family, kind), output in outputs.items():
        if kind not in wanted:
            continue
        peers = peer_measures(quern, family, kind, found, kept.get((family, kind)))
        row = {"format": family, "type": kind, "bits_per_weight": output["bits_per_weight"], "rel_rmse": error_of(output),
               "peer": "llama.cpp" if family == "gguf" else "mlx-lm"}
        mixed = None
        if kind in MIXES:
            name = f"{MIXES[kind]:.2f}bpw" + ("" if family == "gguf" else "-g64")
            mixed = quantize(quern, f"{family}:{kind.replace('-g64', '')}", "--target-bpw", str(MIXES[kind]))[family, name]
        for text, path in found.items():
            row[text] = measure(quern, os.path.join(ours, output["path"]), path)
            row["peer_" + text] = peers[text]
            row["mix_" + text] = measure(quern, os.path.join(ours, mixed["path"]), path) if mixed else None
            a, b, c = row[text], row["peer_" + text], row["mix_" + text]
            print(f"{family:5} {kind:14} {text:7} KLD {a['kld_mean']:.6f} peer {b['kld_mean']:.6f} ratio {a['kld_mean'] / b['kld_mean']:.3f}   "
                  f"ppl {a['ppl_ratio']:.5f} peer {b['ppl_ratio']:.5f}" + (f"   mixed {c['kld_mean']:.6f}" if c else ""), flush=True)
        yield row


def versions_of_peers():
    import llama_cpp
    import importlib.metadata as metadata
    return {"llama.cpp": "llama-cpp-python " + llama_cpp.__version__, "mlx-lm": metadata.version("mlx-lm")}


def main():
    arguments = [a for a in sys.argv[1:] if a not in ("--record", "--keep-peers")]
    if not arguments:
        sys.exit(__doc__)
    quern = os.path.abspath(arguments[0])
    earlier = None
    if "--keep-peers" in sys.argv[1:]:
        with open(RECORD, encoding="utf-8") as f:
            earlier = json.load(f)
    kept = {(r["format"], r["type"]): r for r in earlier["rows"]} if earlier else {}
    rows = list(rows_of(quern, arguments[1:] or list(GGUF) + list(MLX), kept))
    if "--record" in sys.argv[1:]:
        version = subprocess.run([quern, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        result = {"schema": "quern.quality-table/1", "date": datetime.date.today().isoformat(), "quern": version,
                  "peers": earlier["peers"] if earlier else versions_of_peers(),
                  "command": "tools/peers/quality.py --record " + ("--keep-peers " if earlier else "") + "build/quern", "rows": rows}
        os.makedirs(os.path.dirname(RECORD), exist_ok=True)
        with open(RECORD, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
