# SPDX-License-Identifier: Apache-2.0
"""Packages that some tests need. What the environment's TENON_REQUIRE lists (commas) may not be missing.

CI sets TENON_REQUIRE, so that a test it relies on can never be skipped there without notice.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

REQUIRED = set(filter(None, os.environ.get("TENON_REQUIRE", "").split(",")))


def load(*names: str) -> Any:
    """The first of the modules, or None if one of them is missing and may be."""
    modules: list[ModuleType] = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError:
            if name in REQUIRED:
                raise
            return None
    return modules[0]
