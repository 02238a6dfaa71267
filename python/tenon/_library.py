# SPDX-License-Identifier: Apache-2.0
"""Finds libtenon and loads it once, at the first call that needs it.

Looked for in this order: the file that the environment's TENON_LIBRARY names (and then nothing else), next to this
package, the build folders of a source checkout, the system's loader.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Iterator

from . import _abi

_NAMES = ("libtenon.dylib",) if sys.platform == "darwin" else ("libtenon.so.0", "libtenon.so")


def _candidates() -> Iterator[str]:
    named = os.environ.get("TENON_LIBRARY")
    if named:
        yield named
        return
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    folders = [package]
    if (checkout / "include" / "tenon" / "tenon.h").exists():
        folders += sorted(checkout.glob("build*/src/")) + sorted(checkout.glob("build/*/src/"))
    for folder in folders:
        yield from (str(folder / name) for name in _NAMES if (folder / name).exists())
    yield from _NAMES


@lru_cache(maxsize=None)  # a failure is not remembered: exceptions are never cached
def library() -> ctypes.CDLL:
    """The loaded library with all prototypes declared. ImportError says where it was looked for."""
    tried: list[str] = []
    for path in _candidates():
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:
            tried.append(f"{path}: {error}")
            continue
        try:
            _abi.declare(loaded)
        except AttributeError as error:
            raise ImportError(f"{path} is not this version's libtenon: {error}") from None
        version = divmod(loaded.tenon_version() // 100, 100)
        if version != _abi.VERSION:
            wanted, found = (".".join(map(str, v)) for v in (_abi.VERSION, version))
            raise ImportError(f"{path} is tenon {found}, this package is for tenon {wanted}")
        return loaded
    raise ImportError(
        "libtenon was not found; name it with TENON_LIBRARY=/path/to/libtenon.so. Tried " + "; ".join(tried)
    )
