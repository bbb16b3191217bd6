#!/usr/bin/env python3
"""What each sequence more gives. usage: bench_sequences.py [--record NAME] [--title TEXT] [--upto N] [--runs N] [-t N] BUILD/quern MODEL

Every run goes through 1 to N sequences in one process, so that neighbours are of the same minute; ratios are of one run, and their medians over all
runs are given. `bench_peers.py --sequences` sets each number beside llama.cpp's, minutes apart from the next.
"""
import argparse
import datetime
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--title")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--upto", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    counts = list(range(1, args.upto + 1))
    runs = []
    for _ in range(args.runs):
        done = bench.quern_json(args.program, "bench", args.model, "-t", str(args.threads), "-r", "1", "-p", "0", "-n", "0", "--parallel", ",".join(map(str, counts)))
        runs.append([entry["tokens_per_s"] for entry in done["batch"]])
    rows = []
    for i, n in enumerate(counts):
        over_one, over_last = [run[i] / run[0] for run in runs], [run[i] / run[max(i - 1, 0)] for run in runs]
        rows.append({"what": f"{n} sequence{'s' if n > 1 else ''}", "tokens/s": statistics.median(run[i] for run in runs), "spread": bench.spread([run[i] for run in runs]),
                     "times one": statistics.median(over_one), "its spread": bench.spread(over_one),
                     "times one less": statistics.median(over_last), "that spread": bench.spread(over_last)})
    bench.print_table(rows)
    name = os.path.basename(args.model)
    bench.save({"schema": "quern.bench-result/1", "title": args.title or f"{name}: what each sequence more gives", "date": datetime.date.today().isoformat(),
                "machine": bench.machine_of(done), "version": bench.version_of(args.program),
                "what": f"A token of each sequence a step, 32 steps for each number, all numbers one after the other in one run; medians of {args.runs} runs, spread (largest - smallest) / median. "
                        f"Ratios are of one run. {args.threads} threads.",
                "command": f"tools/bench_sequences.py --upto {args.upto} --runs {args.runs} -t {args.threads} build/quern {name}", "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
