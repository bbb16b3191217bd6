#!/usr/bin/env python3
"""The gate from outside: quantize measures what it writes, verify finds the same figures and the faults, and exit codes say so."""
import hashlib
import json
import os
import shutil
import struct
import tempfile

from cli_helper import GOLDENS, MODEL, ROOT, Checks, run

FIGURES = ("ppl_source", "ppl", "ppl_ratio", "ppl_ratio_error", "kld_mean", "kld_p99", "kld_max", "top1_agreement")


def gate_of(process):
    return json.loads(process.stdout)["outputs"][0]["gate"]


def damaged(path, name, place, change):
    """A copy of the file with the bytes at `place` replaced by change(them)."""
    copy = f"{path}.{name}.gguf"
    with open(path, "rb") as f:
        data = bytearray(f.read())
    at = place(data)
    data[at:at + 8] = change(data[at:at + 8])
    with open(copy, "wb") as f:
        f.write(data)
    return copy


def check_quantize(checks, folder, text):
    out = os.path.join(folder, "out")
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:Q6_K,mlx:6bit", "--calibrate", "none", "--gate", "default", "--gate-text", text, "--json")
    checks.exit_code(done, 0, "quantize with a gate")
    manifest = json.loads(done.stdout)
    for o in manifest["outputs"]:
        checks.that(o["gate"]["verdict"] in ("pass", "lossy") and o["gate"]["policy"] == "default", "a verdict", o["gate"])
        checks.that(all(isinstance(o["quality"][k], float) for k in FIGURES), "figures", o["quality"])
        checks.that(o["quality"]["n_ctx"] == 512 and o["quality"]["arithmetic"] == "f32_activations", "conditions", o["quality"])
        as_run = o["quality"]["as_run"]
        checks.that(0 < as_run["kld_mean"] < 2 * o["quality"]["kld_mean"] and as_run["kld_mean"] != o["quality"]["kld_mean"], "figures as run", as_run)
    check_proof(checks, out, manifest)
    return out, manifest


def matrix(output):
    """The number of a quantized matrix that is not square."""
    return next(i for i, t in enumerate(output["tensors"]) if len(t["shape"]) == 2 and t["shape"][0] != t["shape"][1] and t["type"] in ("6bit-g64", "Q6_K"))


def check_proof(checks, out, manifest):
    """inspect holds the manifest against the hashes and against the certificates that the files carry."""
    path = os.path.join(out, "manifest.json")
    done = run("inspect", path, "--json")
    checks.exit_code(done, 0, "inspect: the hashes are those of the files with their certificates")
    checks.that([o["certificate"] for o in json.loads(done.stdout)["outputs"]] == ["agrees", "agrees"], "inspect: the certificates agree", done.stdout)
    for o in manifest["outputs"]:
        claimed = json.loads(run("inspect", os.path.join(out, o["path"]), "--json").stdout)["certificate"]
        checks.that(all(claimed[k] == o["quality"][k] for k in FIGURES), "inspect: a file's own certificate", claimed)
    with open(os.path.join(out, "other.txt"), "w", encoding="utf-8") as f:
        f.write("other")
    for change, said in ((lambda o: o["quality"].update(kld_mean=0.001), b"certificate"), (lambda o: o["gate"].update(verdict="fine"), b"'fine'"),
                         (lambda o: o["quality"].update(tokens=10 ** 9), b"tokens is"), (lambda o: o["quality"].update(text_sha256="0" * 64), b"another text"),
                         (lambda o: o.update(format="x"), b"gguf or mlx"), (lambda o: o.pop("path"), b"one of its files"),
                         (lambda o: o.update(files=[f for f in o["files"] if "config" not in f["path"]]), b"one of its files"),
                         (lambda o: o.update(files=manifest["outputs"][0]["files"]), b"is listed twice"), (lambda o: o["files"].append(o["files"][0]), b"is listed twice"),
                         (lambda o: o["files"].append({"path": "other.txt", "bytes": 5, "sha256": hashlib.sha256(b"other").hexdigest()}) or o.update(bytes=o["bytes"] + 5),
                          b"other.txt is not in the folder of its output"),
                         (lambda o: o.update(bytes=o["bytes"] - o["files"].pop(1)["bytes"]), b"does not list it"),
                         (lambda o: o.update(bytes=o["bytes"] + 1), b"bytes together"), (lambda o: o.pop("tensors"), b"tensors of"),
                         (lambda o: o["tensors"].pop() and None, b"of which"), (lambda o: o["tensors"].append(o["tensors"][0]), b"is listed twice"),
                         (lambda o: o["tensors"][1].update(name="x.weight"), b"is not in the file"), (lambda o: o["tensors"][1].pop("name"), b"expected a name"),
                         (lambda o: o["tensors"][matrix(o)].update(type="4bit-g64"), b"has another type"),
                         (lambda o: o["tensors"][matrix(o)].update(type="6bit-g32"), b"has another type"),
                         (lambda o: o["tensors"][matrix(o)]["shape"].reverse(), b"shape"), (lambda o: o["tensors"][matrix(o)]["shape"].append(1), b"shape"),
                         (lambda o: o["tensors"][matrix(o)].update(shape=[10 ** 18, 10 ** 18]), b"shape"),
                         (lambda o: o["tensors"][matrix(o)].update(shape=None), b"shape")):
        other = json.loads(json.dumps(manifest))
        change(other["outputs"][1])
        with open(os.path.join(out, "told.json"), "w", encoding="utf-8") as f:
            json.dump(other, f)
        done = run("inspect", os.path.join(out, "told.json"))
        checks.that(done.returncode == 3 and said in done.stderr, "inspect: a manifest that says otherwise", (said, done.stderr))
    for change, said in ((lambda t: t.update(type="Q8_0"), b"has another type"), (lambda t: t["shape"].append(2), b"has another shape"), (lambda t: t.update(name="x"), b"is not in the file")):
        other = json.loads(json.dumps(manifest))
        change(other["outputs"][0]["tensors"][matrix(other["outputs"][0])])
        with open(os.path.join(out, "told.json"), "w", encoding="utf-8") as f:
            json.dump(other, f)
        done = run("inspect", os.path.join(out, "told.json"))
        checks.that(done.returncode == 3 and said in done.stderr, "inspect: a manifest that says otherwise of a GGUF file", (said, done.stderr))
    os.remove(os.path.join(out, "told.json"))
    os.remove(os.path.join(out, "other.txt"))
    check_unlisted(checks, out, manifest)


def check_unlisted(checks, out, manifest):
    """A file beside those of the manifest that a reader of the folder may take; links lead where they lead."""
    mlx = os.path.join(out, manifest["outputs"][1]["path"])
    os.mkdir(os.path.join(mlx, "additional_chat_templates"))
    for name in ("model-00002.safetensors", "chat_template.jinja", "additional_chat_templates/default.jinja", "special.json", "evil.py", "vocab.tiktoken", "weights.H5", "link.json", "README.md", "data"):
        path = os.path.join(mlx, name)
        if name == "link.json":
            os.symlink(os.path.join(mlx, "config.json"), path)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write("x")
        done = run("inspect", os.path.join(out, "manifest.json"))
        harmless = name in ("README.md", "data")
        checks.that(done.returncode == (0 if harmless else 3) and (harmless or f"{name}: is in the folder, but".encode() in done.stderr), f"inspect: {name} beside the files", done.stderr)
        os.remove(path)
    os.rmdir(os.path.join(mlx, "additional_chat_templates"))
    outside = os.path.join(out, "outside")
    for member in ("config.json", "model.safetensors"):  # a listed file that lies elsewhere
        path = os.path.join(mlx, member)
        os.rename(path, outside + "." + member)
        os.symlink("/etc/hostname", path)
        done = run("inspect", os.path.join(out, "manifest.json"))
        checks.that(done.returncode == 3 and b"leads out of its folder" in done.stderr, "inspect: a link out of the folder", done.stderr)
        os.remove(path)
        os.rename(outside + "." + member, path)
    checks.exit_code(run("inspect", os.path.join(out, "manifest.json")), 0, "inspect: as it was")


def check_sample(checks, folder):
    """Layers one by one: the errors of one type above those of a better one, and a verdict by them."""
    out = os.path.join(folder, "sample")
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:Q8_0,gguf:Q4_0,mlx:2bit", "--calibrate", "none", "--gate", "sample:3", "--json")
    checks.exit_code(done, 0, "sample: what is lossy is kept")
    outputs = json.loads(done.stdout)["outputs"]
    layers = [o["gate"]["sample"]["layers"] for o in outputs]
    checks.that(all([x["layer"] for x in l] == [0, 2, 5] for l in layers), "sample: first, middle and last layer", layers)
    errors = [[x["block_error"] for x in l] for l in layers]
    checks.that(all(0 < 5 * a < b and 2 * b < c for a, b, c in zip(*errors)), "sample: errors in order of the types", errors)
    checks.that(all(x["hidden_error"] < 2 * x["block_error"] for l in layers for x in l), "sample: hidden states", layers)
    checks.that([o["gate"]["verdict"] for o in outputs] == ["pass", "pass", "lossy"] and all(o["quality"] is None for o in outputs), "sample: verdicts", outputs)


def check_same_figures(checks, out, manifest, text):
    paths = [os.path.join(out, o["path"]) for o in manifest["outputs"]]
    done = run("verify", *paths, "--against", MODEL, "--gate", "default", "--gate-text", text, "--json")
    checks.exit_code(done, 0, "verify what quantize wrote")
    for o, again, path in zip(manifest["outputs"], json.loads(done.stdout)["outputs"], paths):
        checks.that(again["quality"] == o["quality"], "verify: the same figures", (again["quality"], o["quality"]))
        done = run("eval", path, "--suite", "kld", "--base", MODEL, "--arithmetic", "f32_activations", "--text", text, "--json")
        kld = json.loads(done.stdout)["suites"][0]
        checks.that(all(kld[k] == o["quality"][k] for k in ("ppl", "ppl_ratio", "kld_mean", "kld_max", "top1_agreement")), "eval: the same digits", kld)


def check_short_context(checks, folder, text):
    """Where the source's context is shorter than a chunk, eval cuts the text as the gate does, by the base's context."""
    source, out = os.path.join(folder, "short_context"), os.path.join(folder, "short_context_out")
    shutil.copytree(os.path.join(GOLDENS, "hf", "qwen3"), source)
    with open(os.path.join(source, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config["max_position_embeddings"] = 192
    with open(os.path.join(source, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    done = run("quantize", source, "-o", out, "--formats", "gguf:Q8_0", "--calibrate", "none", "--gate", "default", "--gate-text", text, "--json")
    quality = json.loads(done.stdout)["outputs"][0]["quality"]
    path = os.path.join(out, json.loads(done.stdout)["outputs"][0]["path"])
    checks.that(quality["n_ctx"] == 192, "a short context: the gate's chunks", quality)
    for suite, options in (("kld", ("--base", source)), ("ppl", ())):
        done = run("eval", path, "--suite", suite, *options, "--arithmetic", "f32_activations", "--text", text, "--json")
        checks.exit_code(done, 0, f"a short context: eval {suite}")
        figures = json.loads(done.stdout)["suites"][0]
        same = ("n_ctx", "chunks", "tokens", "ppl") + (("ppl_ratio", "kld_mean", "kld_p99", "kld_max", "top1_agreement") if options else ())
        checks.that(all(figures[k] == quality[k] for k in same), f"a short context: the same digits of {suite}", (figures, quality))
    figures = json.loads(run("eval", path, "--suite", "ppl", "--text", text, "-c", "64", "--json").stdout)["suites"][0]
    checks.that(figures["n_ctx"] == 64, "a short context: -c goes first", figures)


def check_faults(checks, out, manifest):
    gguf = os.path.join(out, manifest["outputs"][0]["path"])
    verify = ("verify", "--against", MODEL, "--gate", "off", "--json")
    turned = damaged(gguf, "turned", lambda d: len(d) - 1000, lambda b: bytes(x ^ 0x11 for x in b))
    done = run(*verify, turned)
    checks.exit_code(done, 1, "verify: turned bits")
    gate = gate_of(done)
    checks.that(gate["verdict"] == "fail" and len(gate["suspect_tensors"]) == 1, "verify: the tensor", gate)
    checks.that(any("certificate" in r for r in gate["reasons"]), "verify: the certificate is of other data", gate)
    done = run("verify", gguf, turned, "--against", MODEL, "--gate", "off")
    checks.that(done.returncode == 1 and b"1 of 2 failed" in done.stderr and b"certificate is of other data" in done.stdout, "verify: a table and reasons", done.stdout)
    mlx = os.path.join(out, manifest["outputs"][1]["path"])
    copy = os.path.join(out, "copy")
    shutil.copytree(mlx, copy)
    with open(os.path.join(copy, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config["rope_theta"] = config["rope_theta"] * 2
    with open(os.path.join(copy, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    done = run(*verify, copy)
    checks.that(done.returncode == 1 and any("rope's base" in r for r in gate_of(done)["reasons"]), "verify: config.json", done.stdout)


def check_policies(checks, folder, text):
    out = os.path.join(folder, "strict")
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:TQ2_0", "--calibrate", "none", "--gate", "strict", "--gate-text", text, "--json")
    checks.exit_code(done, 1, "quantize --gate strict: lossy")
    o = json.loads(done.stdout)["outputs"][0]
    checks.that(o["gate"]["verdict"] == "lossy" and "perplexity" in o["gate"]["reasons"][0], "strict: why", o["gate"])
    checks.that(o["quality"]["plain"]["kld_mean"] > o["quality"]["kld_mean"], "strict: held against plain encoding in the same types", o["quality"])
    checks.that(any("the loss is that of the type" in n for n in o["gate"]["notes"]), "strict: lossy and not broken", o["gate"])
    checks.that(all(t in [x["name"] for x in o["tensors"]] for t in o["gate"]["suspect_tensors"]), "strict: suspects are tensors", o["gate"])
    checks.that(os.path.exists(os.path.join(out, o["path"])), "strict: lossy is no fault, the file is there")
    broken = os.path.join(folder, "broken.gguf")
    with open(broken, "wb") as f:
        f.write(b"GGUF nothing")
    checks.exit_code(run("verify", broken, "--against", MODEL), 3, "verify: a file that cannot be read")


def change_config(folder, copy, change):
    shutil.copytree(folder, copy)
    path = os.path.join(copy, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    change(config)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)


def change_tensors(folder, copy, change):
    """A copy of an MLX folder whose tensors {name: (dtype, shape, bytes)} went through change, in the order of its result."""
    shutil.copytree(folder, copy)
    path = os.path.join(copy, "model.safetensors")
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    tensors = {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
               for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"}
    header, at = {"__metadata__": {"format": "mlx"}}, 0
    tensors = change(tensors)
    for k, (dtype, shape, content) in tensors.items():
        header[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(c for _, _, c in tensors.values()))
    index = os.path.join(copy, "model.safetensors.index.json")
    if os.path.exists(index):
        os.remove(index)


def reasons_of(checks, what, source, file):
    done = run("verify", file, "--against", source, "--gate", "off", "--json")
    checks.exit_code(done, 1, what)
    return " / ".join(gate_of(done)["reasons"]) if done.returncode == 1 else ""


def check_folders(checks, folder, out, manifest):
    """What an MLX folder can say that is wrong or hostile, and a sound one that looks strange."""
    rope, source = os.path.join(GOLDENS, "mlx", "llama3_rope.q4_g32"), os.path.join(GOLDENS, "hf", "llama3_rope")
    tied, scaled = os.path.join(folder, "tied"), os.path.join(folder, "scaled")
    change_config(rope, tied, lambda c: c.update(tie_word_embeddings=True))
    checks.that("tie_word_embeddings" in reasons_of(checks, "verify: a head that readers leave out", source, tied), "verify: tied")
    change_config(rope, scaled, lambda c: c["rope_scaling"].update(low_freq_factor=2.0))
    checks.that("low_freq_factor is 2" in reasons_of(checks, "verify: rope of llama3", source, scaled), "verify: low_freq_factor")
    mlx = os.path.join(out, manifest["outputs"][1]["path"])
    for part, dtype, size in (("weight", "U32", 4), ("scales", "BF16", 2)):
        name, flat = f"model.layers.0.mlp.up_proj.{part}", os.path.join(folder, f"flat_{part}")
        change_tensors(mlx, flat, lambda t: {**t, name: (dtype, [], bytes(size))})  # pylint: disable=cell-var-from-loop
        checks.that("fitting shape" in reasons_of(checks, f"verify: {part} without dimensions", MODEL, flat), f"verify: flat {part}")
    headed = os.path.join(folder, "headed")
    change_tensors(mlx, headed, lambda t: dict(sorted({**t, **{k.replace("model.embed_tokens", "lm_head"): v for k, v in t.items() if ".embed_tokens." in k}}.items())))
    reasons = gate_of(run("verify", headed, "--against", MODEL, "--gate", "off", "--json"))["reasons"]
    checks.that(all("certificate" in r for r in reasons), "verify: a quantized copy of a tied head has its place", reasons)


def check_gguf_source(checks, folder, text):
    """GGUF to GGUF with the gate on, and again from an output that has a certificate."""
    source = os.path.join(GOLDENS, "gguf", "base", "llama3_rope.f16.gguf")
    for kind in ("Q8_0", "F16"):
        out = os.path.join(folder, f"from_gguf_{kind}")
        done = run("quantize", source, "-o", out, "--formats", f"gguf:{kind}", "--calibrate", "none", "--gate", "default", "--gate-text", text, "--json")
        checks.exit_code(done, 0, f"quantize: GGUF to GGUF {kind} with the gate")
        o = json.loads(done.stdout)["outputs"][0]
        checks.that(o["gate"]["verdict"] == "pass" and o["quality"]["kld_mean"] < 0.01, "GGUF to GGUF: measured", o["gate"])
        source = os.path.join(out, o["path"])
        with open(source, "rb") as f:
            data = f.read()
        checks.that(data.count(b"quern.quality.verdict") == 1 and data.count(b"quern.padding") == 1, "GGUF to GGUF: one certificate")


def check_claims(checks, out, manifest, text):
    """A figure that was not measured is found; a certificate of other chunks is not compared in silence, and the type is that of the bytes."""
    gguf = os.path.join(out, manifest["outputs"][0]["path"])
    better = damaged(gguf, "better", lambda d: d.index(b"quern.quality.kld_mean") + 22 + 4, lambda b: struct.pack("<d", 0.0001))
    other = damaged(gguf, "chunks", lambda d: d.index(b"quern.quality.tokens") + 24, lambda b: struct.pack("<Q", 7))
    other = damaged(other, "type", lambda d: d.index(b"general.file_type") + 21, lambda b: struct.pack("<I", 15) + b[4:])
    done = run("verify", better, other, "--against", MODEL, "--gate", "default", "--gate-text", text, "--json")
    checks.exit_code(done, 1, "verify: claims that are not true")
    first, second = json.loads(done.stdout)["outputs"]
    checks.that(any("claims kld_mean 0.0001" in r for r in first["gate"]["reasons"]), "verify: the claim and the truth", first["gate"])
    checks.that(any("claims 7 tokens" in r for r in second["gate"]["reasons"]), "verify: the claims of other chunks", second["gate"])
    notes = " / ".join(second["gate"]["notes"])
    checks.that(second["type"] == "Q6_K" and "file_type says Q4_K_M" in notes, "verify: the type is that of the bytes", second["gate"])


def check_unchecked(checks, folder, out, manifest, text):
    """What could not be checked of a certificate, or only roughly, is said unasked: on stderr, in the table and in the report."""
    gguf, mlx = (os.path.join(out, o["path"]) for o in manifest["outputs"][:2])
    other = os.path.join(folder, "other.txt")
    with open(text, encoding="utf-8") as f, open(other, "w", encoding="utf-8") as g:
        g.write("import os\n" + f.read()[200:])
    older = damaged(gguf, "older", lambda d: d.index(b"quern.quality.quern_version") + 27 + 4 + 8, lambda b: b"0.0.9"[:5] + b[5:])
    cases = (((gguf, mlx), text, ["agrees", "agrees"], []), ((gguf, mlx), other, ["not checked"] * 2, ["of another text"] * 2),
             ((older,), text, ["agrees roughly"], ["of Quern 0.0.9"]))
    for files, with_text, states, said in cases:
        options = ("--against", MODEL, "--gate", "default", "--gate-text", with_text)
        gates = [o["gate"] for o in json.loads(run("verify", *files, *options, "--json").stdout)["outputs"]]
        checks.that([g["certificate"] for g in gates] == states, f"verify: what became of the certificate: {states}", gates)
        checks.that([len(g["warnings"]) for g in gates] == [1 if said else 0] * len(files), f"verify: warnings in the report: {states}", gates)
        checks.that(all(s in g["warnings"][0] and g["warnings"][0] in g["notes"] for s, g in zip(said, gates)), "verify: and among the notes", gates)
        done = run("verify", *files, *options)
        lines = [line for line in done.stderr.decode().splitlines() if line.startswith("warning: ")]
        checks.exit_code(done, 0, f"verify: {states} is no fault")
        checks.that([s in line for s, line in zip(said, lines)] == [True] * len(said) and len(lines) == len(said), f"verify: {states} is said without -v", done.stderr)
        table = done.stdout.decode()
        checks.that(all(state in table for state in states), f"verify: {states} in the table", table)
    options = ("--against", MODEL, "--gate", "off")
    done = run("verify", gguf, *options)
    checks.that(b"not checked" in done.stdout and b"warning" not in done.stderr, "verify: figures that nobody asked for", done.stdout + done.stderr)


def check_memory(checks, folder, out, manifest, text):
    """--memory is quantize's: more than it has is not run as a whole, and does not fit where a calibration was asked for."""
    gguf = os.path.join(out, manifest["outputs"][0]["path"])
    options = ("--against", MODEL, "--gate", "default", "--gate-text", text, "--json")
    entry = json.loads(run("verify", gguf, *options, "--memory", "8MiB").stdout)["outputs"][0]
    checks.that(entry["quality"] is None and "sample" in entry["gate"], "verify: --memory bounds what runs", entry["gate"])
    checks.that(any("--memory allows 0.01 GB" in n for n in entry["gate"]["notes"]), "verify: --memory is named", entry["gate"]["notes"])
    entry = json.loads(run("verify", gguf, *options, "--memory", "4GiB").stdout)["outputs"][0]
    checks.that(entry["quality"] == manifest["outputs"][0]["quality"], "verify: enough --memory changes nothing", entry["quality"])
    done = run("verify", gguf, "--against", MODEL, "--gate", "off", "--calibrate", os.path.join(ROOT, "models", "texts", "gate.txt"), "--memory", "100k")
    checks.exit_code(done, 4, "verify: what does not fit --memory")


def check_importance(checks, folder):
    """A file's word that it was made with an importance matrix does not cover a single bad block."""
    with open(os.path.join(GOLDENS, "gguf", "quant", "llama3_rope.Q4_K_M.gguf"), "rb") as f:
        data = bytearray(f.read())
    key = b"quantize.imatrix.file"
    data[16:24] = struct.pack("<Q", struct.unpack("<Q", data[16:24])[0] + 1)
    data[24:24] = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, 23) + b"x" * 23  # 64 bytes: the tensors stay aligned
    source = os.path.join(GOLDENS, "hf", "llama3_rope")
    said = os.path.join(folder, "said.gguf")
    with open(said, "wb") as f:
        f.write(data)
    gate = gate_of(run("verify", said, "--against", source, "--gate", "off", "--json"))
    checks.that(gate["verdict"] == "skipped" and any("importance matrix" in n for n in gate["notes"]), "verify: the wider limit is said", gate)
    data[-19990:-19982] = bytes(b ^ 0x11 for b in data[-19990:-19982])
    with open(said, "wb") as f:
        f.write(data)
    reasons = reasons_of(checks, "verify: a block of 7.9 times, within the wider limit", source, said)
    checks.that("not what llama.cpp's encoder, which wrote the other blocks" in reasons, "verify: the wider limit is not for what an encoder is known of", reasons)


def check_short_text(checks, folder):
    short = os.path.join(folder, "short.txt")
    with open(short, "w", encoding="utf-8") as f:
        f.write("def f(x):\n    return x\n" * 8)
    out = os.path.join(folder, "short")
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:Q8_0", "--calibrate", "none", "--gate", "default", "--gate-text", short)
    checks.exit_code(done, 2, "quantize: a gate text that is too short")
    checks.that(b"at least" in done.stderr and not os.path.exists(out), "quantize: said before converting", done.stderr)
    done = run("verify", MODEL, "--against", MODEL, "--gate", "default", "--gate-text", short)
    checks.exit_code(done, 2, "verify: a gate text that is too short")


def check_unreadable(checks, folder, out, manifest):
    """One file that cannot be read does not keep the others from being judged."""
    good, cut = os.path.join(out, manifest["outputs"][0]["path"]), os.path.join(folder, "cut.gguf")
    with open(good, "rb") as f, open(cut, "wb") as g:
        g.write(f.read()[:1000000])
    for files in ((good, cut), (cut, os.path.join(folder, "absent.gguf"), good)):
        done = run("verify", *files, "--against", MODEL, "--gate", "off", "--json")
        checks.exit_code(done, 3, "verify: a file cut short beside a good one")
        verdicts = {os.path.basename(o["path"]): o["gate"]["verdict"] for o in json.loads(done.stdout)["outputs"]}
        expected = {os.path.basename(f): "skipped" if f == good else "unreadable" for f in files}
        checks.that(verdicts == expected, "verify: every file has its verdict", verdicts)
    done = run("verify", good, cut, "--against", MODEL, "--gate", "off")
    checks.that(done.returncode == 3 and b"skipped" in done.stdout and b"unreadable" in done.stdout, "verify: the table is printed", done.stdout)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "gate.txt")
        with open(os.path.join(ROOT, "models", "texts", "gate.txt"), encoding="utf-8") as f:
            part = f.read(6000)
        with open(text, "w", encoding="utf-8") as f:
            f.write(part)
        out, manifest = check_quantize(checks, folder, text)
        check_same_figures(checks, out, manifest, text)
        check_short_context(checks, folder, text)
        check_sample(checks, folder)
        check_faults(checks, out, manifest)
        check_policies(checks, folder, text)
        check_gguf_source(checks, folder, text)
        check_claims(checks, out, manifest, text)
        check_unchecked(checks, folder, out, manifest, text)
        check_memory(checks, folder, out, manifest, text)
        check_importance(checks, folder)
        check_short_text(checks, folder)
        check_unreadable(checks, folder, out, manifest)
        check_folders(checks, folder, out, manifest)
    checks.close()


main()
