#!/usr/bin/env python3
"""Writes docs/performance.md from bench/targets.json and bench/results/*.json. usage: make_performance_md.py [--check]

--check writes nothing and exits 1 if the page is not what the results give. bench/README.md describes the JSON.
"""
import glob
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "performance.md")
REQUIRED = {"schema": str, "title": str, "date": str, "machine": dict, "what": str, "command": str, "rows": list, "notes": list}
HEAD = """# Performance

Generated from `bench/results/*.json` by `tools/make_performance_md.py`; do not edit. How a figure is made, and what the files hold: `bench/README.md`.
The speeds to reach stand first; then all measurements, newest first. Changes that did not help are told too.
"""


def load(path):
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    name = os.path.basename(path)
    for key, kind in REQUIRED.items():
        if not isinstance(result.get(key), kind):
            raise ValueError(f"{name}: '{key}' is missing or no {kind.__name__}")
    if result["schema"] != "quern.bench-result/1":
        raise ValueError(f"{name}: schema {result['schema']}")
    if not {"cpu", "cores", "isa"} <= set(result["machine"]):
        raise ValueError(f"{name}: machine needs cpu, cores and isa")
    if not result["rows"] or any(list(row) != list(result["rows"][0]) for row in result["rows"]):
        raise ValueError(f"{name}: rows must be there and have the same columns")
    return name, result


def show(value):
    """Four significant digits are more than any of these measurements holds."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).replace("|", "\\|")
    if isinstance(value, int):
        return f"{value:,}" if value >= 10000 else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def section(name, result):
    columns = list(result["rows"][0])
    numeric = [all(row[c] is None or isinstance(row[c], (int, float)) for row in result["rows"]) for c in columns]
    machine = result["machine"]
    lines = [f"## {result['title']}", "",
             f"{result['date']} · {machine['cpu']}, {machine['cores']} cores, {machine['isa']}"
             + (f" · {result['version']}" if result.get("version") else "") + f" · [{name}](../bench/results/{name})",
             "", result["what"], "", "```", result["command"], "```", "",
             "| " + " | ".join(columns) + " |", "|" + "|".join("---:" if n else "---" for n in numeric) + "|"]
    lines += ["| " + " | ".join(show(row[c]) for c in columns) + " |" for row in result["rows"]]
    lines += [""] + [f"- {note}" for note in result["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def find_row(results, result, what, model=None):
    """The first row of a result with a text that begins with `what`, of `model` if one is named."""
    for row in dict(results)[result + ".json"]["rows"]:
        texts = [v for v in row.values() if isinstance(v, str)]
        if (model is None or model in texts) and (what == "" or any(t.startswith(what) for t in texts)):
            return row
    raise ValueError(f"bench/targets.json: {result} has no row '{what}'")


def find(results, result, what, column, model=None):
    return find_row(results, result, what, model)[column]


# Whose spread says how far the figure can be trusted: of a ratio its pairs' (older records have none), of speeds their own, relative to the median.
SPREADS = {"ratio": ["middle half of ratios"], "Quern share of limit": ["Quern spread"], "Quern tokens/s": ["Quern spread"], "share of limit": ["spread"],
           "seconds": ["spread"], "gain": ["spread"], "times one": ["its spread"], "tokens/s": ["spread"]}


STEADY_MAX = 0.2  # (largest - smallest) / median of samples up to which `quern bench` gives shares; of pairs' ratios bench_peers.py


def least_rise(results, result, column):
    """The least of a column, the first row left out, which has nothing before it."""
    return min(row[column] for row in dict(results)[result + ".json"]["rows"][1:])


def reached(results, target):
    """The figure, or None where it was not measured."""
    if "missing" in target:
        return None
    if "rise" in target:
        return least_rise(results, *target["rise"])
    value = find(results, *target["from"])
    return value / find(results, *target["over"]) if "over" in target and value is not None else value


def spread_of(results, target):
    """As a part of the median, or None where none is recorded."""
    if "from" not in target:
        return None
    result, what, column = target["from"][:3]
    row = find_row(results, result, what, *target["from"][3:])
    return next((row[name] for name in SPREADS.get(column, []) if row.get(name) is not None), None)


def verdict(value, spread, target):
    if value is None:
        return ""
    met = "yes" if (value <= target["most"] if "most" in target else value >= target["least"]) else "**no**"
    return met if spread is None or spread <= STEADY_MAX else f"{met}, unsteady"


def anchor(title):
    """As the usual Markdown renderers name a heading."""
    return "#" + "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def in_unit(value, unit):
    if value is None:
        return ""
    return {"%": f"{100 * value:.0f} %", "x": f"{value:.2f} x", "s": f"{value:.3g} s"}[unit]


def targets(results):
    with open(os.path.join(ROOT, "bench", "targets.json"), encoding="utf-8") as f:
        document = json.load(f)
    lines = ["## The speeds to reach", "", document["what"], "", "| work | figure | to reach (aim) | reached | spread | | measured in |", "|---|---|---:|---:|---:|---|---|"]
    last = None
    for t in document["targets"]:
        value, unit, bound = reached(results, t), t["unit"], t.get("least", t.get("most"))
        wanted = ("at most " if "most" in t else "") + in_unit(bound, unit) + (f" ({in_unit(t['aim'], unit)})" if "aim" in t else "")
        spread, result = spread_of(results, t), (t.get("from") or t.get("rise") or [None])[0]
        title = dict(results)[result + ".json"]["title"] if result else None
        where = f"[{title}]({anchor(title)})" if title else f"not yet measured: {t['missing']}"
        lines.append(f"| {t['work'] if t['work'] != last else ''} | {t['figure']} | {wanted} | {in_unit(value, unit) or '-'} | {'-' if spread is None else in_unit(spread, '%')} | {verdict(value, spread, t)} | {where} |")
        last = t["work"]
    return "\n".join(lines + [""] + [f"- {note}" for note in document["notes"]]) + "\n"


def page():
    results = [load(path) for path in glob.glob(os.path.join(ROOT, "bench", "results", "*.json"))]
    titles = [result["title"] for _, result in results]
    if len(set(titles)) < len(titles):
        raise ValueError("two results have one title: links lead to titles")
    results.sort(key=lambda item: item[0])
    results.sort(key=lambda item: item[1]["date"], reverse=True)
    return "\n".join([HEAD, targets(results)] + [section(*item) for item in results]) if results else HEAD + "\nNothing is recorded yet.\n"


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        with open(PAGE, encoding="utf-8") as f:
            same = f.read() == text
        print("docs/performance.md is up to date" if same else "docs/performance.md is stale: run tools/make_performance_md.py")
        return 0 if same else 1
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
