#!/usr/bin/env python3
"""How soon there is something to read: process start to the 64th token of the built-in model; and of each model, how long it takes to be ready, what its first token takes besides
reading the prompt, and how fast it comes from the disk beside plain direct reads. usage: bench_start.py [--record NAME] [--title TEXT] [--runs N] BUILD/quern [MODEL.gguf...] (of one file each)

For the first two the files are read once beforehand, so they come from the page cache; for the last they are dropped from it before every run. Writes what bench/README.md describes.
"""
import argparse
import concurrent.futures
import datetime
import mmap
import os
import statistics
import subprocess
import sys
import time

import bench

PROMPT, TOKENS = "def fibonacci(n):", 64
LONG_PROMPT = "".join(f"def step_{i}(x):\n    return x + {i}\n\n\n" for i in range(30))  # some 500 tokens
READERS, PIECE = 4, 8 << 20


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


def first_token_besides(program, model):
    """Seconds of a whole process that says one token, without those of its prompt."""
    begin = time.perf_counter()
    done = bench.quern_json(program, "run", model, LONG_PROMPT, "--raw", "-n", "1", "--temp", "0", "--quiet")
    return time.perf_counter() - begin - done["prompt_tokens"] / done["timings"]["prefill_tokens_per_s"]


def drop(path):
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_part(path, begin, end):
    """Bytes read past the page cache; the last piece is as long as the file."""
    file, buffer, n = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, PIECE), 0
    for at in range(begin, end, PIECE):
        n += os.preadv(file, [buffer], at)
    os.close(file)
    return n


def direct(path):
    """Seconds in which the disk gives the file to a few readers, each a part of it."""
    size = os.path.getsize(path)
    part = (size // READERS + PIECE) // PIECE * PIECE
    drop(path)
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        read = sum(pool.map(lambda i: read_part(path, i * part, min((i + 1) * part, size)), range(READERS)))
    if read != size:
        raise SystemExit(f"{path}: {read} of {size} bytes were read past the page cache")
    return time.perf_counter() - begin


def cold(program, model):
    """Bytes a second at which Quern reads a file in that is not in memory, and the seconds."""
    drop(model)
    read = bench.quern_json(program, "run", model, PROMPT, "--raw", "-n", "1", "--temp", "0", "--quiet")["read_in"]
    if read["cold_bytes"] < 0.9 * read["bytes"]:
        raise SystemExit(f"{model}: only {read['cold_bytes']} of {read['bytes']} bytes were cold: this file system does not let go of its pages")
    return read["cold_bytes"] / read["seconds"], read["seconds"]


def disk_rows(program, model):
    """In turns, order changing."""
    name, ours, theirs, rates = os.path.basename(model), [], [], []
    for i in range(5):
        for side in ("ours", "theirs") if i % 2 == 0 else ("theirs", "ours"):
            if side == "ours":
                rate, seconds = cold(program, model)
                rates.append(rate)
                ours.append(seconds)
            else:
                theirs.append(direct(model))
    yield row(f"from the disk: {name} read in by Quern, {statistics.median(rates) / 1e9:.2f} GB/s", ours)
    yield row(f"from the disk: {name} by {READERS} readers past the page cache, {os.path.getsize(model) / 1e9 / statistics.median(theirs):.2f} GB/s", theirs)


def row(what, samples):
    return {"what": what, "seconds": statistics.median(samples), "spread": bench.spread(samples), "smallest": min(samples), "largest": max(samples), "runs": len(samples)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--title", default="Start: the first tokens, and when a model is ready")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("program")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    rows = [row(f"process start to the {TOKENS}th token, built-in model", [first_tokens(args.program) for _ in range(args.runs)])]
    for model in args.models:
        warm(model)
        name = os.path.basename(model)
        rows.append(row(f"load {name}, {os.path.getsize(model) / 1e9:.2f} GB", [ready(args.program, model) for _ in range(5)]))
        rows.append(row(f"first token of {name}: the whole process without the prompt's time", [first_token_besides(args.program, model) for _ in range(5)]))
        rows += disk_rows(args.program, model)
    bench.print_table(rows)
    machine = bench.machine_of(bench.quern_json(args.program, "bench", "demo", "-p", "16", "-n", "4", "--parallel", "0"))
    bench.save({"schema": "quern.bench-result/1", "title": args.title, "date": datetime.date.today().isoformat(),
                "machine": machine, "version": bench.version_of(args.program),
                "what": "Files from the page cache where nothing else is said. Time of the whole process, the time until the first step could run, a first token's without its prompt's, and cold files in turns with plain reads; medians, spread (largest - smallest) / median.",
                "command": " ".join(["tools/bench_start.py", "--runs", str(args.runs), "build/quern"] + [os.path.basename(m) for m in args.models]),
                "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
