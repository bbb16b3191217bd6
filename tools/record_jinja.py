#!/usr/bin/env python3
"""Records what Jinja2 renders, set up as transformers sets it up: the expectations of tests/unit/test_jinja.c.

Usage: tools/record_jinja.py              writes tests/jinja/*.jsonl
       tools/record_jinja.py --check      fails if a recording would change
       tools/record_jinja.py --show NAME  prints what Jinja2 makes of the case of that name

Needs jinja2 3.1.6 and markupsafe 3.0.3 (3.0.4 removes comments within comments otherwise). The cases are in tools/jinja_cases/*.py, the templates of chat formats in tools/jinja_cases/templates/.
The first line of a file holds the contexts by name. Each further line is one case:
    [name, template, context name, expected]         a text that must come out byte for byte, or
    [name, template, context name, null, [class, message]]  the exception that Jinja2 raises
In expressions.jsonl the name is the expression and the template null: "{{ " + name + " }}".
In chat.jsonl the template is the name of a file, and expected is the SHA-256 of the text.
"""
import argparse
import datetime
import hashlib
import importlib
import importlib.metadata
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "tests" / "jinja"
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


def render(template, context):
    """The text, or the exception as [class, message]."""
    try:
        text = environment().from_string(template).render(**json.loads(json.dumps(context)))
        text.encode("utf-8")
        return text, None
    except Exception as e:  # whatever Python raises is what the engine must refuse
        return None, [type(e).__name__, str(e)]


def row_of(module, name, template, context_name, text, error):
    if module == "expressions" and template == "{{ " + name + " }}":
        template = None
    if module == "chat":
        template = name.split(":")[0] + ".jinja"
        text = text and hashlib.sha256(text.encode("utf-8")).hexdigest()
    row = [name, template, context_name, text]
    return json.dumps(row if error is None else row + [error], ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--show", metavar="NAME")
    args = parser.parse_args()
    for package, version in (("jinja2", "3.1.6"), ("markupsafe", "3.0.3")):
        if importlib.metadata.version(package) != version:
            sys.exit(f"needs {package} {version}, found {importlib.metadata.version(package)}")
    sys.path.insert(0, str(HERE))
    changed = []
    for module in ("expressions", "statements", "chat"):
        contexts, rows, names, errors = {}, [], set(), 0
        for name, template, context_name, context in importlib.import_module("jinja_cases." + module).cases():
            text, error = render(template, context)
            if args.show == name:
                print(error if text is None else text)
            if name in names:
                sys.exit(f"{module}: two cases are called {name}")
            names.add(name)
            contexts[context_name] = context
            errors += error is not None
            rows.append(row_of(module, name, template, context_name, text, error))
        path = OUT / (module + ".jsonl")
        text = "\n".join([json.dumps(contexts, ensure_ascii=False, separators=(",", ":"))] + rows) + "\n"
        if not args.show and (not path.exists() or path.read_text(encoding="utf-8") != text):
            changed.append(path.name)
            if not args.check:
                path.write_text(text, encoding="utf-8")
        if not args.show:
            print(f"{module}: {len(rows)} cases, {errors} of them errors")
    if args.check and changed:
        sys.exit("recordings differ: " + ", ".join(changed))


if __name__ == "__main__":
    main()
