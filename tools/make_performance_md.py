#!/usr/bin/env python3
"""Writes docs/performance.md from bench/results/*.json. usage: make_performance_md.py [--check]

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
Newest first; changes that did not help are told too.
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


def page():
    results = [load(path) for path in glob.glob(os.path.join(ROOT, "bench", "results", "*.json"))]
    results.sort(key=lambda item: item[0])
    results.sort(key=lambda item: item[1]["date"], reverse=True)
    return "\n".join([HEAD] + [section(*item) for item in results]) if results else HEAD + "\nNothing is recorded yet.\n"


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
