#!/usr/bin/env python3
"""What goes wrong from outside: interruption, full disks, folders that cannot be written, broken files, terminals without colours."""
import json
import os
import re
import shutil
import signal
import stat
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
    p = start(home, "quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", MANY_FORMATS)
    while p.poll() is None and not os.path.isdir(target):  # it has begun
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=SECONDS)
    checks.that(p.returncode == 130, "quantize: Ctrl-C ends with 130", p.returncode)
    checks.that(named_files(target) == [], "quantize: an interrupted run names nothing", list(os.walk(target)))

    p = start_quantize(home, MODEL, target)
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=SECONDS)
    checks.that(p.returncode == -signal.SIGTERM, "quantize: SIGTERM ends it", p.returncode)
    checks.that(named_files(target) == [], "quantize: nor does a terminated one", list(os.walk(target)))


def named_files(target):
    """Files with a final name: neither temporary ones nor the journal of an unfinished run."""
    return [f for _, _, files in os.walk(target) for f in files if not f.endswith(".part") and not f.startswith(".")]


def check_resume(checks, home):
    """Stopped once some tensors are through, the same command continues; the files are those of a run that was not stopped."""
    target, whole = os.path.join(home, "resumed"), os.path.join(home, "whole")
    command = ["quantize", MODEL, "-o", target, "--formats", MANY_FORMATS]
    p = start(home, *command)
    time.sleep(1.0)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=SECONDS)
    if p.returncode == 130 and os.path.exists(os.path.join(target, ".quern-quantize.journal")):
        done = run(*command, home=home)
        checks.that(done.returncode == 0 and b"continues at tensor " in done.stderr, "quantize: the same command continues", done.stderr)
    else:  # the machine was faster, or too slow
        run(*command, home=home)
    checks.exit_code(run("quantize", MODEL, "-o", whole, "--formats", MANY_FORMATS, home=home), 0, "quantize in one go")
    names = sorted(named_files(target))
    checks.that(names == sorted(named_files(whole)) and len(names) == 11, "quantize: all files are there", names)
    documents = [json.load(open(os.path.join(d, "manifest.json"), encoding="utf-8")) for d in (target, whole)]
    for d in documents:
        d.pop("created")
    checks.that(documents[0] == documents[1], "quantize: a continued run's manifest is that of an undisturbed one")


def start_quantize(home, source, target):
    """A run that takes a while, once it writes."""
    p = start(home, "quantize", "--calibrate", "none", source, "-o", target, "--formats", MANY_FORMATS)
    while p.poll() is None and not os.path.isdir(os.path.join(target, "gguf")):
        time.sleep(0.01)
    return p


def check_killed(checks, home):
    target = os.path.join(home, "killed")
    p = start_quantize(home, MODEL, target)
    busy = run("quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", "gguf:Q8_0", home=home)
    p.kill()
    p.communicate(timeout=SECONDS)
    checks.exit_code(busy, 5, "quantize: two runs into one folder")
    checks.that(b"another run" in busy.stderr, "quantize: says that another run has the folder", busy.stderr)
    checks.that(any(f.endswith(".part") for f in os.listdir(os.path.join(target, "gguf"))), "quantize: a killed run leaves temporary files")
    checks.exit_code(run("quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", "gguf:Q8_0", home=home), 0, "quantize: again")
    checks.that(os.listdir(os.path.join(target, "gguf")) == ["quern-coder-8m-Q8_0.gguf"], "quantize: the next run removes them",
                os.listdir(os.path.join(target, "gguf")))


def check_hashes(checks, home):
    """Hashes are taken while files grow; inspect reads the finished ones."""
    target = os.path.join(home, "hashes")
    for formats in ("gguf:F32,mlx:8bit,mlx:bf16", "gguf:Q4_0"):
        checks.exit_code(run("quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", formats, "--memory", "120MiB", home=home), 0, f"quantize to {formats}")
    done = run("inspect", os.path.join(target, "manifest.json"), home=home)
    checks.exit_code(done, 0, "inspect: the files are those of the manifest")
    checks.that(all(t in done.stdout for t in (b"F32", b"8bit-g64", b"bf16", b"Q4_0")), "the manifest has the outputs of both runs", done.stdout)


def check_shrinking(checks, home):
    """A file that is cut while it is mapped."""
    target = os.path.join(home, "shrinking")
    run("quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", "gguf:Q8_0", home=home)
    model = os.path.join(target, "gguf", "quern-coder-8m-Q8_0.gguf")
    p = start(home, "run", model, *ENDLESS[2:])
    p.stdout.read1(4096)
    os.truncate(model, 4096)
    err = p.communicate(timeout=SECONDS)[1]
    checks.that(p.returncode == 5 and b"became shorter" in err, "run: a model that is cut while it is read", (p.returncode, err))
    source = os.path.join(home, "cut")
    shutil.copytree(MODEL, source)
    target = os.path.join(home, "from cut")
    p = start_quantize(home, source, target)
    os.truncate(os.path.join(source, "model.safetensors"), 100000)
    err = p.communicate(timeout=SECONDS)[1]
    checks.that(p.returncode == 5 and b"became shorter" in err, "quantize: a source that is cut while it is read", (p.returncode, err))
    checks.that(not os.path.exists(target), "quantize: it leaves nothing", list(os.walk(target)))


def check_size_limit(checks, home):
    target = os.path.join(home, "limited")
    limited = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh", PROGRAM, "quantize", "--calibrate", "none", MODEL, "-o", target, "--formats", "gguf:Q8_0"]
    done = subprocess.run(limited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=SECONDS,
                          env=environment(home))
    checks.exit_code(done, 5, "quantize beyond the limit on file sizes")
    checks.that(b"Q8_0.gguf: cannot write" in done.stderr, "quantize: says what cannot be written", done.stderr)
    checks.that(not os.path.exists(target), "quantize: nothing is left", list(os.walk(target)))


def check_bench_without_limits(checks, home):
    """Measuring the machine needs a large buffer; the model's own figures come without. What is known when Ctrl-C comes stays."""
    command = [PROGRAM, "bench", MODEL, "-p", "16", "-n", "4", "-r", "1", "--parallel", "0", "-t", "1", "--json"]
    limited = ["sh", "-c", 'ulimit -v "$0" && exec "$@"']
    if subprocess.run([*limited, "4000000", PROGRAM, "--version"], env=environment(home), check=False, capture_output=True).returncode == 0:  # no sanitizer
        for megabytes in range(60, 700, 32):  # up to the least that the model runs in
            done = subprocess.run([*limited, str(megabytes * 1000), *command], env=environment(home), check=False, capture_output=True, timeout=SECONDS)
            doc = json.loads(done.stdout) if done.stdout else {}
            if doc.get("decode"):
                break
        checks.exit_code(done, 0, "bench: limits that cannot be measured")
        checks.that(doc.get("decode") and doc["decode"][0]["tokens_per_s"] and doc["decode"][0]["fraction_of_bandwidth"] is None
                    and doc["machine"]["read_bandwidth_bytes_per_s"] is None, "bench: the figures without limits", doc)
        checks.that(doc["isa"] == "scalar" or doc["machine"]["peak_ops_per_s"]["fma_f32"] and doc["prefill"][0]["unit"] and doc["prefill"][0]["ratio_refused"] == "no_limit", "bench: peaks need no large buffer", doc)
        checks.that(b"limits of the machine are missing, of some figures at least: out of memory: measuring bandwidth" in done.stderr, "bench: says why", done.stderr)
    leader, follower = os.openpty()  # a terminal has a bar; the run would take a minute
    lasting = [PROGRAM, "bench", MODEL, "-p", "16", "-n", "256", "-r", "64", "--parallel", "0", "-t", "1", "--json"]
    p = subprocess.Popen(lasting, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follower, env=environment(home))
    os.close(follower)
    told = b""
    while b"bench" not in told:
        told += os.read(leader, 4096)
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=SECONDS)[0]
    os.close(leader)
    doc = json.loads(out) if out else {}
    checks.that(p.returncode == 130 and doc.get("schema") == "quern.bench/1", "bench: Ctrl-C, with what there is so far", (p.returncode, out))
    checks.that(doc.get("machine", {}).get("mapped_bandwidth_bytes_per_s", 0) is None, "bench: limits that were not reached are null", doc)


def check_odd_places(checks, home):
    ids = b'{"sequences":[[1]]}'
    fifo = os.path.join(home, "fifo")
    os.mkfifo(fifo)
    done = run("logits", MODEL, "--ids", "-", "-o", fifo, stdin=ids)
    checks.exit_code(done, 5, "logits into something that is no file")
    checks.that(b"is a FIFO" in done.stderr and stat.S_ISFIFO(os.stat(fifo).st_mode), "logits: it stays what it is", done.stderr)
    checks.exit_code(run("logits", MODEL, "--ids", "-", "-o", "-", stdin=ids, cwd=home), 2, "logits -o -")
    checks.exit_code(run("quantize", "--calibrate", "none", MODEL, "-o", "-", cwd=home), 2, "quantize -o -")
    checks.that("-" not in os.listdir(home), "nothing is called -")
    source = os.path.join(home, "odd\n'name")
    shutil.copytree(MODEL, source)
    done = run("quantize", "--calibrate", "none", ".", "-o", "../o'ut", "--formats", "gguf:F32,gguf:Q4_0,gguf:Q2_K", cwd=source)
    checks.exit_code(done, 0, "quantize .")
    checks.that(b"odd\\n'name  qwen3" in done.stdout, "quantize . takes the folder's name, made visible", done.stdout)
    checks.that(b"next: quern run '../o'\\''ut/gguf/odd\\n'\\''name-Q4_0.gguf'" in done.stderr, "quantize: what to type next is quoted", done.stderr)
    for name, make in (("model.safetensors", lambda path: os.symlink("nowhere", path)), ("config.json", os.mkfifo)):
        os.remove(os.path.join(source, name))
        make(os.path.join(source, name))
        for arguments in (["quantize", "--calibrate", "none", source, "-o", os.path.join(home, "never")], ["run", source, "Hi."], ["inspect", source]):
            done = run(*arguments)
            checks.exit_code(done, 3, f"{arguments[0]} with an odd {name}")
            checks.that(name.encode() in done.stderr and (b"leads nowhere" in done.stderr or b"FIFO" in done.stderr),
                        f"{arguments[0]} says what {name} is", done.stderr)



def check_warnings(checks, home):
    source = os.path.join(home, "window")
    shutil.copytree(MODEL, source)
    path = os.path.join(source, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config.update(use_sliding_window=True, sliding_window=64, max_window_layers=0)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    done = run("quantize", "--calibrate", "none", source, "-o", os.path.join(home, "windows"), "--formats", "gguf:Q8_0,gguf:Q4_0,mlx:8bit", "-q")
    checks.exit_code(done, 0, "quantize with a sliding window")
    checks.that(done.stderr.count(b"cannot be said in GGUF") == 1 and b"gguf Q8_0, gguf Q4_0: " in done.stderr,
                "quantize -q: a warning about the result is there, once", done.stderr)
    checks.that(b"next:" not in done.stderr, "quantize -q: no notes", done.stderr)


def check_outputs(checks, home):
    with open("/dev/full", "wb") as full:
        for arguments in (["run", MODEL, "Hi.", "-n", "4"], ["run", MODEL, "Hi.", "-n", "4", "--json"], ["help"], ["tokenize", MODEL, "x"]):
            done = run(*arguments, stdout=full)
            checks.exit_code(done, 5, f"{arguments[0]} on a full disk")
            checks.that(b"standard output" in done.stderr, f"{arguments[0]} on a full disk says what cannot be written", done.stderr)
    blocked = os.path.join(home, "file")
    with open(blocked, "wb"):
        pass
    for arguments in (["quantize", "--calibrate", "none", MODEL, "-o", os.path.join(blocked, "out"), "--formats", "gguf:Q8_0"],
                      ["logits", MODEL, "--ids", "-", "-o", os.path.join(blocked, "l.safetensors")]):
        done = run(*arguments, stdin=b'{"sequences":[[1]]}')
        checks.exit_code(done, 5, f"{arguments[0]} into a place that is no folder")
        checks.that(blocked.encode() in done.stderr, f"{arguments[0]} names the place", done.stderr)
    if os.geteuid() != 0:
        locked = os.path.join(home, "locked")
        os.mkdir(locked, 0o500)
        done = run("quantize", "--calibrate", "none", MODEL, "-o", locked, "--formats", "gguf:Q8_0")
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
        checks.that(s.wait_end() == 0 and not re.search(rb"\x1b\[[0-9;]*m", s.seen), "run: NO_COLOR", s.seen)
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
        check_resume(checks, home)
        check_outputs(checks, home)
        check_killed(checks, home)
        check_hashes(checks, home)
        check_shrinking(checks, home)
        check_size_limit(checks, home)
        check_bench_without_limits(checks, home)
        check_odd_places(checks, home)
        check_warnings(checks, home)
        check_terminal(checks, home)
    check_corrupt(checks)
    checks.close()


if __name__ == "__main__":
    main()
