#!/usr/bin/env python3
"""Runs ctest in one or more build folders and closes with one line of real counts.

usage: run.py [--jobs N] [--label REGEX] LABEL=BUILD_DIR...

A cmocka program counts once per case, any other test once. A skip is allowed only if tests/allowed_skips.txt lists it for
a condition that holds here; any other skip, a skip without a printed reason, and a run without tests are failures. What was skipped, and why,
stands above the closing line; of a case that skips a part of its work too, which counts as passed.
"""
import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
Counts = namedtuple("Counts", "passed failed skipped")
SKIP_LINE = re.compile(r"SKIP: ([^:\s]+): (\S.*)")
CASE_LINE = re.compile(r"\[\s*(OK|FAILED|SKIPPED|ERROR)\s*\] (.+)")
GROUP_START = re.compile(r"\[==========\].*Running (\d+) test")


def cpu_flags():
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            return set(f.read().split())
    except OSError:
        return set()


def conditions(sanitized):
    """The names of all conditions that hold here, as the list of allowed skips spells them."""
    flags = cpu_flags()
    have = {"always"}
    if not os.path.isdir(os.path.join(ROOT, "..", "shared")):
        have.add("no-shared")
    for name, flag in (("avx2", "avx2"), ("avx512", "avx512bw"), ("avx512vnni", "avx512_vnni"), ("amx", "amx_int8"), ("neon", "asimddp"), ("i8mm", "i8mm")):
        if flag not in flags:
            have.add("no-" + name)
    if os.geteuid() == 0:
        have.add("root")
    if sanitized:
        have.add("sanitized")
    return have


def allowed_skips():
    rows = []
    with open(os.path.join(ROOT, "tests", "allowed_skips.txt"), encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            if words:
                rows.append((words[0], words[1]))
    return rows


def count_cases(output, test_passed, test_skipped):
    """Counts of one ctest test: its cmocka cases, or itself."""
    announced = sum(int(n) for n in GROUP_START.findall(output))
    if announced == 0:
        return Counts(int(test_passed), int(not test_passed and not test_skipped), int(test_skipped))
    results = {}  # a case is named again in the closing list of failures, so names are kept once
    for verdict, name in CASE_LINE.findall(output):
        if not re.match(r"\d+ test", name):
            results[name.strip()] = verdict
    passed = sum(v == "OK" for v in results.values())
    skipped = sum(v == "SKIPPED" for v in results.values())
    failed = len(results) - passed - skipped
    if not test_passed:  # a crash ends the program before its closing lines: what did not run has failed
        failed = max(1, announced - passed - skipped)
    return Counts(passed, failed, skipped)


def check_skips(name, output, skipped, holding, allowed):
    """Complaints about the skips one test printed."""
    complaints = []
    lines = SKIP_LINE.findall(output)
    if skipped > len(lines):
        complaints.append(f"{name}: {skipped} skipped but only {len(lines)} lines 'SKIP: name: reason'")
    if output.count("SKIP: ") != len(lines):
        complaints.append(f"{name}: a line with 'SKIP: ' is not of the form 'SKIP: name: reason'")
    for what, reason in lines:
        if not any(fnmatch.fnmatch(what, pattern) and when in holding for pattern, when in allowed):
            complaints.append(f"{name}: skip not in tests/allowed_skips.txt for this machine: {what}: {reason}")
    return complaints


def print_skips(skips):
    """The names that were skipped, reason by reason."""
    names = {}
    for what, reason in skips:
        names.setdefault(reason, set()).add(what)
    for reason, whats in sorted(names.items()):
        first = sorted(whats)[:3]
        print(f"skipped: {', '.join(first)}{f' and {len(whats) - 3} more' if len(whats) > 3 else ''}: {reason}")


def run_folder(label, folder, args, allowed, skips):
    """Runs all tests of one build folder; returns counts and the list of complaints, and adds what was skipped."""
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        command = ["ctest", "--test-dir", folder, "-j", str(args.jobs), "--output-junit", report, "--quiet",
                   "--test-output-size-passed", "4000000", "--test-output-size-failed", "4000000", "--no-tests=error"]
        if args.label:
            command += ["-L", args.label]
        started = time.monotonic()
        print(f"== {label}: ctest in {folder}", flush=True)
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        if not os.path.exists(report):
            return Counts(0, 1, 0), [f"{label}: ctest wrote no report"]
        tree = ElementTree.parse(report)
    holding = conditions("asan" in label or "tsan" in label)
    total, complaints, slow = Counts(0, 0, 0), [], []
    for case in tree.getroot().iter("testcase"):
        name = f"{label}:{case.get('name')}"
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped") is not None and "SKIP_RETURN_CODE" in (case.find("skipped").get("message") or "")
        passed = case.get("status") == "run"
        counts = count_cases(output, passed, skipped)
        if counts.failed:
            print(f"---- FAILED {name}\n{output.rstrip()}\n----")
        total = Counts(*(a + b for a, b in zip(total, counts)))
        complaints += check_skips(name, output, counts.skipped, holding, allowed)
        skips += SKIP_LINE.findall(output)
        slow.append((float(case.get("time") or 0), name))
    if total == Counts(0, 0, 0):
        complaints.append(f"{label}: no test ran")
    slowest = ", ".join(f"{n.split(':')[1]} {t:.1f} s" for t, n in sorted(slow, reverse=True)[:3])
    print(f"   {total.passed} passed, {total.failed} failed, {total.skipped} skipped in {seconds:.0f} s; slowest: {slowest}")
    return total, complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--label", help="only tests with a matching ctest label")
    parser.add_argument("folders", nargs="+", metavar="LABEL=BUILD_DIR")
    args = parser.parse_args()
    allowed = allowed_skips()
    total, complaints, skips = Counts(0, 0, 0), [], []
    for item in args.folders:
        label, folder = item.split("=", 1)
        counts, found = run_folder(label, folder, args, allowed, skips)
        total = Counts(*(a + b for a, b in zip(total, counts)))
        complaints += found
    print_skips(skips)
    for complaint in complaints:
        print("FAILED:", complaint)
    failed = total.failed + len(complaints)
    print(f"{total.passed} passed, {failed} failed, {total.skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
