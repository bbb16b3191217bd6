#!/usr/bin/env python3
"""make demo: from a published checkpoint to small files that write Python. usage: demo.py BUILD/quern

Quantizes models/quern-coder-8m to three files, asks each the same four questions, and marks which answers Python's own parser accepts.
Nothing that the model writes is executed. Needs Python's standard library only.
"""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKPOINT = os.path.join("models", "quern-coder-8m")
FORMATS = "gguf:Q8_0,gguf:Q4_K_M,mlx:4bit"
PROMPTS = [
    "Write a Python function that checks whether a number is prime.",
    "Write a Python function `flatten(items)` that flattens a nested list.",
    "Write a Python function that counts how often each word occurs in a text.",
    "Write a Python class `Stack` with push, pop and peek.",
]
MAX_TOKENS = 200
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def bold(text):
    return paint("1", text)


def dim(text):
    return paint("2", text)


def title(text):
    print("\n" + bold(paint("36", text)), flush=True)


def megabytes(n):
    return f"{n / 1e6:.1f} MB"


def quern(program, *arguments):
    """Runs one command and returns its JSON document; a failure ends the demo with the program's own message."""
    done = subprocess.run([program, *arguments, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(f"demo: quern {arguments[0]} ended with exit {done.returncode}")
    return json.loads(done.stdout)


def code_of(answer):
    """The first fenced block, or the whole answer."""
    block = re.search(r"```(?:python)?\n(.*?)(?:```|\Z)", answer, re.S)
    return (block.group(1) if block else answer).strip("\n")


def parses(code):
    try:
        return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.parse(code).body)
    except (SyntaxError, ValueError):
        return False


def proof_of(output):
    """The gate's verdict, and how far the file's predictions are from the checkpoint's (mean Kullback-Leibler divergence)."""
    quality, verdict = output["quality"], output["gate"]["verdict"]
    mark = paint("32", verdict) if verdict == "pass" else paint("33", verdict)
    return f"{mark}, KLD {quality['kld_mean']:.5f}" if quality else mark


def quantize(program, folder):
    """Quantizes, prints the table of files, and returns [(label, path, bytes)]."""
    shutil.rmtree(os.path.join(ROOT, folder), ignore_errors=True)
    print(f"$ quern quantize {CHECKPOINT} -o {folder} --formats {FORMATS}", flush=True)
    started = time.monotonic()
    manifest = quern(program, "quantize", CHECKPOINT, "-o", folder, "--formats", FORMATS)
    seconds = time.monotonic() - started
    source = manifest["source"]
    size = sum(f["bytes"] for f in source["files"] if f["path"].endswith(".safetensors"))
    print(f"  {'checkpoint':14}{megabytes(size):>10}  {8 * size / source['parameters']:5.2f} bits per weight   {source['parameters'] / 1e6:.1f} M parameters")
    outputs = []
    for output in manifest["outputs"]:
        label = f"{output['format'].upper()} {output['type']}"
        print(f"  {label:14}{megabytes(output['bytes']):>10}  {output['bits_per_weight']:5.2f} bits per weight   {proof_of(output)}   {folder}/{output['path']}")
        outputs.append((label, os.path.join(folder, output["path"]), output["bytes"]))
    print(dim(f"  three files, each read back and run beside its source, and manifest.json with every hash and figure, in {seconds:.1f} s"))
    return outputs


def show_answer(prompt, code, good, answer, seen):
    mark = paint("32", "✓ Python parses it") if good else paint("31", "✗ Python does not parse it")
    speed = answer["timings"]["decode_tokens_per_s"]
    rate = f"{speed:,.0f} tokens/s" if speed else "too short to time"
    print(f"{bold('>')} {prompt}")
    if code in seen:
        print(dim(f"    the same code as {seen[code]} wrote"))
    else:
        print("\n".join("    " + line for line in code.split("\n")))
    print(f"  {mark}  {dim(str(answer['completion_tokens']) + ' tokens, ' + rate)}", flush=True)


def ask(program, label, path, seen):
    """Asks all prompts; returns a row of the closing table."""
    title(f"{label}  ({path})")
    good, speeds, memory = 0, [], 0
    for prompt in PROMPTS:
        answer = quern(program, "run", path, prompt, "--temp", "0", "-n", str(MAX_TOKENS), "-q")
        code = code_of(answer["text"])
        accepted = parses(code)
        show_answer(prompt, code, accepted, answer, seen)
        seen.setdefault(code, label)
        good += accepted
        speeds.append(answer["timings"]["decode_tokens_per_s"] or 0)
        memory = max(memory, answer["peak_rss_bytes"])
    return label, good, sorted(speeds)[len(speeds) // 2], memory


def main():
    program = os.path.abspath(sys.argv[1])
    started = time.monotonic()
    title("1. Quantize a Hugging Face checkpoint: one pass, three files")
    folder = os.path.join("build", "demo-files")
    outputs = quantize(program, folder)
    title("2. Ask each of them")
    seen = {}
    rows = [ask(program, label, path, seen) + (size,) for label, path, size in outputs]
    title("3. What came out")
    print(f"  {'file':14}{'size':>10}{'parses':>9}{'tokens/s':>11}{'memory':>11}")
    for label, good, speed, memory, size in rows:
        print(f"  {label:14}{megabytes(size):>10}{good:>5} of {len(PROMPTS)}{speed:>9,.0f}  {megabytes(memory):>11}")
    print(dim(f"  done in {time.monotonic() - started:.0f} s; no generated code was executed"))
    title("Try next")
    print('  build/quern run "Write a Python function that reverses a string."')
    print("  build/quern chat demo")
    print(f"  build/quern inspect {outputs[1][1]}")
    print("  build/quern bench demo")
    print("  build/quern quantize ./your-checkpoint -o out --formats gguf:Q4_K_M,mlx:4bit")
    return 0 if all(row[1] > 0 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
