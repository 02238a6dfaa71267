# SPDX-License-Identifier: Apache-2.0
"""Plain numbers on their way into C structs, where ctypes would cut integers to the field's width without a word.

Each refusal names the argument, its value and what was expected: TypeError for what is not a number of the kind,
InvalidArgument (a ValueError) for one out of range. Meaning is the C library's to check.
"""

from __future__ import annotations

import operator
from typing import Any

from ._errors import InvalidArgument

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
SIZE_MAX = 2**64 - 1  # struct members are size_t and uint64_t; 64-bit platforms only


def _bound(value: int) -> str:
    for bits in (31, 63, 64):
        if value in (2**bits - 1, -(2**bits)):
            return f"2^{bits} - 1" if value > 0 else f"-2^{bits}"
    return str(value)


def _described(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int of low to high. Truth values are refused: True as a count is a slip."""
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if low <= number <= high:
                return number
            raise InvalidArgument(f"{name} is {number}, expected {_bound(low)} to {_bound(high)}")
    raise TypeError(f"{name} is {_described(value)}, expected an integer from {_bound(low)} to {_bound(high)}")


def size(name: str, value: Any, low: int = 0) -> int:
    """A number of bytes."""
    return integer(name, value, low, SIZE_MAX)


def number(name: str, value: Any) -> float:
    """`value` as a float; any real number does, also a NumPy scalar."""
    if not isinstance(value, (bool, str, bytes)):
        try:
            return float(value)
        except TypeError:
            pass
        except OverflowError:
            raise InvalidArgument(f"{name} is {_described(value)}, expected a number that a double holds") from None
        except ValueError:  # an array of several elements, of a library that says so
            pass
    raise TypeError(f"{name} is {_described(value)}, expected a number")


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Two things."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    raise TypeError(f"{name} is {_described(value)}, expected a pair (first, second)")


def text(name: str, value: Any, expected: str) -> str:
    if isinstance(value, str):
        if "\0" in value:  # the C string would end there
            raise InvalidArgument(f"{name} is {value!r}, expected {expected}, without a NUL")
        return value
    raise TypeError(f"{name} is {_described(value)}, expected {expected}")
