# SPDX-License-Identifier: Apache-2.0
"""Contexts, plans and the module's functions, all made from the builders in _calls.py.

A context is used by one thread at a time. The module's functions use a context of the calling thread's own, made at
its first call and ended with the thread.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import threading
from dataclasses import dataclass
from typing import Any, Callable, Concatenate, Literal, Optional, ParamSpec, Sequence

from . import _abi, _calls, _checks
from ._arrays import operand
from ._calls import Array, Call, Compute, Factor, Gated, PackedMatrix
from ._errors import Busy, InvalidArgument, error
from ._library import library

P = ParamSpec("P")
LogLevel = Literal["none", "warning", "info", "dispatch", "debug"]
_LOG_LEVELS = _abi.names("TENON_LOG_")
_LOG_NAMES = {value: name for name, value in _LOG_LEVELS.items()}

# The C functions of an operation by the name of its builder: tenon_gemm, tenon_gemm_plan, tenon_gemm_run.
_C_NAMES = {
    "matmul": "tenon_gemm",
    "softmax": "tenon_softmax",
    "attention": "tenon_attention",
    "attention_merge": "tenon_attention_merge",
    "kv_append": "tenon_kv_append",
    "quantize": "tenon_quantize",
    "dequantize": "tenon_dequantize",
    "blocks_from_groups": "tenon_blocks_from_groups",
}


class _Handle:
    """A C object: destroyed with the last reference, so that closing waits for the calls that hold one."""

    __slots__ = ("value", "_destroy", "_kept")

    def __init__(self, value: Optional[int], destroy: Callable[[Optional[int]], object], kept: object = None) -> None:
        self.value = value
        self._destroy = destroy
        self._kept = kept  # what the C object points to

    def __del__(self) -> None:
        self._destroy(self.value)


def _check(status: int) -> None:
    """For calls that have no context."""
    if status:
        raise error(status, library().tenon_error_message(None))


def _like(build: Callable[..., Any], made: Callable[..., Any], prefix: str = "", with_self: bool = True) -> None:
    """Gives a wrapper the builder's name, text and signature, for help() and editors."""
    signature = inspect.signature(build)
    parameters = list(signature.parameters.values())
    if with_self:
        parameters.insert(0, inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD))
    made.__name__ = prefix + build.__name__
    made.__qualname__ = f"Context.{made.__name__}" if with_self else made.__name__
    made.__doc__ = build.__doc__
    result = "Plan" if prefix else "Any"
    setattr(made, "__signature__", signature.replace(parameters=parameters, return_annotation=result))


def _method(build: Callable[P, Call[Any]]) -> Callable[Concatenate[Context, P], Any]:
    """The one-shot method of an operation."""
    c_name = _C_NAMES[build.__name__]

    def method(self: Context, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        call = build(*args, **kwargs)
        self._enter(getattr(self._library, c_name), ctypes.byref(call.desc))
        return call.result

    _like(build, method)
    return method


def _planning(build: Callable[P, Call[Any]]) -> Callable[Concatenate[Context, P], Plan]:
    """The method that plans an operation."""
    c_name = _C_NAMES[build.__name__]

    def method(self: Context, /, *args: P.args, **kwargs: P.kwargs) -> Plan:
        return Plan(self, c_name, build, inspect.signature(build).bind(*args, **kwargs).arguments)

    _like(build, method, prefix="plan_")
    return method


@dataclass(frozen=True)
class MemoryStats:
    """What a context's pool holds; bytes unless said otherwise."""

    budget: int
    reserved: int
    in_use: int
    peak_reserved: int
    peak_in_use: int
    largest_free: int
    segments: int
    blocks: int
    allocations: int
    frees: int
    damages: int  # overruns and second frees that were noticed
    ladder: dict[str, int]  # how often each rung was taken when memory was short


class Context:
    """Devices, a queue of work, scratch memory and a cache of plans.

    device              "auto", "cpu", "cuda:0", "reference", or a chain to fall back along: "cuda:0,cpu"
    threads             most threads at work at once; 0: the cores this process may use
    budget              most bytes of memory held; 0: what this process may use
    debug_memory        guard bytes and poison in the pool
    reduced_precision   compute="default" means "fast"
    plan_cache_bytes    most bytes of cached plans; 0: the library's own limit
    kernel_cache        directory where devices that compile kernels may keep them; None: in memory only
    logger, log_level   logger(level, line) is called for each event up to that level

    Use it in a `with` statement, or close() it, or leave it to the garbage collector.
    """

    def __init__(
        self,
        device: Optional[str] = None,
        *,
        threads: int = 0,
        budget: int = 0,
        debug_memory: bool = False,
        reduced_precision: bool = False,
        plan_cache_bytes: int = 0,
        kernel_cache: Optional[str | os.PathLike[str]] = None,
        logger: Optional[Callable[[str, str], None]] = None,
        log_level: LogLevel = "dispatch",
    ) -> None:
        self._handle: Optional[_Handle] = None
        self._library = library()
        self._lock = threading.Lock()
        desc = _abi.ContextDesc(struct_size=ctypes.sizeof(_abi.ContextDesc))
        if device is not None:
            desc.device = _checks.text("device", device, "a string such as 'cpu' or 'cuda:0,cpu'").encode()
        desc.threads = _checks.integer("threads", threads, 0, _checks.INT32_MAX)
        desc.memory_budget = _checks.size("budget", budget)
        desc.plan_cache_bytes = _checks.size("plan_cache_bytes", plan_cache_bytes)
        if kernel_cache is not None:
            desc.kernel_cache_path = os.fsencode(kernel_cache)
        if debug_memory:
            desc.flags |= _abi.CONSTANTS["TENON_CONTEXT_DEBUG_MEMORY"]
        if reduced_precision:
            desc.flags |= _abi.CONSTANTS["TENON_CONTEXT_REDUCED_PRECISION"]
        log = None
        if logger is not None:
            if not callable(logger):
                raise TypeError(f"logger is {logger!r}, expected a function of a level and a line")
            if not isinstance(log_level, str) or log_level not in _LOG_LEVELS:
                raise ValueError(f"log_level is {log_level!r}, expected one of {', '.join(_LOG_LEVELS)}")
            tell = logger  # not self: the library would keep the context alive
            log = _abi.LogFunction(
                lambda user, level, line: tell(
                    _LOG_NAMES.get(level, str(level)), (line or b"").decode("utf-8", "replace")
                )
            )
            desc.logger = _abi.Logger(None, log)
            desc.log_level = _LOG_LEVELS[log_level]
        handle = ctypes.c_void_p()
        _check(self._library.tenon_context_create(ctypes.byref(desc), ctypes.byref(handle)))
        self._handle = _Handle(handle.value, self._library.tenon_context_destroy, log)

    def close(self) -> None:
        """Ends the context, once no call is inside any more. Its plans may still be run in other contexts."""
        self._handle = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            "tenon.Context(closed)"
            if self._handle is None
            else f"tenon.Context({self.device!r}, threads={self.threads})"
        )

    def _enter(self, function: Callable[..., int], *args: object) -> None:
        """Calls a C function on this context, and raises what went wrong with the library's sentence."""
        if not self._lock.acquire(blocking=False):
            raise error(Busy.status, b"the context is in use by another thread: make one per thread")
        try:
            handle = self._open()
            status = function(handle.value, *args)
            if status:
                raise error(status, self._library.tenon_error_message(handle.value))
        finally:
            self._lock.release()

    def _open(self) -> _Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the context is closed")
        return handle

    @property
    def devices(self) -> tuple[str, ...]:
        """Device strings of the chain, in the order in which they are tried."""
        found: list[str] = []
        handle = self._open()
        while (name := self._library.tenon_context_device(handle.value, len(found))) is not None:
            found.append(name.decode())
        return tuple(found)

    @property
    def device(self) -> str:
        """The first device of the chain."""
        return self.devices[0]

    @property
    def threads(self) -> int:
        """Most threads of the first device at work at once."""
        handle = self._open()
        return int(self._library.tenon_context_threads(handle.value))

    @property
    def memory(self) -> MemoryStats:
        """Statistics of the first device's pool."""
        info = _abi.MemoryInfo(struct_size=ctypes.sizeof(_abi.MemoryInfo))
        lib = self._library
        self._enter(lambda handle: lib.tenon_memory_stats(lib.tenon_context_pool(handle, 0), ctypes.byref(info)))
        ladder = {name: int(getattr(info.ladder, name)) for name, *_ in _abi.LadderStats._fields_}
        fields = {f: int(getattr(info, f)) for f in MemoryStats.__dataclass_fields__ if f != "ladder"}
        return MemoryStats(ladder=ladder, **fields)

    def trim(self, keep: int = 0) -> int:
        """Gives unused memory back until at most `keep` bytes are held; returns the bytes given back."""
        handle = self._open()
        keep = _checks.size("keep", keep)
        return int(self._library.tenon_memory_trim(self._library.tenon_context_pool(handle.value, 0), keep))

    def sync(self) -> None:
        """Waits until all queued work is done. On the CPU it always is."""
        self._enter(self._library.tenon_sync)

    def save_kernels(self) -> bytes:
        """What the context's devices have compiled so far, for load_kernels of a later context; empty where nothing is."""
        size = ctypes.c_size_t()
        save = self._library.tenon_context_save_kernels
        self._enter(save, None, 0, ctypes.byref(size))
        while True:
            wanted = size.value
            memory = ctypes.create_string_buffer(wanted)
            try:
                self._enter(save, memory, wanted, ctypes.byref(size))
                return memory.raw[: size.value]
            except (Busy, InvalidArgument):
                # Another context of the device may have compiled more meanwhile: then there is more to save.
                self._enter(save, None, 0, ctypes.byref(size))
                if size.value == wanted:
                    raise

    def load_kernels(self, kernels: bytes) -> int:
        """Takes what save_kernels gave, and returns how many programs that were: what is damaged, or of another
        device, driver or release, is left to be compiled at its first use as ever."""
        if not isinstance(kernels, bytes):
            raise TypeError(f"kernels is {type(kernels).__name__}, expected the bytes of save_kernels")
        loaded = ctypes.c_int32()
        self._enter(self._library.tenon_context_load_kernels, kernels, len(kernels), ctypes.byref(loaded))
        return loaded.value

    def pack(
        self,
        b: Array,
        *,
        gated: Optional[Gated] = None,
        b_scale: Optional[Factor] = None,
        b_zero: Optional[Factor] = None,
        a_dtype: Any = None,
        compute: Compute = "default",
    ) -> PackedMatrix:
        """A copy of matrix b (..., k, n) in the layout the kernels want, for any number of products with it.

        gated, b_scale, b_zero      as in matmul, which then takes them from the packed matrix
        a_dtype                     the type that a will have; default: that of b
        compute                     as in matmul
        """
        call, view, scale, zero = _calls.pack(b, gated, b_scale, b_zero, a_dtype, compute)
        size = ctypes.c_size_t()
        self._enter(self._library.tenon_gemm_pack_size, ctypes.byref(call.desc), ctypes.byref(size))
        packed = PackedMatrix(view, size.value, gated, scale, zero)
        self._enter(self._library.tenon_gemm_pack, ctypes.byref(call.desc), packed.address, packed.bytes)
        return packed

    matmul = _method(_calls.matmul)
    softmax = _method(_calls.softmax)
    attention = _method(_calls.attention)
    attention_merge = _method(_calls.attention_merge)
    kv_append = _method(_calls.kv_append)
    quantize = _method(_calls.quantize)
    dequantize = _method(_calls.dequantize)
    blocks_from_groups = _method(_calls.blocks_from_groups)

    def check_blocks(self, blocks: Array) -> None:
        """Raises InvalidArgument with the number of the first block, if any, whose scale no quantiser writes."""
        tensor = operand("blocks", blocks).to_c("blocks")
        self._enter(self._library.tenon_blocks_check, ctypes.byref(tensor), None)

    plan_matmul = _planning(_calls.matmul)
    plan_softmax = _planning(_calls.softmax)
    plan_attention = _planning(_calls.attention)


@dataclass(frozen=True)
class Choice:
    """An algorithm that could run a plan."""

    algorithm: str
    kernel: str
    workspace: int  # bytes
    seconds: float  # as predicted; only the order means much


class Plan:
    """An operation with everything decided: device, algorithm, kernel, scratch memory. Made by Context.plan_*.

    device, algorithm, kernel   names of what was chosen, and `reason`: why
    workspace                   bytes of scratch memory that a run takes from the pool, exactly
    workspace_preferred         of the fastest choice
    workspace_smallest          of the smallest
    flops, bytes                work and operands of a run
    choices, declined           what else could run it, and who declined and why
    """

    device: str
    algorithm: str
    kernel: str
    reason: str
    workspace: int
    workspace_preferred: int
    workspace_smallest: int
    flops: float
    bytes: float
    choices: tuple[Choice, ...]
    declined: tuple[str, ...]

    def __init__(
        self, context: Context, c_name: str, build: Callable[..., Call[Any]], arguments: dict[str, Any]
    ) -> None:
        lib = context._library
        self._context = context
        self._build = build
        self._arguments = arguments
        self._run = getattr(lib, c_name + "_run")
        self._call: Optional[Call[Any]] = build(**arguments)
        handle = ctypes.c_void_p()
        context._enter(getattr(lib, c_name + "_plan"), ctypes.byref(self._call.desc), ctypes.byref(handle))
        self._handle: Optional[_Handle] = _Handle(handle.value, lib.tenon_plan_destroy)
        self._read_info(lib, handle.value)
        if arguments.get("out") is None:
            self._call = None  # each run makes a result of its own

    def _read_info(self, lib: ctypes.CDLL, handle: Optional[int]) -> None:
        info = _abi.PlanInfo(struct_size=ctypes.sizeof(_abi.PlanInfo))
        _check(lib.tenon_plan_query(handle, ctypes.byref(info)))
        for name in ("device", "algorithm", "kernel", "reason"):
            setattr(self, name, (getattr(info, name) or b"").decode())
        for name in ("workspace", "workspace_preferred", "workspace_smallest", "flops", "bytes"):
            setattr(self, name, getattr(info, name))
        choices = []
        for index in range(info.choices):
            c = _abi.PlanChoice(struct_size=ctypes.sizeof(_abi.PlanChoice))
            _check(lib.tenon_plan_choice_get(handle, index, ctypes.byref(c)))
            choices.append(Choice((c.algorithm or b"").decode(), (c.kernel or b"").decode(), c.workspace, c.seconds))
        self.choices = tuple(choices)
        declined = (lib.tenon_plan_declined(handle, index) for index in range(info.declined))
        self.declined = tuple((sentence or b"").decode() for sentence in declined)

    def choose(self, index: int) -> None:
        """Takes choices[index] from now on: the same results with another workspace."""
        handle = self._open()
        index = _checks.integer("index", index, 0, _checks.INT32_MAX)
        _check(library().tenon_plan_choose(handle.value, index))
        self._read_info(library(), handle.value)

    def run(
        self,
        *,
        out: Optional[Array] = None,
        context: Optional[Context] = None,
        workspace: Optional[Array] = None,
        **operands: Any,
    ) -> Any:
        """Runs the plan on the arrays it was made with, or on others of the same shape, strides and type.

            plan = ctx.plan_matmul(a, b)
            c = plan.run()
            plan.run(a=other, out=c)

        context     another context of the same device; several may run one plan at once
        workspace   a writable array of at least `plan.workspace` bytes, aligned to 64, in the place of the pool
        """
        handle = self._open()
        call = self._call
        if call is None or out is not None or operands:
            arguments = {**self._arguments, **operands}
            if out is not None:
                arguments["out"] = out
            call = self._build(**arguments)
        if workspace is not None:
            memory = operand("workspace", workspace)
            if memory.read_only:
                raise ValueError("workspace is read-only, expected a writable array")
            if call is self._call:  # a descriptor that later runs share
                call = self._build(**self._arguments)
            call.desc.workspace = _abi.Workspace(memory.address, memory.size * memory.itemsize)
        (context or self._context)._enter(self._run, handle.value, ctypes.byref(call.desc))
        return call.result

    def _open(self) -> _Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the plan is closed")
        return handle

    def close(self) -> None:
        """Ends the plan and lets its arrays go."""
        self._handle = None
        self._call = None
        self._arguments = {}

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "tenon.Plan(closed)" if self._handle is None else f"tenon.Plan({self.device}, {self.kernel})"


def plan_budget(plans: Sequence[Plan]) -> tuple[int, int]:
    """Peak scratch memory of plans run one after the other, and the least with which each could run if planned under a limit."""
    held = [plan._open() for plan in plans]
    handles = (ctypes.c_void_p * len(held))(*(handle.value for handle in held))
    peak, smallest = ctypes.c_size_t(), ctypes.c_size_t()
    _check(library().tenon_plan_budget(handles, len(plans), ctypes.byref(peak), ctypes.byref(smallest)))
    return peak.value, smallest.value


@dataclass(frozen=True)
class Device:
    """A device, or a backend that has none here and says why."""

    id: str
    backend: str
    name: str
    vendor: str
    usable: bool
    reason: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_total: int
    memory_free: int
    caches: tuple[int, int, int]


def devices() -> tuple[Device, ...]:
    """All devices, those that cannot be used with the reason."""
    lib = library()
    found = []
    for index in range(lib.tenon_device_count()):
        info = _abi.DeviceInfo(struct_size=ctypes.sizeof(_abi.DeviceInfo))
        _check(lib.tenon_device_get(index, ctypes.byref(info)))
        found.append(
            Device(
                id=info.id.decode(),
                backend=info.backend.decode(),
                name=info.name.decode("utf-8", "replace"),
                vendor=info.vendor.decode("utf-8", "replace"),
                usable=bool(info.usable),
                reason=info.reason.decode("utf-8", "replace"),
                cores=info.cores,
                instruction_sets=tuple(info.instruction_sets.decode().split()),
                memory_total=info.memory_total,
                memory_free=info.memory_free,
                caches=(info.cache_l1, info.cache_l2, info.cache_l3),
            )
        )
    return tuple(found)


def library_version() -> str:
    """Version of the C library that is loaded."""
    version = library().tenon_version()
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


_thread = threading.local()


def default_context() -> Context:
    """The calling thread's own context, which the module's functions use."""
    context: Optional[Context] = getattr(_thread, "context", None)
    if context is None or context._handle is None:
        context = _thread.context = Context()
    return context


def _function(build: Callable[P, Call[Any]]) -> Callable[P, Any]:
    """The module's function of an operation."""
    method = getattr(Context, build.__name__)

    def function(*args: P.args, **kwargs: P.kwargs) -> Any:
        return method(default_context(), *args, **kwargs)

    _like(build, function, with_self=False)
    return function


matmul = _function(_calls.matmul)
softmax = _function(_calls.softmax)
attention = _function(_calls.attention)
attention_merge = _function(_calls.attention_merge)
kv_append = _function(_calls.kv_append)
quantize = _function(_calls.quantize)
dequantize = _function(_calls.dequantize)
blocks_from_groups = _function(_calls.blocks_from_groups)


def check_blocks(blocks: Array) -> None:
    """Context.check_blocks on the calling thread's own context."""
    default_context().check_blocks(blocks)
