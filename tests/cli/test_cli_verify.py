#!/usr/bin/env python3
"""quern verify against what a file says of texts and of itself: tokenizers, templates, end tokens, modes, empty tensors; and the form of its report."""
import json
import os
import random
import shutil
import struct
import tempfile

from cli_helper import GOLDENS, MODEL, Checks, run

SOURCE = os.path.join(GOLDENS, "hf", "qwen3")
STRING, ARRAY, BOOL = 8, 9, 7
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def text_value(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


class Gguf:
    """A GGUF file in parts: keys with their raw values (type, bytes), in order, and everything behind them."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.n_tensors, n_keys = struct.unpack_from("<QQ", self.data, 8)
        self.at, self.keys = 24, {}
        for _ in range(n_keys):
            key = self.string().decode()
            kind = self.number("<I")
            begin = self.at
            self.skip(kind)
            self.keys[key] = (kind, self.data[begin:self.at])
        infos, self.tensors = self.at, {}
        for _ in range(self.n_tensors):
            name = self.string().decode()
            shape = [self.number("<Q") for _ in range(self.number("<I"))]
            self.tensors[name] = (self.number("<I"), shape, self.number("<Q"))
        self.infos, self.body = self.data[infos:self.at], bytearray(self.data[-(-self.at // 32) * 32:])

    def number(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self):
        n = self.number("<Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            element, n = self.number("<I"), self.number("<Q")
            for _ in range(n):
                self.skip(element)
        else:
            self.at += SIZES[kind]

    def span(self, name):
        """Where the tensor's bytes lie in the body: up to the next one's."""
        begin = self.tensors[name][2]
        return begin, min([o for _, _, o in self.tensors.values() if o > begin] + [len(self.body)])

    def write(self, path):
        out = bytearray(self.data[:8] + struct.pack("<QQ", self.n_tensors, len(self.keys)))
        for key, (kind, value) in self.keys.items():
            out += text_value(key) + struct.pack("<I", kind) + value
        out += self.infos
        out += bytes(-len(out) % 32)
        with open(path, "wb") as f:
            f.write(out + self.body)
        return path


def verdict_of(path, source, *options, **environment):
    entry = json.loads(run("verify", path, "--against", source, "--gate", "off", "--json", *options, **environment).stdout)["outputs"][0]
    gate = entry["gate"]
    return gate["verdict"], " / ".join(gate["reasons"]), " / ".join(gate["notes"]), entry


def quantized(folder, source, *formats, name="x"):
    out = os.path.join(folder, name)
    done = run("quantize", source, "-o", out, "--formats", ",".join(formats), "--calibrate", "none", "--gate", "off", "--json")
    return [os.path.join(out, o["path"]) for o in json.loads(done.stdout)["outputs"]]


def check_gguf_texts(checks, folder):
    """What the keys say is judged by what a reader does with it."""
    source = os.path.join(folder, "source")
    shutil.copytree(SOURCE, source)
    # A pad token ends answers, which no reader would guess from its text; the template speaks of bos_token.
    change_json(source, "generation_config.json", lambda c: c.update(eos_token_id=[511, 300]))
    change_json(source, "tokenizer_config.json", lambda c: c.update(chat_template=c["chat_template"] + "{{ bos_token }}", bos_token="<|endoftext|>"))
    path = quantized(folder, source, "gguf:Q8_0")[0]
    bad, good = os.path.join(folder, "bad.gguf"), os.path.join(folder, "good.gguf")
    checks.that(verdict_of(path, source)[0] == "skipped", "the file as it was written")

    def judged(what, change, expected, word):
        g = Gguf(path)
        change(g.keys)
        verdict, reasons, notes, _ = verdict_of(g.write(bad if expected == "fail" else good), source)
        checks.that(verdict == expected and word in (reasons if expected == "fail" else notes), f"GGUF: {what}", (verdict, reasons, notes))

    def set_key(name, kind, value):
        return lambda k: k.update({name: (kind, value)})

    def reverse_merges(k):
        kind, raw = k["tokenizer.ggml.merges"]
        n, at, items = struct.unpack_from("<Q", raw, 4)[0], 12, []
        for _ in range(n):
            length = struct.unpack_from("<Q", raw, at)[0]
            items.append(raw[at:at + 8 + length])
            at += 8 + length
        items[5], items[6] = items[6], items[5]
        k["tokenizer.ggml.merges"] = (kind, raw[:12] + b"".join(items))

    def retype(index, value):
        def change(k):
            kind, raw = k["tokenizer.ggml.token_type"]
            at = 12 + 4 * index
            k["tokenizer.ggml.token_type"] = (kind, raw[:at] + struct.pack("<i", value) + raw[at + 4:])
        return change

    judged("an end token that is not said", lambda k: k.pop("tokenizer.ggml.eot_token_id"), "fail", "300")
    judged("an end token known by its text", lambda k: k.pop("tokenizer.ggml.eos_token_id"), "skipped", "readers know it by its text")
    judged("one end token more", set_key("tokenizer.ggml.eom_token_id", 4, struct.pack("<I", 301)), "fail", "ends an answer here and not in the source")
    judged("no template", lambda k: k.pop("tokenizer.chat_template"), "fail", "there is no chat template")
    judged("a template for tools", set_key("tokenizer.chat_template.tool_use", STRING, text_value("{{ tools }}")), "fail", "chat template for tools")
    judged("a template of another name", set_key("tokenizer.chat_template.rag", STRING, text_value("{{ x }}")), "skipped", "chat_template.rag")
    judged("no bos for the template", lambda k: k.pop("tokenizer.ggml.bos_token_id"), "fail", "bos_token")
    judged("a token in front of each text", set_key("tokenizer.ggml.add_bos_token", BOOL, b"\1"), "fail", "begins each text: true, in the source false")
    judged("two merges swapped", reverse_merges, "fail", "merge 5")
    judged("no merges", lambda k: k.pop("tokenizer.ggml.merges"), "fail", "merge")
    judged("no token types", lambda k: k.pop("tokenizer.ggml.token_type"), "fail", "control token")
    judged("a token that is never made", retype(300, 5), "fail", "token 300")
    judged("a flag that differs is shown", set_key("tokenizer.ggml.add_space_prefix", BOOL, b"\1"), "skipped", "add_space_prefix is true, the source gives false")
    judged("another padding token", set_key("tokenizer.ggml.padding_token_id", 4, struct.pack("<I", 7)), "skipped", "pad_token is token 7")


def change_json(folder, name, change):
    path = os.path.join(folder, name)
    with open(path, encoding="utf-8") as f:
        value = json.load(f)
    result = change(value)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value if result is None else result, f, sort_keys=True)  # another order of keys, too
    return folder


def check_folder_texts(checks, folder):
    """The tokenizer's files of an MLX folder, part by part."""
    mlx = quantized(folder, MODEL, "mlx:4bit", name="m")[0]
    number = 0

    def judged(what, change, expected, word, file="tokenizer.json"):
        nonlocal number
        number += 1
        copy = os.path.join(folder, f"copy{number}")
        shutil.copytree(mlx, copy)
        if file is None:
            change(copy)
        else:
            change_json(copy, file, change)
        verdict, reasons, notes, _ = verdict_of(copy, MODEL)
        checks.that(verdict == expected and word in (reasons if expected == "fail" else notes), f"MLX: {what}", (verdict, reasons, notes))

    def swap_merges(t):
        m = t["model"]["merges"]
        m[700], m[701] = m[701], m[700]

    def set_normalizer(t):
        t["normalizer"] = None

    def set_pattern(t):
        p = t["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        p["Regex"] = p["Regex"].replace(r"\p{N}|", r"\p{N}{1,3}|")

    def set_surroundings(t):
        t["post_processor"] = {"type": "TemplateProcessing", "pair": [], "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [8177], "tokens": ["<|endoftext|>"]}},
                               "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}

    def as_mlx_lm(t):  # what the library spells out when it writes the file again
        t["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = True
        t["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
        t["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in t["model"]["merges"]]

    judged("spelled otherwise", as_mlx_lm, "skipped", "trim_offsets")
    judged("two merges swapped", swap_merges, "fail", "merge 700")
    judged("a merge left out", lambda t: t["model"]["merges"].pop() and None, "fail", "merges")
    judged("no normalizer", set_normalizer, "fail", "normalizer")
    judged("another pattern", set_pattern, "fail", "pre_tokenizer")
    judged("another post_processor", set_surroundings, "fail", "post_processor puts '<|endoftext|>' before")
    judged("another decoder", lambda t: t.update(decoder={"type": "Metaspace"}), "fail", "decoder")
    judged("an added token strips blanks", lambda t: t["added_tokens"][1].update(lstrip=True), "fail", "has lstrip true, in the source false")
    judged("an added token that hides a word", lambda t: t["added_tokens"].append({**t["added_tokens"][3], "id": 8192, "content": "return"}), "fail", "return")
    judged("an added token is no control token", lambda t: t["added_tokens"][2].update(special=False), "fail", "control token")
    judged("merges that do not count", lambda t: t["model"].update(ignore_merges=True), "fail", "ignore_merges")
    judged("a key that nobody knows", lambda t: t.update(favourite="blue"), "skipped", "favourite")
    config = "tokenizer_config.json"
    judged("another eos_token", lambda c: c.update(eos_token="<|im_start|>"), "fail", "ends an answer here and not in the source", config)
    judged("a token in front", lambda c: c.update(add_bos_token=True, bos_token="<|endoftext|>"), "fail", "begins each text", config)
    judged("another pad_token", lambda c: c.update(pad_token="<|im_end|>"), "fail", "pad_token is '<|im_end|>'", config)
    judged("the table of added tokens", lambda c: c["added_tokens_decoder"]["8178"].update(rstrip=True), "fail", "8178: rstrip", config)
    judged("special tokens are split", lambda c: c.update(split_special_tokens=True), "fail", "split_special_tokens", config)
    judged("another class", lambda c: c.update(tokenizer_class="Other"), "fail", "tokenizer_class is 'Other', the source has 'Qwen2Tokenizer'", config)
    judged("another template", lambda c: c.update(chat_template=c["chat_template"].replace("assistant", "Assistant")), "fail", "they part in line", config)
    judged("no template", lambda c: c.pop("chat_template") and None, "fail", "there is no chat template", config)
    judged("no line end at the end", lambda c: c.update(chat_template=c["chat_template"].rstrip("\n")), "skipped", "but for a line end", config)
    judged("fewer end tokens", lambda d: (change_json(d, "generation_config.json", lambda c: c.update(eos_token_id=8177)),
                                          change_json(d, "config.json", lambda c: c.update(eos_token_id=8177)),
                                          change_json(d, config, lambda c: c.update(eos_token="<|endoftext|>"))), "fail", "8179", None)
    judged("one end token more", lambda c: c.update(eos_token_id=c["eos_token_id"] + [42]), "fail", "42", "generation_config.json")
    judged("texts are cut", lambda t: t.update(truncation={"max_length": 16, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}), "fail", "truncation")
    judged("texts are padded", lambda t: t.update(padding={"strategy": {"Fixed": 64}}), "fail", "padding")
    judged("a space in front", lambda c: c.update(add_prefix_space=True), "fail", "add_prefix_space", config)
    judged("a bos_token", lambda c: c.update(bos_token="def"), "fail", "bos_token", config)
    judged("no bos_token, spelled out", lambda c: c.update(bos_token=None, add_prefix_space=False), "skipped", "", config)
    judged("a program of its own", lambda c: c.update(model_file="evil.py"), "fail", "model_file", "config.json")
    judged("classes of its own", lambda c: c.update(auto_map={"AutoModel": "evil.Model"}), "fail", "auto_map", "config.json")
    judged("a key of the configuration", lambda c: c.update(use_sliding_window=True), "skipped", "use_sliding_window", "config.json")
    judged("a head that is not there", lambda c: c.update(tie_word_embeddings=False), "fail", "there is no lm_head.weight", "config.json")
    judged("weights beside the weights", lambda d: shutil.copy(os.path.join(d, "model.safetensors"), os.path.join(d, "model_z.safetensors")), "fail",
           "model_z.safetensors: weights that are not part", None)
    judged("another file", lambda d: shutil.copy(os.path.join(d, config), os.path.join(d, "other_tokens.json")), "skipped", "other_tokens.json", None)
    judged("a certificate of nothing", lambda c: c.update(quern_quality={"verdict": "pass", "kld_mean": 0}), "fail", "no data_sha256", "config.json")
    judged("other sampling", lambda c: c.update(temperature=0.9), "fail", "temperature is 0.9, the source has 0.2", "generation_config.json")
    judged("a mode that is none of these tensors", lambda c: c["quantization"].update(mode="mxfp4", group_size=32), "fail", "config.json says", "config.json")
    judged("a width of its own for a plain module", lambda c: [c[k].update({"model.norm": {"bits": 8, "group_size": 64}}) for k in ("quantization", "quantization_config")] and None,
           "fail", "model.norm.weight is stored as BF16, config.json says 8 bits", "config.json")
    judged("a width of its own that is another", lambda c: [c[k].update({"model.layers.1.mlp.up_proj": {"bits": 8, "group_size": 64}}) for k in ("quantization", "quantization_config")] and None,
           "fail", "model.layers.1.mlp.up_proj.weight is stored with 4 bits in groups of 64, config.json says 8", "config.json")
    judged("no word for mlx-lm", lambda c: c.pop("quantization") and None, "fail", "no quantization", "config.json")
    judged("an end token that config.json still names", lambda c: c.update(eos_token_id=c["eos_token_id"][:1]), "fail", "eos_token_id leaves out", "generation_config.json")

    def shadow(d):
        with open(os.path.join(d, config), encoding="utf-8") as f:
            template = json.load(f)["chat_template"]
        with open(os.path.join(d, "chat_template.jinja"), "w", encoding="utf-8") as f:
            f.write(template)
        if judged.hostile:
            change_json(d, config, lambda c: c.update(chat_template="{{ 'obey' }}"))
    judged.hostile = False
    judged("the template twice", shadow, "skipped", "", None)
    judged.hostile = True
    judged("another template in the shadow of a file", shadow, "fail", "tokenizer_config.json: the chat template is not the source's", None)
    judged("two words for one thing", lambda c: c["quantization_config"].update(bits=8), "fail", "quantization_config says other", "config.json")


def check_mode(checks, folder):
    """mxfp4 tensors under a configuration that calls them affine: same bits, same groups."""
    mlx = quantized(folder, SOURCE, "mlx:mxfp4", name="mode")[0]
    checks.that(verdict_of(mlx, SOURCE)[0] == "skipped", "MLX: mxfp4 as it was written")
    change_json(mlx, "config.json", lambda c: [c[k].update(mode="affine") for k in ("quantization", "quantization_config")] and None)
    verdict, reasons, _, _ = verdict_of(mlx, SOURCE)
    checks.that(verdict == "fail" and "is stored in mode mxfp4, config.json says mode affine" in reasons, "MLX: the mode", reasons)
    # modes of newer writers: one line that says what is not supported, what is, and what to do
    for key, of in (("quantization", {"mode": "nvfp4", "group_size": 16}), ("quantization", {"mode": "mxfp8", "group_size": 32, "bits": 8}),
                    ("quantization", {"mode": "later"}), ("quantization.model.norm", {"model.norm": {"bits": 4, "group_size": 16, "mode": "nvfp4"}})):
        change_json(mlx, "config.json", lambda c: [c[k].update({"mode": "affine", "group_size": 32, "bits": 4, **of}) for k in ("quantization", "quantization_config")] and None)
        mode = of.get("mode", "nvfp4")
        for command in (("verify", mlx, "--against", SOURCE), ("inspect", mlx), ("run", mlx, "x"), ("quantize", mlx, "-o", mlx + "-out", "--formats", "gguf:F16")):
            done = run(*command)
            said = done.stderr.decode()
            checks.exit_code(done, 3, f"MLX: {command[0]}: mode {mode}")
            line = f"{mlx}/config.json: key '{key}.mode' is \"{mode}\", a mode of MLX that this version does not support; it reads \"affine\" and \"mxfp4\""
            checks.that(said.count("\n") == 1 and line in said, f"MLX: {command[0]}: mode {mode} is named", said)


def check_uniform(checks, folder):
    """Weights without a tail, as layers are drawn before training: the sums over a tensor of a type with scales of 2^n are not those of others."""
    source, rng = os.path.join(folder, "uniform"), random.Random(3)
    shutil.copytree(SOURCE, source)
    path = os.path.join(source, "model.safetensors")
    with open(path, "rb") as f:
        data = bytearray(f.read())
    n = struct.unpack("<Q", data[:8])[0]
    for entry in json.loads(data[8:8 + n]).values():
        if len(entry.get("shape", ())) == 2:
            begin, end = (8 + n + o for o in entry["data_offsets"])
            width = {"F32": 4, "BF16": 2}[entry["dtype"]]
            values = [struct.pack("<f", rng.uniform(-1, 1) / 16)[4 - width:] for _ in range((end - begin) // width)]
            data[begin:end] = b"".join(values)
    with open(path, "wb") as f:
        f.write(data)
    for made in quantized(folder, source, "mlx:mxfp4", "mlx:4bit", "gguf:Q4_0", "gguf:Q4_K_M", name="uniform_out"):
        verdict, reasons, _, _ = verdict_of(made, source)
        checks.that(verdict == "skipped", f"uniform weights: {os.path.basename(made)}", reasons)


def check_empty(checks, folder):
    """A tensor without anything in it is called that, whatever its type and however much error the type has anyway."""
    types = ("F32", "BF16", "F16", "Q8_0", "Q4_0", "Q5_1", "Q4_K_M", "Q2_K", "IQ4_NL", "TQ1_0", "TQ2_0", "MXFP4_MOE")
    for path in quantized(folder, MODEL, *(f"gguf:{t}" for t in types), name="empty"):
        g = Gguf(path)
        begin, end = g.span("blk.2.ffn_up.weight")
        g.body[begin:end] = bytes(end - begin)
        g.keys["quantize.imatrix.file"] = (STRING, text_value("x"))  # which widens the limits of errors
        verdict, reasons, _, _ = verdict_of(g.write(os.path.join(folder, "zero.gguf")), MODEL)
        checks.that(verdict == "fail" and reasons.startswith("blk.2.ffn_up.weight: all values are zero, the source's are not"), f"a zero tensor: {path}", reasons)
    g = Gguf(quantized(folder, MODEL, "gguf:F16", name="constant")[0])
    begin, end = g.span("blk.2.ffn_up.weight")
    g.body[begin:end] = b"\x00\x3c" * ((end - begin) // 2)
    reasons = verdict_of(g.write(os.path.join(folder, "one.gguf")), MODEL)[1]
    checks.that("blk.2.ffn_up.weight: all values are 1, the source's differ" in reasons, "a constant tensor", reasons)
    mlx = quantized(folder, MODEL, "mlx:4bit", name="zero")[0]
    path = os.path.join(mlx, "model.safetensors")
    with open(path, "rb") as f:
        data = bytearray(f.read())
    n = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:8 + n]).items():
        if name.startswith("model.layers.1.mlp.up_proj."):
            begin, end = entry["data_offsets"]
            data[8 + n + begin:8 + n + end] = bytes(end - begin)
    with open(path, "wb") as f:
        f.write(data)
    reasons = verdict_of(mlx, MODEL)[1]
    checks.that(reasons.startswith("model.layers.1.mlp.up_proj.weight: all values are zero"), "a zero module of MLX", reasons)


def check_swapped_ternary(checks, folder):
    """Ternary rows are little like their source, but more than like any other row."""
    for kind in ("TQ1_0", "TQ2_0"):
        g = Gguf(quantized(folder, MODEL, f"gguf:{kind}", name=f"swap{kind}")[0])
        begin, end = g.span("blk.1.ffn_gate.weight")
        rows = g.tensors["blk.1.ffn_gate.weight"][1][1]
        size = (end - begin) // rows
        a, b = begin + 11 * size, begin + 200 * size
        g.body[a:a + size], g.body[b:b + size] = g.body[b:b + size], g.body[a:a + size]
        reasons = verdict_of(g.write(os.path.join(folder, "swapped.gguf")), MODEL)[1]
        checks.that("rows 11 and 200 are swapped" in reasons, f"swapped rows of {kind}", reasons)


def check_said(checks, folder):
    """What GGUF cannot say is said when it is written, and defaults that count in neither are in neither."""
    number = 0

    def made(formats, *changes):
        nonlocal number
        number += 1
        source = os.path.join(folder, f"said{number}")
        shutil.copytree(SOURCE, source)
        for name, change in changes:
            change_json(source, name, change)
        done = run("quantize", source, "-o", os.path.join(folder, f"said_out{number}"), "--formats", formats, "--gate", "off", "--json")
        checks.exit_code(done, 0, f"what GGUF cannot say: {number}")
        outputs = json.loads(done.stdout)["outputs"]
        return source, os.path.join(folder, f"said_out{number}", outputs[0]["path"]), [" / ".join(o["warnings"]) for o in outputs]

    def sampling(path):
        return {k.split(".")[-1]: v for k, v in Gguf(path).keys.items() if k.startswith("general.sampling.")}

    generation, config = "generation_config.json", "tokenizer_config.json"
    source, path, _ = made("gguf:F16", (generation, lambda c: [c.pop("do_sample", None), c.update(temperature=0.5, top_p=0.8, top_k=7)] and None))
    checks.that(set(sampling(path)) == {"penalty_repeat"}, "sampling that does not count is not written", sampling(path))
    g = Gguf(path)
    g.keys["general.sampling.temp"] = (6, struct.pack("<f", 0.5))
    verdict, reasons, notes, _ = verdict_of(g.write(path + ".copied.gguf"), source)
    checks.that(verdict == "skipped" and "has no do_sample" in notes, "verify: a converter's copy of it is no fault", (reasons, notes))
    g.keys["general.sampling.temp"] = (6, struct.pack("<f", 0.6))
    checks.that(verdict_of(g.write(path + ".other.gguf"), source)[0] == "fail", "verify: another value is one")
    source, path, _ = made("gguf:F16", (generation, lambda c: [c.clear(), c.update(do_sample=True, eos_token_id=511)] and None))
    checks.that(sampling(path) == {"temp": (6, struct.pack("<f", 1.0))}, "do_sample alone is a temperature of 1", sampling(path))
    g = Gguf(path)
    g.keys.pop("general.sampling.temp")
    checks.that(verdict_of(g.write(path + ".unsaid.gguf"), source)[0] == "skipped", "verify: which converters leave out")
    _, _, warnings = made("gguf:F16", (generation, lambda c: c.update(do_sample=True, typical_p=0.6, presence_penalty=1.5)))
    checks.that("typical_p 0.6" in warnings[0] and "presence_penalty 1.5" in warnings[0], "settings without a key are named", warnings)
    named = [{"name": n, "template": "{{ messages }}"} for n in ("default", "tool_use", "rag")]
    _, _, warnings = made("gguf:F16,mlx:bf16", (config, lambda c: c.update(chat_template=named)))
    checks.that("not carried over: rag" in warnings[0] and "rag" not in warnings[1], "templates of other names are named", warnings)
    _, _, warnings = made("gguf:F16", (generation, lambda c: c.update(eos_token_id=[509, 510, 3])), ("config.json", lambda c: c.update(eos_token_id=[509, 510, 3])))
    checks.that("4 end tokens" in warnings[0], "the tokenizer's own end token is counted", warnings)

    def strip(t):
        t["normalizer"] = None
        t["added_tokens"][-1].update(lstrip=True, normalized=True)
    _, _, warnings = made("gguf:F16", ("tokenizer.json", strip))
    checks.that("strip white space" in warnings[0], "an added token that strips, looked for in normalized text", warnings)
    source = os.path.join(folder, "said_files")
    shutil.copytree(SOURCE, source)
    os.mkdir(os.path.join(source, "additional_chat_templates"))
    for name in ("additional_chat_templates/tool_use.jinja", "additional_chat_templates/rag.jinja", "chat_template.jinja"):
        with open(os.path.join(source, name), "w", encoding="utf-8") as f:
            f.write("{{ messages }}")
    done = run("quantize", source, "-o", os.path.join(folder, "said_files_out"), "--formats", "gguf:F16,mlx:bf16", "--gate", "off", "--json")
    warnings = [" / ".join(o["warnings"]) for o in json.loads(done.stdout)["outputs"]]
    checks.that(all("not carried over: rag" in w for w in warnings), "files of templates are named", warnings)


def check_report(checks, folder):
    """An entry of the report has the form of a manifest's, with every file of a folder."""
    out = os.path.join(folder, "report")
    manifest = json.loads(run("quantize", SOURCE, "-o", out, "--formats", "gguf:Q4_K_M,mlx:4bit", "--gate", "off", "--json").stdout)
    for o in manifest["outputs"]:
        path = os.path.join(out, o["path"])
        verdict, _, _, entry = verdict_of(path, SOURCE)
        checks.that(verdict == "skipped" and entry["gate"]["policy"] == "off", "without a look at quality nothing passes", entry["gate"])
        checks.that(set(o) <= set(entry) and set(o["gate"]) <= set(entry["gate"]), "report: the members of a manifest's entry", sorted(entry))
        named = {os.path.relpath(f["path"], out): (f["bytes"], f["sha256"]) for f in entry["files"]}
        checks.that(named == {f["path"]: (f["bytes"], f["sha256"]) for f in o["files"]}, f"report: files of {o['type']}", named)
        checks.that(all(entry[k] == o[k] for k in ("format", "type", "bytes", "bits_per_weight", "warnings")), f"report: what is said of {o['type']}")
        theirs = [(t["name"], t["type"], t["shape"]) for t in o["tensors"]]
        checks.that([(t["name"], t["type"], t["shape"]) for t in entry["tensors"]] == theirs, f"report: tensors of {o['type']}")
    text = os.path.join(folder, "gate.txt")
    with open(os.path.join(os.path.dirname(MODEL), "texts", "gate.txt"), encoding="utf-8") as f, open(text, "w", encoding="utf-8") as g:
        g.write(f.read(9000))
    path = os.path.join(out, manifest["outputs"][0]["path"])
    done = run("verify", path, "--against", SOURCE, "--gate", "sample:2", "--gate-text", text, "--json")
    gate = json.loads(done.stdout)["outputs"][0]["gate"]
    checks.that(gate["policy"] == "sample:2" and len(gate["sample"]["layers"]) == 2, "report: the policy that was asked for", gate)


def check_other_architecture(checks, folder):
    """A checkpoint with another name for its architecture is read, calibrated on, run and verified as the one that --as names."""
    source, text = os.path.join(folder, "other"), os.path.join(folder, "gate.txt")
    shutil.copytree(SOURCE, source)
    change_json(source, "config.json", lambda c: c.update(model_type="nonesuch", architectures=["NonesuchForCausalLM"]))
    out = os.path.join(folder, "as")
    options = ("--formats", "gguf:Q8_0,mlx:8bit", "--calibrate", text, "--gate", "default", "--gate-text", text, "--json")
    done = run("quantize", source, "-o", out, "--as", "qwen3", *options)
    checks.exit_code(done, 0, "quantize --as with calibration and gate")
    manifest = json.loads(done.stdout)
    checks.that((manifest["calibration"] or {}).get("tokens", 0) > 0, "--as: calibrated", manifest.get("calibration_note"))
    for o in manifest["outputs"]:
        checks.that(o["quality"] is not None and o["gate"]["verdict"] in ("pass", "lossy"), "--as: run beside its source", o["gate"])
        path = os.path.join(out, o["path"])
        checks.exit_code(run("verify", path, "--against", source, "--gate-text", text, "--gate", "default"), 3, "verify without --as")
        done = run("verify", path, "--against", source, "--gate-text", text, "--gate", "default", "--as", "qwen3", "--json")
        entry = json.loads(done.stdout)["outputs"][0]
        checks.that(entry["quality"] == o["quality"] and entry["gate"]["verdict"] == o["gate"]["verdict"], "verify --as: the same figures", entry["gate"])
    # files that have the source's own name for it
    gguf, mlx = (os.path.join(out, o["path"]) for o in manifest["outputs"])
    change_json(mlx, "config.json", lambda c: c.update(model_type="nonesuch", architectures=["NonesuchForCausalLM"]))
    g = Gguf(gguf)
    g.keys = {k.replace("qwen3.", "nonesuch."): v for k, v in g.keys.items()}
    g.keys["general.architecture"] = (STRING, text_value("nonesuch"))
    renamed = g.write(os.path.join(folder, "renamed.gguf"))
    g.keys["nonesuch.rope.freq_base"] = (6, struct.pack("<f", 12345))
    wrong = g.write(os.path.join(folder, "wrong.gguf"))
    for path in (renamed, mlx):
        done = run("verify", path, "--against", source, "--gate-text", text, "--gate", "default", "--as", "qwen3", "--json")
        entry = json.loads(done.stdout)["outputs"][0]
        checks.that(entry["quality"] is not None and entry["gate"]["verdict"] in ("pass", "lossy"), "verify --as: a file by another name", entry["gate"])
    verdict, reasons, _, _ = verdict_of(wrong, source, "--as", "qwen3")
    checks.that(verdict == "fail" and "nonesuch.rope.freq_base is 12345" in reasons, "verify --as: its keys are compared", reasons)


def check_calibrated(checks, folder):
    """A file that was calibrated on the built-in text is what the encoder makes again, so that a scale off by one unit in its last place is found."""
    out = os.path.join(folder, "calibrated")
    done = run("quantize", SOURCE, "-o", out, "--formats", "gguf:Q4_0,gguf:IQ4_NL,mlx:4bit", "--calibrate", "builtin", "--gate", "off", "--json")
    paths = [os.path.join(out, o["path"]) for o in json.loads(done.stdout)["outputs"]]
    broken = []
    for path in paths[:2]:
        g = Gguf(path)
        begin, _ = g.span("blk.1.attn_k.weight")
        g.body[begin + 18 * 5] ^= 1
        broken.append(g.write(path + ".ulp.gguf"))
    shutil.copytree(paths[2], paths[2] + "-ulp")
    broken.append(paths[2] + "-ulp")
    weights = os.path.join(broken[2], "model.safetensors")
    with open(weights, "rb") as f:
        data = bytearray(f.read())
    n = struct.unpack("<Q", data[:8])[0]
    data[8 + n + json.loads(data[8:8 + n])["model.layers.1.mlp.up_proj.biases"]["data_offsets"][0] + 8] ^= 1
    with open(weights, "wb") as f:
        f.write(data)
    entries = json.loads(run("verify", *paths, *broken, "--against", SOURCE, "--gate", "off", "--json", QUERN_CALIBRATE=None).stdout)["outputs"]
    for entry in entries[:3]:
        encoders = {t.get("encoder") for t in entry["tensors"] if len(t["shape"]) > 1}
        checks.that(entry["gate"]["verdict"] == "skipped" and encoders == {"quern, calibrated"}, "calibrated: known", (entry["gate"], encoders))
    for entry in entries[3:]:
        reasons = " / ".join(entry["gate"]["reasons"])
        checks.that("calibrated encoder, which wrote the other blocks" in reasons and "; 1 of" in reasons, "calibrated: one unit in the last place", reasons)


def check_calibrated_rope(checks, folder):
    """The same where GGUF has the rows of q and k in another order, and where the embedding, being only looked up, is not calibrated."""
    source, out = os.path.join(GOLDENS, "hf", "llama3_rope"), os.path.join(folder, "calibrated_rope")
    done = run("quantize", source, "-o", out, "--formats", "gguf:Q5_1", "--calibrate", "builtin", "--gate", "off", "--json")
    path = os.path.join(out, json.loads(done.stdout)["outputs"][0]["path"])
    verdict, _, _, entry = verdict_of(path, source, QUERN_CALIBRATE=None)
    encoders = {t.get("encoder") for t in entry["tensors"] if len(t["shape"]) > 1 and t["name"] != "token_embd.weight"}
    checks.that(verdict == "skipped" and encoders == {"quern, calibrated"}, "calibrated: rows in another order", (entry["gate"], encoders))


def check_named_calibration(checks, folder):
    """--calibrate and --imatrix mean what they mean to quantize; where no tensor is what they make, the warning says what to pass."""
    out, text, matrix = (os.path.join(folder, name) for name in ("named", "named.txt", "named.gguf"))
    with open(text, "w", encoding="utf-8") as f:
        f.write("".join(f"def f{i}(x, y{i * i % 97}):\n    return x[{i * 31 % 89}] + y{i * i % 97}\n\n" for i in range(300)))
    by_text = ("--calibrate", text, "--gate", "off")
    done = run("quantize", SOURCE, "-o", out, "--formats", "gguf:Q4_0", *by_text, "--imatrix-out", matrix, "--json")
    manifest = json.loads(done.stdout)
    path, digest = os.path.join(out, manifest["outputs"][0]["path"]), manifest["calibration"]["text_sha256"]
    _, _, _, entry = verdict_of(path, SOURCE, "--calibrate", text)
    checks.that(entry["calibration"]["text_sha256"] == digest and entry["calibration"]["tensors"] > 10, "named: the text", entry["calibration"])
    for options in (("--calibrate", "builtin"), ("--calibrate", "none"), ("--imatrix", matrix)):
        done = run("verify", path, "--against", SOURCE, "--gate", "off", *options)
        said = done.stderr.decode()
        checks.exit_code(done, 0, f"named: another calibration is no fault: {options[0]}")
        checks.that(digest in said and "--calibrate FILE with that text" in said, f"named: {options} says what to pass", said)
    done = run("verify", path, "--against", SOURCE, "--imatrix", matrix, *by_text)
    checks.exit_code(done, 2, "named: one of the two")
    for content in ("", "too short"):
        short = os.path.join(folder, "short.txt")
        with open(short, "w", encoding="utf-8") as f:
            f.write(content)
        done = run("verify", path, "--against", SOURCE, "--calibrate", short, "--gate", "off")
        checks.that(done.returncode == 3 and b"short.txt: the calibration text has " in done.stderr, "named: a text that is too short", done.stderr)
    done = run("verify", path, "--against", SOURCE, "--imatrix", text)
    checks.that(done.returncode == 3 and b"no importance matrix" in done.stderr, "named: what is no importance matrix", done.stderr)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        check_gguf_texts(checks, folder)
        check_folder_texts(checks, folder)
        check_mode(checks, folder)
        check_uniform(checks, folder)
        check_empty(checks, folder)
        check_swapped_ternary(checks, folder)
        check_calibrated(checks, folder)
        check_calibrated_rope(checks, folder)
        check_named_calibration(checks, folder)
        check_said(checks, folder)
        check_report(checks, folder)
        check_other_architecture(checks, folder)
    checks.close()


main()
