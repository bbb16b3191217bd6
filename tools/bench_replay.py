#!/usr/bin/env python3
"""What guessing from the text so far gains, on the edits of bench/replay/coding.json. usage: bench_replay.py [--record NAME] [-r N] BUILD/quern MODEL

Writes what bench/README.md describes. The row "all edits" is their decoded tokens over their time; the first token of an answer comes with the prompt.
"""
import argparse
import datetime
import os
import statistics
import sys

import bench

NEW = "write something new"  # the one that is no edit
SPREAD_MAX = 0.2  # (largest - smallest) / median: as far as `quern bench` gives a gain


def row_of(model, r):
    return {"model": model, "what": r["name"], "tokens": r["n"], "tokens/s": r["tokens_per_s"], "spread": bench.spread(r["samples"]), "without guesses": r["tokens_per_s_plain"],
            "its spread": bench.spread(r["samples_plain"]), "gain": r["gain"], "steps": r["steps"], "guessed": r["guessed"], "right": r["right"]}


def rates_of(edits, samples):
    """Tokens a second over all edits, of each repeat."""
    return [sum(r["n"] - 1 for r in edits) / sum((r["n"] - 1) / r[samples][k] for r in edits) for k in range(min(len(r[samples]) for r in edits))]


def total_of(model, edits):
    ours, plain = rates_of(edits, "samples"), rates_of(edits, "samples_plain")
    steady = all(len(rates) > 1 and bench.spread(rates) <= SPREAD_MAX for rates in (ours, plain))
    return {"model": model, "what": "all edits", "tokens": sum(r["n"] for r in edits), "tokens/s": statistics.median(ours), "spread": bench.spread(ours),
            "without guesses": statistics.median(plain), "its spread": bench.spread(plain), "gain": statistics.median(o / p for o, p in zip(ours, plain)) if steady else None,
            "steps": sum(r["steps"] for r in edits), "guessed": sum(r["guessed"] for r in edits), "right": sum(r["right"] for r in edits)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("-r", type=int, default=3)
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    texts, name = os.path.join(bench.ROOT, "bench", "replay", "coding.json"), os.path.basename(args.model)
    result = bench.quern_json(args.program, "bench", args.model, "-p", "0", "-n", "0", "--parallel", "0", "-r", str(args.r), "--replay", texts)
    rows = [row_of(name, r) for r in result["replay"]] + [total_of(name, [r for r in result["replay"] if r["name"] != NEW])]
    bench.print_table(rows)
    bench.save({"schema": "quern.bench-result/1", "title": f"{name}: guessing from the text so far", "date": datetime.date.today().isoformat(),
                "machine": bench.machine_of(result), "version": bench.version_of(args.program),
                "what": "Known answers (four edits of code, one new text) said with guesses and without, in turns; tokens a second of decoding, medians, spread (largest - "
                        "smallest) / median. The weights may be random: what is said is the known answer, the time is that of a model which gives it.",
                "command": f"tools/bench_replay.py -r {args.r} build/quern {name}", "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
