#!/usr/bin/env python3
"""Quern and llama.cpp quantize one float GGUF to one type, in turns. usage: quantize_peers.py [--record NAME] [--type Q4_K_M] [--pairs N] BUILD/quern SOURCE.gguf

Both write the whole file, from a warm page cache; Quern without calibration and without its gate, but with its hashes and with the file synced to the
disk, which llama.cpp does not do. Medians, spread and the median ratio of the pairs are printed.
Needs Python with llama-cpp-python (`make peers` sets one up; QUERN_PEERS_PYTHON names another).
"""
import argparse
import datetime
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import bench  # noqa: E402

PEER = """
import ctypes, sys
import llama_cpp
source, out, kind, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + kind)
params.nthread = int(threads)
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
code = llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
print(llama_cpp.__version__)
sys.exit(code)
"""


def timed(command):
    """Seconds of the clock and of the processor, and what was printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout.strip()


def warm(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 24):
            pass


def run_pair(args, python, folder, mine_first):
    out = os.path.join(folder, "out")
    commands = {"mine": [args.program, "quantize", args.source, "-o", out, "--formats", f"gguf:{args.type}", "--calibrate", "none", "--gate", "off",
                         "-t", str(args.threads), "--quiet"],
                "theirs": [python, "-c", PEER, args.source, os.path.join(folder, "peer.gguf"), args.type, str(args.threads)]}
    result = {}
    for who in ("mine", "theirs") if mine_first else ("theirs", "mine"):
        warm(args.source)
        result[who] = timed(commands[who])
        shutil.rmtree(out, ignore_errors=True)
    os.remove(os.path.join(folder, "peer.gguf"))
    os.sync()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("program")
    parser.add_argument("source")
    args = parser.parse_args()
    python = os.environ.get("QUERN_PEERS_PYTHON", os.path.join(ROOT, "build", "peers", "venv", "bin", "python"))
    size = os.path.getsize(args.source)
    with tempfile.TemporaryDirectory(prefix="quern-quantize-") as folder:
        pairs = [run_pair(args, python, folder, i % 2 == 0) for i in range(args.pairs)]
    speeds = {who: [size / 1e6 / p[who][0] for p in pairs] for who in ("mine", "theirs")}
    name = os.path.basename(args.source)
    rows = [{"source": name, "type": args.type, "source GB": size / 1e9, "Quern MB/s": statistics.median(speeds["mine"]),
             "Quern spread": bench.spread(speeds["mine"]), "llama.cpp MB/s": statistics.median(speeds["theirs"]),
             "llama.cpp spread": bench.spread(speeds["theirs"]),
             "ratio": statistics.median(p["theirs"][0] / p["mine"][0] for p in pairs),
             "Quern processor seconds": statistics.median(p["mine"][1] for p in pairs),
             "llama.cpp processor seconds": statistics.median(p["theirs"][1] for p in pairs),
             "ratio of processor seconds": statistics.median(p["theirs"][1] / p["mine"][1] for p in pairs), "pairs": len(pairs)}]
    bench.print_table(rows)
    if args.record:
        machine = bench.machine_of(bench.quern_json(args.program, "bench", "demo", "-p", "0", "-n", "1", "-r", "1", "--parallel", "0"))
        bench.save({"schema": "quern.bench-result/1", "title": f"Quantizing to {args.type}: Quern and llama.cpp in turns",
                    "date": datetime.date.today().isoformat(), "machine": machine,
                    "version": f"{bench.version_of(args.program)}; llama-cpp-python {pairs[0]['theirs'][2]}",
                    "what": "Pairs, order changing, source in the page cache; bytes of the source over the whole process's time; medians, spread (largest - smallest) / "
                            f"median, and the median of the pairs' ratios. Without calibration and gate; Quern's time includes its hashes. {args.threads} threads.",
                    "command": f"tools/peers/quantize_peers.py --type {args.type} --pairs {args.pairs} build/quern {name}",
                    "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
