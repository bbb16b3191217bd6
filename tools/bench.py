#!/usr/bin/env python3
"""Speed of models on this machine. usage: bench.py [--record NAME] [--title TEXT] [-p LIST] [-n N] [-d LIST] [-r N] [--parallel LIST] [--kv-type LIST]
                                                 BUILD/quern [MODEL...]

Runs `quern bench MODEL --json` for each model (the built-in one if none is named) and each type of keys and values, prints a table, and writes a result as bench/README.md describes
it: to build/bench/, or with --record to bench/results/NAME.json.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def quern_json(program, *arguments):
    done = subprocess.run([program, *arguments, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: quern {' '.join(arguments)} ended with exit {done.returncode}")
    return json.loads(done.stdout)


def machine_of(bench):
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) * 1024
    return {"cpu": bench["machine"]["cpu"], "cores": len(os.sched_getaffinity(0)), "isa": bench["isa"], "memory_bytes": memory}


def version_of(program):
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False).stdout.strip()  # noqa: E731
    commit = git("describe", "--always")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench", ":!docs")  # records are no part of what they measure
    return f"{shown} ({commit}{'-dirty' if changed else ''})" if commit else shown


def share_of(row, is_prompt):
    """Of the limit that binds; of a prompt that of the units' peak by the products with weights, attention left out, as the figures to reach have it."""
    return row["fraction_of_peak"] if is_prompt else row["fraction_of_limit"]


def rows_of(name, bench):
    for p in bench["prefill"]:
        yield {"model": name, "what": f"prefill {p['n']}", "tokens/s": p["tokens_per_s"], "spread": spread(p["samples"]), "share of limit": share_of(p, True),
               "limit": f"{(p['unit'] or 'not known').replace('_', ' ')}; of all that binds{share_text(p)}: {limit_name(p)}"}
    for d in bench["decode"]:
        yield {"model": name, "what": f"decode {d['n']} at {d['depth']}", "tokens/s": d["tokens_per_s"], "spread": spread(d["samples"]),
               "share of limit": share_of(d, False), "limit": limit_name(d)}
    for b in bench["batch"]:
        last = "p99" if b["latency_samples"] >= 100 else "at most"
        yield {"model": name, "what": f"sequences together: {b['parallel']}", "tokens/s": b["tokens_per_s"], "spread": spread(b.get("samples", [])), "share of limit": share_of(b, False),
               "limit": f"{limit_name(b)}; a step {b['latency_ms_p50']:.3g} ms, {last} {b['latency_ms_p99']:.3g} ms"}


def share_text(row):
    return f" {100 * row['fraction_of_limit']:.1f} %" if row["fraction_of_limit"] else ""


def limit_name(row):
    """What binds, at which rate, or why there is no share of it."""
    if not row["bound"]:
        return "not known"
    rate = max(row["limit_before"], row["limit_after"])
    shown = f"{rate / 1e9:.1f} GB/s" if row["bound"].endswith("bandwidth") else f"{rate / 1e12:.3g} TOP/s"
    also = " and " + row["bound_besides"].replace("_", " ") if row["bound_besides"] else ""
    why = {"samples_differ": "; samples differ too much", "limits_differ": "; it changed meanwhile"}.get(row["ratio_refused"], "")
    return f"{row['bound'].replace('_', ' ')} {shown}{also}{why}"


def spread(samples):
    """Largest less smallest, in parts of the middle."""
    ordered = sorted(samples)
    return round((ordered[-1] - ordered[0]) / ordered[len(ordered) // 2], 3) if ordered else None


def print_table(rows):
    columns = list(rows[0])
    cells = [columns] + [[f"{v:,.4g}" if isinstance(v, float) else "-" if v is None else str(v) for v in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def save(result, record):
    """Writes a result where it belongs and says where that is."""
    folder = os.path.join(ROOT, "bench", "results") if record else os.path.join(ROOT, "build", "bench")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, (record or datetime.datetime.now().strftime("%Y%m%d-%H%M%S")) + ".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1, ensure_ascii=False)
        f.write("\n")
    print("written:", os.path.relpath(path, ROOT))
    if record:
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make_performance_md.py")], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--title", default="Speed of Quern")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("-p", default="128,512")
    parser.add_argument("-n", default="64")
    parser.add_argument("-d", default="0")
    parser.add_argument("-r", default="3")
    parser.add_argument("--parallel", metavar="LIST", default="0")
    parser.add_argument("--kv-type", metavar="LIST", default="f16")
    parser.add_argument("program")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    flags = ["-p", args.p, "-n", args.n, "-d", args.d, "-r", args.r, "--parallel", args.parallel]
    kinds = args.kv_type.split(",")
    rows, bench = [], None
    for model in args.models or ["demo"]:
        for kind in kinds:
            bench = quern_json(args.program, "bench", model, *flags, "--kv-type", kind)
            rows += [{"model": row.pop("model"), **({"keys and values": kind} if len(kinds) > 1 else {}), **row} for row in rows_of(os.path.basename(model), bench)]
    print_table(rows)
    save({"schema": "quern.bench-result/1", "title": args.title, "date": datetime.date.today().isoformat(), "machine": machine_of(bench),
          "version": version_of(args.program),
          "what": "Median tokens a second of `quern bench`; spread is (largest - smallest) / median of its samples; the share is of the limit measured right before and after (the better of both).",
          "command": " ".join(["quern bench MODEL", *flags, "--kv-type", args.kv_type]), "rows": rows, "notes": args.note}, args.record)


if __name__ == "__main__":
    main()
