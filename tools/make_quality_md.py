#!/usr/bin/env python3
"""Writes docs/quality_table.md from bench/quality/demo.json. usage: make_quality_md.py [--check]

--check writes nothing and exits 1 if the page is not what the record gives.
"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = os.path.join(ROOT, "bench", "quality", "demo.json")
PAGE = os.path.join(ROOT, "docs", "quality_table.md")
TEXTS = {"unlike": "Code unlike what the model knows", "like": "Code like what the model knows"}
HEAD = """# Quality of every type on the built-in model

Generated from `bench/quality/demo.json` by `tools/make_quality_md.py`; do not edit. Made {date} with {quern}, {llama} and mlx-lm {mlx} by

```
{command}
```

Each file against the bf16 checkpoint: dequantized weights, float32 activations, float32 keys and values, chunks of 256 tokens (`quern eval --suite kld --base`).
KLD is the mean Kullback-Leibler divergence in nats; "peer" is llama.cpp's file of the same type (llama-quantize without importance matrix) or mlx-lm's.
"mixed" is `--target-bpw` at the same size. Error: relative RMS error of the matrices.
"""


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


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        with open(PAGE, encoding="utf-8") as f:
            same = f.read() == text
        print("docs/quality_table.md is up to date" if same else "docs/quality_table.md is stale: run tools/make_quality_md.py")
        return 0 if same else 1
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
