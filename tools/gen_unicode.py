#!/usr/bin/env python3
"""Writes src/text/unicode_props.inc: character properties and case mappings as CPython's str methods know them.

Usage: tools/gen_unicode.py > src/text/unicode_props.inc
The tables follow the Unicode version of the running Python (3.11 has 14.0); the tests compare with that version.
"""
import sys
import unicodedata

MAX = 0x110000
SURROGATES = range(0xD800, 0xE000)


def case_ignorable(c):
    # The final-sigma rule skips such characters: "a" before one still counts, and the character itself never does.
    return ("a" + c + "\u03a3").lower().endswith("\u03c2") and ("1" + c + "\u03a3").lower().endswith("\u03c3")


def flags(cp):
    if cp in SURROGATES:
        return 0
    c = chr(cp)
    bits = [c.isalpha(), c.isdecimal(), c.isdigit(), c.isnumeric(), c.islower(), c.isupper(),
            unicodedata.category(c) == "Lt", case_ignorable(c), c.isprintable(), c.isidentifier(), ("a" + c).isidentifier()]
    return sum(1 << i for i, b in enumerate(bits) if b)


def ranges(mapping):
    """{cp: target} -> [first, last, step, delta] rows."""
    rows = []
    for cp in sorted(mapping):
        delta = mapping[cp] - cp
        if rows and rows[-1][3] == delta:
            first, last, step, _ = rows[-1]
            if first == last and cp - last in (1, 2):
                rows[-1][1], rows[-1][2] = cp, cp - last
                continue
            if first != last and cp - last == step:
                rows[-1][1] = cp
                continue
        rows.append([cp, cp, 1, delta])
    return rows


def table(kind, name, items, per_line):
    print(f"static const {kind} {name}[] = {{")
    for i in range(0, len(items), per_line):
        print("    " + ", ".join(items[i:i + per_line]) + ",")
    print("};\n")


def main():
    print("/* unicode_props.inc - made by tools/gen_unicode.py from Unicode " + unicodedata.unidata_version + "; do not edit. */\n")
    runs = []
    for cp in range(MAX):
        f = flags(cp)
        if not runs or runs[-1][1] != f:
            runs.append((cp, f))
    print("/* first character of a run of equal properties << 11 | properties (bits in the order of enum in unicode_props.c) */")
    table("uint32_t", "PROPERTY_RUNS", [f"0x{cp << 11 | f:08x}" for cp, f in runs], 11)

    def case_map(fn, base=None):
        single, multi = {}, {}
        for cp in range(MAX):
            if cp in SURROGATES:
                continue
            r = fn(chr(cp))
            if r == (base(chr(cp)) if base else chr(cp)):
                continue
            if len(r) == 1:
                single[cp] = ord(r)
            else:
                multi[cp] = [ord(x) for x in r]
        return single, multi

    for name, fn, base in (("UPPER", str.upper, None), ("LOWER", str.lower, None), ("TITLE", str.title, str.upper),
                           ("FOLD", str.casefold, str.lower)):
        single, multi = case_map(fn, base)
        if name == "TITLE":
            print("/* where title case differs from upper case, folding from lower case */")
        table("case_range", name + "_RANGES", ["{%d, %d, %d, %d}" % tuple(r) for r in ranges(single)], 5)
        if multi:
            table("case_expansion", name + "_EXPANSIONS",
                  ["{0x%x, {%s}}" % (cp, ", ".join("0x%x" % x for x in m + [0] * (3 - len(m)))) for cp, m in sorted(multi.items())], 3)


main()
