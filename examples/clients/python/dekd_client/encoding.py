"""Contexts and the text form of tokens, byte for byte as the agent has them (docs/formats.md)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from .errors import DekdError, invalid

MAX_CONTEXT_BYTES = 65_535
RESERVED_PREFIX = "aws-crypto-"
TEXT_PREFIX = "dk1."
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def encode_context(context: Mapping[str, str] | None) -> bytes:
    """The canonical bytes: u16 count, then pairs by the bytes of their names, each u16 length and text; none for none."""
    if context is None:
        return b""
    if not isinstance(context, Mapping):
        raise invalid(f"context is {type(context).__name__}, not a mapping of strings")
    pairs = []
    length = 2
    for name, value in context.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise invalid(f"context value of {name!r:.66} is {type(value).__name__}, and names and values are strings")
        if name.startswith(RESERVED_PREFIX):
            raise invalid(f"context name {name!r:.66} begins with the reserved {RESERVED_PREFIX}")
        pair = (utf8(name, "a context name"), utf8(value, "a context value"))
        length += 4 + len(pair[0]) + len(pair[1])
        pairs.append(pair)
    if not pairs:
        return b""
    if length > MAX_CONTEXT_BYTES:
        raise invalid(f"context of {length} bytes is over the limit of {MAX_CONTEXT_BYTES}")
    parts = [len(pairs).to_bytes(2, "big")]
    for pair in sorted(pairs):
        for text in pair:
            parts += [len(text).to_bytes(2, "big"), text]
    return b"".join(parts)


def utf8(text: str, what: str) -> bytes:
    """@raises DekdError INVALID_ARGUMENT for half of a surrogate pair, which UTF-8 cannot carry"""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise invalid(f"{what} has a lone surrogate, which UTF-8 cannot carry") from None


def encode_token(token: bytes) -> str:
    return TEXT_PREFIX + base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")


def decode_token(text: str) -> bytes:
    """Strict: one token has one text. @raises DekdError MALFORMED"""
    if not isinstance(text, str):
        raise invalid(f"the text form of a token is a str, not {type(text).__name__}")
    if not text.startswith(TEXT_PREFIX):
        raise DekdError("MALFORMED", f"not a token: it does not begin with {TEXT_PREFIX}")
    body = text[len(TEXT_PREFIX) :]
    if _BASE64URL.fullmatch(body) and len(body) % 4 != 1:
        token = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        if encode_token(token) == text:
            return token
    raise DekdError("MALFORMED", "the text form of a token is not canonical base64url")
