#!/usr/bin/env python3
"""Records what llama.cpp and mlx-lm make of files that Quern wrote. usage: record.py BUILD/quern [CHECKPOINT...]

For every checkpoint: Quern quantizes it to all its formats; the peer of each format continues the prompts greedily (argmax, lowest id on ties);
the token ids go to tests/data/peers/CHECKPOINT.json, which tests/unit/test_peers.c compares with Quern, and docs/peers.md gets a row a file.
Both peers calculate as exactly as they can: KV cache in float32 and no flash attention for llama.cpp, scales and biases as float32 for mlx-lm
(their values are not changed by that).
"""
import datetime
import glob
import json
import os
import platform
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRATCH = os.path.join(ROOT, "build", "peers")
RECORDS = os.path.join(ROOT, "tests", "data", "peers")
GGUF_TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K"]
MLX_KINDS = ["4bit", "8bit"]
# Of the first checkpoint every type, with one prompt; the others show that the architectures are written right.
MORE = "-more"
MORE_GGUF_TYPES = ["Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_S", "Q4_1", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0",
                   "MXFP4_MOE"]
MORE_MLX_KINDS = ["2bit", "3bit", "5bit", "6bit", "4bit-g32", "mixed_4_6", "mixed_3_6", "mxfp4", "bf16"]
CHECKPOINTS = ["models/quern-coder-8m"] + [f"tests/data/goldens/hf/{n}" for n in (
    "qwen2_tied", "qwen2_untied_sharded", "qwen3", "qwen3_yarn", "llama3_rope", "codellama_mha", "mistral_headdim")]
N_GREEDY = 24
SMALL_GAP = 0.05  # a top-2 gap below this many standard deviations of the logits decides nothing


def prompts_of(source):
    """Token ids: the checkpoint's own reference prompts."""
    with open(os.path.join(ROOT, source, "golden.json"), encoding="utf-8") as f:
        golden = json.load(f)
    rows = golden.get("sequences") or golden.get("prompts")
    return [row["ids"] for row in rows]


def greedy_llama_cpp(path, prompts):
    import llama_cpp
    model = llama_cpp.Llama(path, n_ctx=512, n_batch=256, n_threads=2, n_threads_batch=2, verbose=False, logits_all=False, flash_attn=False,
                            type_k=0, type_v=0)  # 0 is float32
    n_vocab = model.n_vocab()

    def last_logits():
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), shape=(n_vocab,)).astype(np.float64)

    results = []
    for prompt in prompts:
        model.reset()
        model.eval(prompt)
        rows = []
        for _ in range(N_GREEDY):
            rows.append(last_logits())
            model.eval([int(rows[-1].argmax())])
        results.append(rows)
    return results


def greedy_mlx(path, prompts):
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model
    from pathlib import Path
    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(path))
    model.update(tree_map(lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters()))
    results = []
    for prompt in prompts:
        cache, rows, step = make_prompt_cache(model), [], prompt
        for _ in range(N_GREEDY):
            rows.append(np.array(model(mx.array([step]), cache=cache)[0, -1].astype(mx.float32)).astype(np.float64))
            step = [int(rows[-1].argmax())]
        results.append(rows)
    return results


def quern_logits(quern, path, sequences):
    """Quern's own rows for the same tokens: for each sequence (prompt, greedy ids) the rows that predict the greedy ids."""
    ids, out = os.path.join(SCRATCH, "ids.json"), os.path.join(SCRATCH, "logits.safetensors")
    with open(ids, "w", encoding="utf-8") as f:
        json.dump({"sequences": [prompt + greedy[:-1] for prompt, greedy in sequences]}, f)
    subprocess.run([quern, "logits", path, "--ids", ids, "-o", out, "--kv-type", "f32", "-q"], check=True, stdout=subprocess.DEVNULL)
    with open(out, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        data = f.read()
    results = []
    for i, (prompt, _) in enumerate(sequences):
        start, end = header[f"logits.{i}"]["data_offsets"]
        rows = np.frombuffer(data[start:end], dtype="<f4").reshape(header[f"logits.{i}"]["shape"]).astype(np.float64)
        results.append(rows[len(prompt) - 1:])
    return results


def unsure(row):
    """True if the two best logits are too close to decide anything."""
    top = np.partition(row, -2)[-2:]
    return bool(top[1] - top[0] < SMALL_GAP * row.std())


def compare(ours, theirs):
    """(tokens compared, what came out, largest rms difference over the std of the logits)."""
    compared, worst, verdict = 0, 0.0, "same"
    for prompt, (rows, peer_rows) in enumerate(zip(ours, theirs)):
        for i, (row, peer) in enumerate(zip(rows, peer_rows)):
            worst = max(worst, float(np.sqrt(np.mean((row - peer) ** 2)) / row.std()))
            if unsure(row):
                break
            if row.argmax() != peer.argmax():
                verdict = f"same until the peer's own close call (prompt {prompt}, token {i})" if unsure(peer) else "**differ**"
                break
            compared += 1
    return compared, verdict, worst


def files_of(folder):
    """(format, type, path, bytes) of all outputs of one quantize run, from its manifest."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    for output in manifest["outputs"]:
        yield output["format"], output["type"], os.path.join(folder, output["path"]), output["bytes"]


def write_record(name, source, versions, prompts, files):
    os.makedirs(RECORDS, exist_ok=True)
    with open(os.path.join(RECORDS, name + ".json"), "w", encoding="utf-8") as f:
        rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in files)
        f.write('{"schema":"quern.peers/1","source":%s,"versions":%s,"n_greedy":%d,\n "prompts":%s,\n "files":[\n%s]}\n' % (
            json.dumps(source), json.dumps(versions), N_GREEDY, json.dumps(prompts, separators=(",", ":")), rows))


def record(quern, source, versions, name, formats, prompts):
    folder = os.path.join(SCRATCH, "files", name)
    # As the library's defaults are, which the test uses; calibrated files have the same formats.
    subprocess.run([quern, "quantize", os.path.join(ROOT, source), "-o", folder, "--formats", ",".join(formats), "--calibrate", "none", "--gate", "off",
                    "-q"], check=True, stdout=subprocess.DEVNULL)
    files, log = [], []
    for (kind, type_name, path, size), asked in zip(files_of(folder), formats):
        peer = "llama.cpp" if kind == "gguf" else "mlx-lm"
        rows = (greedy_llama_cpp if kind == "gguf" else greedy_mlx)(path, prompts)
        greedy = [[int(row.argmax()) for row in sequence] for sequence in rows]
        compared, verdict, worst = compare(quern_logits(quern, path, list(zip(prompts, greedy))), rows)
        files.append({"format": asked, "peer": peer, "greedy": greedy,
                      "unsure": [[i for i, row in enumerate(sequence) if unsure(row)] for sequence in rows]})
        log.append(f"| {os.path.basename(source)} | {asked} | {size:,} | {peer} | {compared} of {len(prompts) * N_GREEDY} | {verdict} | {worst:.4f} |")
        print(log[-1], flush=True)
    write_record(name, source, versions, prompts, files)
    return log


def read_versions(quern):
    from importlib.metadata import version
    shown = subprocess.run([quern, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()
    return {"quern": shown, "llama-cpp-python": version("llama-cpp-python"), "mlx": version("mlx"), "mlx-lm": version("mlx-lm")}


def write_log(rows, versions):
    text = f"""# Other engines read our files

Written by `make peers` ({datetime.date.today().isoformat()}, {platform.machine()}); do not edit. {', '.join(f'{k} {v}' for k, v in versions.items())}.

Quern quantizes each checkpoint; llama.cpp loads every GGUF, mlx-lm every MLX folder, and continues the checkpoint's reference prompts by {N_GREEDY} tokens,
always the most likely one. The ids are kept in `tests/data/peers`, and `make test` compares Quern with them: the same tokens up to the first position
where Quern's two best logits are closer than {SMALL_GAP} standard deviations of the logits (there the engines' different rounding of activations decides:
llama.cpp and Quern round them to 8 bits in different blocks, mlx-lm not at all). A token that differs where the peer's own two best were as close ends
the comparison too, and is named below.

*decided*: tokens before that position, of all recorded. *rms*: the largest root mean square difference of a logit row, in standard deviations of the row.

| checkpoint | file | bytes | peer | decided | tokens | rms |
|---|---|---|---|---|---|---|
"""
    with open(os.path.join(ROOT, "docs", "peers.md"), "w", encoding="utf-8") as f:
        f.write(text + "\n".join(rows) + "\n")


def main():
    quern, wanted = sys.argv[1], sys.argv[2:] or CHECKPOINTS
    versions = read_versions(quern)
    usual = [f"gguf:{t}" for t in GGUF_TYPES] + [f"mlx:{k}" for k in MLX_KINDS]
    rows = []
    for source in wanted:
        name, prompts = os.path.basename(source), prompts_of(source)
        rows += record(quern, source, versions, name, usual, prompts)
        if source == CHECKPOINTS[0]:
            more = [f"gguf:{t}" for t in MORE_GGUF_TYPES] + [f"mlx:{k}" for k in MORE_MLX_KINDS]
            rows += record(quern, source, versions, name + MORE, more, prompts[:1])
    if wanted == CHECKPOINTS:
        kept = {os.path.join(RECORDS, os.path.basename(c) + ".json") for c in wanted + [CHECKPOINTS[0] + MORE]}
        for stale in set(glob.glob(os.path.join(RECORDS, "*.json"))) - kept:
            os.remove(stale)
        write_log(rows, versions)
    return 1 if any("differ" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
