# SPDX-License-Identifier: Apache-2.0
"""tenon's matrix product beside ONNX Runtime's, called in turn in one process.

    python bench/peers/gemm_onnxruntime.py --suite llm
    python bench/peers/gemm_onnxruntime.py --mnk 256,1024 --dtype f32,u8s8,dynamic --threads 2

f32       MatMul with a constant B, which ONNX Runtime packs when the session is made, beside tenon's prepacked B; and
          with B as an input, beside tenon's B as it lies
u8s8      MatMulInteger of u8 activations and constant s8 weights into s32, beside tenon's prepacked s8. Without VNNI
          ONNX Runtime adds pairs with saturation, which its error shows
dynamic   DynamicQuantizeLinear, MatMulInteger and the scale, f32 to f32: what a model quantised dynamically runs; beside
          tenon's quantised product alone with the scale in its epilogue and a's scale given
Inputs and outputs are bound once (IoBinding), so neither side copies or allocates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from race import Race, Shape, gemm_arguments, race_gemm, tenon

DTYPES = ("f32", "u8s8", "dynamic")
threads = 1


def set_threads(count: int) -> None:
    global threads
    threads = count


def bound(nodes: list[Any], feeds: dict[str, np.ndarray], constants: dict[str, np.ndarray], out: np.ndarray) -> Any:
    """A session of the nodes (they end in "c") with everything bound; answers its call."""
    kinds = {
        np.float32: TensorProto.FLOAT,
        np.uint8: TensorProto.UINT8,
        np.int8: TensorProto.INT8,
        np.int32: TensorProto.INT32,
    }
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info(name, kinds[x.dtype.type], x.shape) for name, x in feeds.items()],
        [helper.make_tensor_value_info("c", kinds[out.dtype.type], out.shape)],
        [numpy_helper.from_array(np.ascontiguousarray(x), name) for name, x in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in feeds.items()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("c", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)

    def run(_held: Any = (held, out)) -> None:
        session.run_with_iobinding(binding)

    return run


def errors(a: np.ndarray, b: np.ndarray, own: np.ndarray, peer: np.ndarray) -> tuple[float, float]:
    """Largest |result - exact| / sum |a||b| of the last member's first row."""
    a, b, own, peer = (x.reshape(-1, *x.shape[-2:])[-1].astype(np.float64) for x in (a, b, own, peer))
    exact, magnitude = a[0] @ b, np.maximum(np.abs(a[0]) @ np.abs(b), 1e-300)
    worst = [float((np.abs(c[0] - exact) / magnitude).max()) for c in (own, peer)]
    return worst[0], worst[1]


def races(ctx: tenon.Context, shape: Shape, dtype: str) -> Iterator[Race]:
    if shape.layout[0] == "t" or (dtype != "f32" and shape.batch > 1):
        return  # MatMul has no transposed operands; only weights, which are constant, come in both layouts
    rng = np.random.default_rng(1)
    batch = () if shape.batch == 1 else (shape.batch,)

    def operand(rows: int, columns: int, transposed: bool) -> np.ndarray:
        x = rng.uniform(-1, 1, (*batch, *((columns, rows) if transposed else (rows, columns)))).astype(np.float32)
        return x.swapaxes(-1, -2) if transposed else x

    a, b = operand(shape.m, shape.k, False), operand(shape.k, shape.n, shape.layout[1] == "t")
    extents = (*batch, shape.m, shape.n)
    if dtype == "f32":
        own, peers = np.empty(extents, np.float32), np.empty(extents, np.float32)
        node = [helper.make_node("MatMul", ["a", "b"], ["c"])]
        if shape.batch == 1:
            peer = bound(node, {"a": a}, {"b": b}, peers)
            with ctx.plan_matmul(a, ctx.pack(b), out=own) as plan:
                yield Race(dtype, "prepacked", plan.kernel, plan.run, peer, lambda: errors(a, b, own, peers))
        if shape.layout == "nn":
            peer = bound(node, {"a": a, "b": b}, {}, peers)
            with ctx.plan_matmul(a, b, out=own) as plan:
                yield Race(dtype, "plain", plan.kernel, plan.run, peer, lambda: errors(a, b, own, peers))
        return

    weights = np.round(b * 127).astype(np.int8)
    packed = ctx.pack(weights, a_dtype="u8")
    if dtype == "u8s8":
        codes = np.round((a + 1) * 127).astype(np.uint8)
        own, peers = np.empty(extents, np.int32), np.empty(extents, np.int32)
        peer = bound([helper.make_node("MatMulInteger", ["a", "b"], ["c"])], {"a": codes}, {"b": weights}, peers)
        with ctx.plan_matmul(codes, packed, out=own) as plan:
            yield Race(dtype, "prepacked", plan.kernel, plan.run, peer, lambda: errors(codes, weights, own, peers))
        return
    if dtype != "dynamic":
        raise SystemExit(f"--dtype: {dtype} is not one of {', '.join(DTYPES)}")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "b", "zero"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "b_scale"], ["scales"]),
        helper.make_node("Mul", ["float", "scales"], ["c"]),
    ]
    step = np.float32(2 / 255)
    codes = np.clip(np.round(a / step) + 128, 0, 255).astype(np.uint8)
    own, peers = np.empty(extents, np.float32), np.empty(extents, np.float32)
    peer = bound(nodes, {"a": a}, {"b": weights, "b_scale": np.float32(1 / 127).reshape(())}, peers)
    scales = {"a_scale": np.full((1, 1), step), "a_zero": np.full((1, 1), 128, np.int32)}
    packed = ctx.pack(weights, a_dtype="u8", b_scale=np.full((1, 1), 1 / 127, np.float32))
    with ctx.plan_matmul(codes, packed, out=own, **scales) as plan:
        # Quantising costs half a step per element of a: the error against the unquantised product shows it.
        yield Race(dtype, "prepacked", plan.kernel, plan.run, peer, lambda: errors(a, b, own, peers))


def main() -> None:
    args = gemm_arguments(__doc__.splitlines()[0], DTYPES).parse_args()
    race_gemm(args, f"onnxruntime {onnxruntime.__version__}", set_threads, races)


if __name__ == "__main__":
    main()
