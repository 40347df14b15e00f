"""The one error, and its closed set of codes (proto/README.md, "Errors")."""

from __future__ import annotations

# Numbers on the wire, and whether the same call may succeed if it is simply made again.
_CODES: dict[str, tuple[int, bool]] = {
    "INVALID_ARGUMENT": (1, False),
    "UNAUTHENTICATED": (2, False),
    "PERMISSION_DENIED": (3, False),
    "KEY_NOT_FOUND": (4, False),
    "KEY_DISABLED": (5, False),
    "MALFORMED": (6, False),
    "UNSUPPORTED_VERSION": (7, False),
    "DECRYPTION_FAILED": (8, False),
    "KMS_UNAVAILABLE": (9, True),
    "KMS_DENIED": (10, False),
    "KEYSTORE_UNAVAILABLE": (11, True),
    "CONFLICT": (12, True),
    "RESOURCE_EXHAUSTED": (13, True),
    "DEADLINE_EXCEEDED": (14, True),
    "CANCELLED": (15, False),
    "SHUTTING_DOWN": (16, True),
    "PROTOCOL_ERROR": (17, False),
    "UNSUPPORTED": (18, False),
    "SERVICE_DISABLED": (19, False),
    "AGENT_UNAVAILABLE": (20, True),
    "INTERNAL": (21, False),
    "EXPIRED": (22, False),
}
_BY_NUMBER = {number: code for code, (number, _) in _CODES.items()}


class DekdError(Exception):
    """What a call failed with.

    ``code`` is one of a closed set, ``retryable`` follows from it. ``retry_after`` is in seconds, or None; ``incident`` is
    the name under which the operator finds the reason (``dekd why INCIDENT``), or None.
    """

    def __init__(
        self, code: str, message: str, *, incident: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retryable = _CODES[code][1]
        self.incident = incident
        self.retry_after = retry_after


def of_wire(error) -> DekdError:
    """The error that an Error message says; a number of a newer agent reads as INTERNAL."""
    return DekdError(
        _BY_NUMBER.get(error.code, "INTERNAL"),
        error.message,
        incident=error.incident or None,
        retry_after=error.retry_after_ms / 1000 if error.retry_after_ms else None,
    )


def invalid(message: str) -> DekdError:
    return DekdError("INVALID_ARGUMENT", message)
