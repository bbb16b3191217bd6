#!/usr/bin/env python3
"""Records what Hugging Face's tokenizers library takes every character for.

usage: record_unicode_classes.py   (needs: pip install tokenizers)
Writes tests/data/tokenizer/classes.json: {"library", "classes": {name: [n_characters, SHA-256]}, "forms": {name: [SHA-256, SHA-256]}}.
A class's hash is that of one byte a code point from 0 to U+10FFFF: 1 in the class, 0 outside. A form's first hash is that of the UTF-8 of
NORMALIZED("a" + c + U+0334) for all characters c in order: what it makes of c, and whether c moves behind a mark of the first class.
The second is that of NORMALIZED(text) for the texts of random_texts, each with a line feed behind it.
"""
import hashlib
import json
import os

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "tokenizer", "classes.json")
CHARACTERS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
EXPRESSIONS = {"L": r"\p{L}", "N": r"\p{N}", "M": r"\p{M}", "P": r"\p{P}", "S": r"\p{S}", "space": r"\s",
               "upper": r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", "lower": r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"}
# Where random texts take their characters from, with the marks and parts of syllables that combine; tests/unit/test_unicode.c has the same.
POOLS = [(0x20, 0x7E), (0xC0, 0x17F), (0x300, 0x34E), (0x300, 0x308), (0x5D0, 0x5EA), (0x591, 0x5C7), (0x622, 0x658), (0x904, 0x95F),
         (0x9BE, 0x9E3), (0xB3E, 0xB5D), (0xDCA, 0xDDF), (0xE01, 0xE4E), (0xF40, 0xF84), (0x1025, 0x103A), (0x1100, 0x11FF), (0x1EA0, 0x1EF9),
         (0x1F00, 0x1FFF), (0x2126, 0x212B), (0x3041, 0x30FE), (0x3099, 0x309A), (0xAC00, 0xAC70), (0xF900, 0xFA10), (0xFB1D, 0xFB4E),
         (0x1D15E, 0x1D1C0), (0x11935, 0x11943), (0x105C0, 0x105E5), (0x898, 0x89F)]


def random_texts():
    state = 12345

    def below(n):
        nonlocal state
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        return (state >> 8) % n

    for _ in range(20000):
        text = ""
        for _ in range(1 + below(8)):
            first, last = POOLS[below(len(POOLS))]
            for _ in range(1 + below(5)):
                text += chr(first + below(last - first + 1))
        yield text


def matching(expression):
    split, result = pre_tokenizers.Split(Regex(expression), "removed"), set()
    for at in range(0, len(CHARACTERS), 512):
        part = CHARACTERS[at:at + 512]
        left = set(part)
        for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, part))):
            left.difference_update(part[begin:end])
        result |= left
    return result


def word_characters():
    """Characters beside which an added token of single words is not seen; the same on both sides."""
    t, kept = Tokenizer(models.BPE()), []
    t.add_tokens([AddedToken("FOO", single_word=True)])
    foo = t.token_to_id("FOO")
    for form in ("{}FOO", "FOO{}"):
        found = set()
        for at in range(0, len(CHARACTERS), 8192):
            part = CHARACTERS[at:at + 8192]
            for c, e in zip(part, t.encode_batch([form.format(chr(c)) for c in part], add_special_tokens=False)):
                if foo not in e.ids:
                    found.add(c)
        kept.append(found)
    assert kept[0] == kept[1]
    return kept[0]


def summary(members):
    return [len(members), hashlib.sha256(bytes(c in members for c in range(0x110000))).hexdigest()]


def main():
    classes = {name: summary(matching(e)) for name, e in EXPRESSIONS.items()}
    classes["word"] = summary(word_characters())
    forms = {}
    for name in ("NFC", "NFD", "NFKC", "NFKD"):
        normalizer, hash_ = getattr(normalizers, name)(), hashlib.sha256()
        for c in CHARACTERS:
            hash_.update(normalizer.normalize_str("a" + chr(c) + "\u0334").encode())
        of_random = hashlib.sha256()
        for text in random_texts():
            of_random.update((normalizer.normalize_str(text) + "\n").encode())
        forms[name] = [hash_.hexdigest(), of_random.hexdigest()]
    with open(OUT, "w", encoding="utf-8") as f:
        json.dump({"library": "tokenizers " + tokenizers.__version__, "classes": classes, "forms": forms}, f, separators=(",", ":"))
        f.write("\n")


main()
