#!/usr/bin/env python3
"""How soon there is something to read: process start to the 64th token of the built-in model, and how long a model takes to be ready.
usage: bench_start.py [--record NAME] [--runs N] BUILD/quern [MODEL...]

The files are read once beforehand, so they come from the page cache. Writes what bench/README.md describes.
"""
import argparse
import datetime
import os
import statistics
import subprocess
import sys
import time

import bench

PROMPT, TOKENS = "def fibonacci(n):", 64


def first_tokens(program):
    """Seconds of the whole process."""
    command = [program, "run", "demo", PROMPT, "--raw", "-n", str(TOKENS), "--ignore-eos", "--temp", "0", "--quiet"]
    begin = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode(errors="replace"))
    return seconds


def ready(program, model):
    """Seconds until the first step could run, by Quern's own clock."""
    return bench.quern_json(program, "run", model, PROMPT, "--raw", "-n", "1", "--temp", "0")["timings"]["load_s"]


def warm(path):
    with open(path, "rb") as f:
        while f.read(1 << 24):
            pass


def row(what, samples):
    return {"what": what, "seconds": statistics.median(samples), "spread": bench.spread(samples), "smallest": min(samples), "largest": max(samples), "runs": len(samples)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("program")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    rows = [row(f"process start to the {TOKENS}th token, built-in model", [first_tokens(args.program) for _ in range(args.runs)])]
    for model in args.models:
        warm(model)
        rows.append(row(f"load {os.path.basename(model)}, {os.path.getsize(model) / 1e9:.2f} GB", [ready(args.program, model) for _ in range(5)]))
    bench.print_table(rows)
    machine = bench.machine_of(bench.quern_json(args.program, "bench", "demo", "-p", "16", "-n", "4", "--parallel", "0"))
    bench.save({"schema": "quern.bench-result/1", "title": "Start: the first tokens, and when a model is ready", "date": datetime.date.today().isoformat(),
                "machine": machine, "version": bench.version_of(args.program),
                "what": "Files from the page cache. Time of the whole process, and the time until the first step could run; medians, spread (largest - smallest) / median.",
                "command": " ".join(["tools/bench_start.py", "--runs", str(args.runs), "build/quern"] + [os.path.basename(m) for m in args.models]),
                "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
