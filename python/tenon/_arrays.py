# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries as tenon sees them, and arrays for results.

Nothing is copied, but for one case that C has no other words for, and never above 64 KiB (see Tensor.to_c).

What is taken: NumPy arrays (with ml_dtypes where it is installed), anything with __dlpack__ on the host (torch CPU
tensors), with __array_interface__, or with the buffer protocol. A result is of the kind of the operation's first
operand: NumPy array, torch tensor, or a memoryview for plain buffers.
"""

from __future__ import annotations

import ctypes
import math
import sys
from array import array
from functools import lru_cache
from typing import Any, NamedTuple, Sequence, Union

from . import _abi, _checks, _dlpack
from ._errors import InvalidArgument


class _DType(NamedTuple):
    name: str  # tenon's
    code: int  # tenon_dtype
    size: int  # bytes
    full: str  # the name in NumPy, ml_dtypes and torch
    dlpack: tuple[int, int]  # code, bits
    typestr: str  # of __array_interface__, without the byte order; "" if it has none
    format: str  # of the buffer protocol; "" if it has none
    elements: int = 1  # of a block, whose bytes `size` then counts


_C = _abi.CONSTANTS
_DTYPES = (
    _DType("f64", _C["TENON_F64"], 8, "float64", (2, 64), "f8", "d"),
    _DType("f32", _C["TENON_F32"], 4, "float32", (2, 32), "f4", "f"),
    _DType("f16", _C["TENON_F16"], 2, "float16", (2, 16), "f2", "e"),
    _DType("bf16", _C["TENON_BF16"], 2, "bfloat16", (4, 16), "", ""),
    _DType("f8_e4m3", _C["TENON_F8_E4M3"], 1, "float8_e4m3fn", (10, 8), "", ""),
    _DType("f8_e5m2", _C["TENON_F8_E5M2"], 1, "float8_e5m2", (12, 8), "", ""),
    _DType("s8", _C["TENON_S8"], 1, "int8", (0, 8), "i1", "b"),
    _DType("u8", _C["TENON_U8"], 1, "uint8", (1, 8), "u1", "B"),
    _DType("s32", _C["TENON_S32"], 4, "int32", (0, 32), "i4", "i"),
    _DType("s64", _C["TENON_S64"], 8, "int64", (0, 64), "i8", "q"),
    _DType("bool", _C["TENON_BOOL"], 1, "bool", (6, 8), "b1", "?"),
)
# Blocks, bit-compatible with GGUF: bytes in arrays of uint8.
_BLOCKS = tuple(
    _DType(name, _C["TENON_" + name.upper()], size, "", (0, 0), "", "", elements)
    for name, elements, size in (
        ("q8_0", 32, 34),
        ("q4_0", 32, 18),
        ("q4_1", 32, 20),
        ("q5_0", 32, 22),
        ("q5_1", 32, 24),
        ("q4_k", 256, 144),
        ("q5_k", 256, 176),
        ("q6_k", 256, 210),
        ("iq4_nl", 32, 18),
        ("mxfp4", 32, 17),
        ("nvfp4", 64, 36),
    )
)
_BY_NAME = {key: d for d in _DTYPES for key in (d.name, d.full)} | {d.name: d for d in _BLOCKS}
_BY_DLPACK = {d.dlpack: d for d in _DTYPES}
_BY_TYPESTR = {d.typestr: d for d in _DTYPES if d.typestr}
_BY_FORMAT = {d.format: d for d in _DTYPES if d.format}
if ctypes.sizeof(ctypes.c_long) == 8:
    _BY_FORMAT["l"] = _BY_NAME["s64"]
_LITTLE = sys.byteorder == "little"
_REPEATED_BYTES = 64 << 10  # the most that one repeated element is copied out to


def dtype_name(dtype: Any) -> str:
    """tenon's name ("f32", "bf16", ...) of a type given by name or as a NumPy, ml_dtypes or torch type."""
    if isinstance(dtype, str):
        key = dtype
    else:
        key = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or dtype)
    found = _BY_NAME.get(key.removeprefix("torch."))
    if found is None:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(d.name for d in _DTYPES + _BLOCKS)}")
    return found.name


def block_type(dtype: Any) -> tuple[str, int, int]:
    """Name, elements and bytes of a block of a block type."""
    d = _BY_NAME[dtype_name(dtype)]
    if d.elements == 1:
        raise ValueError(f"dtype is {d.name}, expected a block type: {', '.join(b.name for b in _BLOCKS)}")
    return d.name, d.elements, d.size


def dtype_code(dtype: Any) -> int:
    """The C enumeration's value of a type."""
    return _BY_NAME[dtype_name(dtype)].code


class Tensor:
    """A view of somebody's memory: address, type, extents and strides (in elements).

    Made by as_tensor; every operation takes one wherever it takes an array. `owner` keeps the memory alive.
    """

    __slots__ = ("address", "dtype", "shape", "strides", "read_only", "kind", "bits", "owner")

    def __init__(
        self,
        address: int,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        read_only: bool,
        kind: str,
        owner: object,
        bits: bool = False,
    ) -> None:
        self.address = address
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        self.read_only = read_only
        self.kind = kind  # "numpy", "torch" or "buffer": what a result is made as
        self.bits = bits  # stored as integers in its library, which has no such type
        self.owner = owner

    def __repr__(self) -> str:
        return f"tenon.Tensor({self.dtype}, shape={self.shape}, strides={self.strides}, address={self.address:#x})"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element; of a block where the type has blocks."""
        return _BY_NAME[self.dtype].size

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged: n rows of k blocks as the (k, n) matrix b of a product."""
        if self.ndim < 2:
            raise ValueError(f"the tensor has {self.ndim} dimensions, expected at least 2")
        return self._viewed(
            self.shape[:-2] + (self.shape[-1], self.shape[-2]), self.strides[:-2] + (self.strides[-1], self.strides[-2])
        )

    def with_axis(self, axis: int) -> Tensor:
        """The same elements with an extent of 1 put before dimension `axis`, counted from the end of the new shape."""
        at = self.ndim + 1 + axis
        return self._viewed(self.shape[:at] + (1,) + self.shape[at:], self.strides[:at] + (1,) + self.strides[at:])

    @property
    def repeats(self) -> bool:
        """One element under strides of zero everywhere, which in C mean dense, and no extent of 1 to say otherwise."""
        return not any(self.strides) and self.size > 1 and 1 not in self.shape

    def within(self, shape: Sequence[int]) -> Tensor:
        """The same where it broadcasts to `shape`, with an extent of 1 if its one element repeats.

        An extent that is known to fit is cut to 1, no other: the library is to see wrong ones.
        """
        if self.repeats and self.ndim < len(shape):
            return self.with_axis(-self.ndim - 1)
        if self.repeats and self.ndim == len(shape) and self.shape[0] == shape[0]:
            return self._viewed((1,) + self.shape[1:], (1,) + self.strides[1:])
        return self

    def _viewed(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        return Tensor(
            self.address,
            self.dtype,
            shape,
            strides,
            read_only=self.read_only,
            kind=self.kind,
            owner=self.owner,
            bits=self.bits,
        )

    def to_c(self, name: str = "array") -> _abi.Tensor:
        """The C struct. Valid while it and this object (or its owner) live. `name` is for exceptions.

        One element repeated everywhere is told by a nonzero stride on an extent of 1. Without such an extent (see
        `within`) a small dense copy has to do, which the struct holds.
        """
        if self.ndim > _abi.MAX_RANK:
            raise ValueError(f"{name} has {self.ndim} dimensions, expected at most {_abi.MAX_RANK}")
        made = _abi.Tensor(self.address, None, 0, _BY_NAME[self.dtype].code, self.ndim, self.shape, self.strides)
        if self.repeats:
            size = self.size * self.itemsize
            if size > _REPEATED_BYTES:
                raise ValueError(
                    f"{name} is one element repeated to {self.shape}, which here would be copied to {size} bytes, "
                    f"expected at most {_REPEATED_BYTES}: give extents of 1 where it may broadcast, or a dense array"
                )
            made.held = ctypes.create_string_buffer(ctypes.string_at(self.address, self.itemsize) * self.size)
            made.data = ctypes.addressof(made.held)
        elif 1 in self.shape and not any(self.strides):
            made.stride[self.shape.index(1)] = 1
        return made


def as_tensor(x: Any, dtype: Any = None) -> Tensor:
    """A view of an array, without a copy.

    With `dtype` the bytes are read as elements of that type, which must be as large as the array's own: so come bf16
    in uint16 arrays and 8-bit floats in uint8 arrays, for libraries that have no such types. A block type ("q4_0",
    "q6_k", ...) takes an array of uint8, each row of it bytes of whole blocks; shape and strides count elements then.
    """
    if isinstance(x, Tensor):
        found, size, foreign = x, x.itemsize, x.dtype
    else:
        found, size, foreign = _import(x)
    wanted = found.dtype if dtype is None else dtype_name(dtype)
    if not wanted:
        bits = [d.name for d in _DTYPES if d.size == size and not d.typestr]
        hint = f'; if it holds the bits of another type, say which: tenon.as_tensor(x, "{bits[0]}")' if bits else ""
        raise TypeError(f"elements are {foreign}, expected one of {', '.join(d.name for d in _DTYPES)}{hint}")
    if wanted != found.dtype and _BY_NAME[wanted].elements > 1:
        return _as_blocks(found, _BY_NAME[wanted], foreign)
    if wanted != found.dtype:
        if _BY_NAME[wanted].size != size or _BY_NAME[found.dtype or wanted].elements > 1:
            raise TypeError(f"elements of {size} bytes ({foreign}) cannot be read as {wanted}")
        found = found._viewed(found.shape, found.strides)
        found.dtype = wanted
        found.bits = True
    return found


def _as_blocks(t: Tensor, d: _DType, foreign: str) -> Tensor:
    """(..., bytes) of uint8 as (..., elements)."""
    if t.dtype != "u8" or not t.ndim:
        raise TypeError(f"elements are {foreign}, expected rows of uint8 to be read as blocks of {d.name}")
    if t.shape[-1] % d.size:
        raise ValueError(f"rows are of {t.shape[-1]} bytes, expected whole blocks of {d.name}, {d.size} bytes each")
    empty = 0 in t.shape
    if t.shape[-1] > 1 and t.strides[-1] != 1 and not empty:
        raise ValueError(f"bytes of a row lie {t.strides[-1]} apart, expected blocks of {d.name} one after the other")
    for extent, step in zip(t.shape[:-1], t.strides[:-1]):
        if step % d.size and extent > 1 and not empty:
            raise ValueError(f"a stride of {step} bytes is not a whole number of blocks of {d.size} bytes")
    found = t._viewed(
        t.shape[:-1] + (t.shape[-1] // d.size * d.elements,),
        tuple(step // d.size * d.elements for step in t.strides[:-1]) + (1,),
    )
    found.dtype = d.name
    found.bits = True
    return found


def operand(name: str, x: Any) -> Tensor:
    """as_tensor for an argument of that name, which the text of an exception begins with."""
    try:
        return as_tensor(x)
    except (TypeError, ValueError, BufferError, RuntimeError) as refused:
        raise _named(name, refused) from None


def _named(name: str, refused: Exception) -> Exception:
    """The same exception with the argument's name in front. Not every class takes one text alone."""
    kind = next(k for k in (TypeError, ValueError, BufferError, RuntimeError) if isinstance(refused, k))
    return kind(f"{name}: {refused}")


def _import(x: Any) -> tuple[Tensor, int, str]:
    """The view, its element size, and what its library calls the type. The view's dtype is "" if tenon has none."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(x, numpy.generic):
        x = numpy.asarray(x)  # a scalar's own interface is that of a temporary
        x.flags.writeable = False
    if numpy is not None and isinstance(x, numpy.ndarray):
        if type(x) is not numpy.ndarray and isinstance(x, numpy.ma.MaskedArray):
            raise TypeError(
                "a masked array's mask would be ignored: give x.filled(value) or x.data, and a mask by mask="
            )
        return _from_numpy(x)
    if hasattr(x, "__dlpack__"):
        torch = sys.modules.get("torch")
        kind = "torch" if torch is not None and isinstance(x, torch.Tensor) else "numpy"
        if kind == "torch":
            _refuse_lazy_bits(x)
        t = _dlpack.read(x)
        known = _BY_DLPACK.get((t.code, t.bits))
        name = known.name if known else ""
        view = Tensor(t.address, name, t.shape, t.strides, read_only=t.read_only, kind=kind, owner=t.owner)
        return view, t.bits // 8, str(getattr(x, "dtype", f"DLPack type {t.code} of {t.bits} bits"))
    if hasattr(x, "__array_interface__"):
        return _from_interface(x, x.__array_interface__)
    if hasattr(x, "__cuda_array_interface__"):
        raise TypeError("the array lies in a GPU's memory, not in host memory; move it to the CPU first")
    return _from_buffer(x)


def _refuse_lazy_bits(x: Any) -> None:
    """torch marks some views (x.conj(), x.conj().imag) instead of computing them: their memory holds other values."""
    for marked, name, resolve in ((x.is_neg, "negative", "resolve_neg"), (x.is_conj, "conjugate", "resolve_conj")):
        if marked():
            raise TypeError(
                f"the tensor has torch's {name} bit set, so its memory does not hold its values: give x.{resolve}()"
            )


def _known_typestr(typestr: str, size: int, name: str) -> tuple[str, int, str]:
    """tenon's name ("" if it has none), bytes of an element, and the type's name."""
    if typestr[0] == (">" if _LITTLE else "<") and size > 1:
        raise TypeError(f"elements are of the other byte order ({typestr})")
    known = _BY_TYPESTR.get(typestr[1:]) or _BY_NAME.get(name)  # ml_dtypes have a name and an opaque typestr
    return known.name if known else "", size, name


# NumPy works a type's name out anew each time, which takes longer than all else here.
@lru_cache(maxsize=64)
def _known_numpy(dtype: Any) -> tuple[str, int, str]:
    return _known_typestr(dtype.str, dtype.itemsize, dtype.name)


def _from_numpy(x: Any) -> tuple[Tensor, int, str]:
    name, size, foreign = _known_numpy(x.dtype)
    shape = x.shape
    address, read_only = x.__array_interface__["data"]
    strides = _element_strides(shape, x.strides, size)
    return Tensor(address, name, shape, strides, read_only=read_only, kind="numpy", owner=x), size, foreign


def _from_interface(x: Any, interface: dict[str, Any]) -> tuple[Tensor, int, str]:
    typestr = interface["typestr"]
    digits = typestr[2:].partition("[")[0]
    name, size, foreign = _known_typestr(typestr, int(digits) if digits.isdecimal() else 0, typestr)
    shape = tuple(_checks.integer("an extent", extent, 0, _checks.INT64_MAX) for extent in interface["shape"])
    address, read_only = interface["data"]
    given = interface.get("strides") or _dense_strides(shape, size)
    strides = tuple(_checks.integer("a stride", step, _checks.INT64_MIN, _checks.INT64_MAX) for step in given)
    strides = _element_strides(shape, strides, size)
    return Tensor(address, name, shape, strides, read_only=read_only, kind="numpy", owner=x), size, foreign


class _PyBuffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def _from_buffer(x: Any) -> tuple[Tensor, int, str]:
    try:
        view = memoryview(x)
    except TypeError:
        raise TypeError(
            f"{type(x).__name__} is not an array: expected NumPy, __dlpack__, __array_interface__ or a buffer"
        ) from None
    if view.suboffsets or view.shape is None or view.strides is None:
        raise TypeError("a buffer of pointers to rows is not an array")
    # memoryview does not tell its address; the C function does. The memoryview itself keeps the export alive.
    raw = _PyBuffer()
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get(ctypes.py_object(view), ctypes.byref(raw), 0x18)  # PyBUF_STRIDES
    address = raw.buf or 0
    release(ctypes.byref(raw))
    known = _BY_FORMAT.get(view.format.lstrip("@=" + ("<" if _LITTLE else ">")))
    strides = _element_strides(view.shape, view.strides, view.itemsize)
    tensor = Tensor(
        address,
        known.name if known else "",
        tuple(view.shape),
        strides,
        read_only=view.readonly,
        kind="buffer",
        owner=view,
    )
    return tensor, view.itemsize, f"buffer format {view.format!r}"


def _dense_strides(shape: Sequence[int], size: int) -> tuple[int, ...]:
    strides: list[int] = []
    for extent in reversed(shape):
        strides.append(size)
        size *= extent
    return tuple(reversed(strides))


def _element_strides(shape: Sequence[int], byte_strides: Sequence[int], size: int) -> tuple[int, ...]:
    if size == 0:  # elements without a size are refused later, by their type
        return (0,) * len(shape)
    strides = []
    for extent, step in zip(shape, byte_strides):
        if step % size and extent > 1:
            raise ValueError(f"a stride of {step} bytes is not a whole number of elements of {size} bytes")
        strides.append(step // size)
    return tuple(strides)


def index_operand(name: str, x: Any) -> Tensor:
    """As operand; also takes a list or tuple of integers (lengths, offsets)."""
    if not isinstance(x, (list, tuple)):
        return operand(name, x)
    low, high = _checks.INT64_MIN, _checks.INT64_MAX
    return as_tensor(array("q", (_checks.integer(f"{name}[{i}]", value, low, high) for i, value in enumerate(x))))


def number(name: str, value: Union[int, float], dtype: str) -> Tensor:
    """A plain number as an array without dimensions."""
    d = _BY_NAME[dtype]
    if d.format in "fd":
        given: float = _checks.number(name, value)
        held = array(d.format, (given,))
        if math.isinf(held[0]) and math.isfinite(given) or held[0] == 0 != given:
            raise InvalidArgument(f"{name} is {value!r}, expected a number that {d.full} holds")
    else:
        bound = 1 << (8 * d.size - 1)
        held = array(d.format, (_checks.integer(name, value, -bound, bound - 1),))
    return Tensor(held.buffer_info()[0], dtype, (), (), read_only=True, kind="buffer", owner=held)


def make_result(like: Tensor, shape: tuple[int, ...], dtype: str, zeros: bool = False) -> Any:
    """A new dense array of the kind of `like`. Contents are undefined unless `zeros`."""
    d = _BY_NAME[dtype]
    if d.elements > 1:
        raise ValueError(f"dtype is {dtype}, which only quantize makes")
    if like.kind == "torch":
        torch = sys.modules["torch"]
        return (torch.zeros if zeros else torch.empty)(shape, dtype=getattr(torch, d.full))
    if like.kind == "numpy":
        import numpy

        make = numpy.zeros if zeros else numpy.empty
        if d.typestr:
            return make(shape, d.full)
        if like.bits and like.dtype == dtype:
            return make(shape, f"u{d.size}")
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(
                f'NumPy has no {dtype}: install ml_dtypes, or give out=tenon.as_tensor(uint{8 * d.size} array, "{dtype}")'
            ) from None
        return make(shape, getattr(ml_dtypes, d.full))
    if 0 in shape:
        raise ValueError("a memoryview cannot have an extent of 0: give out=")
    # memoryviews have no elements of 16-bit and smaller floats: their bits, then.
    stored: Any = d.format if d.format not in ("", "e") else {1: "B", 2: "H"}[d.size]
    return memoryview(bytearray(math.prod(shape) * d.size)).cast(stored, shape)
