#!/usr/bin/env python3
"""Nothing passes unproved, from outside: exit codes and sentences for sources that cannot be measured, values that do not fit, and options without effect."""
import json
import os
import shutil
import struct
import tempfile

from cli_helper import GOLDENS, Checks, run

SOURCE = os.path.join(GOLDENS, "hf", "qwen3")
LARGE, NAN = 0x7f00, 0x7fc0  # bfloat16: 1.7e38


def spoiled(folder, name, values):
    """A copy of the source with values, {(tensor, element): bfloat16}, in its weights."""
    copy = os.path.join(folder, name)
    shutil.copytree(SOURCE, copy)
    path = os.path.join(copy, "model.safetensors")
    os.chmod(copy, 0o755)
    os.chmod(path, 0o644)
    with open(path, "rb") as f:
        data = bytearray(f.read())
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    for (tensor, element), value in values.items():
        struct.pack_into("<H", data, 8 + size + header[tensor]["data_offsets"][0] + 2 * element, value)
    with open(path, "wb") as f:
        f.write(data)
    return copy


def check_unmeasured(checks, folder):
    large = {(f"model.layers.0.mlp.{p}_proj.weight", 3 * 256 + i): LARGE for p in ("gate", "up") for i in range(8)}
    source, out = spoiled(folder, "large", large), os.path.join(folder, "unmeasured")
    command = ("quantize", source, "-o", out, "--formats", "gguf:BF16,mlx:bf16", "--calibrate", "none")
    done = run(*command, "--gate", "default")
    checks.exit_code(done, 0, "unmeasured: said, not refused")
    checks.that(done.stdout.count(b"quality was not measured: the source does not run") == 2 and b" pass" not in done.stdout, "unmeasured: in the table", done.stdout)
    checks.that(b"nothing is known of its quality" in done.stderr and b"next:" not in done.stderr, "unmeasured: a warning, and no advice to run it", done.stderr)
    done = run(*command, "--gate", "strict", "--json")
    checks.exit_code(done, 1, "unmeasured: strict refuses")
    checks.that(b"the quality of 2 of 2 outputs could not be measured" in done.stderr, "unmeasured: strict says why", done.stderr)
    for o in json.loads(done.stdout)["outputs"]:
        checks.that(o["gate"]["verdict"] == "skipped" and o["quality"] is None, "unmeasured: the manifest", o["gate"])
        file = os.path.join(out, o["path"])
        for policy, code in (("default", 0), ("strict", 1)):
            again = run("verify", file, "--against", source, "--calibrate", "none", "--gate", policy, "--json")
            checks.exit_code(again, code, f"verify --gate {policy}")
            checks.that(json.loads(again.stdout)["outputs"][0]["gate"]["verdict"] == "skipped", "verify: skipped", again.stdout)
    done = run("inspect", os.path.join(out, "manifest.json"))
    checks.that(done.returncode == 0 and b"skipped" in done.stdout and b"pass" not in done.stdout, "inspect: skipped", done.stdout)
    done = run("quantize", source, "-o", os.path.join(folder, "f16"), "--formats", "gguf:F16", "--gate", "default")
    checks.exit_code(done, 1, "a value that float16 cannot hold")
    checks.that(b"blk.0.ffn_gate.weight: row 3, value 0: the source has 1.7e+38, more than the type can hold" in done.stdout, "the tensor is named", done.stdout)


def check_broken(checks, folder):
    source = spoiled(folder, "nan", {("model.layers.0.mlp.down_proj.weight", 3 * 256 + 9): NAN})
    for options in ((), ("--calibrate", "builtin"), ("--target-bpw", "5")):
        done = run("quantize", source, "-o", os.path.join(folder, "broken"), "--formats", "gguf:Q4_K_M", *options)
        checks.exit_code(done, 3, f"NaN {options}")
        checks.that(b"model.layers.0.mlp.down_proj.weight holds a value that is not finite at row 3, column 9" in done.stderr, "NaN: named", done.stderr)


def check_options(checks, folder):
    out = os.path.join(folder, "options")
    command = ("quantize", SOURCE, "-o", out, "--formats", "gguf:Q4_K_M,gguf:Q8_0,mlx:4bit")
    for options in (("--tensor-type", "nomatch=Q4_0"), ("--target-bpw", "0"), ("--target-bpw", "99"), ("--name", "a\nb"), ("--name", "a/b"), ("--name", "\x1b[2J")):
        done = run(*command, *options)
        checks.exit_code(done, 2, f"{options}")
        checks.that(not os.path.exists(out) and b"\x1b" not in done.stderr, f"{options}: nothing is written", done.stderr)
    done = run(*command, "--tensor-type", "norm=Q4_0")
    checks.exit_code(done, 0, "a type for norms")
    checks.that(done.stderr.count(b"changes nothing") == 1 and b"gguf Q4_K_M, gguf Q8_0:" in done.stderr, "a type for norms: one warning", done.stderr)
    with open(os.path.join(out, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    checks.that([len(o["warnings"]) for o in manifest["outputs"]] == [1, 1, 0], "a type for norms: in the manifest", manifest["outputs"])
    check_retold(checks, out, manifest)


def check_retold(checks, out, manifest):
    for change in (lambda m: m["outputs"][0].update(type="Q8_0"), lambda m: m["outputs"][2].update(type="8bit-g64"),
                   lambda m: m["outputs"][1].update(bits_per_weight=4.0), lambda m: m["source"].update(parameters=10 ** 12)):
        told = json.loads(json.dumps(manifest))
        change(told)
        with open(os.path.join(out, "told.json"), "w", encoding="utf-8") as f:
            json.dump(told, f)
        checks.exit_code(run("inspect", os.path.join(out, "told.json")), 3, "inspect: a manifest that says otherwise")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        check_unmeasured(checks, folder)
        check_broken(checks, folder)
        check_options(checks, folder)
    checks.close()


if __name__ == "__main__":
    main()
