# SPDX-License-Identifier: Apache-2.0
"""tenon: matrix multiplication, softmax and attention on NumPy arrays, torch tensors and plain buffers.

    import tenon

    c = tenon.matmul(a, b, bias=bias, activation="gelu")
    p = tenon.softmax(x, mask=keep)
    o = tenon.attention(q, k, v, causal="bottom_right")

    with tenon.Context(device="cpu", threads=2, budget=2 << 30) as ctx:
        plan = ctx.plan_matmul(a, b)
        print(plan.kernel, plan.workspace)
        plan.run(out=c)

Arrays are taken as they are, with their strides, and not copied. (One exception, of at most 64 KiB: one element that
broadcasting repeats in every dimension, where the operation has no room to say so.) The C library libtenon does the
work; it is looked for at the first call (see _library.py; TENON_LIBRARY names it).
"""

from ._arrays import Tensor, as_tensor
from ._calls import PackedMatrix
from ._context import (
    Choice,
    Context,
    Device,
    MemoryStats,
    Plan,
    attention,
    attention_merge,
    blocks_from_groups,
    check_blocks,
    default_context,
    dequantize,
    devices,
    kv_append,
    library_version,
    matmul,
    plan_budget,
    quantize,
    softmax,
)
from ._errors import (
    Busy,
    DeviceLost,
    Error,
    InternalError,
    InvalidArgument,
    IoError,
    NoDevice,
    OutOfMemory,
    OverBudget,
    Unsupported,
)

from ._schedule import Schedule, Step, schedule

__version__ = "0.1.0"

__all__ = [
    "Busy",
    "Choice",
    "Context",
    "Device",
    "DeviceLost",
    "Error",
    "InternalError",
    "InvalidArgument",
    "IoError",
    "MemoryStats",
    "NoDevice",
    "OutOfMemory",
    "OverBudget",
    "PackedMatrix",
    "Plan",
    "Schedule",
    "Step",
    "Tensor",
    "Unsupported",
    "as_tensor",
    "attention",
    "attention_merge",
    "blocks_from_groups",
    "check_blocks",
    "default_context",
    "dequantize",
    "devices",
    "kv_append",
    "library_version",
    "matmul",
    "plan_budget",
    "quantize",
    "schedule",
    "softmax",
]
