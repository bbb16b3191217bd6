#!/usr/bin/env python3
"""Every command's --json: one document on stdout and nothing else, of the form scripts rely on; failures too."""
import csv
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import struct
import tempfile

from cli_helper import COUNT, GOLDENS, MODEL, POSITIVE, ROOT, Checks, Number, document, problems, run

ERROR = {"schema": "quern.error/1", "error": {"status": str, "message": str, "exit_code": COUNT}}
RATE = (POSITIVE, None)
TIMINGS = {"load_s": POSITIVE, "ttft_ms": POSITIVE, "prefill_tokens_per_s": RATE, "decode_tokens_per_s": RATE, "total_ms": POSITIVE}
MEMORY = {"weights_mapped": COUNT, "kv": COUNT, "activations": COUNT, "prefix": COUNT, "tokenizer": (COUNT, None), "other": (COUNT, None)}
READ_IN = {"bytes": COUNT, "cold_bytes": COUNT, "moved_bytes": COUNT, "seconds": Number(low=0), "skipped": bool}
RUN = {"schema": "quern.run/1", "model": str, "prompt_tokens": COUNT, "completion_tokens": COUNT, "text": str, "token_ids": [COUNT],
       "finish_reason": ("stop", "length", "tool_calls", "cancelled"), "seed": COUNT, "timings": TIMINGS, "memory": MEMORY,
       "read_in": READ_IN, "peak_rss_bytes": POSITIVE}
MACHINE = {"cpu": str, "read_bandwidth_bytes_per_s": RATE, "cached_bandwidth_bytes_per_s": RATE, "mapped_bandwidth_bytes_per_s": RATE,
           "peak_ops_per_s": {"fma_f32": RATE, "avx2_int8": RATE, "vnni_int8": RATE, "amx_int8": RATE, "amx_bf16": RATE, "neon_int8": RATE, "i8mm_int8": RATE}}
TRUST = {"spread": (Number(low=0), None), "ratio_refused": ("samples_differ", "limits_differ", "no_limit", "not_measured", None), "ratio_doubt": ("one_sample", None)}
LIMIT = {"bound": (str, None), "bound_besides": ("fma_f32", None), "limit_drift": (Number(0, 1), None), "limit_before": RATE, "limit_after": RATE, "fraction_of_limit": (Number(0, 1.05), None), **TRUST}  # no more than all, but for noise
BENCH = {"schema": "quern.bench/1", "spread_max": Number(0.1, 0.1), "drift_max": Number(0.1, 0.1), "model": str, "params": POSITIVE, "bytes": POSITIVE, "threads": POSITIVE, "isa": str, "load_s": POSITIVE, "read_in": READ_IN,
         "prefill": [{"n": COUNT, "tokens_per_s": POSITIVE, "samples": [POSITIVE], "operations": POSITIVE, "attention_operations": POSITIVE, "unit": (str, None), "fraction_of_peak": (Number(low=0), None), "cost_per_million_tokens": RATE, **LIMIT}],
         "decode": [{"depth": COUNT, "n": COUNT, "tokens_per_s": POSITIVE, "samples": [POSITIVE], "bytes_per_token": POSITIVE,
                     "fraction_of_bandwidth": (Number(low=0), None), "cost_per_million_tokens": RATE, **LIMIT}],
         "batch": [{"parallel": COUNT, "tokens_per_s": POSITIVE, "samples": [POSITIVE], "latency_ms_p50": POSITIVE, "latency_ms_p99": POSITIVE,
                    "latency_samples": POSITIVE, "bytes_per_step": POSITIVE, "operations_per_step": POSITIVE, "unit": (str, None), "fraction_of_bandwidth": (Number(low=0), None),
                    "fraction_of_peak": (Number(low=0), None), "cost_per_million_tokens": RATE, **LIMIT}],
         "replay": [{"name": str, "prompt_tokens": POSITIVE, "n": POSITIVE, "tokens_per_s": RATE, "samples": ([POSITIVE], None), "tokens_per_s_plain": RATE,
                     "samples_plain": ([POSITIVE], None), "gain": (POSITIVE, None), "steps": COUNT, "guessed": COUNT, "right": COUNT,
                     "cost_per_million_tokens": RATE, "spread_plain": (Number(low=0), None), **TRUST}],
         "ttft_ms": (POSITIVE, None), "machine": MACHINE, "cpu_utilization": Number(low=0), "energy_j": RATE,
         "memory": {**MEMORY, "mapped_resident": (COUNT, None), "private_resident": (COUNT, None)}, "peak_rss_bytes": POSITIVE, "cost": ({"price_per_hour": POSITIVE, "prefill_per_million_tokens": RATE, "decode_per_million_tokens": RATE,
                   "batch": [{"parallel": POSITIVE, "per_million_tokens": RATE}]}, None)}
OUTPUT = {"format": ("gguf", "mlx"), "type": str, "path": str, "files": [{"path": str, "bytes": COUNT, "sha256": str}], "bytes": POSITIVE,
          "bits_per_weight": POSITIVE,
          "tensors": [{"name": str, "type": str, "shape": [COUNT], "rel_rmse": (Number(low=0), None), "max_abs_error": (Number(low=0), None)}],
          "quality": (dict, None), "gate": {"policy": str, "verdict": ("pass", "lossy", "fail", "skipped", "unreadable"), "reasons": [str], "suspect_tensors": [str]}}
MANIFEST = {"schema": "quern.manifest/1", "created": str, "quern_version": str,
            "source": {"name": str, "format": str, "architecture": str, "parameters": POSITIVE, "files": [{"path": str, "bytes": COUNT, "sha256": str}]},
            "calibration": (dict, None), "outputs": [OUTPUT]}
PPL = {"suite": ("ppl", "kld"), "n_ctx": COUNT, "chunks": POSITIVE, "tokens": POSITIVE, "ppl": POSITIVE, "ppl_error": POSITIVE, "nll": POSITIVE,
       "bits_per_byte": POSITIVE, "arithmetic": ("as_run", "f32_activations"), "weights": str, "kv_type": ("f32", "f16", "q8_0")}
EVAL = {"schema": "quern.eval/1", "model": str, "suites": [PPL]}
KLD = ("kld_mean", "kld_median", "kld_p90", "kld_p99", "kld_p999", "kld_max", "top1_agreement", "delta_p_mean", "delta_p_rms", "ppl_ratio")
DOCTOR = {"schema": "quern.doctor/1", "n_cpus": POSITIVE, "memory_nodes": [{"id": COUNT, "n_cpus": POSITIVE}], "isa": {"available": [str], "chosen": str}, "bandwidth": dict, "sandbox": {"tier": (str, None), "why": str},
          "optional": dict}
HELP = {"schema": "quern.help/1", "version": str,
        "commands": [{"name": str, "synopsis": str, "summary": str, "example": str, "available": bool,
                      "options": [{"name": str, "short": (str, None), "value": (str, None), "help": str}]}]}
TOOL = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text if isinstance(text, str) else json.dumps(text))
    return path


def check_run(checks, folder):
    done = run("run", MODEL, "Write a Python function that adds two numbers.", "--temp", "0", "-n", "24", "--json")
    checks.exit_code(done, 0, "run")
    doc = document(checks, done, RUN, "run")
    checks.that(doc and doc["completion_tokens"] == len(doc["token_ids"]) <= 24, "run: as many ids as tokens")
    checks.that(doc and doc["prompt_tokens"] > 5 and doc["text"].strip(), "run: a prompt and an answer")
    again = json.loads(run("run", "-m", MODEL, "--json", "--temp", "0", "-n24", stdin=b"Write a Python function that adds two numbers.\n").stdout)
    checks.that(doc and again["token_ids"] == doc["token_ids"], "run: the prompt over stdin gives the same answer")
    seeded = [json.loads(run("run", MODEL, "Write code.", "--temp", "1.5", "--seed", "7", "-n", "16", "--json").stdout) for _ in range(2)]
    checks.that(seeded[0]["token_ids"] == seeded[1]["token_ids"] and seeded[0]["seed"] == 7, "run: the same seed gives the same text")
    messages = write(folder, "messages.json", [{"role": "user", "content": "Hello"}])
    done = run("run", MODEL, "--messages", messages, "--system", "Be brief.", "--stop", "\n", "-n", "8", "--json")
    doc = document(checks, done, RUN, "run --messages")
    checks.that(doc and "\n" not in doc["text"], "run: the stop string is no part of the text")


def check_chat(checks):
    done = run("chat", MODEL, "--temp", "0", "-n", "16", "--json", stdin=b"Write a function.\n/system Be brief.\nAgain.\n")
    checks.exit_code(done, 0, "chat")
    turn = {"prompt_tokens": COUNT, "reused_tokens": COUNT, "completion_tokens": COUNT, "text": str, "token_ids": [COUNT], "finish_reason": str, "seed": COUNT}
    doc = document(checks, done, {"schema": "quern.chat/1", "model": str, "messages": [{"role": str, "content": str}], "turns": [turn], "memory": MEMORY}, "chat")
    checks.that(doc and [m["role"] for m in doc["messages"]] == ["system", "user", "assistant", "user", "assistant"], "chat: roles in order")


def check_text(checks, folder):
    done = run("tokenize", MODEL, "def f():\n    return 1<|im_end|>", "--json")
    doc = document(checks, done, {"schema": "quern.tokenize/1", "ids": [COUNT]}, "tokenize")
    plain = document(checks, run("tokenize", MODEL, "--no-special", "def f():\n    return 1<|im_end|>", "--json"), {"ids": [COUNT]}, "tokenize --no-special")
    checks.that(doc and plain and doc["ids"][-1] == 8179 and 8179 not in plain["ids"], "tokenize: special tokens are parsed unless told not to")
    rows = write(folder, "rows.jsonl", '{"text": "a<|im_end|>b"}\n{"text": ""}\n')
    lines = run("tokenize", MODEL, "--jsonl", rows).stdout.decode().splitlines()
    parsed = [json.loads(line) for line in lines]
    checks.that(len(parsed) == 2 and 8179 in parsed[0]["ids"] and 8179 not in parsed[0]["ids_no_special"] and parsed[1]["ids"] == [],
                "tokenize --jsonl: a line out for each line in", lines)
    messages = write(folder, "messages.json", [{"role": "user", "content": "Hi <|im_end|>"}])
    doc = document(checks, run("template", MODEL, "--messages", messages, "--tools", write(folder, "tools.json", TOOL), "--json"),
                   {"schema": "quern.template/1", "prompt": str, "ids": [COUNT]}, "template")
    checks.that(doc and doc["prompt"].endswith("<|im_start|>assistant\n"), "template: the assistant's turn is open")
    checks.that(doc and doc["prompt"].count("<|im_end|>") == doc["ids"].count(8179) + 1, "template: a user's <|im_end|> is no control token")
    template = write(folder, "t.jinja", "{% if bad is defined %}{{ raise_exception('no ' ~ bad) }}{% endif %}{{ bos_token }}{{ names | join(', ') }}")
    good = run("template", "--template-file", template, "--context", write(folder, "c.json", {"bos_token": "<s>", "names": ["a", "b"]}), "--json")
    doc = document(checks, good, {"prompt": str}, "template --template-file")
    checks.that(doc and doc["prompt"] == "<s>a, b", "template --template-file: the prompt", doc)
    bad = run("template", "--template-file", template, "--context", write(folder, "c.json", {"bad": "names"}), "--json")
    checks.exit_code(bad, 3, "template: raise_exception")
    doc = document(checks, bad, ERROR, "template: raise_exception")
    checks.that(doc and "no names" in doc["error"]["message"] and b"no names" in bad.stderr, "template: the template's own message")


def check_calibrated(checks, folder):
    """A tiny model: the sanitizers make reading a text dear."""
    text = os.path.join(folder, "text.py")
    with open(os.path.join(ROOT, "models", "texts", "calibration.txt"), "rb") as source, open(text, "wb") as f:
        f.write(source.read(20000))
    done = run("quantize", os.path.join(GOLDENS, "hf", "qwen3"), "-o", os.path.join(folder, "tiny"), "--formats", "mlx:4bit", "--calibrate", text, "--json")
    doc = document(checks, done, MANIFEST, "quantize --calibrate")
    found = doc and doc["calibration"]
    checks.that(found and found["from"] == "text" and found["tokens"] > 0 and found["experts_without_data"] == [], "quantize: calibrated", found)


def check_files(checks, folder):
    out = os.path.join(folder, "out")
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:Q8_0,mlx:4bit", "--json")
    checks.exit_code(done, 0, "quantize")
    doc = document(checks, done, MANIFEST, "quantize")
    with open(os.path.join(out, "manifest.json"), encoding="utf-8") as f:
        checks.that(doc == json.load(f), "quantize: stdout is manifest.json")
    for output in doc["outputs"] if doc else []:
        checks.that(all(os.path.getsize(os.path.join(out, f["path"])) == f["bytes"] for f in output["files"]), "quantize: files as long as announced")
    checks.that(doc and doc["calibration"] is None, "quantize: not calibrated when told not to", doc and doc["calibration"])
    check_calibrated(checks, folder)
    before = sorted(os.listdir(folder))
    done = run("quantize", MODEL, "--dry-run", "--formats", "gguf:Q4_K_M", "--json", cwd=folder)
    document(checks, done, {"outputs": [{"format": str, "type": str, "bytes": POSITIVE, "bits_per_weight": POSITIVE}]}, "quantize --dry-run")
    checks.that(sorted(os.listdir(folder)) == before, "quantize --dry-run writes nothing")
    gguf = os.path.join(out, doc["outputs"][0]["path"]) if doc else MODEL
    for path in (gguf, MODEL, os.path.join(MODEL, "config.json"), os.path.join(MODEL, "tokenizer.json"), os.path.join(out, "manifest.json")):
        document(checks, run("inspect", path, "--json"), {"schema": "quern.inspect/1"}, f"inspect {os.path.basename(path)}")
    document(checks, run("inspect", gguf, "--tensors", "--metadata", "--check", "--json"), {"schema": "quern.inspect/1"}, "inspect --tensors --metadata --check")
    logits = os.path.join(folder, "l.safetensors")
    done = run("logits", MODEL, "--ids", "-", "-o", logits, "--json", stdin=b'{"sequences":[[1,2,3],[4]]}')
    doc = document(checks, done, {"schema": "quern.logits/1", "n_positions": COUNT, "kv_type": "f32", "isa": str, "bytes": POSITIVE}, "logits")
    checks.that(doc and doc["n_positions"] == 4 and os.path.getsize(logits) == doc["bytes"], "logits: four positions in a file as long as announced")
    done = run("logits", MODEL, "--ids", "-", "-o", logits + ".q8_0", "--kv-type", "q8_0", "--json", stdin=b'{"sequences":[[1,2,3],[4]]}')
    document(checks, done, {"schema": "quern.logits/1", "kv_type": ("q8_0",)}, "logits with q8_0 caches")
    done = run("run", os.path.join(GOLDENS, "hf", "codellama_mha"), "x", "--raw", "--kv-type", "q8_0", "--json")
    checks.exit_code(done, 2, "run: heads of 16 in q8_0 caches")
    refused = document(checks, done, ERROR, "run: heads of 16 in q8_0 caches")
    checks.that(refused and "multiple of 32, not 16" in refused["error"]["message"], "run: q8_0 caches say what they need", refused)
    with open(logits, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    checks.that(header["logits.0"]["shape"] == [3, 8192] and header["logits.1"]["shape"] == [1, 8192] and header["logits.0"]["dtype"] == "F32",
                "logits: tensors and shapes", header)
    return gguf


def fp8_folder(folder):
    """A golden model whose matrices are FP8 codes in blocks of 128 x 128: for speed, what they stand for does not matter."""
    target = os.path.join(folder, "fp8")
    shutil.copytree(os.path.join(GOLDENS, "hf", "qwen3"), target)
    path = os.path.join(target, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    write(target, "config.json", config)
    path = os.path.join(target, "model.safetensors")
    with open(path, "rb") as f:
        tensors = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start = f.tell()
        parts, header, at = [], {}, 0
        for name, t in tensors.items():
            if name == "__metadata__":
                continue
            f.seek(start + t["data_offsets"][0])
            new = [(name, t["dtype"], t["shape"], f.read(t["data_offsets"][1] - t["data_offsets"][0]))]
            if name.endswith("_proj.weight"):
                rows, cols = t["shape"]
                grid = [-(-rows // 128), -(-cols // 128)]
                new = [(name, "F8_E4M3", t["shape"], bytes([0x20, 0xA0, 0x28, 0xA8]) * (rows * cols // 4)),
                       (name + "_scale_inv", "F32", grid, struct.pack("<f", 0.125) * (grid[0] * grid[1]))]
            for key, dtype, shape, data in new:
                header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
                parts.append(data)
                at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(parts))
    return target


def check_machine(checks, folder, gguf):
    doc = document(checks, run("bench", gguf, "-p", "16,32", "-n", "4", "-d", "0,64", "-r", "2", "--parallel", "1,2", "--no-machine", "--json"), BENCH, "bench")
    checks.that(doc and [p["n"] for p in doc["prefill"]] == [16, 32] and [d["depth"] for d in doc["decode"]] == [0, 64], "bench: lists are kept")
    checks.that(doc and all(len(p["samples"]) == 2 for p in doc["prefill"] + doc["decode"] + doc["batch"]), "bench: -r samples")
    checks.that(doc and all(math.isclose(p["tokens_per_s"], statistics.median(p["samples"]), rel_tol=1e-4) for p in doc["prefill"] + doc["decode"] + doc["batch"]),
                "bench: medians of the samples")
    checks.that(doc and doc["machine"]["read_bandwidth_bytes_per_s"] is None, "bench --no-machine: what was not measured is null")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # as by taskset
    try:
        doc = document(checks, run("bench", gguf, "-p", "16", "-n", "0", "-r", "1", "--parallel", "0", "--no-machine", "--json"), BENCH, "bench on one processor")
    finally:
        os.sched_setaffinity(0, allowed)
    checks.that(doc and doc["threads"] == 1, "bench: one thread where one processor is allowed", doc)
    sizes, memory = {}, {}
    for kv in ("f16", "q8_0"):
        doc = document(checks, run("bench", gguf, "-p", "16", "-n", "1", "-d", "0,64", "-r", "1", "--parallel", "0", "--no-machine", "--kv-type", kv, "--json"), BENCH, f"bench {kv}")
        memory[kv] = doc["memory"] if doc else {}
        checks.that(doc and doc["memory"]["weights_mapped"] == doc["bytes"] and 0 < doc["memory"]["private_resident"] <= doc["peak_rss_bytes"]
                    and 0 < doc["memory"]["mapped_resident"] <= doc["peak_rss_bytes"], f"bench {kv}: memory by part", doc)
        sizes[kv] = doc and doc["kv_type"] == kv and doc["decode"][1]["bytes_per_token"] - doc["decode"][0]["bytes_per_token"]
    checks.that(sizes["f16"] and sizes["q8_0"] * 32 == sizes["f16"] * 17, "bench: q8_0 caches are 17/32 of float16 ones", sizes)
    checks.that(memory["f16"] and memory["q8_0"]["kv"] * 32 == memory["f16"]["kv"] * 17 and memory["q8_0"]["activations"] == memory["f16"]["activations"] > 0,
                "bench: memory of the cache and of buffers", memory)
    doc = document(checks, run("bench", gguf, "-p", "16", "-n", "4", "-r", "1", "--parallel", "0", "--price-per-hour", "2", "--json"), BENCH, "bench, measured")
    checks.that(doc and doc["machine"]["read_bandwidth_bytes_per_s"] and doc["decode"][0]["limit_after"] and doc["cost"], "bench: limits and cost")
    doc = document(checks, run("doctor", "--json"), DOCTOR, "doctor")
    checks.that(doc and doc["bandwidth"]["mapped_bytes_per_s"] is None and doc["bandwidth"]["mapped_page_layout_cost"] is None, "doctor: no model, no mapping")
    checks.that(doc and doc["isa"]["chosen"] in doc["isa"]["available"] and "scalar" in doc["isa"]["available"], "doctor: the chosen set is available")
    available = doc["isa"]["available"] if doc else []
    weaker = "avx2" if "avx2" in available else "scalar"
    for model, weights, bound in ((gguf, None, "avx2_int8" if weaker == "avx2" else None), (fp8_folder(folder), "F8_E4M3", "fma_f32")):
        doc = document(checks, run("bench", model, "-p", "8", "-n", "0", "-r", "1", "--parallel", "0", "--isa", weaker, "--json"), BENCH, f"bench --isa {weaker}")
        peaks = doc["machine"]["peak_ops_per_s"] if doc else {}
        checks.that(doc and weights in (None, doc["weights"]) and doc["prefill"][0]["unit"] == bound and (bound is not None or doc["prefill"][0]["fraction_of_peak"] is None),
                    f"bench --isa {weaker}: the bound", doc)
        checks.that(doc and doc["machine"]["read_isa"] == available[-1], f"bench --isa {weaker}: memory is read by the best instruction set", doc)
        checks.that(peaks.get("fma_f32") and all(peaks[unit] is None for unit in ("vnni_int8", "amx_int8", "neon_int8", "i8mm_int8")), f"bench --isa {weaker}: no peaks of units that it lacks", peaks)
    for lacking in [isa for isa in ("avx2", "amx", "neon", "i8mm") if isa not in available]:
        done = run("run", MODEL, "-p", "x", "-n", "1", "--isa", lacking)
        checks.that(done.returncode == 2 and done.stdout == b"" and lacking in done.stderr.decode() and available[-1] in done.stderr.decode(), f"run --isa {lacking}, which this machine lacks", done.stderr)
    done = run("doctor", "--isa", weaker)
    rows = {line[0]: line[1:] for line in (re.split("  +", text) for text in done.stdout.decode().splitlines())}
    for name, unit, absent in (("int8", "avx512vnni", "no VNNI"), ("int8 tiles", "amx", "no AMX")):
        checks.that(rows.get(name) == ["-", f"not with {weaker}" if unit in available else absent], f"doctor --isa {weaker}: {name} and why there is no figure", rows)
    settings = os.path.join(folder, "settings", "quern")
    os.makedirs(settings)
    write(settings, "config", "isa = scalar\n")
    doc = document(checks, run("doctor", "--json", XDG_CONFIG_HOME=os.path.dirname(settings)), DOCTOR, "doctor with settings")
    checks.that(doc and doc["isa"]["chosen"] == "scalar" and doc["peak_ops_per_s"]["vnni_int8"] is None, "doctor: the instruction set of the settings", doc)
    checks.that(doc and doc["bandwidth"]["isa"] == doc["isa"]["available"][-1] and doc["bandwidth"]["one_thread_above_all"] in (True, False), "doctor: memory is read by the best instruction set", doc)


def check_one_token(checks, folder, flags):
    """The first token comes with the prompt: an answer of one has no speed."""
    one = write(folder, "one.json", {"texts": [{"prompt": "x", "answer": "y"}]})
    for ending in ("csv", "md"):
        page = os.path.join(folder, "one." + ending)
        doc = document(checks, run("bench", MODEL, "--replay", one, *flags, "--json", "-o", page), BENCH, "bench --replay, one token")
        checks.that(doc and doc["replay"][0]["n"] == 1 and all(doc["replay"][0][k] is None for k in ("tokens_per_s", "tokens_per_s_plain", "samples", "samples_plain", "gain")),
                    "bench --replay, one token: null, not a figure", doc)
        rows = [line for line in open(page, encoding="utf-8").read().splitlines() if re.search(r"\breplay\b", line)]
        wanted = "| replay: answer | 1 | - | 1 | - | - | - | - | - | - |" if ending == "md" else ',replay,1,,1,,,,,,"","","answer",,not_measured,'
        checks.that(len(rows) == 1 and rows[0].endswith(wanted), f"bench --replay, one token, -o .{ending}: no figure", rows)
    done = run("bench", MODEL, "--replay", one, *flags)
    rows = [line.split() for line in done.stdout.decode().splitlines() if line.startswith("answer ")]
    checks.that(len(rows) == 1 and rows[0][1:4] == ["-"] * 3, "bench --replay, one token: no figure in the table", done.stdout)


def check_bench_replay(checks, folder):
    """Answers that are known, and files that hold none."""
    flags = ("-p", "0", "-n", "0", "--parallel", "0", "-r", "2", "--no-machine")
    code = "def area(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('negative')\n    return width * height\n\n\n" * 2
    texts = [{"name": "again", "prompt": "Return this unchanged:\n" + code, "answer": code}, {"name": "new", "prompt": "Count", "answer": "1 2 3 5 8"}]
    coding = write(folder, "known.json", json.dumps({"texts": texts}))
    doc = document(checks, run("bench", MODEL, "--replay", coding, *flags, "--json"), BENCH, "bench --replay")
    checks.that(doc and [r["name"] for r in doc["replay"]] == [t["name"] for t in texts] and all(len(r["samples"]) == len(r["samples_plain"]) == 2 for r in doc["replay"]),
                "bench --replay: a result a text")
    checks.that(doc and all(r["right"] <= r["guessed"] and r["steps"] + r["right"] == r["n"] - 1 for r in doc["replay"]), "bench --replay: every token is a step or a guess", doc)
    short = write(folder, "short.json", json.dumps({"texts": [{"name": str(i), "prompt": "Count", "answer": "1 2"} for i in range(16)]}))
    names = write(folder, "names.json", json.dumps({"texts": [{"name": '=1+"a|b"', "prompt": "Count", "answer": "1 2"}]}))
    for ending, wanted in (("csv", '"\'=1+""a|b"""'), ("md", "| replay: =1+&#34;a\\|b&#34; |")):
        page = os.path.join(folder, "names." + ending)
        checks.exit_code(run("bench", MODEL, "--replay", names, *flags, "-o", page), 0, f"bench --replay -o names.{ending}")
        checks.that(wanted in open(page, encoding="utf-8").read(), f"bench --replay -o .{ending}: a name is quoted", open(page, encoding="utf-8").read())
    for ending in ("csv", "md"):  # answers of so few tokens that their times differ widely, mostly
        page = os.path.join(folder, "replay." + ending)
        doc = document(checks, run("bench", MODEL, "--replay", short, *flags[:-2], "8", "--no-machine", "--json", "-o", page), BENCH, f"bench --replay -o .{ending}")
        steady = [all((max(s) - min(s)) / 2 / statistics.median(s) <= 0.1 for s in (r["samples"], r["samples_plain"])) for r in doc["replay"]] if doc else []
        checks.that(doc and [r["gain"] is not None for r in doc["replay"]] == steady, "bench --replay: no gain where samples differ too much", doc)
        rows = [line for line in open(page, encoding="utf-8").read().splitlines() if re.search(r"\breplay\b", line)]
        checks.that([" x without guesses" in line for line in rows] == steady, f"bench --replay -o .{ending}: a row a text, with its gain", rows)
        checks.that(ending == "csv" or ["samples differ too much" in line for line in rows] == [not s for s in steady], "bench --replay -o .md: says why", rows)
    check_one_token(checks, folder, flags)
    for text, told in (("{", b"bad.json"), ('{"texts": []}', b"texts"), ('{"texts": [{"prompt": "a", "answer": ""}]}', b"answer"), ('{"texts": [3]}', b"prompt")):
        bad = run("bench", MODEL, "--replay", write(folder, "bad.json", text), *flags)
        checks.exit_code(bad, 3, f"bench --replay: {text}")
        checks.that(told in bad.stderr, f"bench --replay: what is wrong with {text}", bad.stderr)
    checks.exit_code(run("bench", MODEL, "--replay", coding, "-c", "64", *flags), 4, "bench --replay: a context that is too small")


def spread(result):
    return (max(result["samples"]) - min(result["samples"])) / 2 / statistics.median(result["samples"])


def refusal(doc, r):
    """Why a measurement has no share of its limit, as its own figures say it; None if it has one."""
    return "no_limit" if r["bound"] is None else "samples_differ" if r["spread"] and r["spread"] > doc["spread_max"] else "limits_differ" if r["limit_drift"] > doc["drift_max"] else None


def check_bench_trust(checks, folder, gguf):
    """Every speed has its share of the limit that binds it, unless its samples or the limits before and after differ too much; then the output says so, by how
    much, and where the bound is."""
    page = os.path.join(folder, "trust.md")
    flags = ["-p", "8", "-n", "32", "--parallel", "1,3,64"]
    doc = document(checks, run("bench", gguf, *flags, "-r", "3", "--json"), BENCH, "bench, shares")
    if doc:
        for r in doc["prefill"] + doc["decode"] + doc["batch"]:
            checks.that(math.isclose(r["spread"], spread(r), abs_tol=1e-5) and r["ratio_doubt"] is None, "bench: spread of the samples", r)
            checks.that(r["ratio_refused"] == refusal(doc, r) and (r["fraction_of_limit"] is None) == (r["ratio_refused"] is not None), "bench: a share, or why there is none", r)
        one, three, many = doc["batch"]
        checks.that(one["bytes_per_step"] == doc["decode"][0]["bytes_per_token"], "bench: one sequence reads what a decoded token reads", doc)
        per_sequence = (three["bytes_per_step"] - one["bytes_per_step"]) / 2
        checks.that(abs(many["bytes_per_step"] - one["bytes_per_step"] - 63 * per_sequence) <= 64 and 0 < per_sequence < one["bytes_per_step"] / 2, "bench: weights once, keys and values of every sequence", doc["batch"])
        checks.that(many["operations_per_step"] == 64 * one["operations_per_step"] > 100 * doc["params"], "bench: operations of every sequence, the head's too", doc["batch"])
        checks.that(all(r["latency_samples"] == 96 for r in doc["batch"]), "bench: how many steps the latencies are of", doc["batch"])
        for r in doc["batch"]:
            reads = (r["bound"] or "").endswith("bandwidth")
            checks.that(r["ratio_refused"] or r["fraction_of_peak" if reads else "fraction_of_bandwidth"] is None, "bench: sequences together have the share of what binds", r)
            if reads and not r["ratio_refused"]:
                shares = sorted(r["bytes_per_step"] / limit * r["tokens_per_s"] / r["parallel"] for limit in (r["limit_before"], r["limit_after"]))
                checks.that(shares[0] * 0.999 <= r["fraction_of_limit"] <= shares[1] * 1.001, "bench: the share is that of the limit before or after", (r, shares))
        for r in doc["decode"]:
            checks.that(r["bound"] != "read_bandwidth" or r["fraction_of_bandwidth"] == r["fraction_of_limit"], "bench: a decoded token's share", r)
        for r in doc["prefill"]:  # attention has a share of the time too
            checks.that(r["ratio_refused"] or r["fraction_of_peak"] is None or r["fraction_of_peak"] < r["fraction_of_limit"] * 1.1 and r["attention_operations"] < r["operations"], "bench: a prompt's operations", r)
    done = run("bench", gguf, "-p", "0", "-n", "1", "--parallel", "2", "-r", "1", "-o", page)
    text = done.stdout.decode()
    lines = [line for line in text.splitlines() if line.startswith(("decode 1 ", "2 sequences together "))]
    checks.that(len(lines) == 2 and all(re.search(r" - +(\d+ % of |limit changed meanwhile)", line) for line in lines), "bench -r 1: the share is still told", text)
    checks.that("one sample tells nothing of the spread" in text and "-r 3" in text and "One sample (-r 1)" in open(page, encoding="utf-8").read(), "bench -r 1: that one sample tells nothing", text)
    doc = document(checks, run("bench", gguf, "-p", "0", "-n", "1", "--parallel", "2", "-r", "1", "--json"), BENCH, "bench -r 1")
    checks.that(doc and all(r["ratio_doubt"] == "one_sample" and r["spread"] is None and r["ratio_refused"] == refusal(doc, r)
                            and (r["fraction_of_limit"] is None) == (r["ratio_refused"] is not None) for r in doc["decode"] + doc["batch"]),
                "bench -r 1: a share, and what is to be doubted of it", doc)
    done = run("bench", gguf, "-p", "0", "-n", "1", "--parallel", "0", "-r", "64", "-o", page)  # single tokens of a small model: hardly ever within 10 %
    text, written = done.stdout.decode(), open(page, encoding="utf-8").read()
    differ = re.search(r"^samples differ too much: \+- .* is up to ([0-9.]+) %; shares and gains are given up to 10 %$", text, re.M)
    measured = re.search(r"^decode 1 +\S+ +([0-9.]+) %", text, re.M)
    checks.that(measured and (float(measured[1]) > 10) == bool(differ) == ("samples differ too much" in written) and (not differ or differ[1] == measured[1]), "bench: samples that differ: by how much, and the bound", text)
    checks.that("at most 10 %" in written and "one sample" not in text + written.lower(), "bench -o .md: the bound", written)
    doc = document(checks, run("bench", gguf, "-p", "8", "-n", "2", "--parallel", "1", "--no-machine", "--json"), BENCH, "bench --no-machine")
    checks.that(doc and all(r["ratio_refused"] == "no_limit" for k in ("prefill", "decode", "batch") for r in doc[k]) and doc["batch"][0]["bound"] is None, "bench --no-machine: why there is no share", doc)
    checks.that(b"at most 10 %" in run("help", "bench").stdout, "help bench: the bound")


def check_bench_reports(checks, folder, gguf):
    flags = ["-p", "8,16", "-n", "2", "-d", "0,32", "-r", "2", "--parallel", "1,3", "--no-machine"]
    paths = {ending: os.path.join(folder, "speed." + ending) for ending in ("csv", "md", "json")}
    for path in paths.values():
        done = run("bench", gguf, *flags, "--price-per-hour", "3.6", "-o", path)
        checks.that(done.returncode == 0 and os.path.isfile(path), f"bench -o {os.path.basename(path)}", done.stderr)
    with open(paths["csv"], encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    checks.that([r["measurement"] for r in rows] == ["prefill"] * 2 + ["decode"] * 2 + ["together"] * 2, "bench -o .csv: a row a measurement", rows)
    checks.that([r["sequences"] for r in rows] == ["1"] * 5 + ["3"] and [r["depth"] for r in rows] == ["", "", "0", "32", "", ""], "bench -o .csv: columns", rows)
    checks.that(all(len(r["samples"].split()) == 2 and r["spread"] for r in rows) and all(float(r["tokens_per_s"]) > 0 for r in rows), "bench -o .csv: samples")
    checks.that(all(math.isclose(float(r["cost_per_million_tokens"]), 1000 / float(r["tokens_per_s"]), rel_tol=1e-4) and r["name"] == "" for r in rows), "bench -o .csv: costs", rows)
    doc = json.load(open(paths["json"], encoding="utf-8"))
    checks.that([c["parallel"] for c in doc["cost"]["batch"]] == [1, 3] and
                all(math.isclose(c["per_million_tokens"], 1000 / b["tokens_per_s"], rel_tol=1e-4) for c, b in zip(doc["cost"]["batch"], doc["batch"])), "bench -o .json: costs of sequences", doc["cost"])
    checks.that(all(math.isclose(r["cost_per_million_tokens"], 1000 / r["tokens_per_s"], rel_tol=1e-4) for rows in ("prefill", "decode", "batch") for r in doc[rows]), "bench -o .json: a row's cost", doc)
    said = [line for line in done.stdout.decode().splitlines() if line.startswith("a million tokens cost ")]
    checks.that(len(said) == 1 and all(of in said[0] for of in ("to read", "to write", "with 1 sequence", "with 3 sequences together")), "bench: costs", said)
    checks.that(said and all(("differ too much" in part) == (s > 0.1) for part, s in zip(said[0].split(", "), map(spread, (doc["prefill"][0], doc["decode"][0], *doc["batch"])))), "bench: costs of samples that differ", said)
    page = open(paths["md"], encoding="utf-8").read()
    table = [line for line in page.splitlines() if line.startswith("|")]
    checks.that("cost of 10^6 tokens" in table[0] and "at 3.6 an hour" in page and re.search(r"Memory: weights [^;]+; KV cache [^;]+; buffers ", page), "bench -o .md: costs and memory", page)
    checks.that(len(table) == 8 and len({line.count("|") for line in table}) == 1, "bench -o .md: a table with a row a measurement", page)
    drawn = shutil.which("gnuplot") is not None
    checks.that(drawn == os.path.isfile(os.path.join(folder, "speed.svg")) and drawn == ("speed.svg)" in page), "bench -o .md: the picture beside it")
    checks.that(not problems(json.load(open(paths["json"], encoding="utf-8")), BENCH), "bench -o .json: the document")
    bad = run("bench", gguf, "-o", os.path.join(folder, "speed.txt"))
    checks.that(bad.returncode == 2 and b"speed.txt" in bad.stderr and b".svg" in bad.stderr, "bench -o: an unknown ending is refused before anything is measured", bad.stderr)
    bad = run("bench", gguf, "-o", os.path.join(folder, "alone.svg"), PATH=folder)
    checks.that(bad.returncode == 2 and b"gnuplot" in bad.stderr and bad.stdout == b"" and not os.path.exists(os.path.join(folder, "alone.svg")),
                "bench -o .svg without gnuplot is refused before anything is measured", (bad.returncode, bad.stdout, bad.stderr))
    if drawn:
        done = run("bench", gguf, "-p", "8", "-n", "8", "-r", "2", "--parallel", "1", "--no-machine", "-o", os.path.join(folder, "alone.svg"))
        checks.that(done.returncode == 0 and b"<svg" in open(os.path.join(folder, "alone.svg"), "rb").read(), "bench -o .svg", done.stderr)


def check_eval(checks, folder, gguf):
    text = write(folder, "text.txt", "".join(f"def add_{i}(a, b):\n    return a + b * {i}\n\n" for i in range(200)))
    doc = document(checks, run("eval", gguf, "--suite", "ppl,kld", "--base", MODEL, "--text", text, "-c", "64", "--limit", "9", "--json"), EVAL, "eval")
    if checks.that(doc and [s["suite"] for s in doc["suites"]] == ["ppl", "kld"], "eval: the suites in order"):
        ppl, kld = doc["suites"]
        checks.that(ppl["chunks"] == 9 and ppl["tokens"] == 9 * 31 and ppl["n_ctx"] == 64, "eval: the second half of a chunk is scored")
        checks.that(all(isinstance(kld.get(k), (int, float)) for k in KLD) and not any(k in ppl for k in KLD), "eval: kld has its own members")
        checks.that(0 < kld["kld_median"] <= kld["kld_p90"] <= kld["kld_p99"] <= kld["kld_max"] and kld["top1_agreement"] <= 1, "eval: percentiles rise")
        checks.that(abs(kld["ppl"] / kld["ppl_base"] / kld["ppl_ratio"] - 1) < 1e-9, "eval: the ratio is the perplexities'")
        checks.that(ppl["text"] == text and ppl["text_sha256"] == hashlib.sha256(open(text, "rb").read()).hexdigest(), "eval: the text and its hash")
        checks.that(kld["base_kv_type"] == "f32" and kld["base_weights"] == "BF16" and kld["kv_type"] == "f16", "eval: float weights have float32 caches")
    coded = document(checks, run("eval", MODEL, "--suite", "kld", "--base", MODEL, "--kv-type", "q8_0", "--text", text, "-c", "64", "--limit", "16", "--json"), EVAL, "eval of q8_0 caches")
    if checks.that(coded and coded["suites"][0]["kv_type"] == "q8_0" and coded["suites"][0]["base_kv_type"] == "f32", "eval: q8_0 caches against float32 ones"):
        checks.that(0 < coded["suites"][0]["kld_mean"] < 2e-4 and coded["suites"][0]["top1_agreement"] > 0.95, "eval: q8_0 caches cost little", coded)
    builtin = document(checks, run("eval", gguf, "--suite", "ppl", "-c", "64", "--limit", "3", "--json"), EVAL, "eval of the built-in text")
    gate = open(os.path.join(os.path.dirname(MODEL), "texts", "gate.txt"), "rb").read()
    checks.that(builtin and builtin["suites"][0]["text"] == "builtin gate" and builtin["suites"][0]["text_sha256"] == hashlib.sha256(gate).hexdigest(),
                "eval: without --text the built-in gate text, byte for byte")
    same = document(checks, run("eval", MODEL, "--suite", "kld", "--base", MODEL, "--text", text, "-c", "64", "--limit", "9", "--json"), EVAL, "eval of itself")
    checks.that(same and same["suites"][0]["kld_max"] == 0 and same["suites"][0]["top1_agreement"] == 1, "eval: no divergence from itself")
    for arguments, code in ((["--suite", "kld", "--text", text], 2), (["--suite", "ppl", "--base", MODEL, "--text", text], 2), (["--suite", "mmlu", "--text", text], 2),
                            (["--suite", "ppl", "--text", "no/such"], 3),
                            (["--suite", "ppl", "--text", write(folder, "short.txt", "x = 1")], 3)):
        done = run("eval", MODEL, *arguments, "--json")
        checks.exit_code(done, code, "eval " + " ".join(arguments))
        document(checks, done, ERROR, "eval " + " ".join(arguments))


def check_help(checks):
    doc = document(checks, run("help", "--json"), HELP, "help")
    names = [c["name"] for c in doc["commands"]] if doc else []
    checks.that(names == ["quantize", "verify", "run", "chat", "serve", "bench", "eval", "compare", "plan", "inspect", "tokenize", "template", "logits",
                          "pull", "ls", "rm", "report", "doctor", "help", "completions"], "help: commands in order", names)
    document(checks, run("--version", "--json"), {"version": str}, "--version")
    one = document(checks, run("bench", "--help", "--json"), HELP, "bench --help")
    checks.that(one and len(one["commands"]) == 1, "bench --help: one command")
    for command in (c["name"] for c in doc["commands"] if not c["available"]) if doc else []:
        done = run(command, "--json")
        checks.exit_code(done, 2, command)
        refused = document(checks, done, ERROR, command)
        document(checks, run(command, "--json", "--help"), HELP, f"{command} --json --help")
        checks.that(refused and "not available in this version yet" in refused["error"]["message"], f"{command}: says that it is not there yet")
    for command in names:
        done = run(command, "--no-such-flag", "--json")
        checks.exit_code(done, 2, f"{command} --no-such-flag")
        refused = document(checks, done, ERROR, f"{command} --no-such-flag")
        checks.that(refused and refused["error"]["exit_code"] == 2, f"{command} --no-such-flag: the code is in the document")


def check_missing(checks):
    for arguments in (["run", "no/such.gguf", "hi"], ["chat", "no/such.gguf"], ["bench", "no/such.gguf"], ["inspect", "no/such.gguf"],
                      ["tokenize", "no/such.gguf", "x"], ["template", "no/such.gguf"], ["quantize", "no/such", "-o", "out"],
                      ["logits", "no/such.gguf", "--ids", "-", "-o", "x"], ["run", MODEL, "-f", "no/such.txt"],
                      ["run", MODEL, "--messages", "no/such.json"], ["run", "-hf", "no/such", "hi"], ["tokenize", MODEL, "-f", "no/such.txt"]):
        done = run(*arguments, "--json")
        checks.exit_code(done, 3, " ".join(arguments[:3]))
        doc = document(checks, done, ERROR, " ".join(arguments[:3]))
        checks.that(doc and "no/such" in doc["error"]["message"] and b"no/such" in done.stderr, f"{arguments[0]}: names what is missing")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        check_help(checks)
        check_missing(checks)
        check_text(checks, folder)
        check_run(checks, folder)
        check_chat(checks)
        gguf = check_files(checks, folder)
        check_machine(checks, folder, gguf)
        check_bench_trust(checks, folder, gguf)
        check_bench_reports(checks, folder, gguf)
        check_bench_replay(checks, folder)
        check_eval(checks, folder, gguf)
    checks.close()


if __name__ == "__main__":
    main()
