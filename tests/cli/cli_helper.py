"""What the tests of the program share: running it, small inputs, and checking the form of a JSON document.

Needs Python's standard library only. A test is called with the program's path: test_cli_NAME.py BUILD/quern
"""
import json
import math
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "models", "quern-coder-8m")
GOLDENS = os.path.join(ROOT, "tests", "data", "goldens")
SECONDS = 240
PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "quern"


def environment(home, **changes):
    """The environment of a run: no settings of the user, no colours, everything kept in `home`; the gate, which takes long, only where
    a test asks for it. None takes a variable away."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("QUERN_", "XDG_", "HF_"))}
    env.update(HOME=home, QUERN_HOME=os.path.join(home, "quern"), LC_ALL="C.UTF-8", TERM="dumb", NO_COLOR="1", QUERN_GATE="off", QUERN_CALIBRATE="none")
    env.update(changes)
    return {k: v for k, v in env.items() if v is not None}


def run(*arguments, stdin=b"", home=None, cwd=None, stdout=subprocess.PIPE, prefix=(), **changes):
    """Runs the program, by the command `prefix`, to its end; returns the completed process with bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([*prefix, PROGRAM, *arguments], input=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=SECONDS,
                              env=environment(home or folder, **changes), cwd=cwd)


class Checks:
    """Counts what was looked at, prints what was wrong."""

    def __init__(self):
        self.done = 0
        self.failed = 0

    def that(self, condition, what, detail=""):
        self.done += 1
        if not condition:
            self.failed += 1
            print(f"FAILED: {what}" + (f"\n  {detail}" if detail else ""))
        return bool(condition)

    def exit_code(self, process, expected, what):
        return self.that(process.returncode == expected, f"{what}: exit {process.returncode}, expected {expected}",
                         process.stderr.decode("utf-8", "replace"))

    def close(self):
        print(f"{self.done - self.failed} of {self.done} checks passed")
        sys.exit(1 if self.failed or not self.done else 0)


class Number:  # finite, within [low, high]
    def __init__(self, low=-math.inf, high=math.inf, integer=False):
        self.low, self.high, self.integer = low, high, integer


COUNT = Number(low=0, integer=True)
POSITIVE = Number(low=1e-12)


def problems(value, form, path="$"):
    """What is wrong with a value; [] if it has the form. Forms: a type, a constant text, Number, [form of each], {key: form},
    a tuple of alternatives. Keys beyond those named are free."""
    if isinstance(form, tuple):
        found = [problems(value, f, path) for f in form]
        return [] if any(not p for p in found) else found[0]
    if form is None:
        return [] if value is None else [f"{path}: {value!r} is not null"]
    if isinstance(form, Number):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and form.low <= value <= form.high
        return [] if good and (not form.integer or isinstance(value, int)) else [f"{path}: {value!r} is out of place"]
    if isinstance(form, str):
        return [] if value == form else [f"{path}: {value!r}, expected {form!r}"]
    if isinstance(form, list):
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [p for i, v in enumerate(value) for p in problems(v, form[0], f"{path}[{i}]")]
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no object"]
        missing = [f"{path}: no member {k!r}" for k in form if k not in value]
        return missing + [p for k, f in form.items() if k in value for p in problems(value[k], f, f"{path}.{k}")]
    return [] if isinstance(value, form) and (form is bool or not isinstance(value, bool)) else [f"{path}: {value!r} is no {form.__name__}"]


def document(checks, process, form, what):
    """Checks that stdout is exactly one JSON document of this form; returns it or None."""
    try:
        def refuse(name):
            raise ValueError(f"{name} is no JSON")
        doc = json.loads(process.stdout.decode("utf-8"), parse_constant=refuse)
    except (UnicodeDecodeError, ValueError) as e:
        checks.that(False, f"{what}: stdout is not one JSON document: {e}", process.stdout[:300])
        return None
    found = problems(doc, form)
    checks.that(not found, f"{what}: the document's form", "; ".join(found[:5]))
    return doc
