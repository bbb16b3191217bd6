#!/usr/bin/env python3
"""Runs one transcript against the program: run_case.py BUILD/quern NAME.case

A transcript is read line by line:
    # text            a comment; "# requires: shared" skips where ../shared is absent
    $ command         run by sh in an empty folder that lasts for the whole transcript
    > more            continues the command
    line              expected on stdout; * stands for any characters of one line, a line of ... for any number of lines
    ! line            expected on stderr, in this order among other lines (not looked at where no such line is given)
    [3]               expected exit status (0 where it is not given)
"quern" is the program under test; GOLDENS, SHARED and MODEL are the folders of test data and of the demo checkpoint.
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMAND_SECONDS = 240


def parse(path):
    """The requirements and the list of [line number, command, stdout, stderr, exit]."""
    requires, steps = [], []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f.read().split("\n")[:-1], 1):
            if line.startswith("# requires:"):
                requires += line.split(":", 1)[1].split()
            elif line.startswith("$ "):
                steps.append({"line": number, "command": line[2:], "stdout": [], "stderr": [], "exit": 0})
            elif line.startswith("#") or not steps:
                continue
            elif line.startswith("> ") and not steps[-1]["stdout"]:
                steps[-1]["command"] += "\n" + line[2:]
            elif line.startswith("! "):
                steps[-1]["stderr"].append(line[2:])
            elif re.fullmatch(r"\[\d+\]", line):
                steps[-1]["exit"] = int(line[1:-1])
            else:
                steps[-1]["stdout"].append(line)
    for step in steps:  # blank lines between steps belong to no output
        while step["stdout"] and step["stdout"][-1] == "":
            step["stdout"].pop()
    return requires, steps


def line_matches(pattern, line):
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), line) is not None


def lines_match(patterns, lines):
    """Dynamic programming over (pattern, line): reachable[j] = the patterns so far can eat the first j lines."""
    reachable = [True] + [False] * len(lines)
    for pattern in patterns:
        if pattern == "...":
            for j in range(len(lines)):
                reachable[j + 1] = reachable[j + 1] or reachable[j]
        else:
            reachable = [False] + [reachable[j] and line_matches(pattern, lines[j]) for j in range(len(lines))]
    return reachable[-1]


def in_order(patterns, lines):
    rest = iter(lines)
    return all(any(line_matches(pattern, line) for line in rest) for pattern in patterns)


def run_step(step, folder, environment):
    """Complaints about one step."""
    try:
        done = subprocess.run(["sh", "-c", step["command"]], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [f"no end after {COMMAND_SECONDS} s"]
    out = done.stdout.decode("utf-8", "replace").split("\n")
    err = done.stderr.decode("utf-8", "replace").split("\n")
    while out and out[-1] == "":
        out.pop()
    complaints = []
    if done.returncode != step["exit"]:
        complaints.append(f"exit {done.returncode}, expected {step['exit']}")
    if not lines_match(step["stdout"], out):
        complaints.append("stdout:\n  " + "\n  ".join(out) + "\nexpected:\n  " + "\n  ".join(step["stdout"]))
    if not in_order(step["stderr"], err):
        complaints.append("expected in stderr:\n  " + "\n  ".join(step["stderr"]))
    if complaints:
        complaints.append("stderr was:\n  " + "\n  ".join(err))
    return complaints


def main():
    program, path = os.path.abspath(sys.argv[1]), sys.argv[2]
    name = os.path.basename(path)
    requires, steps = parse(path)
    shared = os.path.join(os.path.dirname(ROOT), "shared")
    if "shared" in requires and not os.path.isdir(shared):
        print(f"SKIP: cli/{name}: needs ../shared")
        return 77
    if not steps:
        print(f"{path}: no command in it")
        return 1
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("QUERN_", "XDG_", "HF_"))}
        environment.update(PATH=os.path.dirname(program) + os.pathsep + os.environ.get("PATH", ""), HOME=folder,
                           GOLDENS=os.path.join(ROOT, "tests", "data", "goldens"), SHARED=shared, NO_COLOR="1", LC_ALL="C.UTF-8",
                           MODEL=os.path.join(ROOT, "models", "quern-coder-8m"), TERM="dumb")
        for step in steps:
            complaints = run_step(step, folder, environment)
            if complaints:
                print(f"{path}:{step['line']}: $ {step['command']}")
                print("\n".join(complaints))
                failed += 1
    print(f"{len(steps) - failed} of {len(steps)} commands behave")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
