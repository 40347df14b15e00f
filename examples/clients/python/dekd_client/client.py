"""The client: lazy, safe for threads, connected again whenever it was lost."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import dekd_pb2 as pb
from .connection import Connection
from .encoding import decode_token, encode_context, encode_token, utf8
from .errors import DekdError, invalid, of_wire
from .place import find_socket

BACKOFF_MIN = 0.005
BACKOFF_MAX = 0.5
# What an item of a batch counts beside its bytes and its context, and what a token has more than its plaintext.
ITEM_ALLOWANCE = 80
TOKEN_OVERHEAD = 58
# Batches leave in frames of about this weight, so that other calls come in between.
PART_WEIGHT = 256 * 1024


@dataclass(frozen=True)
class Item:
    """One item of a batch; what it does not say comes from the call."""

    data: bytes
    key: str | None = None
    partition: str | None = None
    context: Mapping[str, str] | None = None


def connect(socket: str | None = None, *, timeout: float = 10.0, token: bytes | None = None) -> Client:
    """A client of the agent; nothing happens until the first call.

    ``socket`` is the agent's data socket; without it DEKD_SOCKET, then the usual places. ``timeout`` is the default of
    every call, in seconds, the wait for a connection included. ``token`` is the content of a token file, where the socket
    asks for one.
    """
    return Client(socket, timeout, token)


class Client:
    """Every call raises DekdError. Share one client among threads; a process that was forked gets its own connection.

    ``key``, ``partition`` and ``context`` are assertions on decrypt: a token opens only with the three it was made with.
    Every call does no harm when it is made twice, and is made again until its deadline where a connection is lost.
    """

    def __init__(self, socket: str | None, timeout: float, token: bytes | None):
        self._socket = socket
        self._timeout = _checked_timeout(timeout)
        self._token = token
        self._closed = False
        self._renew()

    def encrypt(
        self,
        data: bytes,
        *,
        key: str,
        partition: str = "",
        context: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """A token, 58 bytes longer than ``data``."""
        message = pb.Encrypt(**_binding(key, partition, context), data=_bytes(data))
        return self._value(pb.Request(encrypt=message), len(data), timeout)

    def decrypt(
        self,
        token: bytes,
        *,
        key: str | None = None,
        partition: str = "",
        context: Mapping[str, str] | None = None,
        any_key: bool = False,
        timeout: float | None = None,
    ) -> bytes:
        """The plaintext; ``any_key`` takes the token's own key and partition instead, which is a right of its own."""
        binding = (
            {"context": encode_context(context), "any_key": True} if any_key else _binding(key, partition, context)
        )
        message = pb.Decrypt(**binding, data=_bytes(token))
        return self._value(pb.Request(decrypt=message), len(token) - TOKEN_OVERHEAD, timeout)

    def encrypt_text(self, text: str, **options: Any) -> str:
        """UTF-8 text to the text form of a token, ``dk1.…``; options as ``encrypt``."""
        if not isinstance(text, str):
            raise invalid(f"encrypt_text takes a str, not {type(text).__name__}")
        return encode_token(self.encrypt(utf8(text, "the text"), **options))

    def decrypt_text(self, token: str, **options: Any) -> str:
        """The reverse; options as ``decrypt``."""
        plaintext = self.decrypt(decode_token(token), **options)
        try:
            return plaintext.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid("the plaintext is not UTF-8 text: use decrypt for bytes") from None

    def reencrypt(
        self,
        token: bytes,
        *,
        key: str,
        partition: str = "",
        context: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """A token of the same plaintext under the newest version of the same key, made inside the agent."""
        message = pb.Reencrypt(**_binding(key, partition, context), data=_bytes(token))
        return self._value(pb.Request(reencrypt=message), len(token) - TOKEN_OVERHEAD, timeout)

    def encrypt_many(self, items: Iterable[bytes | Item], **options: Any) -> list[bytes | DekdError]:
        """One result for each item, in order: its value, or the DekdError that it alone failed with.

        Options are what items lack (``key``, ``partition``, ``context``) and ``timeout``. Raises only when the call failed
        as a whole.
        """
        return self._many(lambda many: pb.Request(encrypt_many=many), 0, items, **options)

    def decrypt_many(self, items: Iterable[bytes | Item], **options: Any) -> list[bytes | DekdError]:
        """As ``encrypt_many``; ``any_key`` as in ``decrypt``."""
        return self._many(lambda many: pb.Request(decrypt_many=many), TOKEN_OVERHEAD, items, **options)

    def reencrypt_many(self, items: Iterable[bytes | Item], **options: Any) -> list[bytes | DekdError]:
        return self._many(lambda many: pb.Request(reencrypt_many=many), TOKEN_OVERHEAD, items, **options)

    def key_info(self, key: str, *, partition: str = "", timeout: float | None = None) -> dict[str, Any]:
        """What an application may know of a key: algorithm, required context names, versions."""
        names = {"key": _key(key), "partition": _partition(partition)}
        return self._document(pb.Request(key_info=pb.KeyInfo(**names)), timeout)

    def ping(self, *, timeout: float | None = None) -> dict[str, Any]:
        return self._document(pb.Request(ping=pb.Ping()), timeout)

    def close(self) -> None:
        """Ends the connection; calls under way fail with AGENT_UNAVAILABLE, and so do later ones."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _many(
        self,
        request: Callable[[pb.Many], pb.Request],
        overhead: int,
        items: Iterable[bytes | Item],
        *,
        key: str | None = None,
        partition: str = "",
        context: Mapping[str, str] | None = None,
        any_key: bool = False,
        timeout: float | None = None,
    ) -> list[bytes | DekdError]:
        common = {
            "key": "" if key is None else _key(key),
            "partition": _partition(partition),
            "context": encode_context(context),
            "any_key": any_key,
        }
        wire = []
        for index, item in enumerate(items):
            each = item if isinstance(item, Item) else Item(item)
            if each.key is None and key is None and not any_key:
                raise invalid(f"item {index} has no key, and neither has the call")
            wire.append(
                pb.Item(
                    data=_bytes(each.data),
                    key=None if each.key is None else _key(each.key),
                    partition=None if each.partition is None else _partition(each.partition),
                    context=None if each.context is None else encode_context(each.context),
                )
            )
        deadline = self._deadline(timeout)
        results: list[bytes | DekdError] = []
        if not wire:
            return results
        # How to cut it only the agent can say.
        limits = self._with_connection(lambda connection: connection.limits, deadline)
        for part in _parts(wire, overhead, limits.max_payload):
            length = len(part[0].data) - overhead
            if len(part) == 1 and length > limits.max_payload:
                results.append(_over_payload(length, limits.max_payload))
            else:
                results += self._ask(request(pb.Many(**common, items=part)), deadline, _taking_many(len(part)))
        return results

    def _value(self, request: pb.Request, plaintext_length: int, timeout: float | None) -> bytes:
        return self._ask(request, self._deadline(timeout), _taking("value"), plaintext_length)

    def _document(self, request: pb.Request, timeout: float | None) -> dict[str, Any]:
        return json.loads(self._ask(request, self._deadline(timeout), _taking("document")))

    def _ask(
        self,
        request: pb.Request,
        deadline: float,
        take: Callable[[pb.Reply], Any],
        plaintext_length: int = 0,
    ) -> Any:
        """What ``take`` makes of the answer. @raises DekdError that it says, or PROTOCOL_ERROR when it is no answer to this"""

        def asked(connection: Connection) -> Any:
            limit = connection.limits.max_payload
            if plaintext_length > limit:
                raise _over_payload(plaintext_length, limit)
            reply = connection.ask(request, deadline)
            if reply.HasField("error"):
                error = of_wire(reply.error)
                if error.code == "SHUTTING_DOWN":
                    # Another one may be taking over.
                    connection.close(error)
                raise error
            try:
                return take(reply)
            except DekdError as error:
                # An agent that answers so is not asked anything else on this connection.
                connection.close(error)
                raise

        return self._with_connection(asked, deadline)

    def _with_connection(self, use: Callable[[Connection], Any], deadline: float) -> Any:
        """What ``use`` gives; where the connection is lost, or there is none, again until the deadline."""
        for attempt in range(10**9):
            try:
                return use(self._connected(deadline))
            except DekdError as error:
                is_lost = error.code in ("AGENT_UNAVAILABLE", "SHUTTING_DOWN")
                if not is_lost or self._closed:
                    raise
                ceiling = min(BACKOFF_MAX, BACKOFF_MIN * 2 ** min(attempt, 20))
                pause = ceiling / 2 + random.random() * ceiling / 2
                left = deadline - time.monotonic()
                if left <= pause:
                    time.sleep(max(0.0, left))
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _connected(self, deadline: float) -> Connection:
        if os.getpid() != self._pid:
            # Of the parent: answers to it are not ours to read.
            self._renew()
        if not self._connecting.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DekdError("AGENT_UNAVAILABLE", "no connection before the deadline")
        try:
            if self._closed:
                raise DekdError("AGENT_UNAVAILABLE", "the client was closed")
            connection = self._connection
            if connection is None or not connection.is_open:
                connection = Connection(find_socket(self._socket), self._token, deadline)
                self._connection = connection
            return connection
        finally:
            self._connecting.release()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._connecting = threading.Lock()
        self._connection: Connection | None = None

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else _checked_timeout(timeout))


def _taking(kind: str) -> Callable[[pb.Reply], bytes]:
    def take(reply: pb.Reply) -> bytes:
        if reply.WhichOneof("result") != kind:
            raise DekdError("PROTOCOL_ERROR", "the agent answered another kind of call")
        return getattr(reply, kind)

    return take


def _taking_many(count: int) -> Callable[[pb.Reply], list[bytes | DekdError]]:
    def take(reply: pb.Reply) -> list[bytes | DekdError]:
        results: list[bytes | DekdError] = list(reply.many.values)
        if len(results) != count or any(error.index >= count for error in reply.many.errors):
            raise DekdError("PROTOCOL_ERROR", f"{len(results)} results for {count} items")
        for error in reply.many.errors:
            results[error.index] = of_wire(error.error)
        return results

    return take


def _parts(items: list[pb.Item], overhead: int, max_payload: int) -> Iterable[list[pb.Item]]:
    """Runs of items that fit into one frame each; an item over the limit is a run of its own."""
    limit = min(PART_WEIGHT, max_payload)
    part: list[pb.Item] = []
    weight = 0
    for item in items:
        own = max(0, len(item.data) - overhead) + ITEM_ALLOWANCE + len(item.context)
        if part and weight + own > limit:
            yield part
            part, weight = [], 0
        part.append(item)
        weight += own
    yield part


def _binding(key: str | None, partition: str, context: Mapping[str, str] | None) -> dict[str, Any]:
    return {"key": _key(key), "partition": _partition(partition), "context": encode_context(context)}


def _key(key: str | None) -> str:
    if not isinstance(key, str) or key == "":
        raise invalid("key is a name, not empty")
    utf8(key, "key")
    return key


def _partition(partition: str) -> str:
    if not isinstance(partition, str):
        raise invalid(f"partition is {type(partition).__name__}, not a str")
    utf8(partition, "partition")
    return partition


def _bytes(data: bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise invalid(f"data is {type(data).__name__}, not bytes")
    return bytes(data)


def _checked_timeout(timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or not 0 < timeout <= 2_147_483:
        raise invalid(f"timeout is {timeout!r}; it is more than 0 and at most 2147483 seconds")
    return timeout


def _over_payload(length: int, limit: int) -> DekdError:
    return invalid(f"value of {length} bytes is over the agent's limits.maxPayload of {limit}: raise that, or split it")
