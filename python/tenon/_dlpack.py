# SPDX-License-Identifier: Apache-2.0
"""Reads DLPack capsules without a copy: the consumer's side of https://dmlc.github.io/dlpack, by ctypes.

Both kinds of capsule are taken, with version (1.x) and without. A capsule's tensor is owned from then on: its
deleter is called when the last use of the import is gone.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, PYFUNCTYPE, Structure, c_char_p, c_int, c_int32, c_int64, c_uint8, c_uint16, c_uint32
from ctypes import c_uint64, c_void_p, py_object
from typing import Any, NamedTuple

# DLDeviceType: memory that the host can address.
_HOST_DEVICES = {1: "cpu", 3: "cuda_host", 11: "rocm_host", 13: "cuda_managed"}
_READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY
_NEWEST = (1, 1)


class _Device(Structure):
    _fields_ = [("device_type", c_int32), ("device_id", c_int32)]


class _DataType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", _Device),
        ("ndim", c_int32),
        ("dtype", _DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


# The deleters of NumPy and torch touch Python objects, so they are called with the GIL held.
_Deleter = PYFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    _fields_ = [("dl_tensor", _DLTensor), ("manager_ctx", c_void_p), ("deleter", _Deleter)]


class _ManagedVersioned(Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", _Deleter),
        ("flags", c_uint64),
        ("dl_tensor", _DLTensor),
    ]


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = c_int, [py_object, c_char_p]
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = c_void_p, [py_object, c_char_p]
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = c_int, [py_object, c_char_p]

# A capsule keeps the address of its name: these live as long as the module.
_PLAIN, _USED = b"dltensor", b"used_dltensor"
_VERSIONED, _USED_VERSIONED = b"dltensor_versioned", b"used_dltensor_versioned"


class _Owner:
    """Holds a producer's tensor; its end is the call of the deleter."""

    __slots__ = ("_managed", "_address")

    def __init__(self, managed: Any, address: int) -> None:
        self._managed = managed
        self._address = address

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(self._address)


class Import(NamedTuple):
    """What a capsule holds. Strides are in elements."""

    address: int
    code: int
    bits: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    read_only: bool
    owner: object


def read(x: Any) -> Import:
    """Imports an object with __dlpack__ that lies in host memory."""
    kind, index = x.__dlpack_device__()
    if kind not in _HOST_DEVICES:
        raise TypeError(
            f"tensor lies on DLPack device ({int(kind)}, {index}), not in host memory; move it to the CPU first"
        )
    try:
        capsule = x.__dlpack__(max_version=_NEWEST)
    except TypeError:  # a producer from before version 1.0 has no such argument
        capsule = x.__dlpack__()

    if _is_valid(capsule, _VERSIONED):
        address = _get_pointer(capsule, _VERSIONED)
        managed: Any = _ManagedVersioned.from_address(address)
        if managed.major != _NEWEST[0]:
            raise TypeError(f"DLPack version {managed.major}.{managed.minor} is not understood, only {_NEWEST[0]}.x")
        read_only = bool(managed.flags & _READ_ONLY)
        _set_name(capsule, _USED_VERSIONED)
    elif _is_valid(capsule, _PLAIN):
        address = _get_pointer(capsule, _PLAIN)
        managed = _Managed.from_address(address)
        read_only = False
        _set_name(capsule, _USED)
    else:
        raise TypeError("__dlpack__ returned something that is not a DLPack capsule, or one already used")

    owner = _Owner(managed, address)
    t = managed.dl_tensor
    if t.dtype.lanes != 1:
        raise TypeError(f"DLPack elements of {t.dtype.lanes} lanes are not understood")
    shape = tuple(t.shape[: t.ndim])
    if t.strides:
        strides = tuple(t.strides[: t.ndim])
    else:  # NULL means dense and row-major
        dense, step = [], 1
        for extent in reversed(shape):
            dense.append(step)
            step *= extent
        strides = tuple(reversed(dense))
    return Import((t.data or 0) + t.byte_offset, t.dtype.code, t.dtype.bits, shape, strides, read_only, owner)
