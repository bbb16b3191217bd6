#!/usr/bin/env python3
"""What goes wrong from outside: interruption, full disks, folders that cannot be written, broken files, terminals without colours."""
import json
import os
import signal
import subprocess
import tempfile
import time

from cli_helper import GOLDENS, MODEL, PROGRAM, SECONDS, Checks, environment, run
from terminal_session import Session

LONG = ("run", MODEL, "Write a Python function.", "--temp", "0", "--logit-bias", "8177=-inf", "--logit-bias", "8179=-inf")  # no end tokens
MANY_FORMATS = ",".join("gguf:" + t for t in ("Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "IQ4_NL", "IQ4_XS"))
ENDLESS = (*LONG, "-c", "64k")


def start(home, *arguments):
    return subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home))


def check_interrupts(checks, home):
    p = start(home, *ENDLESS)
    begun = p.stdout.read1(4096)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=SECONDS)
    checks.that(p.returncode == 130, "run: Ctrl-C ends with 130", (p.returncode, err))
    beginning = run(*LONG, "-n", "60").stdout.rstrip(b"\n")
    stopped = (begun + out).rstrip(b"\n")  # a newline is put behind a text that ends without one
    n = min(len(beginning), len(stopped))
    checks.that(n > 0 and beginning[:n] == stopped[:n], "run: the text so far stays", (stopped, beginning))

    p = start(home, *ENDLESS, "--json")
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=SECONDS)
    doc = json.loads(out) if out else {}
    checks.that(p.returncode == 130 and doc.get("finish_reason") == "cancelled", "run --json: Ctrl-C gives what there is", (p.returncode, doc, err))
    checks.that(len(doc.get("token_ids", [])) > 0, "run --json: with the tokens so far")

    target = os.path.join(home, "stopped")
    p = start(home, "quantize", MODEL, "-o", target, "--formats", MANY_FORMATS)
    while p.poll() is None and not os.path.isdir(target):  # it has begun
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=SECONDS)
    left = [f for folder, _, files in os.walk(target) for f in files]
    checks.that(p.returncode == 130, "quantize: Ctrl-C ends with 130", p.returncode)
    checks.that(not left, "quantize: an interrupted run leaves no file", left)


def check_outputs(checks, home):
    with open("/dev/full", "wb") as full:
        for arguments in (["run", MODEL, "Hi.", "-n", "4"], ["run", MODEL, "Hi.", "-n", "4", "--json"], ["help"], ["tokenize", MODEL, "x"]):
            done = run(*arguments, stdout=full)
            checks.exit_code(done, 5, f"{arguments[0]} on a full disk")
            checks.that(b"standard output" in done.stderr, f"{arguments[0]} on a full disk says what cannot be written", done.stderr)
    blocked = os.path.join(home, "file")
    with open(blocked, "wb"):
        pass
    for arguments in (["quantize", MODEL, "-o", os.path.join(blocked, "out"), "--formats", "gguf:Q8_0"],
                      ["logits", MODEL, "--ids", "-", "-o", os.path.join(blocked, "l.safetensors")]):
        done = run(*arguments, stdin=b'{"sequences":[[1]]}')
        checks.exit_code(done, 5, f"{arguments[0]} into a place that is no folder")
        checks.that(blocked.encode() in done.stderr, f"{arguments[0]} names the place", done.stderr)
    if os.geteuid() != 0:
        locked = os.path.join(home, "locked")
        os.mkdir(locked, 0o500)
        done = run("quantize", MODEL, "-o", locked, "--formats", "gguf:Q8_0")
        checks.exit_code(done, 5, "quantize into a read-only folder")
        checks.that(os.listdir(locked) == [], "quantize leaves nothing there")


def check_corrupt(checks):
    with open(os.path.join(GOLDENS, "corrupt", "manifest.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    for row in rows:
        path = os.path.join(GOLDENS, "corrupt", row["file"])
        if not os.path.exists(path) or row["kind"] == "tokenizer":
            continue
        done = run("inspect", path, "--json")
        name = os.path.basename(row["file"])
        if row["expect"] == "ok":
            checks.exit_code(done, 0, f"inspect {name}")
        elif row["expect"] == "error" and row["kind"] == "safetensors":
            checks.exit_code(done, 3, f"inspect {name} ({row['wrong']})")
            checks.that(name.encode() in done.stderr, f"inspect {name}: the file is named", done.stderr)
        else:
            checks.that(done.returncode in (0, 3), f"inspect {name}: an error or not, never a crash", done.returncode)
        if row["kind"] == "gguf":
            done = run("run", path, "--raw", "a", "-n", "1")
            expected = (0,) if row["expect"] == "ok" else (3, 4) if row["expect"] == "error" else (0, 3, 4)
            checks.that(done.returncode in expected, f"run {name} ({row['wrong']}): exit {done.returncode}, expected {expected}", done.stderr)
            checks.that(done.returncode == 0 or name.encode() in done.stderr, f"run {name}: the file is named", done.stderr)


def check_terminal(checks, home):
    with Session(home, "run", MODEL, "Hi.", "-n", "4", NO_COLOR="") as s:
        checks.that(s.wait_end() == 0 and b"\x1b[2m" in s.seen, "run: notes are dim at a terminal", s.seen)
    with Session(home, "run", MODEL, "Hi.", "-n", "4", NO_COLOR="1") as s:
        checks.that(s.wait_end() == 0 and b"\x1b[" not in s.seen, "run: NO_COLOR", s.seen)
    with Session(home, "run", "no/such.gguf", "Hi.", TERM="dumb", NO_COLOR="") as s:
        checks.that(s.wait_end() == 3 and b"\x1b[" not in s.seen, "run: a dumb terminal gets no escapes", s.seen)
    with Session(home, "run", NO_COLOR="1") as s:
        s.wait_for("Ctrl-D")
        s.type("Hi.\n\x04")
        checks.that(s.wait_end() in (0, 2), "run: without arguments the prompt is typed (2 in a build without the demo)", s.seen)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as home:
        check_interrupts(checks, home)
        check_outputs(checks, home)
        check_terminal(checks, home)
    check_corrupt(checks)
    checks.close()


if __name__ == "__main__":
    main()
