# SPDX-License-Identifier: Apache-2.0
"""examples/lm beside llama.cpp (the llama-cpp-python package): tokens per second of prompt and generation, on the same files of random weights.

    python bench/peers/lm_llama_cpp.py --lm build/examples/lm/lm --model llama-3.2-1b --types q8_0,q4_0,q4_k_m --prompt 512 --generate 32

Each program runs in a process of its own, in turn, --rounds times; each loads the file, runs once to warm up, then twice for its times, of which
the better counts; the table shows medians over rounds. The files (one a type) are written by lm to --folder and removed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time


def peer(path: str, prompt: int, generate: int, threads: int, kv: str) -> None:
    """Runs in a process of its own: prints prompt and generation rates."""
    import llama_cpp as lc

    def quiet(level: int, text: bytes, user: object) -> None:
        pass

    callback = lc.llama_log_callback(quiet)
    lc.llama_log_set(callback, None)
    lc.llama_backend_init()
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    params = lc.llama_context_default_params()
    params.n_ctx = prompt + generate
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    if kv == "q8_0":
        params.type_k = params.type_v = lc.GGML_TYPE_Q8_0
    context = lc.llama_init_from_model(model, params)
    vocabulary = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    tokens = [(i + 1) * 2654435761 % vocabulary for i in range(prompt)]

    def step(part: list[int]) -> None:
        array = (lc.llama_token * len(part))(*part)
        if lc.llama_decode(context, lc.llama_batch_get_one(array, len(part))) != 0:
            sys.exit("llama_decode failed")

    for _ in range(3):
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        began = time.perf_counter()
        for at in range(0, prompt, 512):
            step(tokens[at : at + 512])
        lc.llama_synchronize(context)
        middle = time.perf_counter()
        for i in range(generate - 1):
            step([i % vocabulary])
            lc.llama_get_logits(context)  # waits
        end = time.perf_counter()
        print(f"prompt {prompt} tokens, {prompt / (middle - began):.1f} tokens/s; generated {generate}, {(generate - 1) / (end - middle):.2f} tokens/s")


def rates(command: list[str]) -> tuple[float, float]:
    """The better of the runs after the first."""
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.findall(r"prompt \d+ tokens, ([\d.]+) tokens/s; generated \d+, ([\d.]+) tokens/s", done.stdout)
    if done.returncode != 0 or len(found) < 2:
        sys.exit(f"{command[0]} failed: {done.stderr[-500:]}")
    return max(float(p) for p, _ in found[1:]), max(float(g) for _, g in found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lm", default="build/examples/lm/lm")
    parser.add_argument("--model", default="llama-3.2-1b")
    parser.add_argument("--types", default="q8_0,q4_0,q4_k_m")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kv", default="f16", choices=["f16", "q8_0"])
    parser.add_argument("--folder", default=".", help="where the files are written, some GB")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer, args.prompt, args.generate, args.threads, args.kv)
        return
    print(f"{args.model}, prompt {args.prompt}, generation {args.generate}, {args.threads} threads, cache {args.kv}; tokens/s, lm / llama.cpp")
    for kind in args.types.split(","):
        path = os.path.join(args.folder, f"{args.model}-{kind}.gguf")
        try:
            subprocess.run([args.lm, "--synthetic", f"{args.model}:{kind}", path, "--dry-run"], check=True, stdout=subprocess.DEVNULL)
            shape = ["--prompt", str(args.prompt)], ["--generate", str(args.generate)], ["--threads", str(args.threads)], ["--kv", args.kv]
            ours = [args.lm, path, "--tokens", str(args.prompt), "--repeat", "3", *sum(shape[1:], [])]
            theirs = [sys.executable, os.path.abspath(__file__), "--peer", path, *sum(shape, [])]
            got = [(rates(ours), rates(theirs)) for _ in range(args.rounds)]
        finally:
            if os.path.exists(path):
                os.remove(path)
        for i, what in enumerate(("prompt", "generation")):
            a, b = (statistics.median(pair[who][i] for pair in got) for who in (0, 1))
            low, high = (pick(pair[0][i] / pair[1][i] for pair in got) for pick in (min, max))
            print(f"{kind:8} {what:11} {a:9.1f} {b:9.1f}   {a / b:5.2f} x  ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
