#!/usr/bin/env python3
"""The gate from outside: quantize measures what it writes, verify finds the same figures and the faults, and exit codes say so."""
import json
import os
import shutil
import struct
import tempfile

from cli_helper import MODEL, ROOT, Checks, run

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
    done = run("quantize", MODEL, "-o", out, "--formats", "gguf:Q4_0,mlx:4bit", "--calibrate", "none", "--gate", "default", "--gate-text", text, "--json")
    checks.exit_code(done, 0, "quantize with a gate")
    manifest = json.loads(done.stdout)
    for o in manifest["outputs"]:
        checks.that(o["gate"]["verdict"] in ("pass", "lossy") and o["gate"]["policy"] == "default", "a verdict", o["gate"])
        checks.that(all(isinstance(o["quality"][k], float) for k in FIGURES), "figures", o["quality"])
        checks.that(o["quality"]["n_ctx"] == 512 and o["quality"]["arithmetic"] == "f32_activations", "conditions", o["quality"])
    checks.exit_code(run("inspect", os.path.join(out, "manifest.json")), 0, "inspect: the hashes are those of the files with their certificates")
    return out, manifest


def check_same_figures(checks, out, manifest, text):
    for o in manifest["outputs"]:
        path = os.path.join(out, o["path"])
        done = run("verify", path, "--against", MODEL, "--gate", "default", "--gate-text", text, "--json")
        checks.exit_code(done, 0, f"verify {o['type']}")
        again = json.loads(done.stdout)["outputs"][0]
        checks.that(again["quality"] == o["quality"], "verify: the same figures", (again["quality"], o["quality"]))
        done = run("eval", path, "--suite", "kld", "--base", MODEL, "--arithmetic", "f32_activations", "--text", text, "--json")
        kld = json.loads(done.stdout)["suites"][0]
        checks.that(all(kld[k] == o["quality"][k] for k in ("ppl", "ppl_ratio", "kld_mean", "kld_max", "top1_agreement")), "eval: the same digits", kld)


def check_faults(checks, out, manifest, text):
    gguf = os.path.join(out, manifest["outputs"][0]["path"])
    verify = ("verify", "--against", MODEL, "--gate", "off", "--json")
    turned = damaged(gguf, "turned", lambda d: len(d) - 1000, lambda b: bytes(x ^ 0x11 for x in b))
    done = run(*verify, turned)
    checks.exit_code(done, 1, "verify: turned bits")
    gate = gate_of(done)
    checks.that(gate["verdict"] == "fail" and len(gate["suspect_tensors"]) == 1, "verify: the tensor", gate)
    checks.that(any("certificate" in r for r in gate["reasons"]), "verify: the certificate is of other data", gate)
    better = damaged(gguf, "better", lambda d: d.index(b"quern.quality.kld_mean") + 22 + 4, lambda b: struct.pack("<d", 0.0001))
    done = run("verify", better, "--against", MODEL, "--gate", "default", "--gate-text", text, "--json")
    checks.exit_code(done, 1, "verify: a figure that was not measured")
    checks.that(any("claims kld_mean 0.0001" in r for r in gate_of(done)["reasons"]), "verify: the claim and the truth", gate_of(done))
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
    checks.that(all(t in [x["name"] for x in o["tensors"]] for t in o["gate"]["suspect_tensors"]), "strict: suspects are tensors", o["gate"])
    checks.that(os.path.exists(os.path.join(out, o["path"])), "strict: lossy is no fault, the file is there")
    broken = os.path.join(folder, "broken.gguf")
    with open(broken, "wb") as f:
        f.write(b"GGUF nothing")
    checks.exit_code(run("verify", broken, "--against", MODEL), 3, "verify: a file that cannot be read")


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
        check_faults(checks, out, manifest, text)
        check_policies(checks, folder, text)
    checks.close()


main()
