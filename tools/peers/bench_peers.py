#!/usr/bin/env python3
"""Quern and llama.cpp in turns on one file. usage: bench_peers.py [--record NAME] [--title TEXT] [-p N] [-n N] [-d N] [--sequences LIST] [--pairs N]
[--repeats N] [--peer-flash on|off] BUILD/quern MODEL.gguf

Each pair is one measurement of ours and one of theirs (with --repeats the median of several), the order changing from pair to pair; medians, spread and the median ratio of the pairs are
printed. The file is first dropped from the page cache and read in by Quern, so that both read the same pages (huge ones where the file system has
them) whatever was done with it before. With -d both sides are asked in turns with their context filled once, and nothing else is measured. The limit that binds what is measured (the speed that it allows, as `quern bench` measures it right before and after our part of a pair) is watched: pairs in which it
was more than a tenth from the middle one, or changed by a tenth meanwhile, are thrown away and taken again; where too few are left, the run says so and records nothing.
A ratio whose pairs' middle half lies further apart than a fifth of it is not printed: '-' and a line below the table.
Needs Python with llama-cpp-python (`make peers` sets one up; QUERN_PEERS_PYTHON names another).
"""
import argparse
import collections
import datetime
import glob
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import bench  # noqa: E402


class Side:
    """One of the two, loaded once, in a process of its own."""

    def __init__(self, name, *command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self):
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}'s side ended; what it said stands above")
        return json.loads(answer)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


WIDTH = "middle half of ratios"
# tokens/s of both; share of the limit; the speed that the limit allows, tokens/s (share and this None: no limit is known); read bandwidth, bytes/s; whether limit or samples
# changed too much within our part
Pair = collections.namedtuple("Pair", "mine theirs share limit bandwidth moved")
MOVED_MAX = 0.1  # a pair in which the machine's limit was further than this from the others' is thrown away
RATIO_SPREAD_MAX = 0.2  # of the middle half of the pairs' ratios, as a part of their median: half of it to either side, as `quern bench` has it
TRIES = 4        # times the wanted number of pairs
BATCH_STEPS = 32  # as many as `quern bench` makes


Part = collections.namedtuple("Part", "rate share limit bandwidth moved")  # ours of a pair


def deep_turn(args, question):
    """Ours of a context that takes minutes to fill: kept in a process from turn to turn."""
    answer = args.deep.ask(**question)
    limits = [answer["read_bandwidth_before"], answer["read_bandwidth_after"]]
    limit = max(limits) / answer["bytes_per_token"]
    return Part(answer["tokens_per_s"], answer["tokens_per_s"] / limit, limit, max(limits), max(limits) - min(limits) > MOVED_MAX * max(limits))


def part_of(result):
    """Ours, from the one measurement of a `quern bench` document."""
    entry = (result["prefill"] + result["decode"] + result["batch"])[0]
    rate, of_limit = entry["tokens_per_s"], entry["fraction_of_limit"]
    return Part(rate, bench.share_of(entry, bool(result["prefill"])), rate / of_limit if of_limit else None, result["machine"]["read_bandwidth_bytes_per_s"],
                entry["ratio_refused"] in ("samples_differ", "limits_differ"))


def ours(args, question):
    if args.deep:
        return deep_turn(args, question)
    if "prefill" in question:
        flags = ["-p", str(question["prefill"]), "-n", "0", "--parallel", "0"]
    elif "sequences" in question:
        flags = ["-p", "0", "-n", "0", "--parallel", str(question["sequences"])]
    else:
        flags = ["-p", "0", "-n", str(question["decode"]), "-d", str(question["depth"]), "-c", str(args.context), "--parallel", "0"]
    result = bench.quern_json(args.program, "bench", args.model, "-t", str(args.threads), "-r", str(args.repeats), *flags)
    args.machine = bench.machine_of(result)
    return part_of(result)


def label_of(question):
    if "prefill" in question:
        return f"prefill {question['prefill']}"
    if "sequences" in question:
        return f"{question['sequences']} sequence{'s' if question['sequences'] > 1 else ''}, a token of each a step"
    return f"decode {question['decode']} at {question['depth']}"


def quiet(pairs):
    """Those of the same conditions: the limit did not move within ours, and lies near the middle one of all. Pairs without a limit count where no pair has one."""
    still = [p for p in pairs if not p.moved]
    known = [p for p in still if p.limit is not None]
    if not known:
        return still
    middle = statistics.median(p.limit for p in known)
    return [p for p in known if abs(p.limit - middle) <= MOVED_MAX * middle]


def ratio_of(ratios):
    """The median, None where the middle half of the ratios is too wide to name one; and that width as a part of the median (None: of fewer than three)."""
    middle = statistics.median(ratios)
    if len(ratios) < 3:
        return middle, None
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
    width = (third - first) / middle
    return (middle if width <= RATIO_SPREAD_MAX else None), width


def run_pairs(args, peer, question):
    """A row of the table, None if there was no quiet pair; and whether there were as many as wanted."""
    pairs = []
    ask = lambda: statistics.median(peer.ask(**question)["tokens_per_s"] for _ in range(args.repeats))  # noqa: E731
    while len(pairs) < args.pairs * TRIES and len(quiet(pairs)) < args.pairs:
        if len(pairs) % 2 == 0:
            mine, theirs = ours(args, question), ask()
        else:
            theirs, mine = ask(), ours(args, question)
        pairs.append(Pair(mine.rate, theirs, *mine[1:]))
    kept = quiet(pairs)
    if not kept:
        return None, False
    shares = [p.share for p in kept if p.share is not None]
    ratio, ratio_spread = ratio_of([p.mine / p.theirs for p in kept])
    row = {"model": os.path.basename(args.model), "what": label_of(question), "Quern tokens/s": statistics.median(p.mine for p in kept),
           "Quern spread": bench.spread([p.mine for p in kept]), "llama.cpp tokens/s": statistics.median(p.theirs for p in kept),
           "llama.cpp spread": bench.spread([p.theirs for p in kept]), "ratio": ratio, WIDTH: ratio_spread,
           "Quern share of limit": statistics.median(shares) if shares else None, "read GB/s": statistics.median(p.bandwidth for p in kept) / 1e9,
           "pairs": len(kept), "thrown away": len(pairs) - len(kept)}
    return row, len(kept) >= args.pairs


def parts_of(path):
    """The files of a model: itself, or all that a name like model-00001-of-00003.gguf promises."""
    found = re.fullmatch(r"(.*-)\d{5}(-of-\d{5}\.gguf)", path)
    return sorted(glob.glob(f"{glob.escape(found[1])}?????{glob.escape(found[2])}")) if found else [path]


def read_in_anew(args):
    """Drops the model from the page cache and lets Quern read it, so that its pages lie as on a fresh machine; a sentence for the record. Some file
    systems keep their pages (tmpfs), and so do pages that someone has mapped: what then came from the disk tells it."""
    for path in parts_of(args.model):
        try:
            with open(path, "rb") as f:
                os.fsync(f.fileno())  # what has not been written cannot be dropped
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass  # file systems that are only read know no fsync; a file that is not there is for Quern to say
    read = bench.quern_json(args.program, "bench", args.model, "-t", str(args.threads), "-r", "1", "-p", "0", "-n", "1", "--parallel", "0")["read_in"]
    if 10 * read["cold_bytes"] >= 9 * read["bytes"]:
        return "The file was read in anew by Quern first."
    said = f"{read['cold_bytes'] / 1e6:.0f} MB of {read['bytes'] / 1e6:.0f} are known to have been read in anew by Quern first."
    print(f"bench_peers: {said} The others' pages lie as whoever read them had them", file=sys.stderr)
    return said


def sequences_list(text):
    """From 1 to 256 sequences: llama.cpp has no more."""
    counts = [int(n) for n in text.split(",")]
    if not all(1 <= n <= 256 for n in counts):
        raise ValueError
    return counts


def command_of(args):
    words = ["tools/peers/bench_peers.py", "-p", args.p, "-n", args.n, "-d", args.d, "--pairs", args.pairs, "--repeats", args.repeats]
    words += ["--sequences", ",".join(map(str, args.sequences))] if args.sequences else []
    return " ".join(map(str, words + ["-t", args.threads, "--peer-flash", args.peer_flash, "build/quern", os.path.basename(args.model)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--title", help="of the record (default: the file's name); no two records may have one")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("-p", type=int, default=512)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("-d", type=int, default=0)
    parser.add_argument("--sequences", type=sequences_list, default=[], metavar="LIST")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peer-flash", choices=["on", "off"], default="on")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    python = os.environ.get("QUERN_PEERS_PYTHON", os.path.join(ROOT, "build", "peers", "venv", "bin", "python"))
    args.context = max(4096, args.p, args.d + args.n + 64)
    args.deep = None
    pages = read_in_anew(args)
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_speed.py")
    peer = Side("llama.cpp", python, here, args.model, str(args.threads), str(args.context), args.peer_flash)
    version = peer.read()["version"]
    if args.d:
        args.p, args.sequences = 0, []
        args.machine = bench.machine_of(bench.quern_json(args.program, "bench", "demo", "-t", str(args.threads), "-p", "8", "-n", "0", "--parallel", "0"))
        args.deep = Side("Quern", os.path.join(os.path.dirname(args.program), "bench_turns"), args.model, str(args.threads), str(args.context))
    questions = ([{"decode": args.n, "depth": args.d}] if args.n else []) + ([{"prefill": args.p}] if args.p else [])
    questions += [{"sequences": n, "steps": BATCH_STEPS} for n in args.sequences]
    results = [run_pairs(args, peer, question) for question in questions]
    rows = [row for row, _ in results if row is not None]
    for side in filter(None, [peer, args.deep]):
        side.close()
    for question, (row, enough) in zip(questions, results):
        if not enough:
            print(f"{label_of(question)}: {row['pairs'] if row else 0} quiet pairs instead of {args.pairs}: the machine was not quiet enough")
    if not rows:
        return 1
    bench.print_table(rows)
    for row in rows:
        if row["ratio"] is None:
            print(f"{row['what']}: no ratio: the middle half of the pairs' ratios is {100 * row[WIDTH]:.0f} % wide, more than {100 * RATIO_SPREAD_MAX:.0f} %; more pairs, or a quieter machine")
    if args.record and not all(enough for _, enough in results):
        print("nothing is recorded")
        return 1
    name = os.path.basename(args.model)
    bench.save({"schema": "quern.bench-result/1", "title": args.title or f"{name}: Quern and llama.cpp in turns", "date": datetime.date.today().isoformat(),
                "machine": args.machine, "version": f"{bench.version_of(args.program)}; {version}",
                "what": f"Pairs, order changing; medians, spread (largest - smallest) / median, and the median of the pairs' ratios with the width of their middle half (none where that is more than {100 * RATIO_SPREAD_MAX:.0f} % of it). Pairs in which the "
                        f"limit that binds was more than {100 * MOVED_MAX:.0f} % from the middle one, or changed by as much within ours, are thrown away. {pages} {args.threads} threads; "
                        f"llama.cpp's flash attention {args.peer_flash}.",
                "command": command_of(args),
                "rows": rows, "notes": args.note}, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
