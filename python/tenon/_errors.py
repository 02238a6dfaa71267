# SPDX-License-Identifier: Apache-2.0
"""Exceptions: one per status, each also the built-in exception a Python program would expect."""

from __future__ import annotations

from . import _abi


class Error(Exception):
    """A call of the library failed. `status` is its tenon_status; the text is the library's sentence."""

    status: int = 0

    @property
    def status_name(self) -> str:
        """Name of the status in the C headers, e.g. "TENON_ERROR_OUT_OF_MEMORY"."""
        return next(
            (n for n, v in _abi.CONSTANTS.items() if v == self.status and n.startswith("TENON_ERROR_")),
            "unknown status",
        )


class InvalidArgument(Error, ValueError):
    """The caller's mistake; the text names the field."""

    status = _abi.CONSTANTS["TENON_ERROR_INVALID_ARGUMENT"]


class Unsupported(Error, NotImplementedError):
    """Legal, but no device of the context does it; the text names the field."""

    status = _abi.CONSTANTS["TENON_ERROR_UNSUPPORTED"]


class OutOfMemory(Error, MemoryError):
    """The system or the device has no more memory. Outputs are untouched."""

    status = _abi.CONSTANTS["TENON_ERROR_OUT_OF_MEMORY"]


class OverBudget(OutOfMemory):
    """The context's own budget does not allow it. Outputs are untouched."""

    status = _abi.CONSTANTS["TENON_ERROR_OVER_BUDGET"]


class NoDevice(Error, RuntimeError):
    """No device of that name is usable here."""

    status = _abi.CONSTANTS["TENON_ERROR_NO_DEVICE"]


class DeviceLost(Error, RuntimeError):
    """The device stopped answering; other devices go on."""

    status = _abi.CONSTANTS["TENON_ERROR_DEVICE_LOST"]


class Busy(Error, RuntimeError):
    """A context was entered by two threads at once."""

    status = _abi.CONSTANTS["TENON_ERROR_BUSY"]


class IoError(Error, OSError):
    """A file could not be read or written."""

    status = _abi.CONSTANTS["TENON_ERROR_IO"]


class InternalError(Error, RuntimeError):
    """A bug in tenon: please report the text."""

    status = _abi.CONSTANTS["TENON_ERROR_INTERNAL"]


_BY_STATUS: dict[int, type[Error]] = {
    kind.status: kind
    for kind in (
        InvalidArgument,
        Unsupported,
        OutOfMemory,
        OverBudget,
        NoDevice,
        DeviceLost,
        Busy,
        IoError,
        InternalError,
    )
}


def error(status: int, message: bytes | None) -> Error:
    """The exception of a status, to be raised by the caller."""
    text = (message or b"").decode("utf-8", "replace") or f"status {status}"
    made = _BY_STATUS.get(status, Error)(text)
    made.status = status
    return made
