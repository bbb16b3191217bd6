#!/usr/bin/env python3
"""Threads from outside: how many there are by default and on request, under affinity and a CPU quota, beside a busy core, and when signals
are sent to one of them; tokens stay the same."""
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from cli_helper import MODEL, PROGRAM, SECONDS, Checks, environment, run

PROMPT = "def add(a, b):"
ASK = ["--raw", "--temp", "0", "-n", "12", "--json"]


def tokens(*flags, prefix=()):
    """Of an answer, run by the command `prefix`."""
    done = run("run", MODEL, PROMPT, *ASK, *flags, prefix=prefix)
    return json.loads(done.stdout)["token_ids"] if done.returncode == 0 else done.stderr


def threads_of(*prefix):
    """What bench uses by default, run by the command `prefix`."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run([*prefix, PROGRAM, "bench", MODEL, "-p", "8", "-n", "0", "-r", "1", "--parallel", "0", "--no-machine", "--json"],
                              capture_output=True, check=False, timeout=SECONDS, env=environment(home), stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)["threads"] if done.returncode == 0 else done.stderr


@contextlib.contextmanager
def pinned(cpus):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)  # as taskset does; the program inherits it
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check_numbers(checks, want):
    allowed = os.sched_getaffinity(0)
    with pinned({min(allowed)}):
        checks.that(threads_of() == 1, "one thread where one processor is allowed")
        checks.that(tokens() == want, "one processor: the same tokens")
        checks.that(tokens("-t", "3") == want, "more threads than processors, all on one: the same tokens")
    checks.that(tokens("-t", "0") == want, "-t 0: all, and the same tokens")
    for n in (1, 2, len(allowed) + 3):
        checks.that(tokens("-t", str(n)) == want, f"-t {n}: the same tokens")
    for n in ("1025", "10000", "1000000000000"):
        done = run("run", MODEL, PROMPT, *ASK, "-t", n)
        checks.exit_code(done, 2, f"-t {n}")
        checks.that(f"threads: {n}, at most 1024".encode() in done.stderr, f"-t {n}: the message", done.stderr)
    for text in ("-1", "x", "1.5"):
        done = run("run", MODEL, PROMPT, *ASK, "-t", text)
        checks.exit_code(done, 2, f"-t {text}")
        checks.that(f"-t: '{text}' is not a whole number".encode() in done.stderr, f"-t {text}: the message", done.stderr)


def quota_group():
    """A new control group with one processor's time, or None and the reason."""
    why = "no control groups"
    with open("/proc/self/cgroup", encoding="ascii") as f:
        rows = [line.rstrip("\n").split(":", 2) for line in f]
    for _, controllers, path in rows:
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = os.path.join("/sys/fs/cgroup" + ("/" + controllers if controllers else "") + path, f"quern-test-{os.getpid()}")
        try:
            os.mkdir(folder)
        except OSError as e:
            why = e
            continue
        try:
            for name, value in (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "100000")) if controllers else (("cpu.max", "100000 100000"),):
                with open(os.path.join(folder, name), "r+", encoding="ascii") as f:
                    f.write(value)
            return folder, None
        except OSError as e:
            why = e
            os.rmdir(folder)
    return None, why


def check_quota(checks, want):
    folder, why = quota_group() if os.path.exists("/proc/self/cgroup") else (None, "no control groups")
    if folder is None:
        print(f"SKIP: cpu_quota: no control group can be made here: {why}")
        return
    join = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', folder]
    try:
        n = threads_of(*join)
        checks.that(n == 1, "a quota of one processor: one thread", n)
        have = tokens("-t", "2", prefix=join)
        checks.that(have == want, "a quota of one processor, two threads: the same tokens", have)
        have = tokens(prefix=join)
        checks.that(have == want, "a quota of one processor: the same tokens", have)
    finally:
        os.rmdir(folder)


def workers_of(process, n):
    """The threads beside the first, once there are n in all and stay: those that read a model in come and go."""
    end, seen = time.monotonic() + SECONDS, set()
    while time.monotonic() < end and process.poll() is None:
        ids = {int(t) for t in os.listdir(f"/proc/{process.pid}/task")}
        if len(ids) == n and ids == seen:
            return ids - {process.pid}
        seen = ids
        time.sleep(0.3)
    return set()


def chat(disturb):
    """Token ids of an answer with two threads; disturb(workers) is called before the question comes."""
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen([PROGRAM, "chat", MODEL, "-t", "2", "--temp", "0", "-n", "12", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment(home))
        try:
            with disturb(workers_of(process, 2)):
                out, err = process.communicate(b"Write a function that adds two numbers.\n", timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
    return json.loads(out)["turns"][0]["token_ids"] if process.returncode == 0 else err


@contextlib.contextmanager
def on_a_busy_core(workers):
    core = min(os.sched_getaffinity(0))
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for pid in (busy.pid, *workers):
            os.sched_setaffinity(pid, {core})
        yield
    finally:
        busy.kill()
        busy.wait()


def check_busy_core(checks):
    want = chat(contextlib.nullcontext)
    have = chat(on_a_busy_core)
    checks.that(isinstance(want, list) and len(want) > 3, "chat: an answer", want)
    checks.that(have == want, "a worker that shares its core with a busy process: the same tokens, and an end", have)


def send(process_id, thread, number):
    """To one thread, which is what `kill` cannot do."""
    if ctypes.CDLL(None, use_errno=True).tgkill(process_id, thread, number) != 0:
        raise OSError(ctypes.get_errno(), "tgkill")


def states(process_id):
    """Of all threads: R, S, T ..."""
    found = []
    for thread in os.listdir(f"/proc/{process_id}/task"):
        with open(f"/proc/{process_id}/task/{thread}/stat", encoding="utf-8") as f:
            found.append(f.read().rsplit(")", 1)[1].split()[0])
    return found


def check_signals(checks):
    """A helper cannot be ended or halted alone: parked (a chat that waits) or at work."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        for what, stdin, flags in (("parked", subprocess.PIPE, ["chat", MODEL]),
                                   ("at work", subprocess.DEVNULL, ["run", MODEL, PROMPT, "--raw", "--ignore-eos", "-c", "32k", "-n", "30000"])):
            with tempfile.TemporaryDirectory() as home:
                process = subprocess.Popen([PROGRAM, *flags, "-t", "2", "--temp", "0"], stdin=stdin, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, env=environment(home))
                try:
                    workers = workers_of(process, 2)
                    for worker in workers:
                        send(process.pid, worker, number)
                    code = process.wait(timeout=SECONDS) if workers else None
                finally:
                    process.kill()
                    process.wait()
                    if process.stdin:
                        process.stdin.close()
            checks.that(code == -number, f"{number.name} to a helper that is {what}: the program ends by it", code)


@contextlib.contextmanager
def halted_for_a_while(workers):
    worker = next(iter(workers))
    with open(f"/proc/{worker}/status", encoding="utf-8") as f:
        process_id = next(int(line.split()[1]) for line in f if line.startswith("Tgid:"))
    send(process_id, worker, signal.SIGSTOP)
    end = time.monotonic() + SECONDS
    while set(states(process_id)) != {"T"} and time.monotonic() < end:
        time.sleep(0.01)
    halted = states(process_id)
    send(process_id, worker, signal.SIGCONT)
    if set(halted) != {"T"}:
        raise AssertionError(f"SIGSTOP to one thread left others: {halted}")
    yield


def check_halt(checks):
    want, have = chat(contextlib.nullcontext), chat(halted_for_a_while)
    checks.that(isinstance(want, list) and have == want, "a helper that is halted halts the program, and goes on with it: the same tokens", have)


def main():
    checks = Checks()
    want = tokens()
    if checks.that(isinstance(want, list) and len(want) == 12, "run: an answer", want):
        check_numbers(checks, want)
        check_quota(checks, want)
        check_busy_core(checks)
        check_signals(checks)
        check_halt(checks)
    checks.close()


main()
