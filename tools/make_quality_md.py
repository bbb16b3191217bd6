#!/usr/bin/env python3
"""Writes docs/quality_table.md and docs/quality_table.svg (with gnuplot) from bench/quality/demo.json. usage: make_quality_md.py [--check]

--check writes nothing and exits 1 if the page is not what the record gives.
"""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = os.path.join(ROOT, "bench", "quality", "demo.json")
PAGE = os.path.join(ROOT, "docs", "quality_table.md")
PICTURE = os.path.join(ROOT, "docs", "quality_table.svg")
TEXTS = {"unlike": "Code unlike what the model knows", "like": "Code like what the model knows"}
HEAD = """# Quality of every type on the built-in model

Generated from `bench/quality/demo.json` by `tools/make_quality_md.py`; do not edit. Made {date} with {quern}, {llama} and mlx-lm {mlx} by

```
{command}
```

Each file against the bf16 checkpoint: dequantized weights, float32 activations, float32 keys and values, chunks of 256 tokens (`quern eval --suite kld --base`).
KLD is the mean Kullback-Leibler divergence in nats; "peer" is llama.cpp's file of the same type (llama-quantize without importance matrix) or mlx-lm's.
"mixed" is `--target-bpw` at the same size. Error: root mean square of the matrices' relative RMS errors.

![KLD against bits per weight, Quern and its peers](quality_table.svg)
"""
PLOT = """set terminal svg size 960,620 noenhanced font "sans-serif,12" background "#ffffff" name "quern"
set logscale y
set format y "%.0e"
set grid lc rgb "#dddddd"
set border 3
set tics nomirror
set key top right
set xlabel "bits per weight"
set ylabel "KLD, mean, nats (code unlike what the model knows)"
set offsets 0.1,0.9,0,0
"""
SERIES = [("Quern, GGUF", "gguf", "unlike", "#1f5fa8", 7, 52), ("llama.cpp, GGUF", "gguf", "peer_unlike", "#8fb3d9", 6, None),
          ("Quern, MLX", "mlx", "unlike", "#c2571a", 7, -52), ("mlx-lm, MLX", "mlx", "peer_unlike", "#e3b08f", 6, None),
          ("Quern, --target-bpw", None, "mix_unlike", "#2f7d4f", 9, None)]


def line(cells):
    return "| " + " | ".join(cells) + " |"


def table(rows, text):
    lines = [f"## {TEXTS[text]}", "",
             line(["type", "bits/weight", "error", "KLD", "peer's KLD", "ratio", "KLD p99", "same top", "perplexity ratio", "mixed: KLD"]),
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for r in rows:
        own, peer, mixed = r[text], r["peer_" + text], r.get("mix_" + text)
        lines.append(line([("" if r["format"] == "gguf" else "MLX ") + r["type"], f"{r['bits_per_weight']:.2f}", f"{100 * r['rel_rmse']:.2f} %",
                           f"{own['kld_mean']:.6f}", f"{peer['kld_mean']:.6f}", f"{own['kld_mean'] / peer['kld_mean']:.2f}", f"{own['kld_p99']:.5f}",
                           f"{100 * own['top1_agreement']:.2f} %", f"{own['ppl_ratio']:.4f} ± {own['ppl_ratio_error']:.4f}",
                           f"{mixed['kld_mean']:.6f}" if mixed else ""]))
    return "\n".join(lines) + "\n"


def page():
    with open(RECORD, encoding="utf-8") as f:
        record = json.load(f)
    head = HEAD.format(date=record["date"], quern=record["quern"], llama=record["peers"]["llama.cpp"], mlx=record["peers"]["mlx-lm"],
                       command=record["command"])
    return "\n".join([head] + [table(record["rows"], text) for text in TEXTS if text in record["rows"][0]])


def draw():
    """KLD on the first text against size; filled points are Quern's, named by their type."""
    with open(RECORD, encoding="utf-8") as f:
        rows = json.load(f)["rows"]
    data, plots = "", []
    for number, (title, family, key, colour, point, angle) in enumerate(SERIES):
        points = [(r["bits_per_weight"], r[key]["kld_mean"], r["type"]) for r in rows if r.get(key) and family in (None, r["format"])]
        data += f"$s{number} << END\n" + "".join(f'{x:.4f} {y:.8f} "{name}"\n' for x, y, name in points) + "END\n"
        plots.append(f'$s{number} using 1:2 with points pt {point} ps 0.7 lc rgb "{colour}" title "{title}"')
        if angle is not None:
            offset = 0.4 if angle > 0 else -0.4
            plots.append(f'$s{number} using 1:2:3 with labels left offset char 0.5,{offset} rotate by {angle} font ",9" tc rgb "{colour}" notitle')
    script = PLOT + data + "plot " + ", ".join(plots) + "\n"
    svg = subprocess.run(["gnuplot", "--default-settings"], input=script.encode(), stdout=subprocess.PIPE, check=True).stdout
    with open(PICTURE, "w", encoding="utf-8") as f:
        f.write("\n".join(line.replace("\t", " ").rstrip() for line in svg.decode().splitlines()) + "\n")


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        with open(PAGE, encoding="utf-8") as f:
            same = f.read() == text
        print("docs/quality_table.md is up to date" if same else "docs/quality_table.md is stale: run tools/make_quality_md.py")
        return 0 if same else 1
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text)
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
