#!/usr/bin/env python3
"""Records what Hugging Face's tokenizers library makes of small tokenizers and difficult texts.

usage: record_tokenizer_goldens.py   (needs: pip install tokenizers)
Reads tests/data/goldens/tokenizer/tokenizer.json (byte-level), trains a SentencePiece-style BPE with byte fallback on the text of this
repository's README, and writes tests/data/tokenizer/recorded.json:
  {"library", "tokenizers": {name: tokenizer.json}, "cases": [{"name", "base", "set": {members replaced; "model.x" reaches into
   the model}, "texts": [{"text", "ids" (added tokens parsed), "plain" (added tokens as text; where it differs), "decoded"}]}]}
Texts are made from a fixed seed.
"""
import json
import os
import random

import tokenizers
from tokenizers import Tokenizer, models, normalizers, trainers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PREFIX, WHITE = r"[^\r\n\p{L}\p{N}]?", r"|\s*[\r\n]+|\s+(?!\S)|\s+"
PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
PATTERNS = {
    "qwen2": CONTRACTIONS + "|" + PREFIX + r"\p{L}+|\p{N}" + PUNCTUATION + WHITE,
    "llama3": CONTRACTIONS + "|" + PREFIX + r"\p{L}+|\p{N}{1,3}" + PUNCTUATION + WHITE,
    "minicpm5": CONTRACTIONS + "|" + PREFIX + r"\p{L}+|\p{N}+" + PUNCTUATION + WHITE,
    "qwen35": CONTRACTIONS + "|" + PREFIX + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + WHITE,
    "seed-coder": CONTRACTIONS + "|" + PREFIX + r"\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + WHITE,
    "no-contractions": PREFIX + r"\p{L}+|\p{N}" + PUNCTUATION + WHITE,
    "gpt-4o": PREFIX + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + PREFIX + UPPER + "+" + LOWER + "*" + CONTRACTIONS +
              r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + WHITE,
    "tekken": PREFIX + UPPER + "*" + LOWER + "+|" + PREFIX + UPPER + "+" + LOWER + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + WHITE,
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "default-marks": r"[\p{P}\$\+<=>\^~\|]+",
    "falcon-marks": r"[\p{P}\$\+<=>\^~\|`]+",
    "three": "[0-9][0-9][0-9]",
}
DEEPSEEK3 = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
             "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
MARKS = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def literal(text, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def digits(single):
    return {"type": "Digits", "individual_digits": single}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}


def added(token_id, content, **flags):
    token = {"id": token_id, "content": content, "special": True}
    token.update({flag: False for flag in ("single_word", "lstrip", "rstrip", "normalized")})
    token.update(flags)
    return token


def letters():
    """The expression of deepseek-llm, from the source that holds it."""
    source = open(os.path.join(ROOT, "src/text/deepseek_letters.inc"), encoding="utf-8").read()
    text = source[source.index("#define DEEPSEEK_LETTERS_PATTERN"):]
    parts = [p for i, p in enumerate(text.split('"')) if i % 2 == 1]
    return b"".join(p.encode().decode("unicode_escape").encode("latin-1") for p in parts).decode()


def train_chars():
    """A character BPE with byte fallback, in the form of Llama 2's tokenizer.json."""
    text = "".join(open(os.path.join(ROOT, name), encoding="utf-8").read() for name in ("README.md", "CONTRIBUTING.md"))
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    special = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special, show_progress=False, limit_alphabet=90)
    words = ["\u2581" + w for w in text.split()]
    tok.normalizer = None
    tok.train_from_iterator(words, trainer)
    out = json.loads(tok.to_str())
    out["added_tokens"] = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    out["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    out["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return out


def make_texts(rng, specials, n):
    pools = [[chr(c) for c in range(0x20, 0x7f)], [chr(c) for c in range(0x80, 0x250)], [chr(c) for c in range(0x300, 0x345)],
             list(" \t\n\r\u00a0\u2003\u3000\u2028\x0b\x0c\x85"), [chr(c) for c in range(0x391, 0x450) if c != 0x3a2],
             [chr(c) for c in range(0x905, 0x940)], [chr(c) for c in range(0x1100, 0x1113)], [chr(c) for c in range(0x1e00, 0x1f00)],
             [chr(c) for c in range(0x2010, 0x2060)], [chr(c) for c in range(0x3041, 0x3097)], [chr(c) for c in range(0x4e00, 0x4f00)],
             [chr(c) for c in range(0xac00, 0xad00)], [chr(c) for c in range(0xff01, 0xff60)], [chr(c) for c in range(0x1f300, 0x1f400)],
             list("'sStTrReEvVmMlLdD\u017f "), list("0123456789\u0663\u00b2\u2167"), list("ABCxyz\u00aa\u02b0\u01c5\u0301'"),
             list(".,!?/\\()[]{}<>=+-*#@$%^&_|~`:;\"' \n")]
    fixed = ["", " ", "  ", "\n\n  x", "def f(x):\n    return x + 1  # add one\n", "I'll say it's 12345.678 \u20ac, WE'LL see",
             "'\u017fa'S", "e\u0301\u0327 \u1e69", "\u2581a \u2581", "<0x0A>", "a" * 40]
    texts = list(fixed)
    while len(texts) < n:
        parts = []
        for _ in range(rng.randint(1, 6)):
            kind = rng.random()
            if kind < 0.15 and specials:
                parts.append(rng.choice(specials))
            elif kind < 0.2 and specials:
                parts.append(rng.choice(specials)[:rng.randint(1, 4)])
            elif kind < 0.3:
                parts.append(rng.choice([" ", "  ", "\n", "\t"]))
            else:
                pool = rng.choice(pools)
                parts.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 8))))
        texts.append("".join(parts))
    return texts


def all_cases():
    """(name, base, members replaced)"""
    cases = [("as-is", "bytes", {}), ("as-is", "chars", {})]
    for name, pattern in PATTERNS.items():
        cases.append((name, "bytes", {"pre_tokenizer": sequence(split(pattern), BYTE_LEVEL)}))
    for name, steps in {
        "deepseek-llm": [split("[\r\n]"), split(letters()), split(MARKS), split(r"\s+$"), split(HANGUL), digits(True)],
        "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(HANGUL), digits(True)],
        "deepseek-v3": [split(r"\p{N}{1,3}"), split(KANA), split(DEEPSEEK3)],
        "digits": [digits(False)],
        "unknown-regex": [split(r"\w+|[^\w\s]+", "Removed", True)],
        "look-around": [split(r"(?<=[a-z])(?=[A-Z])|(?<! ) ", "MergedWithNext")],
        "previous": [split(r"[ a-f]", "MergedWithPrevious")],
        "contiguous": [split(r"[^\s\d]|\S", "Contiguous")],
        "literal": [literal(" ", "MergedWithNext")],
        "literal-inverted": [literal("ab", "MergedWithPrevious", True)],
    }.items():
        cases.append((name, "bytes", {"pre_tokenizer": sequence(*steps, BYTE_LEVEL)}))
    cases.append(("starcoder", "bytes", {"pre_tokenizer": sequence(digits(True), dict(BYTE_LEVEL, use_regex=True))}))
    cases.append(("prefix-space", "bytes", {"pre_tokenizer": dict(BYTE_LEVEL, use_regex=True, add_prefix_space=True)}))
    for form in ("NFD", "NFKC", "NFKD"):
        cases.append((form, "bytes", {"normalizer": {"type": form}}))
    cases.append(("no-normalizer", "bytes", {"normalizer": {"type": "Sequence", "normalizers": []}}))
    cases.append(("replace", "bytes", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "ab"}, "content": ""}, {"type": "NFC"}, {"type": "Prepend", "prepend": "> "}]}}))
    flags = [added(509, "<|endoftext|>"), added(510, "<|im_start|>", lstrip=True), added(511, "<|im_end|>", rstrip=True),
             added(512, "word", single_word=True, special=False), added(513, "w\u00f6rd", normalized=True, special=False),
             added(514, "e\u0301x", normalized=True, special=False), added(515, "ab", special=False),
             added(516, "abc", lstrip=True, rstrip=True, special=False)]
    cases.append(("added-flags", "bytes", {"added_tokens": flags}))
    char_flags = [added(0, "<unk>"), added(1, "<s>", normalized=True), added(2, "</s>"), added(640, "<tool>", special=False, rstrip=True)]
    cases.append(("added-flags", "chars", {"added_tokens": char_flags}))
    for scheme in ("first", "always", "never"):
        for cut in (True, False):
            cases.append((f"metaspace-{scheme}-{cut}", "chars", {"normalizer": None, "pre_tokenizer": metaspace(scheme, cut),
                          "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, metaspace(scheme, cut)]}
                          if scheme == "never" else json.loads(json.dumps(DECODER))}))
    return cases


DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def record(name, base, members, bases, rng, n_texts):
    whole = json.loads(json.dumps(bases[base]))
    for key, value in members.items():
        if key.startswith("model."):
            whole["model"][key[len("model."):]] = value
        else:
            whole[key] = value
    tok = Tokenizer.from_str(json.dumps(whole))
    plain = Tokenizer.from_str(json.dumps(dict(whole, added_tokens=[])))
    rows = []
    for text in make_texts(rng, [a["content"] for a in whole["added_tokens"]], n_texts):
        ids = tok.encode(text, add_special_tokens=False).ids
        as_text = plain.encode(text, add_special_tokens=False).ids
        decoded = tok.decode(ids, skip_special_tokens=False)
        row = {"text": text, "ids": ids}
        if as_text != ids:
            row["plain"] = as_text
        if "\ufffd" in decoded and "\ufffd" not in text:
            continue  # bytes that are no UTF-8 are kept by Quern and replaced by the library
        row["decoded"] = decoded
        rows.append(row)
    return {"name": f"{base}-{name}", "base": base, "set": members, "texts": rows}


def main():
    rng = random.Random(20261121)
    path = os.path.join(ROOT, "tests/data/goldens/tokenizer/tokenizer.json")
    bases = {"bytes": json.load(open(path, encoding="utf-8")), "chars": train_chars()}
    fused_only = {"type": "Sequence", "decoders": [DECODER["decoders"][0], DECODER["decoders"][2]]}
    unknown = {"model.byte_fallback": False, "decoder": fused_only}
    cases = all_cases() + [("unknown", "chars", unknown), ("unknown-apart", "chars", dict(unknown, **{"model.fuse_unk": False})),
                           ("ignore-merges", "bytes", {"model.ignore_merges": True,
                                                       "model.merges": bases["bytes"]["model"]["merges"][:40]})]
    out = {"library": "tokenizers " + tokenizers.__version__, "tokenizers": bases,
           "cases": [record(name, base, members, bases, rng, 16) for name, base, members in cases]}
    path = os.path.join(ROOT, "tests/data/tokenizer/recorded.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes", len(out["cases"]), "cases", sum(len(c["texts"]) for c in out["cases"]), "texts")


if __name__ == "__main__":
    main()
