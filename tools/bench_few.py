#!/usr/bin/env python3
"""What each token more costs, 1 to 9 of them, in the kernels of every type. usage: bench_few.py [--record NAME] [--title TEXT] [--isa LIST] [--runs N] BUILD/bench_matmul

Few users beside each other and guesses being checked run so; where one token more makes a step half as long again, there is a cliff. Weights come from memory, not from a cache.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench  # noqa: E402

TOKENS = range(1, 10)


TRIES = 3  # of a run in which the machine's limits moved


def measure(program, isa):
    """{type: {tokens: milliseconds}}, the machine, and whether its limits stayed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "few.json")
        command = [program, *(["--isa", isa] if isa else []), "--tokens", ",".join(map(str, TOKENS)), "--time", "0.15", "--json", path, "--date", datetime.date.today().isoformat()]
        for _ in range(TRIES):
            steady = "measure again" not in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            if steady:
                break
        with open(path, encoding="utf-8") as f:
            result = json.load(f)
    times = {}
    for row in result["rows"]:
        times.setdefault(row["type"], {})[row["tokens"]] = row["ms"]
    return times, result["machine"], steady


def row_of(kind, isa, runs):
    """Medians of the runs; each run's tokens are of the same minute."""
    over_one = {n: statistics.median(run[kind][n] / run[kind][1] for run in runs) for n in TOKENS}
    steps = {n: statistics.median(run[kind][n] / run[kind][n - 1] for run in runs) for n in TOKENS if n > 1}
    steepest = max(steps, key=steps.get)
    return {"type": kind, "instruction set": isa, **{f"{n} tokens" if n > 1 else "1 token": over_one[n] for n in TOKENS}, "largest step": steps[steepest], "to tokens": steepest}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--title", default="Few tokens: what each one more costs")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--isa", default="", help="several with commas (default: the best of this machine)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("program", help="build/bench_matmul")
    args = parser.parse_args()
    rows, machines, n_moved = [], [], 0
    for isa in args.isa.split(","):
        runs = []
        for _ in range(args.runs):
            times, machine, steady = measure(args.program, isa)
            runs.append(times)
            machines.append(machine)
            n_moved += not steady
        rows += [row_of(kind, machine["isa"], runs) for kind in runs[0]]
    if n_moved:
        args.note.append(f"In {n_moved} of {len(machines)} runs the machine's limits moved by more than a tenth, each time of {TRIES}.")
    bench.print_table(rows)
    quern = os.path.join(os.path.dirname(args.program), "quern")
    bench.save({"schema": "quern.bench-result/1", "title": args.title, "date": datetime.date.today().isoformat(), "machine": machines[0], "version": bench.version_of(quern),
                "what": f"Time of a product with so many rows of activations, as a multiple of one row's, all threads, weights from memory; medians of {args.runs} runs, ratios of one run. The largest step is from one number to the next.",
                "command": f"tools/bench_few.py{' --isa ' + args.isa if args.isa else ''} --runs {args.runs} build/bench_matmul", "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
