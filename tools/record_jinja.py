#!/usr/bin/env python3
"""Records what Jinja2 renders, set up as transformers sets it up: the expectations of tests/unit/test_jinja.c.

Usage: tools/record_jinja.py          writes tests/data/jinja/*.jsonl
       tools/record_jinja.py --check  fails if a recording would change

Needs jinja2 3.1.6. Each row: name, template, context, and expected (the text) or error (its class and message).
The cases are in tools/jinja_cases/*.py, the templates of chat formats in tools/jinja_cases/templates/.
"""
import argparse
import datetime
import importlib
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "tests" / "data" / "jinja"
NOW = 1753920000  # 2025-07-31 00:00:00 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %}, a call block without effect on the text."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(lineno)

    @jinja2.pass_eval_context
    def _render(self, context, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None).strftime(format)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def record(name, template, context):
    row = {"name": name, "template": template, "context": context}
    try:
        row["expected"] = environment().from_string(template).render(**json.loads(json.dumps(context)))
        row["expected"].encode("utf-8")
    except Exception as e:  # whatever Python raises is what the engine must refuse
        row.pop("expected", None)
        row["error"] = [type(e).__name__, str(e)]
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if jinja2.__version__ != "3.1.6":
        sys.exit("needs jinja2 3.1.6, found " + jinja2.__version__)
    sys.path.insert(0, str(HERE))
    changed = []
    for module in ("expressions", "statements", "chat"):
        cases = importlib.import_module("jinja_cases." + module).cases()
        names = set()
        rows = []
        for name, template, context in cases:
            if name in names:
                sys.exit(f"{module}: two cases are called {name}")
            names.add(name)
            rows.append(json.dumps(record(name, template, context), ensure_ascii=False))
        path = OUT / (module + ".jsonl")
        text = "\n".join(rows) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(path.name)
            if not args.check:
                path.write_text(text, encoding="utf-8")
        print(f"{module}: {len(rows)} cases, {sum('error' in json.loads(r) for r in rows)} of them errors")
    if args.check and changed:
        sys.exit("recordings differ: " + ", ".join(changed))


if __name__ == "__main__":
    main()
