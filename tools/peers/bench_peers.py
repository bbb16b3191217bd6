#!/usr/bin/env python3
"""Quern and llama.cpp in turns on one file. usage: bench_peers.py [--record NAME] [-p N] [-n N] [-d N] [--pairs N] BUILD/quern MODEL.gguf

Each pair is one measurement of ours and one of theirs, the order changing from pair to pair; medians, spread and the median ratio of the pairs are
printed. The machine's read bandwidth as `quern bench` measures it is watched: if it moves by more than a tenth, the run says so and records nothing.
Needs Python with llama-cpp-python (`make peers` sets one up; QUERN_PEERS_PYTHON names another).
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import bench  # noqa: E402


class Peer:
    """llama.cpp, loaded once, in a process of its own."""

    def __init__(self, python, model, threads):
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_speed.py")
        self.process = subprocess.Popen([python, here, model, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = json.loads(self.process.stdout.readline())["version"]

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["tokens_per_s"]

    def close(self):
        self.process.stdin.write('{"quit":true}\n')
        self.process.stdin.close()
        self.process.wait()


def ours(args, question, bandwidths):
    flags = ["-p", str(question["prefill"]), "-n", "0"] if "prefill" in question else ["-p", "0", "-n", str(question["decode"]), "-d", str(question["depth"])]
    result = bench.quern_json(args.program, "bench", args.model, "-t", str(args.threads), *flags)
    bandwidths.append(result["machine"]["read_bandwidth_bytes_per_s"])
    args.machine = bench.machine_of(result)
    entry = (result["prefill"] + result["decode"])[0]
    return entry["tokens_per_s"], entry.get("fraction_of_bandwidth") or entry.get("fraction_of_peak")


def run_pairs(args, peer, question, bandwidths):
    mine, theirs, shares = [], [], []
    for pair in range(args.pairs):
        for side in ("mine", "theirs") if pair % 2 == 0 else ("theirs", "mine"):
            if side == "mine":
                speed, share = ours(args, question, bandwidths)
                mine.append(speed)
                shares.append(share)
            else:
                theirs.append(peer.ask(**question))
    label = f"prefill {question['prefill']}" if "prefill" in question else f"decode {question['decode']} at {question['depth']}"
    return {"model": os.path.basename(args.model), "what": label, "Quern tokens/s": statistics.median(mine), "Quern spread": bench.spread(mine),
            "llama.cpp tokens/s": statistics.median(theirs), "llama.cpp spread": bench.spread(theirs),
            "ratio": statistics.median(a / b for a, b in zip(mine, theirs)), "Quern share of limit": statistics.median(s for s in shares if s is not None)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("-p", type=int, default=512)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("-d", type=int, default=0)
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    python = os.environ.get("QUERN_PEERS_PYTHON", os.path.join(ROOT, "build", "peers", "venv", "bin", "python"))
    peer, bandwidths = Peer(python, args.model, args.threads), []
    questions = ([{"decode": args.n, "depth": args.d}] if args.n else []) + ([{"prefill": args.p}] if args.p else [])
    rows = [run_pairs(args, peer, question, bandwidths) for question in questions]
    peer.close()
    bench.print_table(rows)
    moved = (max(bandwidths) - min(bandwidths)) / statistics.median(bandwidths)
    print(f"read bandwidth {statistics.median(bandwidths) / 1e9:.1f} GB/s, moved by {100 * moved:.0f} % during the run")
    if moved > 0.1 and args.record:
        print("the machine was not quiet: nothing is recorded")
        return 1
    name = os.path.basename(args.model)
    bench.save({"schema": "quern.bench-result/1", "title": f"{name}: Quern and llama.cpp in turns", "date": datetime.date.today().isoformat(),
                "machine": args.machine, "version": f"{bench.version_of(args.program)}; {peer.version}",
                "what": f"{args.pairs} pairs, order changing; medians, spread (largest - smallest) / median, and the median of the pairs' ratios. "
                        f"Read bandwidth {statistics.median(bandwidths) / 1e9:.1f} GB/s, moved by {100 * moved:.0f} %. {args.threads} threads.",
                "command": f"tools/peers/bench_peers.py -p {args.p} -n {args.n} -d {args.d} --pairs {args.pairs} build/quern {name}",
                "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
