#!/usr/bin/env python3
"""Perplexity of GGUF files by Quern and by llama.cpp on one text. usage: perplexity_peers.py BUILD/quern TEXT MODEL.gguf...

llama.cpp's logits are taken through llama-cpp-python and scored as its perplexity tool does: chunks of 512 tokens, the second half of each. Prints both
figures and their difference; exits with 1 if one differs by more than 0.1 %. Run by Python with llama-cpp-python and numpy.
"""
import json
import subprocess
import sys

import llama_cpp
import numpy as np

N_CTX, LIMIT = 512, 1e-3


def peer_perplexity(path, text):
    model = llama_cpp.Llama(path, n_ctx=N_CTX, n_batch=N_CTX, logits_all=True, verbose=False)
    ids = model.tokenize(text, add_bos=bool(llama_cpp.llama_vocab_get_add_bos(model._model.vocab)), special=True)
    total, n = 0.0, 0
    for begin in range(0, len(ids) - N_CTX + 1, N_CTX):
        chunk = ids[begin:begin + N_CTX]
        if llama_cpp.llama_vocab_get_add_bos(model._model.vocab):
            chunk[0] = model.token_bos()
        model.reset()
        model.eval(chunk)
        rows = model.scores[N_CTX // 2:N_CTX - 1].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        targets = np.array(chunk[N_CTX // 2 + 1:N_CTX])
        total += float((np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(targets)), targets]).sum())
        n += len(targets)
    return float(np.exp(total / n)), n


def main():
    program, text_path, *models = sys.argv[1:]
    with open(text_path, "rb") as f:
        text = f.read()
    worst = 0.0
    for path in models:
        done = subprocess.run([program, "eval", path, "--suite", "ppl", "--text", text_path, "--json"], stdout=subprocess.PIPE, check=True)
        mine = json.loads(done.stdout)["suites"][0]
        theirs, n = peer_perplexity(path, text)
        difference = mine["ppl"] / theirs - 1
        worst = max(worst, abs(difference))
        print(f"{path.rsplit('/', 1)[-1]:36} quern {mine['ppl']:10.4f}  llama.cpp {theirs:10.4f}  {100 * difference:+.3f} %  ({mine['tokens']} and {n} tokens)")
    print(f"greatest difference {100 * worst:.3f} %, limit {100 * LIMIT:.1f} %")
    return 1 if worst > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
