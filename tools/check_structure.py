#!/usr/bin/env python3
"""Cheap checks of the tree that no compiler makes: layers, sizes, banned calls, wrappers, comments, loose ends.

usage: check_structure.py [ROOT]
Prints one line a finding ("path:line: what") and exits 1 if there is any. Needs Python's standard library only.
"""
import os
import re
import subprocess
import sys

# A room may include itself and every room of a lower number; equal numbers are siblings and never meet.
LAYERS = {"base": 0, "quant": 1, "formats": 2, "text": 2, "kernels": 3, "backend": 4, "model": 5, "engine": 6,
          "measure": 7, "calibrate": 7, "sandbox": 7, "gate": 8, "quantize": 9, "plan": 9}
WRAPPERS = {  # third-party header -> the only file that may include it
    r"jansson\.h": "src/base/json.c", r"openssl/.*": "src/base/sha256.c", r"pcre2\.h": "src/text/regex_pcre2.c",
    r"utf8proc\.h": "src/text/normalize.c", r"(editline/.*|histedit\.h|readline/.*)": "apps/cli/line_edit.c"}
MAX_FILE_LINES, MAX_TEST_LINES, MAX_FUNCTION_LINES, MAX_COLUMNS = 1000, 1500, 150, 160
BANNED_EVERYWHERE = {"strcpy", "strcat", "sprintf", "vsprintf", "gets", "atoi", "atol", "atoll", "atof", "system", "popen",
                     "abort", "strtok", "alloca", "rand", "srand"}
BANNED_IN_LIBRARY = {"exit", "_exit", "_Exit", "quick_exit", "assert", "printf", "fprintf", "vprintf", "vfprintf", "puts", "fputs",
                     "putchar", "putc", "fputc", "perror", "signal", "sigaction", "setlocale", "setenv", "putenv"}
ALLOCATION = {"malloc", "calloc", "realloc", "free", "strdup", "strndup", "aligned_alloc", "posix_memalign", "reallocarray",
              "asprintf", "vasprintf", "getline", "getdelim"}
ALLOCATION_FILES = {"src/base/alloc.c": "is the allocator", "apps/cli/line_edit.c": "frees what libedit allocated"}
MAX_DATA_BYTES = 20_000_000
DATA = ("tests/data/", "models/", "fuzz/corpus/", "bench/results/", "tools/jinja_cases/")
TEXT = (".c", ".h", ".inc", ".S", ".py", ".sh", ".md", ".cmake", ".txt", ".in", ".case", ".yml", ".svg", ".json")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|farm|root|home/\w+|tmp/w)/")
LOOSE_END = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


class Findings:
    def __init__(self):
        self.lines = []

    def add(self, path, line, text):
        self.lines.append(f"{path}:{line}: {text}")


def list_files(root):
    """Paths of the project's own files, relative, with '/'."""
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True)
        top = subprocess.run(["git", "-C", root, "rev-parse", "--show-prefix"], capture_output=True, check=True).stdout.strip()
        names = [n for n in listed.stdout.decode().split("\0") if n]
        if top == b"" and names:
            return sorted(n for n in set(names) if os.path.isfile(os.path.join(root, n)))
    except (OSError, subprocess.CalledProcessError):
        pass  # not a git checkout: a release archive
    names = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [d for d in subfolders if d != ".git" and not d.startswith("build") and d != "__pycache__"]
        names += [os.path.relpath(os.path.join(folder, f), root).replace(os.sep, "/") for f in files]
    return sorted(names)


def blank(match):
    """What replaces a comment or a literal: the same number of lines, nothing else."""
    return '""' if match.group(0)[0] in "\"'" else "\n" * match.group(0).count("\n") + " "


def code_only(text):
    """C text without comments and without the content of literals; line numbers stay."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def room_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_includes(path, text, names, out):
    room = room_of(path)
    for number, line in enumerate(text.split("\n"), 1):
        system = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
        if system and path.startswith(("src/", "apps/", "include/")):
            for pattern, owner in WRAPPERS.items():
                if re.fullmatch(pattern, system.group(1)) and path != owner:
                    out.add(path, number, f"<{system.group(1)}> is included by {owner} only")
        local = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not local:
            continue
        target = local.group(1)
        first = target.split("/")[0] if "/" in target else None
        if ".." in target.split("/"):
            out.add(path, number, f'"{target}" climbs out of its folder')
        elif path.startswith("include/"):
            if first != "quern":
                out.add(path, number, f'public headers include "quern/..." only, not "{target}"')
        elif room is not None:
            if first is None:
                if f"{os.path.dirname(path)}/{target}" not in names:
                    out.add(path, number, f'"{target}" is not beside this file; write "room/file.h"')
            elif first != "quern" and first not in LAYERS:
                out.add(path, number, f'"{target}": no such room')
            elif first != "quern" and first != room and LAYERS[first] >= LAYERS.get(room, -1):
                out.add(path, number, f'{room} must not include {first} ("{target}")')
        elif path.startswith("apps/") and first not in (None, "quern", "base"):
            out.add(path, number, f'apps include "quern/..." and "base/..." only, not "{target}"')


def check_calls(path, code, out):
    banned = {name: "is banned" for name in BANNED_EVERYWHERE}
    if path.startswith("src/"):
        banned.update({name: "has no place in the library" for name in BANNED_IN_LIBRARY})
    if path not in ALLOCATION_FILES:
        banned.update({name: "goes through base/alloc.h" for name in ALLOCATION})
    for number, line in enumerate(code.split("\n"), 1):
        for call in re.finditer(r"(?<![\w.>])([A-Za-z_]\w*)\s*\(", line):
            if call.group(1) in banned:
                out.add(path, number, f"{call.group(1)}() {banned[call.group(1)]}")


def check_lengths(path, text, out):
    lines = text.split("\n")
    limit = MAX_TEST_LINES if path.startswith("tests/") else MAX_FILE_LINES
    if not path.endswith(".inc") and len(lines) > limit + 1:
        out.add(path, len(lines), f"{len(lines) - 1} lines; a file has at most {limit}")
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start - 1 > MAX_FUNCTION_LINES:
                out.add(path, start, f"function of {number - start - 1} lines; at most {MAX_FUNCTION_LINES}")
            start = None
        if len(line) > MAX_COLUMNS:
            out.add(path, number, f"{len(line)} columns; at most {MAX_COLUMNS}")


def check_head(path, text, out):
    name = re.escape(path.split("/")[-1])
    if not re.match(rf"/\* (\w+/)*{name} - \S", text):
        out.add(path, 1, f"the first line should be '/* {path.split('/')[-1]} - what it owns'")


def check_public_comments(path, text, out):
    """Every public function has a comment above it, above the group of declarations it stands in, or behind it."""
    documented = False
    inside_comment = False
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if inside_comment or stripped.startswith("/*"):
            inside_comment = "*/" not in stripped
            documented = True
        elif stripped.startswith("QUERN_API"):
            if not documented and "/*" not in stripped:
                out.add(path, number, "public function without a comment")
        elif stripped == "" or stripped.startswith("}") or stripped.endswith("{"):
            documented = False


def check_hygiene(path, text, out):
    blanks_are_data = path.startswith("tools/jinja_cases/")  # templates that test white space
    for number, line in enumerate(text.split("\n"), 1):
        if blanks_are_data:
            pass
        elif line != line.rstrip(" \t"):
            out.add(path, number, "trailing blanks")
        elif "\t" in line and not path.endswith("Makefile"):
            out.add(path, number, "tab")
        if LOOSE_END.search(line):
            out.add(path, number, "loose end: " + LOOSE_END.search(line).group(0))
        if MACHINE_PATH.search(line):
            out.add(path, number, "path of one machine: " + MACHINE_PATH.search(line).group(0))
    if text and not text.endswith("\n"):
        out.add(path, text.count("\n") + 1, "no newline at the end")


def check_links(path, text, root, out):
    """Relative links of a page lead somewhere."""
    for number, line in enumerate(re.sub(r"```.*?```", blank, text, flags=re.S).split("\n"), 1):
        for target in re.findall(r"\]\(([^)#\s]+)", re.sub(r"`[^`]*`", "", line)):
            if not re.match(r"[a-z]+:", target) and not os.path.exists(os.path.join(root, os.path.dirname(path), target)):
                out.add(path, number, f"link to {target}, which is not there")


def check_data_size(root, names, out):
    size = sum(os.path.getsize(os.path.join(root, n)) for n in names if n.startswith("tests/data/"))
    if size > MAX_DATA_BYTES:
        out.add("tests/data", 1, f"{size} bytes; at most {MAX_DATA_BYTES}")


def check_unique_names(names, out):
    seen = {}
    for path in names:
        base = path.split("/")[-1]
        if path.endswith((".c", ".h", ".inc", ".S", ".py")) and not base.startswith("__"):
            if base in seen:
                out.add(path, 1, f"file name already used by {seen[base]}")
            seen.setdefault(base, path)


def check_tree(root):
    out = Findings()
    every = list_files(root)
    names = [n for n in every if not n.startswith(DATA)]
    check_data_size(root, every, out)
    check_unique_names(names, out)
    for path in names:
        if not path.endswith(TEXT) and os.path.basename(path) not in ("Makefile", ".clang-format") and path != ".ci/run":
            continue
        with open(os.path.join(root, path), encoding="utf-8", errors="replace", newline="") as f:
            text = f.read()
        if "\r" in text:
            out.add(path, 1, "carriage returns")
        check_hygiene(path, text, out)
        if path.endswith(".md"):
            check_links(path, text, root, out)
        if not path.endswith((".c", ".h", ".inc", ".S")):
            continue
        check_lengths(path, text, out)
        check_includes(path, text, set(names), out)
        if path.endswith((".c", ".h")):
            check_head(path, text, out)
        if path.startswith(("src/", "apps/")):
            check_calls(path, code_only(text), out)
        if path.startswith("include/quern/"):
            check_public_comments(path, text, out)
    return out.lines, len(names)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    findings, n_files = check_tree(root)
    for line in findings:
        print(line)
    print(f"structure: {n_files} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
