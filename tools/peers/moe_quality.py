#!/usr/bin/env python3
"""Quality of MXFP4_MOE, Quern's files beside llama.cpp's. usage: moe_quality.py [--record] BUILD/quern

The built-in model has no experts, so its own are made: each layer's feed-forward is cut into four experts of 192 columns, all of which every
token meets with weight 1/4 (the router is zero), and the matrix behind them is multiplied by 4, which bfloat16 holds exactly. That is the same
function with the same trained weights. Beside it stand reference checkpoints with random weights, whose routers choose. Measured as in quality.py:
on the first text the demo model, on the gate text the others. --record writes bench/quality/moe.json.
"""
import datetime
import json
import os
import shutil
import subprocess
import sys

import numpy as np

import quality

SCRATCH = os.path.join(quality.SCRATCH, "moe")
RECORD = os.path.join(quality.ROOT, "bench", "quality", "moe.json")
GOLDENS = os.path.join(quality.ROOT, "tests", "data", "goldens", "hf")
SHARED = os.path.join(quality.ROOT, "..", "shared", "goldens", "hf")
N_EXPERTS = 4
FILE_TYPE = 38  # general.file_type of MXFP4_MOE


def read_safetensors(path):
    """Name to (type, shape, bytes)."""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    return {name: (t["dtype"], t["shape"], data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for name, t in header.items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


def cut(name, dtype, shape, data):
    """The experts' parts of one feed-forward matrix."""
    assert dtype == "BF16"
    m = np.frombuffer(data, np.uint16).reshape(shape)
    module, kind = name.split(".mlp.")
    down = kind == "down_proj.weight"
    if down:
        m = ((m.astype(np.uint32) << 16).view(np.float32) * N_EXPERTS).view(np.uint32)
        assert not (m & 0xffff).any()
        m = (m >> 16).astype(np.uint16)
    for e, part in enumerate(np.split(m, N_EXPERTS, axis=1 if down else 0)):
        yield f"{module}.mlp.experts.{e}.{kind}", ("BF16", part.shape, np.ascontiguousarray(part).tobytes())


def make_demo(out):
    os.makedirs(out, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(quality.MODEL, name), out)
    with open(os.path.join(quality.MODEL, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    width = config["intermediate_size"] // N_EXPERTS
    config.update(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", num_experts=N_EXPERTS, num_experts_per_tok=N_EXPERTS,
                  moe_intermediate_size=width, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    tensors = {}
    for name, tensor in read_safetensors(os.path.join(quality.MODEL, "model.safetensors")).items():
        tensors.update(cut(name, *tensor) if ".mlp." in name else [(name, tensor)])
    for layer in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.mlp.gate.weight"] = ("BF16", (N_EXPERTS, config["hidden_size"]), bytes(2 * N_EXPERTS * config["hidden_size"]))
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    return out


def quantize(quern, source, name, formats, *options):
    folder = os.path.join(SCRATCH, "out", name)
    text = subprocess.run([quern, "quantize", source, "-o", folder, "--name", name, "--formats", formats, "--gate", "off", *options, "--json"],
                          check=True, capture_output=True).stdout
    return {o["type"]: (os.path.join(folder, o["path"]), o) for o in json.loads(text)["outputs"] if "kept_from" not in o}


def error_of_experts(output):
    """Relative RMS error of the experts together."""
    errors = [t["rel_rmse"] for t in output["tensors"] if "_exps" in t["name"]]
    return (sum(e * e for e in errors) / len(errors)) ** 0.5


def rows_of(quern):
    found = quality.texts()
    gate = os.path.join(quality.ROOT, "models", "texts", "gate.txt")
    sources = [("demo, cut into experts", make_demo(os.path.join(SCRATCH, "demo-moe")), found["unlike"])]
    for name in ("qwen3_moe_k256", "qwen3_moe", "mixtral"):
        folder = next((os.path.join(d, name) for d in (GOLDENS, SHARED) if os.path.exists(os.path.join(d, name, "config.json"))), None)
        if folder is None:
            print(f"SKIP: {name}: reference checkpoint is absent")
        else:
            sources.append((name, folder, gate))
    for title, source, text in sources:
        name = os.path.basename(source)
        plain = quantize(quern, source, name, "gguf:F32,gguf:MXFP4_MOE", "--calibrate", "none")
        path, output = plain["MXFP4_MOE"]
        peer = os.path.join(SCRATCH, name + "-llama.gguf")
        quality.silently(quality.make_llama, plain["F32"][0], "MXFP4_MOE", peer)
        row = {"source": title, "bits_per_weight": output["bits_per_weight"], "rel_rmse": error_of_experts(output),
               "plain": quality.measure(quern, path, text, source), "peer": quality.measure(quern, peer, text, source)}
        path, _ = quantize(quern, source, name, "gguf:MXFP4_MOE", "--calibrate", "builtin")["MXFP4_MOE"]
        row["calibrated"] = quality.measure(quern, path, text, source)
        print(f"| {title} | {row['bits_per_weight']:.2f} | " + " | ".join(
            f"{row[k]['kld_mean']:.5f}" for k in ("peer", "plain", "calibrated")) +
            f" | {row['calibrated']['kld_mean'] / row['peer']['kld_mean']:.2f} | {100 * row['peer']['top1_agreement']:.1f} %, "
            f"{100 * row['calibrated']['top1_agreement']:.1f} % | {row['peer']['ppl_ratio']:.4f}, {row['calibrated']['ppl_ratio']:.4f} |", flush=True)
        yield row


def main():
    arguments = [a for a in sys.argv[1:] if a != "--record"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    quern = os.path.abspath(arguments[0])
    os.makedirs(SCRATCH, exist_ok=True)
    quality.GGUF["MXFP4_MOE"] = FILE_TYPE
    rows = list(rows_of(quern))
    if "--record" in sys.argv[1:]:
        version = subprocess.run([quern, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        with open(RECORD, "w", encoding="utf-8") as f:
            json.dump({"schema": "quern.quality-moe/1", "date": datetime.date.today().isoformat(), "quern": version,
                       "peers": {"llama.cpp": quality.versions_of_peers()["llama.cpp"]},
                       "command": "tools/peers/moe_quality.py --record build/quern", "rows": rows}, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
