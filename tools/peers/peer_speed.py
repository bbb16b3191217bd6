#!/usr/bin/env python3
"""llama.cpp's side of bench_peers.py: answers one line of JSON a line on stdin. usage: peer_speed.py MODEL.gguf THREADS CONTEXT FLASH

In:  {"prefill": N}, {"decode": N, "depth": D}, {"sequences": N, "steps": S}. Out: {"tokens_per_s": X}. The end of the input ends it.
The first line out says {"version", "load_s"}. A depth that was asked for last is kept, so that asking again costs only the decoding.
FLASH is on or off: llama.cpp's flash attention, which its own programs turn on and the Python package does not. The first step of several
sequences, in which buffers are touched first, is not counted (Quern's is).
"""
import json
import random
import sys
import time

import llama_cpp


class Speed:
    def __init__(self, path, threads, context, flash):
        self.threads = threads
        self.model = llama_cpp.Llama(path, n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, flash_attn=flash, verbose=False)
        self.source = random.Random(0)
        self.depth = 0

    def tokens(self, n):
        n_vocab = self.model.n_vocab()
        return [self.source.randrange(n_vocab // 8, n_vocab // 2) for _ in range(n)]

    def timed(self, steps):
        start = time.perf_counter()
        for ids in steps:
            self.model.eval(ids)
        return sum(len(ids) for ids in steps) / (time.perf_counter() - start)

    def prefill(self, n):
        self.model.reset()
        self.depth = 0
        return self.timed([self.tokens(n)])

    def decode(self, n, depth):
        if depth != self.depth or depth == 0:
            self.model.reset()
            self.model.eval(self.tokens(max(depth, 1)))
            self.depth = depth
        self.model.n_tokens = max(depth, 1)  # what eval keeps
        return self.timed([[i] for i in self.tokens(n)])

    def sequences(self, n, steps):
        """One token of each of n sequences a step, in a context of their own."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n * (steps + 32)
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = n
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = self.model.context_params.flash_attn_type
        context = llama_cpp.llama_init_from_model(self.model._model.model, params)
        if not context:
            raise RuntimeError(f"llama.cpp made no context for {n} sequences")
        batch = llama_cpp.llama_batch_init(n, 0, 1)
        start = None
        for step in range(steps + 1):  # the first warms up
            batch.n_tokens = n
            for i, token in enumerate(self.tokens(n)):
                batch.token[i] = token
                batch.pos[i] = step
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = i
                batch.logits[i] = 1
            if llama_cpp.llama_decode(context, batch) != 0:
                raise RuntimeError("llama_decode failed")
            if step == 0:
                start = time.perf_counter()
        seconds = time.perf_counter() - start
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        return n * steps / seconds

    def answer(self, ask):
        if "prefill" in ask:
            return self.prefill(ask["prefill"])
        if "sequences" in ask:
            return self.sequences(ask["sequences"], ask["steps"])
        return self.decode(ask["decode"], ask["depth"])


def main():
    started = time.perf_counter()
    speed = Speed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "on")
    say = lambda **document: print(json.dumps(document), flush=True)
    speed.prefill(32)
    speed.decode(4, 0)
    say(version="llama-cpp-python " + llama_cpp.__version__, load_s=time.perf_counter() - started)
    for line in sys.stdin:
        ask = json.loads(line)
        say(tokens_per_s=speed.answer(ask))


if __name__ == "__main__":
    main()
