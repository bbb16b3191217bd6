#!/usr/bin/env python3
"""What the measuring tools make of figures: which pairs count, when a ratio is named, and what the table of speeds says of them."""
import os
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.join(ROOT, "tools", "peers")]
import bench  # noqa: E402
import bench_peers  # noqa: E402
import bench_replay  # noqa: E402
import make_performance_md as page  # noqa: E402


def pairs(*limits, moved=()):
    return [bench_peers.Pair(2.0, 1.0, 0.5, limit, 1e9, i in moved) for i, limit in enumerate(limits)]


def bench_document(kind, **entry):
    row = {"tokens_per_s": 8.0, "fraction_of_peak": 0.3, "fraction_of_limit": 0.4, "ratio_refused": None, **entry}
    return {"prefill": [], "decode": [], "batch": [], kind: [row], "machine": {"read_bandwidth_bytes_per_s": 3e10}}


def edit(first, second):
    return {"n": 11, "samples": [first, second], "samples_plain": [5.0, 5.0], "steps": 1, "guessed": 1, "right": 1}


def result(title, rows):
    return {"title": title, "rows": rows}


RESULTS = [("speeds.json", result("Speeds", [{"what": "one", "times one less": None, "tokens/s": 10.0, "spread": 0.1},
                                             {"what": "two", "times one less": 1.5, "tokens/s": 15.0, "spread": 0.3},
                                             {"what": "three", "times one less": 0.9, "tokens/s": 13.5, "spread": None}]))]

CASES = [  # name, got, wanted
    ("all pairs of one limit count", len(bench_peers.quiet(pairs(10, 10.9, 9.1))), 3),
    ("a pair a tenth away does not", [p.limit for p in bench_peers.quiet(pairs(10, 10, 11.2, 8.8))], [10, 10]),
    ("nor one whose limit moved meanwhile", len(bench_peers.quiet(pairs(10, 10, 10, moved={1}))), 2),
    ("which has no say in what is the middle", [p.limit for p in bench_peers.quiet(pairs(10, 20, 20, 10, 10, moved={1, 2}))], [10, 10, 10]),
    ("without a known limit all count", len(bench_peers.quiet(pairs(None, None))), 2),
    ("and where some have one, those do", [p.limit for p in bench_peers.quiet(pairs(10, 20, 10, None))], [10, 10]),
    ("no pair, no count", bench_peers.quiet([]), []),
    ("two pairs have no middle half", bench_peers.ratio_of([1.0, 3.0]), (2.0, None)),
    ("a narrow middle half names a ratio", tuple(round(v, 3) for v in bench_peers.ratio_of([1.0, 1.4, 1.45, 1.5, 9.0])), (1.45, 0.069)),
    ("a wide one does not", bench_peers.ratio_of([1.0, 1.2, 1.5, 1.8, 2.0])[0], None),
    ("a token's share is of the limit that binds", bench_peers.part_of(bench_document("decode"))[:3], (8.0, 0.4, 20.0)),
    ("a prompt's is of the unit's peak", bench_peers.part_of(bench_document("prefill"))[:3], (8.0, 0.3, 20.0)),
    ("limits that moved", bench_peers.part_of(bench_document("batch", fraction_of_limit=None, ratio_refused="limits_differ"))[1:], (None, None, 3e10, True)),
    ("limits that are not known", bench_peers.part_of(bench_document("decode", fraction_of_limit=None, ratio_refused="no_limit")).moved, False),
    ("parts of a model", bench_peers.parts_of("no/such-model.gguf"), ["no/such-model.gguf"]),
    ("spread", bench.spread([1.0, 4.0, 2.0]), 1.5),
    ("spread of nothing", bench.spread([]), None),
    ("a limit's name", bench.limit_name({"bound": "read_bandwidth", "limit_before": 3e10, "limit_after": 3.1e10, "ratio_refused": None, "bound_besides": None}), "read bandwidth 31.0 GB/s"),
    ("a token's share", bench.share_of({"fraction_of_peak": 0.3, "fraction_of_limit": 0.4}, False), 0.4),
    ("a gain of edits whose samples lie apart", bench_replay.total_of("m", [edit(10.0, 13.0)])["gain"], None),
    ("and of such that do not", round(bench_replay.total_of("m", [edit(10.0, 11.0)])["gain"], 3), 2.1),
    ("and what is wrong with it", bench.limit_name({"bound": "vnni_int8", "limit_before": 8e11, "limit_after": 6e11, "ratio_refused": "limits_differ", "bound_besides": "fma_f32"}),
     "vnni int8 0.8 TOP/s and fma f32; it changed meanwhile"),
    ("all edits take the time of each", bench_replay.rates_of([{"n": 11, "samples": [10.0, 5.0]}, {"n": 21, "samples": [5.0, 20.0]}], "samples"), [6.0, 10.0]),
    ("met", page.verdict(0.9, 0.1, {"least": 0.85}), "yes"),
    ("missed", page.verdict(0.8, None, {"least": 0.85}), "**no**"),
    ("met, but who knows", page.verdict(0.9, 0.21, {"least": 0.85}), "yes, unsteady"),
    ("at most", page.verdict(0.2, 0.0, {"most": 0.3}), "yes"),
    ("not measured", page.verdict(None, None, {"least": 1}), ""),
    ("a figure from a row", page.reached(RESULTS, {"from": ["speeds", "two", "tokens/s"]}), 15.0),
    ("and its spread", page.spread_of(RESULTS, {"from": ["speeds", "two", "tokens/s"]}), 0.3),
    ("a ratio of two rows", page.reached(RESULTS, {"from": ["speeds", "two", "tokens/s"], "over": ["speeds", "one", "tokens/s"]}), 1.5),
    ("the least rise, the first row left out", page.reached(RESULTS, {"rise": ["speeds", "times one less"]}), 0.9),
    ("what is missing", page.reached(RESULTS, {"missing": "a machine"}), None),
]


def main():
    failed = [(name, got, wanted) for name, got, wanted in CASES if got != wanted]
    for name, got, wanted in failed:
        print(f"{name}: {got}, not {wanted}")
    print(f"{len(CASES) - len(failed)} of {len(CASES)} figures are read rightly")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
