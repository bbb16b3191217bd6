#!/usr/bin/env python3
"""Writes src/text/unicode_class.inc: the classes of characters by which tokenizers cut text, and which of them normalizing can change.

Usage: python3 -m pip install unicodedata2==16.0.0; tools/gen_unicode_classes.py > src/text/unicode_class.inc
The categories are those of Unicode 16.0, as in the regular expressions of Hugging Face's tokenizers 0.23 (Oniguruma 6.9.10 and the regex
crate); its normalizer is of Unicode 9.0 and leaves newer characters alone. The age of a character comes from Perl.
tools/record_unicode_classes.py records what the library itself says; the tests compare.
"""
import subprocess
import sys

import unicodedata2 as ucd

CATEGORIES, NORMALIZER = "16.0.0", "9.0"
MAX, BLOCK = 0x110000, 256
L, N, SPACE, M, P, S, UPPER, LOWER, WORD, NEWLINE, OTHER, NFC_YES, NFC_MARK, NEW = (1 << i for i in range(14))
# White_Space; letters by Other_Alphabetic that are no marks (encircled and squared ones); Join_Control. PropList.txt and DerivedCoreProperties.txt.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
ALPHABETIC_SYMBOLS = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}
JOIN_CONTROL = {0x200C, 0x200D}
# The second characters of Hangul syllables, which no decomposition in the data names.
JAMO = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}


def present_in(version):
    """Code points that are assigned in a version."""
    script = "no warnings; for (0..0x10ffff) { print \"$_\\n\" if ($_ < 0xd800 || $_ > 0xdfff) && chr($_) =~ /\\p{Present_In: %s}/ }" % version
    return {int(x) for x in subprocess.run(["perl", "-e", script], capture_output=True, text=True, check=True).stdout.split()}


def category_class(category):
    if category in ("Lu", "Lt"):
        return L | UPPER | WORD
    if category == "Ll":
        return L | LOWER | WORD
    if category in ("Lm", "Lo"):
        return L | UPPER | LOWER | WORD
    if category[0] == "M":
        return M | UPPER | LOWER | WORD | OTHER
    if category[0] == "N":
        return N | (0 if category == "No" else WORD)
    if category[0] == "P":
        return P | OTHER | (WORD if category == "Pc" else 0)
    return OTHER | (S if category[0] == "S" else 0)


def joins_the_one_before(cps):
    """Characters that composition may take into the one before them: the second halves of primary composites."""
    second = set(JAMO)
    for cp in cps:
        parts = ucd.decomposition(chr(cp)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and ucd.normalize("NFC", chr(cp)) == chr(cp):
            second.add(int(parts[1], 16))
    return second


def classes():
    old, result = present_in(NORMALIZER), []
    second = joins_the_one_before(c for c in range(MAX) if not 0xD800 <= c < 0xE000)
    for cp in range(MAX):
        if 0xD800 <= cp < 0xE000:
            result.append(OTHER | NFC_YES)
            continue
        c = chr(cp)
        bits = category_class(ucd.category(c))
        if cp in WHITE_SPACE:
            bits = SPACE | (NEWLINE if cp in (0x0A, 0x0D) else 0)
        if cp in ALPHABETIC_SYMBOLS | JOIN_CONTROL:
            bits |= WORD
        if cp not in old:
            bits |= NEW
        elif ucd.normalize("NFC", c) == c and cp not in second:
            bits |= NFC_MARK if ucd.combining(c) else NFC_YES
        result.append(bits)
    return result


def table(kind, name, items, per_line):
    print(f"static const {kind} {name}[] = {{")
    for i in range(0, len(items), per_line):
        print("    " + ",".join(items[i:i + per_line]) + ",")
    print("};")


def main():
    if ucd.unidata_version != CATEGORIES:
        sys.exit(f"unicodedata2 has Unicode {ucd.unidata_version}, {CATEGORIES} is wanted")
    of = classes()
    kinds = sorted(set(of))
    blocks, index = {}, []
    for at in range(0, MAX, BLOCK):
        block = tuple(kinds.index(x) for x in of[at:at + BLOCK])
        index.append(blocks.setdefault(block, len(blocks)))
    print(f"/* unicode_class.inc - made by tools/gen_unicode_classes.py from Unicode {CATEGORIES} (normalizing: {NORMALIZER}); do not edit. */\n")
    print("/* kinds of characters, as bits of enum in normalize.h */")
    table("uint16_t", "KINDS", [f"0x{k:04x}" for k in kinds], 16)
    print(f"\n/* block of each {BLOCK} code points */")
    table("uint8_t", "BLOCK_OF", [str(i) for i in index], 32)
    print("\n/* kinds in each block, one block after the other */")
    table("uint8_t", "KIND_OF", [str(k) for block in blocks for k in block], 44)


main()
