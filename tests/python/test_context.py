# SPDX-License-Identifier: Apache-2.0
"""Contexts, devices, errors, threads."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import threading
import unittest

import numpy as np
import tenon
from tenon import _errors


class Errors(unittest.TestCase):
    def test_sentence_and_status(self) -> None:
        a, b = np.zeros((3, 4), np.float32), np.zeros((5, 6), np.float32)
        out = np.full((3, 6), 7, np.float32)
        with self.assertRaises(tenon.InvalidArgument) as caught:
            tenon.matmul(a, b, out=out)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertEqual(caught.exception.status, -1)
        self.assertEqual(caught.exception.status_name, "TENON_ERROR_INVALID_ARGUMENT")
        self.assertRegex(str(caught.exception), r"4.*5|5.*4")
        np.testing.assert_array_equal(out, 7)

    def test_every_status_has_an_exception(self) -> None:
        for status in range(-9, 0):
            made = _errors.error(status, b"sentence")
            self.assertIsNot(type(made), tenon.Error)
            self.assertIsInstance(made, tenon.Error)
            self.assertEqual((made.status, str(made)), (status, "sentence"))
            self.assertTrue(made.status_name.startswith("TENON_ERROR_"))
        self.assertIsInstance(_errors.error(-3, b""), MemoryError)
        self.assertIsInstance(_errors.error(-4, b""), tenon.OutOfMemory)
        self.assertEqual(_errors.error(-99, b"x").status, -99)

    def test_overlap(self) -> None:
        a = np.ones((4, 4), np.float32)
        with self.assertRaises(tenon.InvalidArgument):
            tenon.matmul(a, a.copy(), out=a)
        np.testing.assert_array_equal(a, 1)

    def test_words_that_do_not_exist(self) -> None:
        a = np.ones((4, 4), np.float32)
        for options in (
            {"activation": "rely"},
            {"gated": "yes"},
            {"compute": "slow"},
            {"workspace_limit": 0},
            {"beta": 1.0},
        ):
            with self.subTest(**options), self.assertRaises(ValueError):
                tenon.matmul(a, a, **options)
        with self.assertRaisesRegex(ValueError, "top_left"):
            tenon.softmax(a, causal=True)
        with self.assertRaises(TypeError):
            tenon.matmul(a, a, nonsense=1)


class Contexts(unittest.TestCase):
    def test_device_and_threads(self) -> None:
        with tenon.Context(threads=1) as ctx:
            self.assertEqual(ctx.threads, 1)
            self.assertIn(ctx.device, {d.id for d in tenon.devices() if d.usable})
            ctx.sync()
            self.assertEqual(ctx.save_kernels(), b"")  # a processor compiles none
            self.assertEqual(ctx.load_kernels(b"anything"), 0)
            with self.assertRaises(TypeError):
                ctx.load_kernels("text")  # type: ignore[arg-type]
        with self.assertRaisesRegex(ValueError, "closed"):
            ctx.threads
        with self.assertRaisesRegex(ValueError, "closed"):
            ctx.matmul(np.eye(2), np.eye(2))
        ctx.close()

    def test_reference_device_is_always_there(self) -> None:
        found = {d.id: d for d in tenon.devices()}
        self.assertTrue(found["reference"].usable)
        with tenon.Context("reference") as ctx:
            self.assertEqual(ctx.device, "reference")
            np.testing.assert_array_equal(ctx.matmul(np.eye(2), np.eye(2)), np.eye(2))

    def test_no_such_device(self) -> None:
        with self.assertRaises((tenon.NoDevice, tenon.InvalidArgument)) as caught:
            tenon.Context("abacus:0")
        self.assertIn("abacus", str(caught.exception))

    def test_budget(self) -> None:
        a = np.ones((512, 512), np.float32)
        with tenon.Context(budget=64 << 20) as ctx:
            ctx.matmul(a, a)
            memory = ctx.memory
            self.assertEqual(memory.budget, 64 << 20)
            self.assertLessEqual(memory.peak_reserved, 64 << 20)
            self.assertIn("failures", memory.ladder)
            self.assertGreaterEqual(ctx.trim(), 0)
        with self.assertRaises(ValueError):
            tenon.Context(budget=-1)

    def test_logger(self) -> None:
        lines: list[tuple[str, str]] = []
        ctx = tenon.Context(logger=lambda level, line: lines.append((level, line)))
        ctx.matmul(np.eye(2), np.eye(2))
        ctx.close()
        gc.collect()
        self.assertIn("dispatch", {level for level, _ in lines})

    def test_same_bits_whatever_the_threads(self) -> None:
        rng = np.random.default_rng(5)
        a, b = (rng.standard_normal((150, 150)).astype(np.float32) for _ in range(2))
        results = []
        for threads in (1, 2, 3, 8):
            with tenon.Context(threads=threads) as ctx:
                results.append(ctx.matmul(a, b))
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)

    def test_module_functions_from_many_threads(self) -> None:
        rng = np.random.default_rng(6)
        a = rng.standard_normal((60, 60)).astype(np.float32)
        expected = tenon.matmul(a, a)
        own = tenon.default_context()
        wrong: list[str] = []

        def work() -> None:
            if tenon.default_context() is own:
                wrong.append("a context is shared between threads")
            for _ in range(20):
                if not np.array_equal(tenon.matmul(a, a), expected):
                    wrong.append("other bits in a thread")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_one_context_in_two_threads(self) -> None:
        """Either a call gets through or it raises Busy; nothing else, and the context still works afterwards."""
        a = np.ones((200, 200), np.float32)
        with tenon.Context() as ctx:
            expected = ctx.matmul(a, a)
            wrong: list[str] = []

            def work() -> None:
                for _ in range(50):
                    try:
                        if not np.array_equal(ctx.matmul(a, a), expected):
                            wrong.append("wrong result")
                    except tenon.Busy:
                        pass

            threads = [threading.Thread(target=work) for _ in range(3)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(wrong, [])
            np.testing.assert_array_equal(ctx.matmul(a, a), expected)

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_fork(self) -> None:
        a = np.ones((200, 200), np.float32)
        expected = tenon.matmul(a, a)
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(tenon.matmul(a, a), expected) else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_signatures_are_those_of_the_operations(self) -> None:
        module, method = inspect.signature(tenon.matmul), inspect.signature(tenon.Context.matmul)
        self.assertEqual(["self", *module.parameters], list(method.parameters))
        self.assertIn("bias", module.parameters)
        self.assertIn("residual", tenon.Context.plan_matmul.__doc__)


class Library(unittest.TestCase):
    def test_wrong_library_is_an_import_error(self) -> None:
        code = "import tenon\ntry:\n    tenon.library_version()\nexcept ImportError as e:\n    print(e)\n"
        environment = {**os.environ, "TENON_LIBRARY": "/nonexistent/libtenon.so"}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        self.assertIn("/nonexistent/libtenon.so", out.stdout)

    def test_import_needs_no_numpy(self) -> None:
        code = "import sys; sys.modules['numpy'] = None; import tenon, array; print(tenon.softmax(array.array('d', [1, 1])).tolist())"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(out.stdout.strip(), "[0.5, 0.5]")

    def test_version(self) -> None:
        self.assertEqual(tenon.library_version().rsplit(".", 1)[0], tenon.__version__.rsplit(".", 1)[0])


if __name__ == "__main__":
    unittest.main()
