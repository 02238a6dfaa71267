# SPDX-License-Identifier: Apache-2.0
"""One function per operation: Python arguments in, the C descriptor out.

The signature and the text here are those of tenon.matmul, Context.matmul and Context.plan_matmul alike (see
_context.py). The C library checks everything that has to do with values; here only what is needed to make a result.
"""

from __future__ import annotations

import ctypes
from typing import Any, Generic, Literal, Optional, Sequence, TypeVar, Union

from . import _abi, _checks
from ._arrays import Tensor, as_tensor, block_type, dtype_code, dtype_name, index_operand, make_result, number, operand
from ._errors import InvalidArgument

Desc = TypeVar("Desc", bound=ctypes.Structure)
Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "clamp"]
Gated = Literal["halves", "interleaved"]
Causal = Literal["top_left", "bottom_right"]
Compute = Literal["default", "exact", "fast"]
# Any array that as_tensor takes: no common type of NumPy, torch and buffers exists.
Array = Any
Indices = Union[Array, Sequence[int]]
Factor = Union[Array, int, float]  # a scale or a zero point

_ACTIVATIONS = _abi.names("TENON_ACTIVATION_")
_GATED = _abi.names("TENON_GATED_")
_CAUSAL = _abi.names("TENON_CAUSAL_")
_COMPUTE = _abi.names("TENON_COMPUTE_")
_GROUPS = _abi.names("TENON_GROUPS_")


class Call(Generic[Desc]):
    """A filled descriptor, what it points to, and what the caller gets when it has run."""

    __slots__ = ("desc", "result", "_kept")

    def __init__(self, desc: Desc) -> None:
        desc.struct_size = ctypes.sizeof(desc)
        self.desc = desc
        self.result: Any = None
        self._kept: list[object] = []

    def put(self, field: str, tensor: Optional[Tensor], within: Sequence[int] = (), name: Optional[str] = None) -> None:
        """Sets an input: the argument `name`, if not `field`. `within` is the shape that it broadcasts to, if any."""
        if tensor is not None:
            if tensor.repeats:
                tensor = tensor.within(within)
            made = tensor.to_c(name or field)
            setattr(self.desc, field, made)
            self._kept += (tensor, made)

    def put_output(self, field: str, tensor: Tensor, name: str = "out") -> None:
        """Sets what is written; `name` is the argument that it came by."""
        if tensor.read_only:
            raise ValueError(f"{name} is read-only, expected a writable array")
        if tensor.size and any(step == 0 and extent > 1 for step, extent in zip(tensor.strides, tensor.shape)):
            raise ValueError(f"{name} has strides {tensor.strides}, expected elements that share no memory")
        self.put(field, tensor, name=name)

    def put_scalar(self, field: str, value: Optional[float]) -> None:
        """Sets a `const double *`; None leaves it NULL, the default."""
        if value is not None:
            made = ctypes.c_double(_checks.number(field, value))
            setattr(self.desc, field, ctypes.pointer(made))  # the struct keeps the pointer's target

    def limit_workspace(self, limit: Optional[int]) -> None:
        if limit is not None:
            self.desc.workspace.bytes = _checks.size("workspace_limit", limit, 1)


def _choice(field: str, value: Optional[str], values: dict[str, int]) -> int:
    if value is None:
        return values["none"]
    if not isinstance(value, str) or value not in values:
        expected = ", ".join(repr(v) for v in values if v != "none")
        raise ValueError(f"{field} is {value!r}, expected None or one of {expected}")
    return values[value]


def _optional(name: str, x: Optional[Array]) -> Optional[Tensor]:
    return None if x is None else operand(name, x)


def _optional_indices(name: str, x: Optional[Indices]) -> Optional[Tensor]:
    return None if x is None else index_operand(name, x)


def _factor(name: str, x: Factor, real: str) -> Tensor:
    """A scale or zero point. Plain numbers become `real`; integers as zero points s32, so that sums stay integers."""
    if type(x) is int and name.endswith("_zero"):
        return number(name, x, "s32")
    if type(x) is int or type(x) is float:
        return number(name, x, real)
    return operand(name, x)


def _optional_factor(name: str, x: Optional[Factor], real: str) -> Optional[Tensor]:
    return None if x is None else _factor(name, x, real)


def _real(*dtypes: str) -> str:
    """The type in which these meet numbers that are no integers."""
    return "f64" if "f64" in dtypes else "f32"


def _broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape by NumPy's rule; where there is none, the first: the library says what is wrong."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(next((extent for extent in column if extent != 1), 1) for column in zip(*padded))


def _result(
    like: Tensor, shape: tuple[int, ...], dtype: Any, default: str, out: Optional[Array], zeros: bool = False
) -> tuple[Any, Tensor]:
    """What the caller gets, and its view: `out` as given, or a new array."""
    if out is not None:
        return out, operand("out", out)
    name = default if dtype is None else dtype_name(dtype)
    made = make_result(like, shape, name, zeros)
    return made, as_tensor(made, name)


class PackedMatrix:
    """A matrix B in the layout the kernels want, made by Context.pack: give it to matmul in the place of b.

    gated, b_scale and b_zero are remembered: matmul takes them from here.
    """

    __slots__ = ("view", "gated", "b_scale", "b_zero", "memory", "address", "bytes")

    def __init__(
        self, view: Tensor, size: int, gated: Optional[Gated], b_scale: Optional[Tensor], b_zero: Optional[Tensor]
    ) -> None:
        self.view = view  # type, shape and strides of b; its memory is not used any more
        self.gated = gated
        self.b_scale = b_scale
        self.b_zero = b_zero
        self.memory = ctypes.create_string_buffer(size + 63)
        self.address = (ctypes.addressof(self.memory) + 63) & ~63
        self.bytes = size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix that was packed."""
        return self.view.shape

    def __repr__(self) -> str:
        return f"tenon.PackedMatrix({self.view.dtype}, shape={self.view.shape}, {self.bytes} bytes)"


_FLOATS = ("f64", "f32", "f16", "bf16")
_INTEGERS = ("s8", "u8")


def pack(
    b: Array,
    gated: Optional[Gated],
    b_scale: Optional[Factor],
    b_zero: Optional[Factor],
    a_dtype: Any,
    compute: Compute,
) -> tuple[Call[_abi.GemmDesc], Tensor, Optional[Tensor], Optional[Tensor]]:
    """What Context.pack asks the library, and the views of its operands."""
    view = operand("b", b)
    real = _real(view.dtype, view.dtype if a_dtype is None else dtype_name(a_dtype))
    scale, zero = _optional_factor("b_scale", b_scale, real), _optional_factor("b_zero", b_zero, real)
    if view.ndim < 2:
        raise ValueError(f"b has {view.ndim} dimensions, expected at least 2")
    call = Call(_abi.GemmDesc())
    tb = _roomy(view, view, scale, zero)
    call.put("b", tb)
    call.put("b_scale", scale, tb.shape)
    call.put("b_zero", zero, tb.shape)
    if a_dtype is not None:
        call.desc.a.dtype = dtype_code(a_dtype)
    call.desc.gated = _choice("gated", gated, _GATED)
    call.desc.compute = _choice("compute", compute, _COMPUTE)
    return call, view, scale, zero


def _roomy(t: Tensor, *inputs: Optional[Tensor]) -> Tensor:
    """`t`, with a batch of 1 in front if one of the inputs needs that to say that its one element repeats."""
    for x in inputs:
        if x is not None and x.repeats and x.ndim == t.ndim < _abi.MAX_RANK:
            return t.with_axis(-t.ndim - 1)
    return t


def product_dtype(a: str, b: str, whole: bool = True) -> str:
    """The type of a new product; `whole`: nothing else than a and b brings numbers that are no integers."""
    if "f64" in (a, b):
        return "f64"
    if a in _INTEGERS and b in _INTEGERS:
        return "s32" if whole else "f32"
    wide = {d for d in (a, b) if d in _FLOATS}
    return wide.pop() if len(wide) == 1 else "f32"


def matmul(
    a: Array,
    b: Union[Array, PackedMatrix],
    *,
    bias: Optional[Array] = None,
    residual: Optional[Array] = None,
    activation: Optional[Activation] = None,
    clamp: Optional[tuple[float, float]] = None,
    gated: Optional[Gated] = None,
    alpha: Optional[float] = None,
    beta: float = 0.0,
    a_scale: Optional[Factor] = None,
    a_zero: Optional[Factor] = None,
    b_scale: Optional[Factor] = None,
    b_zero: Optional[Factor] = None,
    c_scale: Optional[Factor] = None,
    c_zero: Optional[Factor] = None,
    group_offsets: Optional[Indices] = None,
    compute: Compute = "default",
    workspace_limit: Optional[int] = None,
    dtype: Any = None,
    out: Optional[Array] = None,
) -> Call[_abi.GemmDesc]:
    """c = activation(alpha * a @ b + beta * out + bias) + residual

    a (..., m, k), b (..., k, n), result (..., m, n); leading dimensions and one-dimensional operands as in
    numpy.matmul. Any strides: transposes and slices cost no copy.

    bias, residual      broadcast to the result
    activation          "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", or "clamp" with clamp=(low, high)
    gated               b has 2 n columns, in "halves" or "interleaved": activation(first) * second
    alpha, beta         default 1 and 0; beta other than 0 needs `out`
    *_scale, *_zero     quantisation: of a (..., m or 1, groups), of b (..., groups, n or 1), of the result;
                        plain numbers too
    group_offsets       experts + 1 row offsets: a (m, k), b (experts, k, n), rows of group e meet b[e]
    compute             "default", "exact" or "fast": which rounding is allowed before the sum
    workspace_limit     most bytes of scratch memory
    dtype               of a new result; default: f64 if either is, else their common float, and for two integers s32,
                        or f32 with scales, zero points that are floats, bias, residual, an alpha that is no integer, or
                        an activation other than "relu"; dtype="s32" rounds
    out                 where the result goes; it may be `residual`, not a or b
    """
    call = Call(_abi.GemmDesc())
    desc = call.desc
    ta = operand("a", a)
    if isinstance(b, PackedMatrix):
        tb = b.view
        gated = b.gated if gated is None else gated
        b_scale = b.b_scale if b_scale is None else b_scale
        b_zero = b.b_zero if b_zero is None else b_zero
    else:
        tb = operand("b", b)
    for name, t in (("a", ta), ("b", tb)):
        if not t.ndim:
            raise ValueError(f"{name} has 0 dimensions, expected at least 1")
    vector_a, vector_b = ta.ndim == 1, tb.ndim == 1
    if vector_a:
        ta = ta.with_axis(-2)
    if vector_b:
        tb = tb.with_axis(-1)
    tbias, tresidual = _optional("bias", bias), _optional("residual", residual)
    real = _real(ta.dtype, tb.dtype)
    given = {
        "a_scale": a_scale,
        "a_zero": a_zero,
        "b_scale": b_scale,
        "b_zero": b_zero,
        "c_scale": c_scale,
        "c_zero": c_zero,
    }
    factors = {name: _factor(name, x, real) for name, x in given.items() if x is not None}
    offsets = _optional_indices("group_offsets", group_offsets)
    pairing = _choice("gated", gated, _GATED)

    columns = tb.shape[-1] // 2 if pairing else tb.shape[-1]
    batch = () if offsets is not None else _broadcast(ta.shape[:-2], tb.shape[:-2])
    desc.beta = _checks.number("beta", beta)
    if desc.beta and out is None:
        raise ValueError(f"beta is {beta} and scales what is in the result: give out=")
    shape = batch + (() if vector_a else (ta.shape[-2],)) + (() if vector_b else (columns,))
    whole = (
        (alpha is None or _checks.number("alpha", alpha).is_integer())
        and (activation is None or activation == "relu")
        and not any(t is not None and t.dtype in _FLOATS for t in (tbias, tresidual, *factors.values()))
    )
    default = product_dtype(ta.dtype, tb.dtype, whole)
    # Rows behind the last group stay as they are, so in a new result they must be something.
    call.result, tc = _result(ta, shape, dtype, default, out, zeros=offsets is not None)

    def as_matrix(t: Tensor) -> Tensor:
        """Gives operands shaped like the result the axes that one-dimensional a and b took from it."""
        if vector_b and t.ndim:
            t = t.with_axis(-1)
        if vector_a and t.ndim and (vector_b or t.ndim > 1):
            t = t.with_axis(-2)
        return t

    if vector_a or vector_b:
        tc = as_matrix(tc)
        while tc.ndim < 2:
            tc = tc.with_axis(-1 if tc.ndim == 0 else -2)
        tbias = tbias and as_matrix(tbias)
        tresidual = tresidual and as_matrix(tresidual)

    batched: Sequence[int] = ()
    if offsets is None:  # groups have no batch
        tc = _roomy(tc, ta, tb, tbias, tresidual, *factors.values())
        batched = tc.shape
    call.put("a", ta, batched)
    call.put("b", tb, batched)
    call.put_output("c", tc)
    if isinstance(b, PackedMatrix):
        desc.b_packed, desc.b_packed_bytes = b.address, b.bytes
        call._kept.append(b)
    call.put_scalar("alpha", alpha)
    call.put("bias", tbias, batched)
    call.put("residual", tresidual, batched)
    desc.activation = _choice("activation", activation, _ACTIVATIONS)
    if clamp is not None:
        low, high = _checks.pair("clamp", clamp)
        desc.clamp_low, desc.clamp_high = _checks.number("clamp[0]", low), _checks.number("clamp[1]", high)
    elif activation == "clamp":
        raise ValueError("activation='clamp' needs clamp=(low, high)")
    desc.gated = pairing
    for name, factor in factors.items():
        call.put(name, factor, batched)
    call.put("group_offsets", offsets)
    desc.compute = _choice("compute", compute, _COMPUTE)
    call.limit_workspace(workspace_limit)
    return call


def _put_masks(
    call: Call[Any],
    scores: Sequence[int],
    mask: Optional[Array],
    bias: Optional[Array],
    causal: Optional[Causal],
    window: Optional[tuple[Optional[int], Optional[int]]],
    alibi: Optional[Array],
    softcap: float,
    sinks: Optional[Array],
) -> None:
    """What softmax and attention have in common. Masks broadcast to a shape that begins and counts as `scores`."""
    tmask, tbias = _optional("mask", mask), _optional("bias", bias)
    additive = tmask is not None and tmask.dtype != "bool"
    if tmask is not None and additive:
        if tmask.dtype not in _FLOATS:
            raise InvalidArgument(
                f"mask.dtype is {tmask.dtype}, expected bool (True = keep) or, to be added, {', '.join(_FLOATS)}"
            )
        if tbias is not None:
            raise ValueError(f"mask of {tmask.dtype} is additive and so is bias: give one of them, or a mask of bool")
        tmask, tbias = None, tmask
    call.put("mask", tmask, scores)
    call.put("bias", tbias, scores, "mask" if additive else "bias")
    call.desc.causal = _choice("causal", causal, _CAUSAL)
    if window is not None:
        low, high = _checks.INT64_MIN, _checks.INT64_MAX
        left, right = (
            -1 if side is None else _checks.integer(f"window[{i}]", side, low, high)
            for i, side in enumerate(_checks.pair("window", window))
        )
        call.desc.window = _abi.Window(1, 0, left, right)
    call.put("alibi", _optional("alibi", alibi))
    call.desc.softcap = _checks.number("softcap", softcap)
    call.put("sinks", _optional("sinks", sinks))


def _put_lse(call: Call[Any], like: Tensor, shape: tuple[int, ...]) -> Any:
    lse = make_result(like, shape, "f64" if like.dtype == "f64" else "f32")
    call.put_output("lse", as_tensor(lse))
    return lse


def softmax(
    x: Array,
    axis: int = -1,
    *,
    scale: Optional[float] = None,
    mask: Optional[Array] = None,
    bias: Optional[Array] = None,
    causal: Optional[Causal] = None,
    window: Optional[tuple[Optional[int], Optional[int]]] = None,
    alibi: Optional[Array] = None,
    softcap: float = 0.0,
    sinks: Optional[Array] = None,
    log: bool = False,
    return_lse: bool = False,
    workspace_limit: Optional[int] = None,
    dtype: Any = None,
    out: Optional[Array] = None,
) -> Call[_abi.SoftmaxDesc]:
    """softmax(scale * x + bias) along one axis; masked elements take no part, not even as NaN.

    mask                bool: True = keep; float: added. Broadcasts to x
    bias                added; broadcasts to x; -inf masks
    causal              "top_left" or "bottom_right": the last dimension is keys, the one before it queries
    window              (left, right) keys around a query's own position; None on a side: all
    alibi               slopes (heads) or (batch, heads): adds -slope * distance
    softcap             above 0: s becomes softcap * tanh(s / softcap)
    sinks               (heads): an extra logit per row, in the denominator only
    log                 log-softmax
    return_lse          also return the log of the sum: (y, lse)
    workspace_limit     most bytes of scratch memory
    dtype               of a new result; default: that of x
    out                 where the result goes; it may be x
    """
    call = Call(_abi.SoftmaxDesc())
    desc = call.desc
    tx = operand("x", x)
    axis = _checks.integer("axis", axis, _checks.INT32_MIN, _checks.INT32_MAX)
    out, ty = _result(tx, tx.shape, dtype, tx.dtype, out)
    call.put("x", tx)
    call.put_output("y", ty)
    desc.axis = ctypes.pointer(ctypes.c_int32(axis))
    call.put_scalar("scale", scale)
    _put_masks(call, tx.shape, mask, bias, causal, window, alibi, softcap, sinks)
    desc.log = bool(log)
    call.result = out
    if return_lse:
        along = axis % tx.ndim if tx.ndim else 0
        call.result = out, _put_lse(call, tx, tx.shape[:along] + tx.shape[along + 1 :])
    call.limit_workspace(workspace_limit)
    return call


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: Optional[float] = None,
    causal: Optional[Causal] = None,
    window: Optional[tuple[Optional[int], Optional[int]]] = None,
    mask: Optional[Array] = None,
    bias: Optional[Array] = None,
    alibi: Optional[Array] = None,
    softcap: float = 0.0,
    sinks: Optional[Array] = None,
    key_lengths: Optional[Indices] = None,
    query_offsets: Optional[Indices] = None,
    cu_seqlens_q: Optional[Indices] = None,
    cu_seqlens_k: Optional[Indices] = None,
    block_table: Optional[Array] = None,
    k_scale: Optional[Factor] = None,
    v_scale: Optional[Factor] = None,
    compute: Compute = "default",
    return_lse: bool = False,
    workspace_limit: Optional[int] = None,
    dtype: Any = None,
    out: Optional[Array] = None,
) -> Call[_abi.AttentionDesc]:
    """softmax(scale * q @ k^T + bias) @ v without the matrix in between.

    q (batch, heads, queries, d), k (batch, kv_heads, keys, d), v (batch, kv_heads, keys, dv), result
    (batch, heads, queries, dv); heads a multiple of kv_heads. Other layouts are transposed views, never copies.

    scale               default 1 / sqrt(d)
    causal              "top_left" or "bottom_right": where the diagonal begins if there are more keys than queries
    window              (left, right) keys around a query's own position; None on a side: all
    mask                bool: True = keep; float: added. Broadcasts to (batch, heads, queries, keys)
    bias                added, beside a mask of bool
    alibi               slopes (heads) or (batch, heads): adds -slope * distance
    softcap             above 0: s becomes softcap * tanh(s / softcap)
    sinks               (heads): an extra logit per row, in the denominator only
    key_lengths         (batch): keys in use of each sequence
    query_offsets       (batch): position of each sequence's first query
    cu_seqlens_q, _k    (sequences + 1) offsets: ragged; q is (1, heads, total, d), k and v likewise
    block_table         (batch, max_blocks): paged; k is (blocks, kv_heads, block_size, d), v likewise
    k_scale, v_scale    factors of 8-bit keys and values; plain numbers too
    k, v                also tenon.Tensors of blocks of 32 (quantize(k, "q8_0"), "q4_0", ...)
    compute             "default", "exact" or "fast": which rounding is allowed
    return_lse          also return the log of each row's sum, (batch, heads, queries): (o, lse)
    workspace_limit     most bytes of scratch memory
    dtype               of a new result; default: that of q
    out                 where the result goes
    """
    call = Call(_abi.AttentionDesc())
    desc = call.desc
    tq, tk, tv = operand("q", q), operand("k", k), operand("v", v)
    for name, t in (("q", tq), ("k", tk), ("v", tv)):
        if t.ndim != 4:
            raise ValueError(f"{name} has {t.ndim} dimensions, expected 4: (batch, heads, length, dim)")
    out, to = _result(tq, tq.shape[:3] + tv.shape[3:], dtype, tq.dtype, out)
    call.put("q", tq)
    call.put("k", tk)
    call.put("v", tv)
    call.put_output("o", to)
    call.put_scalar("scale", scale)
    _put_masks(call, tq.shape, mask, bias, causal, window, alibi, softcap, sinks)
    call.put("key_lengths", _optional_indices("key_lengths", key_lengths))
    call.put("query_offsets", _optional_indices("query_offsets", query_offsets))
    call.put("cu_seqlens_q", _optional_indices("cu_seqlens_q", cu_seqlens_q))
    call.put("cu_seqlens_k", _optional_indices("cu_seqlens_k", cu_seqlens_k))
    call.put("block_table", _optional("block_table", block_table))
    real = _real(tq.dtype, tk.dtype, tv.dtype)
    call.put("k_scale", _optional_factor("k_scale", k_scale, real))
    call.put("v_scale", _optional_factor("v_scale", v_scale, real))
    desc.compute = _choice("compute", compute, _COMPUTE)
    call.result = out
    if return_lse:
        call.result = out, _put_lse(call, tq, tq.shape[:3])
    call.limit_workspace(workspace_limit)
    return call


def attention_merge(
    o_parts: Sequence[Array],
    lse_parts: Sequence[Array],
    *,
    return_lse: bool = False,
    dtype: Any = None,
    out: Optional[Array] = None,
) -> Call[_abi.AttentionMergeDesc]:
    """Joins attentions of the same queries over disjoint keys: shared prefixes, caches in pieces, rings.

    o_parts are results (..., dv), lse_parts what return_lse gave with them (...). The sum goes in the order of the
    parts. `out` may be o_parts[0]; without it at least one part is needed.
    """
    if len(o_parts) != len(lse_parts):
        raise ValueError(f"{len(o_parts)} o_parts and {len(lse_parts)} lse_parts are given, expected as many")
    if len(o_parts) == 0 and out is None:
        raise ValueError("no parts and no out=: the shape of the result is not known")
    call = Call(_abi.AttentionMergeDesc())
    desc = call.desc
    parts = [operand(f"o_parts[{i}]", o) for i, o in enumerate(o_parts)]
    sums = [operand(f"lse_parts[{i}]", lse) for i, lse in enumerate(lse_parts)]
    if out is None:
        out, to = _result(parts[0], parts[0].shape, dtype, parts[0].dtype, None)
    else:
        to = operand("out", out)
    count = len(parts)
    c_parts = [t.to_c(f"o_parts[{i}]") for i, t in enumerate(parts)]
    c_sums = [t.to_c(f"lse_parts[{i}]") for i, t in enumerate(sums)]
    desc.o_parts = (_abi.Tensor * count)(*c_parts)
    desc.lse_parts = (_abi.Tensor * count)(*c_sums)
    desc.count = count
    call._kept += (parts, sums, c_parts, c_sums)
    call.put_output("o", to)
    call.result = out
    if return_lse:
        call.result = out, _put_lse(call, to, to.shape[:-1])
    return call


def kv_append(
    k: Array,
    v: Optional[Array],
    k_cache: Array,
    v_cache: Optional[Array],
    positions: Indices,
    *,
    cu_seqlens: Optional[Indices] = None,
    block_table: Optional[Array] = None,
    k_scale: Optional[Factor] = None,
    v_scale: Optional[Factor] = None,
) -> Call[_abi.KvAppendDesc]:
    """Writes new rows into a key-value cache in place, converting types.

    k (batch, kv_heads, t, d) goes to k_cache[b, :, positions[b] + t], or with block_table to the block that holds
    that position; v likewise. Ragged with cu_seqlens: k is (1, kv_heads, total, d). Scales may be plain numbers.
    Caches may be tenon.Tensors of blocks of 32 (q8_0, q4_0, ...) along d: they get what quantize makes of the rows.
    """
    call = Call(_abi.KvAppendDesc())
    tk, tv = operand("k", k), _optional("v", v)
    real = _real(tk.dtype, tk.dtype if tv is None else tv.dtype)
    call.put("k", tk)
    call.put("v", tv)
    call.put_output("k_cache", operand("k_cache", k_cache), "k_cache")
    if v_cache is not None:
        call.put_output("v_cache", operand("v_cache", v_cache), "v_cache")
    call.put("positions", index_operand("positions", positions))
    call.put("cu_seqlens", _optional_indices("cu_seqlens", cu_seqlens))
    call.put("block_table", _optional("block_table", block_table))
    call.put("k_scale", _optional_factor("k_scale", k_scale, real))
    call.put("v_scale", _optional_factor("v_scale", v_scale, real))
    return call


def quantize(x: Array, dtype: Any = None, *, out: Optional[Array] = None) -> Call[_abi.QuantizeDesc]:
    """Blocks of x (..., n) along its last dimension, as a tenon.Tensor of type `dtype` ("q8_0", "q4_k", ...).

    The result's `owner` is its bytes, an array of uint8 (..., bytes of a row). A weight of n rows of k, which products
    take as b (k, n): tenon.matmul(a, tenon.quantize(w, "q4_0").mT). out: a tensor of blocks in the place of dtype.
    """
    call = Call(_abi.QuantizeDesc())
    tx = operand("x", x)
    if out is not None:
        call.result = ty = operand("out", out)
        if dtype is not None and ty.dtype != block_type(dtype)[0]:
            raise TypeError(f"out is of {ty.dtype}, expected {block_type(dtype)[0]}, as dtype says")
    else:
        name, elements, size = block_type(dtype)
        if not tx.ndim or tx.shape[-1] % elements:
            raise ValueError(f"x has shape {tx.shape}, expected rows of a multiple of {elements}, the block of {name}")
        made = make_result(tx, tx.shape[:-1] + (tx.shape[-1] // elements * size,), "u8")
        call.result = ty = as_tensor(made, name)
    call.put("x", tx)
    call.put_output("y", ty)
    return call


def dequantize(x: Array, *, dtype: Any = None, out: Optional[Array] = None) -> Call[_abi.QuantizeDesc]:
    """The elements of blocks x, a tenon.Tensor of a block type (tenon.as_tensor(bytes, "q4_0")); dtype: "f32" if not said."""
    call = Call(_abi.QuantizeDesc())
    tx = operand("x", x)
    call.result, ty = _result(tx, tx.shape, dtype, "f32", out)
    call.put("x", tx)
    call.put_output("y", ty)
    return call


def blocks_from_groups(
    qweight: Array,
    qzeros: Array,
    scales: Array,
    group_index: Optional[Indices] = None,
    *,
    layout: Literal["gptq", "gptq_v2", "awq"] = "gptq",
    bits: int = 4,
    dtype: Any = "q4_0",
) -> Call[_abi.GroupsDesc]:
    """Weights of a GPTQ or AWQ checkpoint as blocks, a tenon.Tensor (n, k) for matmul(a, blocks.mT).

    qweight, qzeros     int32 as the checkpoint has them; scales (groups, n)
    group_index         g_idx of GPTQ's act-order; the result is then (blocks, order), and products want a[..., order]
    layout              "gptq" (zero points stored less one), "gptq_v2", "awq"
    dtype               "q4_0" where every zero point is 8, "q4_1" where they differ; of 8 bits "q8_0"
    """
    call = Call(_abi.GroupsDesc())
    call.desc.layout = _choice("layout", layout, _GROUPS)
    call.desc.bits = _checks.integer("bits", bits, -(2**31), 2**31 - 1)
    weights, factors = operand("qweight", qweight), operand("scales", scales)
    name, elements, size = block_type(dtype)
    if weights.ndim != 2 or factors.ndim != 2 or bits not in (4, 8):
        raise ValueError(f"qweight has shape {weights.shape}, scales {factors.shape}, bits is {bits}, expected two matrices and 4 or 8")
    k = weights.shape[0] * (1 if layout == "awq" else 32 // bits)
    if k % elements:
        raise ValueError(f"qweight has shape {weights.shape}, k of {k}, expected a multiple of {elements}, the block of {name}")
    blocks = as_tensor(make_result(weights, (factors.shape[1], k // elements * size), "u8"), name)
    call.result = blocks
    call.put("qweight", weights)
    call.put("qzeros", operand("qzeros", qzeros))
    call.put("scales", factors)
    call.put_output("y", blocks)
    if group_index is not None:
        call.put("group_index", index_operand("group_index", group_index))
        order = make_result(weights, (k,), "s32")
        call.put_output("order", operand("order", order))
        call.result = blocks, order
    return call
