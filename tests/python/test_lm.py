# SPDX-License-Identifier: Apache-2.0
"""examples/lm against a forward pass in NumPy, with files that the gguf package has written: logits in every type of weights,
steps of any size with the same bits, the tokenizer against Hugging Face's, memory as planned, files that are cut off."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from optional import load

gguf, tokenizers = load("gguf"), load("tokenizers")
LM = os.environ["TENON_LM"]

LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD, VOCABULARY = 2, 256, 512, 4, 2, 64, 96
EPSILON, ROPE_BASE = 1e-5, 10000.0
TOKENS = [(7 * i * i + 3 * i + 1) % VOCABULARY for i in range(41)]


def tensor_shapes(tied):
    shapes = {"token_embd": (VOCABULARY, WIDTH), "output_norm": (WIDTH,)}
    if not tied:
        shapes["output"] = (VOCABULARY, WIDTH)
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in {
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (HEADS * HEAD, WIDTH), "attn_k": (KV_HEADS * HEAD, WIDTH),
            "attn_v": (KV_HEADS * HEAD, WIDTH), "attn_output": (WIDTH, HEADS * HEAD), "ffn_up": (HIDDEN, WIDTH),
            "ffn_gate": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}.items()}
    return shapes


def random_weights(seed, tied=False):
    rng = np.random.default_rng(seed)
    return {name: (rng.standard_normal(shape) / np.sqrt(shape[-1]) if len(shape) == 2 else 1 + 0.1 * rng.standard_normal(shape))
            .astype(np.float32) for name, shape in tensor_shapes(tied).items()}


def write(path, weights, type_of, rope_base=ROPE_BASE, rope_factors=None, vocabulary=None, size=VOCABULARY, more=None):
    """Writes a model; returns the weights as the file holds them. more(writer) adds what it likes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(rope_base)
    writer.add_vocab_size(size)
    if more:
        more(writer)
    if vocabulary:
        tokens, merges, types = vocabulary
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_add_bos_token(False)
    held = {}
    for name, value in weights.items():
        kind = type_of(name) if value.ndim == 2 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(value, kind)
        writer.add_tensor(name + ".weight", data, raw_dtype=kind)
        held[name] = gguf.quants.dequantize(data, kind)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def forward(weights, tokens, dtype, rope_factors=None):
    """Logits of every position, in plain formulas of one precision."""
    w = {name: value.astype(dtype) for name, value in weights.items()}

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + dtype(EPSILON)) * weight

    angle = np.arange(len(tokens))[:, None] * ROPE_BASE ** (-np.arange(0, HEAD, 2) / HEAD)
    if rope_factors is not None:
        angle = angle / rope_factors
    cos, sin = np.cos(angle).astype(dtype)[:, None], np.sin(angle).astype(dtype)[:, None]

    def rotate(x):
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    n, group = len(tokens), HEADS // KV_HEADS
    x = w["token_embd"][tokens]
    for i in range(LAYERS):
        at = f"blk.{i}."
        h = norm(x, w[at + "attn_norm"])
        q = rotate((h @ w[at + "attn_q"].T).reshape(n, HEADS, HEAD))
        k = rotate((h @ w[at + "attn_k"].T).reshape(n, KV_HEADS, HEAD)).repeat(group, axis=1)
        v = (h @ w[at + "attn_v"].T).reshape(n, KV_HEADS, HEAD).repeat(group, axis=1)
        s = np.einsum("ihd,jhd->hij", q, k) / dtype(np.sqrt(HEAD))
        s = np.where(np.tril(np.ones((n, n), bool)), s, -np.inf)
        p = np.exp(s - s.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ w[at + "attn_output"].T
        h = norm(x, w[at + "ffn_norm"])
        g = h @ w[at + "ffn_gate"].T
        x = x + (g / (1 + np.exp(-g)) * (h @ w[at + "ffn_up"].T)) @ w[at + "ffn_down"].T
    return norm(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T


def divergence(p, q):
    """Mean Kullback-Leibler divergence of rows of logits."""
    p, q = (x - x.max(axis=-1, keepdims=True) for x in (p.astype(np.float64), q.astype(np.float64)))
    p, q = (x - np.log(np.exp(x).sum(axis=-1, keepdims=True)) for x in (p, q))
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))


def total_of(out):
    """MiB of the line that says what a run takes."""
    return float(re.search(r"in all ([\d.]+) MiB", out)[1])


@unittest.skipUnless(gguf, "the gguf package is not installed")
class Lm(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = os.path.join(self.folder.name, "model.gguf")

    def lm(self, *args, code=0):
        done = subprocess.run([LM, *args], capture_output=True, text=True, cwd=self.folder.name, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout if code == 0 else done.stderr

    def logits(self, *args):
        path = os.path.join(self.folder.name, "logits")
        self.lm(self.file, "--ids", ",".join(map(str, TOKENS)), "--logits", path, *args)
        return np.fromfile(path, np.float32).reshape(len(TOKENS), -1)

    def check(self, weights, type_of, **more):
        return self.compare(write(self.file, weights, type_of, **more), more.get("rope_factors"))

    def compare(self, held, rope_factors=None):
        exact = forward(held, TOKENS, np.float64, rope_factors)
        plain = np.abs(forward(held, TOKENS, np.float32, rope_factors) - exact).max()
        ours = self.logits("--exact", "--kv", "f32")
        # As good as the same formulas in NumPy's float32, up to the luck of one rounding order against another.
        self.assertLess(np.abs(ours - exact).max(), 4 * plain)
        fast = self.logits()
        self.assertLess(divergence(exact, fast), 1e-3)
        return exact

    def test_types(self):
        kinds = gguf.GGMLQuantizationType
        for kind in (kinds.F32, kinds.F16, kinds.BF16, kinds.Q8_0, kinds.Q4_0, kinds.Q4_1, kinds.Q5_0, kinds.Q5_1):
            with self.subTest(kind.name):
                self.check(random_weights(1), lambda name: kind)

    def test_mixed_types(self):
        kinds = gguf.GGMLQuantizationType
        mix = [kinds.Q8_0, kinds.Q4_0, kinds.F16, kinds.Q5_1, kinds.F32]
        self.check(random_weights(2, tied=True), lambda name: mix[sum(map(ord, name)) % len(mix)])

    def test_types_of_its_own_files(self):
        """Those that the package reads but does not write; tensors of one shape have the same sizes as above."""
        for kind in ("q4_k", "q5_k", "q6_k", "iq4_nl", "mxfp4", "nvfp4", "q4_k_m"):
            with self.subTest(kind):
                self.lm("--synthetic", f"tiny:{kind}", self.file, "--dry-run")
                held = {t.name.removesuffix(".weight"): gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(self.file).tensors}
                self.compare(held)

    def test_rope_factors(self):
        factors = np.linspace(1, 8, HEAD // 2).astype(np.float32)
        self.check(random_weights(3), lambda name: gguf.GGMLQuantizationType.F32, rope_factors=factors)

    def test_would_notice(self):
        """Negative control: other angles are far outside of both bounds."""
        f32 = gguf.GGMLQuantizationType.F32
        exact = self.check(random_weights(4), lambda name: f32)
        write(self.file, random_weights(4), lambda name: f32, rope_base=500000.0)
        self.assertGreater(np.abs(self.logits("--exact", "--kv", "f32") - exact).max(), 1e-2)
        self.assertGreater(divergence(exact, self.logits()), 1e-3)

    def test_same_bits_in_any_steps(self):
        write(self.file, random_weights(5), lambda name: gguf.GGMLQuantizationType.Q8_0)
        whole = self.logits()
        for rows, threads in ((1, 1), (7, 2), (16, 1), (41, 2)):
            self.assertTrue(np.array_equal(whole, self.logits("--rows", str(rows), "--threads", str(threads))), (rows, threads))

    def test_caches_of_blocks(self):
        """Of 8 bits as good as rounding activations to 8 bits; the same bits in any steps."""
        exact = forward(write(self.file, random_weights(6), lambda name: gguf.GGMLQuantizationType.F32), TOKENS, np.float64)
        for kv, bound in (("q8_0", 1e-3), ("q5_1", 1e-2), ("q4_0", 1e-1), ("iq4_nl", 1e-1)):
            whole = self.logits("--exact", "--kv", kv)
            self.assertLess(divergence(exact, whole), bound)
            self.assertTrue(np.array_equal(whole, self.logits("--exact", "--kv", kv, "--rows", "7")), kv)

    def test_generates_the_likeliest(self):
        held = write(self.file, random_weights(6), lambda name: gguf.GGMLQuantizationType.F32)
        out = self.lm(self.file, "--ids", "1,2,3,4,5", "--generate", "6", "--exact", "--kv", "f32").splitlines()
        tokens = [1, 2, 3, 4, 5]
        for _ in range(6):
            tokens.append(int(np.argmax(forward(held, tokens, np.float64)[-1])))
        self.assertEqual(list(map(int, out[1].split(","))), tokens[5:])

    def test_memory_is_as_planned(self):
        write(self.file, random_weights(7), lambda name: gguf.GGMLQuantizationType.Q4_0)
        for where in ("packed", "mapped"):
            out = self.lm(self.file, "--tokens", "64", "--weights", where)
            held, planned, mapped = map(float, re.search(r"held at most ([\d.]+) MiB, planned ([\d.]+) MiB; mapped weights ([\d.]+) MiB", out).groups())
            self.assertEqual(held, planned)
            self.assertAlmostEqual(held + mapped, total_of(out), delta=0.11)  # three roundings
            self.assertEqual(mapped < 0.1, where == "packed")
        free = self.lm(self.file, "--tokens", "64", "--dry-run")
        self.assertEqual(total_of(free), total_of(self.lm(self.file, "--tokens", "64")))
        total = total_of(free)
        self.assertIn("without a budget", self.lm(self.file, "--tokens", "64", "--budget", f"{total - 0.2}M"))
        self.assertIn("budget", self.lm(self.file, "--tokens", "64", "--budget", "100K", code=1))

    def peak(self, *args):
        """MiB that the process had at most. Started by a small one: what its parent has counts, until it is a program of its own."""
        small = ("import resource, subprocess, sys\nsubprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        done = subprocess.run([sys.executable, "-c", small, LM, *args], capture_output=True, text=True, check=True, cwd=self.folder.name)
        return int(done.stdout) / 1024

    def test_memory_is_not_exceeded(self):
        """Also where the largest tensor is most of the model, which is then for a moment there twice."""
        many = 150000
        weights = random_weights(14, tied=True) | {"token_embd": np.random.default_rng(15).random((many, WIDTH), np.float32)}
        write(self.file, weights, lambda name: gguf.GGMLQuantizationType.Q8_0, size=many)
        libraries = 16  # MiB of the program, its libraries and stacks
        base = ("--tokens", "8", "--generate", "2")
        packed, mapped = (self.lm(self.file, *base, "--dry-run", "--weights", where) for where in ("packed", "mapped"))
        self.assertIn("while weights are packed", packed)
        self.assertGreater(total_of(packed), total_of(mapped) + 2 * libraries)
        for where, out in (("packed", packed), ("mapped", mapped)):
            peak = self.peak(self.file, *base, "--weights", where)
            self.assertLess(peak, total_of(out) + libraries)
        self.assertGreater(peak, total_of(mapped) - 2)
        budget = total_of(mapped) + libraries
        self.assertNotIn("packed) and 0.0", self.lm(self.file, *base, "--budget", f"{budget}M"))
        self.assertLess(self.peak(self.file, *base, "--budget", f"{budget}M"), budget + libraries)

    def test_packed_weights(self):
        """The same bits as those that stay mapped; types that packing would widen stay; tied and untied heads."""
        kinds = gguf.GGMLQuantizationType
        for tied, type_of in ((False, lambda name: kinds.Q4_0), (True, lambda name: kinds.Q8_0), (True, lambda name: kinds.F16),
                              (False, lambda name: kinds.F16 if "ffn" in name else kinds.Q5_1), (True, lambda name: kinds.F32)):
            write(self.file, random_weights(13, tied), type_of)
            for exact in ([], ["--exact"]):
                with self.subTest(type_of("ffn").name, tied=tied, exact=exact):
                    self.assertTrue(np.array_equal(self.logits("--weights", "packed", *exact), self.logits("--weights", "mapped", *exact)))
        write(self.file, random_weights(13, True), lambda name: kinds.F16)
        self.assertIn("weights 0.0 MiB (packed)", self.lm(self.file, "--dry-run"))

    def test_packed_weights_of_its_own_files(self):
        for kind in ("q4_k_m", "mxfp4", "nvfp4"):
            with self.subTest(kind):
                self.lm("--synthetic", f"tiny:{kind}", self.file, "--dry-run")
                self.assertTrue(np.array_equal(self.logits("--weights", "packed"), self.logits("--weights", "mapped")))

    @unittest.skipUnless(tokenizers, "the tokenizers package is not installed")
    def test_tokenizer(self):
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")) as text:
            corpus = text.read()
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=True))
        pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        theirs.train_from_iterator([corpus], tokenizers.trainers.BpeTrainer(
            vocab_size=600, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>"]))
        by_id = sorted(theirs.get_vocab().items(), key=lambda item: item[1])
        merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(theirs.to_str())["model"]["merges"]]
        write(self.file, random_weights(8), lambda name: gguf.GGMLQuantizationType.F32,
              vocabulary=([token for token, _ in by_id], merges, [3 if token == "<|end|>" else 1 for token, _ in by_id]))
        texts = [corpus[i:i + 200] for i in range(0, min(len(corpus), 8000), 200)]
        texts += ["It's we'Ll  don't", "a  b\n\n  c \t\n d   ", "12345678 1,000.50€", "Größe naïve Ελλάδα 日本語 😀!", "1٣ a٣٤٣٤ ½² Ⅷ ①２３", "x<|end|>y", " ", "\n", "…", "'", "a'"]
        letters = np.frombuffer(re.sub("[^a-z]", "", corpus).encode(), np.uint8)
        texts += ["a" * 50000, bytes(np.random.default_rng(9).choice(letters, 50000)).decode()]  # one word each
        for text in texts:
            ours = self.lm(self.file, "--tokenize", "--prompt", text).strip()
            self.assertEqual(list(map(int, ours.split(","))), theirs.encode(text).ids, repr(text))

    def test_what_it_does_not_know(self):
        """Files that would give wrong results are refused, with the field."""
        bias = np.zeros(HEADS * HEAD, np.float32)
        for field, more in {
            "vocab_size": {"size": 0},
            "rope.freq_base": {"rope_base": 0.0},
            "rope.scaling": {"more": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)},
            "alignment": {"more": lambda w: w.add_uint32("general.alignment", 1)},
            "tensors": {"more": lambda w: w.add_tensor("blk.0.attn_q.bias", bias)},
            "tokenizer.ggml.pre": {"more": lambda w: w.add_tokenizer_pre("gpt-2"), "vocabulary": (["a"] * VOCABULARY, ["a a"], [1] * VOCABULARY)},
        }.items():
            with self.subTest(field):
                write(self.file, random_weights(11), lambda name: gguf.GGMLQuantizationType.F32, **more)
                self.assertIn(field, self.lm(self.file, *(["--prompt", "a"] if "pre" in field else ["--tokens", "3"]), code=1))

    def test_options_are_read_whole(self):
        write(self.file, random_weights(12), lambda name: gguf.GGMLQuantizationType.F32)
        for wrong in (["--budget", "6 "], ["--budget", "1e40"], ["--rows", "0"], ["--temperature", "warm"], ["--weights", "lost"], ["--kv", "s8"], ["--kv", "q9"]):
            self.assertIn(wrong[0], self.lm(self.file, *wrong, code=2))
        for wrong in ("1,,2", "4294967297", "1x2", "-1", ""):
            self.assertIn("--ids", self.lm(self.file, "--ids", wrong, code=1))

    def test_damaged_files(self):
        write(self.file, random_weights(9), lambda name: gguf.GGMLQuantizationType.Q4_0)
        with open(self.file, "rb") as whole:
            data = whole.read()
        rng = np.random.default_rng(10)
        head = data[:3000]
        for cut in [0, 3, 23, 24, 100, len(head), len(data) - 1, *map(int, rng.integers(24, len(head), 20))]:
            with open(self.file, "wb") as damaged:
                damaged.write(data[:cut])
            self.assertRegex(self.lm(self.file, "--generate", "1", code=1), "^lm: ")
        for _ in range(60):
            at, value = int(rng.integers(0, len(head))), int(rng.integers(0, 256))
            with open(self.file, "wb") as damaged:
                damaged.write(data[:at] + bytes([value]) + data[at + 1:])
            done = subprocess.run([LM, self.file, "--tokens", "3", "--generate", "1"], capture_output=True, cwd=self.folder.name, timeout=60)
            self.assertIn(done.returncode, (0, 1), (at, value, done.stderr))


if __name__ == "__main__":
    unittest.main()
