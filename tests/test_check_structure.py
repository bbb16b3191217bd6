#!/usr/bin/env python3
"""Every rule of tools/check_structure.py catches a file that breaks it, and passes one that does not."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import check_structure  # noqa: E402

LONG = "/* x.c - long */\nvoid f(void)\n{\n" + "    g();\n" * 151 + "}\n"
CASES = [  # path, content, a part of the expected finding (None: clean)
    ("src/base/x.c", '/* x.c - fine */\n#include "base/y.h"\n#include "quern/status.h"\n', None),
    ("src/model/x.c", '/* x.c - fine */\n#include "kernels/y.h"\nstatic void exit_all(void) { s.free(1); }\n', None),
    ("src/base/x.c", '/* x.c - up */\n#include "text/y.h"\n', "base must not include text"),
    ("src/formats/x.c", '/* x.c - sibling */\n#include "text/y.h"\n', "formats must not include text"),
    ("src/base/x.c", '/* x.c - climbs */\n#include "../text/y.h"\n', "climbs"),
    ("src/base/x.c", '/* x.c - lost */\n#include "y.h"\n', "not beside"),
    ("include/quern/x.h", '/* quern/x.h - inner */\n#include "base/y.h"\n', 'include "quern/..." only'),
    ("apps/cli/x.c", '/* x.c - tensor */\n#include "formats/tensor.h"\n', "apps include"),
    ("src/model/x.c", "/* x.c - library */\n#include <jansson.h>\n", "src/base/json.c only"),
    ("src/model/x.c", "/* x.c - banned */\nvoid f(void) { strcpy(a, b); }\n", "strcpy() is banned"),
    ("src/model/x.c", "/* x.c - banned */\nvoid f(void) { free(a); }\n", "free() goes through"),
    ("src/model/x.c", "/* x.c - banned */\nvoid f(void) { printf(a); }\n", "no place in the library"),
    ("apps/cli/x.c", "/* x.c - program */\nvoid f(void) { printf(a); exit(1); }\n", None),
    ("src/model/x.c", '/* x.c - only words */\n/* strcpy(a) */\nconst char *s = "free(x)";\n', None),
    ("src/model/x.c", LONG, "function of 151 lines"),
    ("src/model/x.c", "/* x.c - tall */\n" + "int a;\n" * 1000, "at most 1000"),
    ("src/model/x.c", "/* x.c - wide */\n" + "/* " + "-" * 160 + " */\n", "columns"),
    ("src/model/x.c", "int a;\n", "first line"),
    ("include/quern/x.h", "/* quern/x.h - api */\n\nQUERN_API int quern_f(void);\n", "without a comment"),
    ("include/quern/x.h", "/* quern/x.h - api */\n\n/* F. */\nQUERN_API int quern_f(void);\nQUERN_API int quern_g(void);\n", None),
    ("docs/x.md", "one \n", "trailing blanks"),
    ("docs/x.md", "a\tb\n", "tab"),
    ("docs/x.md", "TO" "DO later\n", "loose end"),
    ("docs/x.md", "see /wo" "rk/main/x\n", "path of one machine"),
    ("docs/x.md", "end", "no newline"),
    ("docs/x.md", "see [that](y.md)\n", "link to y.md"),
    ("docs/x.md", "see [this](x.md), `[a](b.c)` and [there](https://example.org)\n", None),
    ("tests/data/x.bin", "0" * 20_000_001, "20000001 bytes"),
    ("docs/x.md", "a\r\n", "carriage"),
]


def findings_for(files):
    with tempfile.TemporaryDirectory() as root:
        for path, content in files:
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8", newline="") as f:
                f.write(content)
        return check_structure.check_tree(root)[0]


def main():
    failed = 0
    for path, content, expected in CASES:
        found = findings_for([(path, content)])
        good = found == [] if expected is None else len(found) == 1 and expected in found[0]
        if not good:
            print(f"{path} ({expected}): {found}")
            failed += 1
    twice = findings_for([("src/base/x.c", "/* x.c - one */\n"), ("apps/cli/x.c", "/* x.c - two */\n")])
    if len(twice) != 1 or "already used" not in twice[0]:
        print("unique names:", twice)
        failed += 1
    print(f"{len(CASES) + 1 - failed} of {len(CASES) + 1} rules behave")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
