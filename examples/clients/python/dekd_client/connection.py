"""One connected socket: any number of threads ask, one thread reads. It ends once, for one reason."""

from __future__ import annotations

import select
import socket
import threading
import time

from google.protobuf.message import DecodeError

from . import dekd_pb2 as pb
from .errors import DekdError, invalid, of_wire

# What no agent may exceed: the largest payload there is, and what may be around it.
MAX_REPLY = 16 * 1024 * 1024 + 128 * 1024
GREETING_SECONDS = 5.0


class _Waiting:
    """A request that has no answer yet."""

    def __init__(self):
        self.answered = threading.Event()
        self.reply = None
        self.error = None


class Connection:
    def __init__(self, path: str, token: bytes | None, deadline: float):
        """Connects and greets. @raises DekdError AGENT_UNAVAILABLE, or what the agent says to the greeting"""
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._next_id = 1
        self._end: DekdError | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(max(0.001, min(GREETING_SECONDS, deadline - time.monotonic())))
            self._socket.connect(path)
            hello = pb.Hello(min_version=1, max_version=1, client="dekd python", token=token or b"")
            self._socket.sendall(_frame(pb.Request(id=1, hello=hello)))
            reply = self._read()
        except OSError as error:
            self._socket.close()
            raise DekdError("AGENT_UNAVAILABLE", f"no agent answers on {path}: {error}") from error
        except DekdError:
            self._socket.close()
            raise
        if not reply.HasField("hello"):
            self._socket.close()
            raise of_wire(reply.error) if reply.HasField("error") else _protocol_error("the agent did not greet")
        self.limits = reply.hello
        self._socket.settimeout(None)
        threading.Thread(target=self._read_all, name="dekd-client", daemon=True).start()

    @property
    def is_open(self) -> bool:
        return self._end is None

    def ask(self, request: pb.Request, deadline: float) -> pb.Reply:
        """Sends the request under an id of its own and waits for its answer.

        @raises DekdError with what ended the connection; DEADLINE_EXCEEDED, and the agent is told that nobody waits
        """
        waiting = _Waiting()
        with self._lock:
            if self._end is not None:
                raise self._end
            while self._next_id in self._waiting:
                self._next_id = self._next_id % 0xFFFFFFFF + 1
            request.id = self._next_id
            self._next_id = self._next_id % 0xFFFFFFFF + 1
            self._waiting[request.id] = waiting
        try:
            request.timeout_ms = max(1, int((deadline - time.monotonic()) * 1000))
            self._send(self._checked(_frame(request)), deadline)
            if not waiting.answered.wait(max(0.0, deadline - time.monotonic())):
                self._send(_frame(pb.Request(cancel=pb.Cancel(id=request.id))), time.monotonic() + 0.1)
                raise _too_late()
        finally:
            with self._lock:
                self._waiting.pop(request.id, None)
        if waiting.error is not None:
            raise waiting.error
        return waiting.reply

    def close(self, reason: DekdError | None = None) -> None:
        self._finish(reason or DekdError("AGENT_UNAVAILABLE", "the client was closed"))

    def _checked(self, frame: bytes) -> bytes:
        """The agent would close the connection, and every other call on it would be lost."""
        if len(frame) - 4 > self.limits.max_frame:
            raise invalid(f"request of {len(frame) - 4} bytes is over the agent's {self.limits.max_frame}")
        return frame

    def _send(self, frame: bytes, deadline: float) -> None:
        """All of the frame, or the connection is of no more use to anybody."""
        if not self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _too_late()
        try:
            rest = memoryview(frame)
            while rest:
                try:
                    rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    # The agent reads nobody who does not read: it is busy with this very connection.
                    left = deadline - time.monotonic()
                    if left <= 0 or not select.select([], [self._socket], [], left)[1]:
                        if len(rest) < len(frame):
                            self._finish(DekdError("AGENT_UNAVAILABLE", "the agent did not take a whole request"))
                        raise _too_late() from None
        except (OSError, ValueError) as error:
            self._finish(_lost(error))
            raise self._end from None
        finally:
            self._sending.release()

    def _read_all(self) -> None:
        try:
            while True:
                reply = self._read()
                if reply.id == 0:
                    # The agent says why it is about to close.
                    raise of_wire(reply.error) if reply.HasField("error") else _protocol_error("a reply to nothing")
                with self._lock:
                    waiting = self._waiting.get(reply.id)
                # An answer that nobody waits for any more is dropped.
                if waiting is not None:
                    waiting.reply = reply
                    waiting.answered.set()
        except DekdError as error:
            self._finish(error)
        except (OSError, ValueError) as error:
            self._finish(_lost(error))

    def _read(self) -> pb.Reply:
        length = int.from_bytes(self._exactly(4), "big")
        if length > MAX_REPLY:
            raise _protocol_error(f"frame of {length} bytes is over the limit of {MAX_REPLY}")
        body = self._exactly(length)
        reply = pb.Reply()
        try:
            # Some implementations only warn of bytes that they do not take.
            if reply.ParseFromString(body) == length:
                return reply
        except DecodeError:
            pass
        raise _protocol_error("the agent sent what is not a reply")

    def _exactly(self, length: int) -> bytes:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionError("the connection was closed")
            view = view[count:]
        return bytes(buffer)

    def _finish(self, reason: DekdError) -> None:
        with self._lock:
            if self._end is not None:
                return
            self._end = reason
            waiting = list(self._waiting.values())
        try:
            # Wakes the reader; the descriptor is closed when nobody uses it any more.
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        for each in waiting:
            if not each.answered.is_set():
                each.error = reason
                each.answered.set()


def _frame(message) -> bytes:
    body = message.SerializeToString()
    return len(body).to_bytes(4, "big") + body


def _lost(error: Exception) -> DekdError:
    return DekdError("AGENT_UNAVAILABLE", f"the connection was lost: {error}")


def _too_late() -> DekdError:
    return DekdError("DEADLINE_EXCEEDED", "the deadline of the call has passed (timeout)")


def _protocol_error(message: str) -> DekdError:
    return DekdError("PROTOCOL_ERROR", message)
