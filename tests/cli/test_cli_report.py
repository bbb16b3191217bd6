#!/usr/bin/env python3
"""quern inspect manifest.json -o: the report as a page and as a picture, of an honest manifest and of a hostile one."""
import json
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET

from cli_helper import MODEL, Checks, run

HOSTILE = '\u202e\u2066"><script>|`$(touch owned)`\n"\nsystem "touch owned"\n&'


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def check_pages(checks, folder, manifest, picture):
    """picture: whether one is to be expected."""
    changes = {} if picture else {"PATH": folder}  # no gnuplot there
    md, html = os.path.join(folder, "r.md"), os.path.join(folder, "r.html")
    for path in (md, html):
        p = run("inspect", manifest, "-o", path, **changes)
        checks.exit_code(p, 0, f"inspect -o {os.path.basename(path)}")
        checks.that((b"no picture" in p.stderr) != picture, "inspect -o: a page without a picture says so", p.stderr)
    text, page = read(md), read(html)
    checks.that(re.search(r"\| gguf \| Q8_0 \| +[\d.]+ MiB \| 8\.5\d \| 0\.\d+ % \|", text), "report.md: a row an output", text)
    checks.that("<td>4bit-g64</td>" in page and page.rstrip().endswith("</html>"), "report.html: a row an output")
    checks.that(("](r.svg)" in text) == picture and ("<svg" in page) == picture, "report: the picture is there when it can be")
    if picture:
        ET.fromstring(read(os.path.join(folder, "r.svg")))
        checks.that("4bit-g64" in read(os.path.join(folder, "r.svg")), "report: points are named")


def check_hostile(checks, folder, manifest):
    with open(manifest, encoding="utf-8") as f:
        doc = json.load(f)
    doc["source"]["name"] = HOSTILE
    doc["created"] = 5
    refused = {"format": HOSTILE, "type": HOSTILE, "files": [], "gate": {"verdict": "fail"}}  # no file says otherwise
    doc["outputs"].append({**refused, "bits_per_weight": 1e400, "quality": {"kld_mean": 1e-5, "ppl_ratio": [], "kld_p99": -1e308}})
    doc["outputs"].append({**refused, "tensors": [{"shape": ["a", -1], "rel_rmse": "b"}, 5]})
    bad = os.path.join(os.path.dirname(manifest), "bad.json")
    with open(bad, "w", encoding="utf-8") as f:
        f.write(json.dumps(doc).replace("Infinity", "1e308"))
    html = os.path.join(folder, "bad.html")
    p = run("inspect", bad, "-o", html, cwd=folder)
    checks.exit_code(p, 0, "inspect -o of a hostile manifest")
    checks.that("<script" not in read(html), "report: names are escaped")
    checks.that("??&#34;&#62;&#60;script" in read(html) and not any(c in read(html) for c in "\u202e\u2066"), "report: no name turns the direction of text")
    checks.that(not os.path.exists(os.path.join(folder, "owned")), "report: nothing is run")
    doc["outputs"][0]["type"] = HOSTILE
    with open(bad, "w", encoding="utf-8") as f:
        f.write(json.dumps(doc).replace("Infinity", "1e308"))
    p = run("inspect", bad, "-o", html, cwd=folder)
    checks.that(p.returncode == 3 and b"the file is of type 'Q8_0'" in p.stderr, "inspect -o: a type that the file does not have", p.stderr)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        checks.exit_code(run("quantize", MODEL, "-o", out, "--formats", "gguf:Q8_0,mlx:4bit", "--calibrate", "none", "--gate", "off"), 0, "quantize")
        manifest = os.path.join(out, "manifest.json")
        has_gnuplot = shutil.which("gnuplot") is not None
        check_pages(checks, folder, manifest, False)
        p = run("inspect", manifest, "-o", os.path.join(folder, "r.svg"), PATH=folder)
        checks.that(p.returncode == 2 and b"gnuplot" in p.stderr, "inspect -o r.svg without gnuplot", (p.returncode, p.stderr))
        checks.that(not os.path.exists(os.path.join(folder, "r.svg")), "inspect -o r.svg without gnuplot leaves nothing")
        if has_gnuplot:
            check_pages(checks, folder, manifest, True)
        else:
            print("SKIP: report_picture: gnuplot is not installed")
        check_hostile(checks, folder, manifest)
        checks.exit_code(run("inspect", manifest, "-o", os.path.join(folder, "r.png")), 2, "inspect -o r.png")
        checks.exit_code(run("inspect", MODEL, "-o", os.path.join(folder, "r.md")), 2, "inspect -o of a model")
    checks.close()


if __name__ == "__main__":
    main()
