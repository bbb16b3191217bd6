#!/usr/bin/env python3
"""llama.cpp's side of bench_peers.py: answers one line of JSON a line on stdin. usage: peer_speed.py MODEL.gguf THREADS

In:  {"prefill": N}, {"decode": N, "depth": D} or {"quit": true}. Out: {"tokens_per_s": X}. The first line out says {"version", "load_s"}.
"""
import json
import random
import sys
import time

import llama_cpp


def main():
    started = time.perf_counter()
    model = llama_cpp.Llama(sys.argv[1], n_ctx=4096, n_batch=512, n_threads=int(sys.argv[2]), n_threads_batch=int(sys.argv[2]), verbose=False)
    say = lambda **document: print(json.dumps(document), flush=True)
    source = random.Random(0)
    n_vocab = model.n_vocab()

    def tokens(n):
        return [source.randrange(n_vocab // 8, n_vocab // 2) for _ in range(n)]

    def timed(n, depth, one_by_one):
        model.reset()
        if depth > 0:
            model.eval(tokens(depth))
        ids = tokens(n)
        start = time.perf_counter()
        for step in [[i] for i in ids] if one_by_one else [ids]:
            model.eval(step)
        return n / (time.perf_counter() - start)

    timed(32, 0, False)
    timed(4, 0, True)
    say(version="llama-cpp-python " + llama_cpp.__version__, load_s=time.perf_counter() - started)
    for line in sys.stdin:
        ask = json.loads(line)
        if "quit" in ask:
            break
        say(tokens_per_s=timed(ask["prefill"], 0, False) if "prefill" in ask else timed(ask["decode"], max(ask["depth"], 1), True))


if __name__ == "__main__":
    main()
