"""The client as the conformance kit drives it: proto/conformance/README.md."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dekd_client
from dekd_client import DekdError, Item

client: dekd_client.Client | None = None
printing = threading.Lock()
OPTIONS = {"key": "key", "partition": "partition", "context": "context", "anyKey": "any_key"}


def options_of(request: dict[str, Any]) -> dict[str, Any]:
    options = {name: request[given] for given, name in OPTIONS.items() if given in request}
    if "timeoutMs" in request:
        options["timeout"] = request["timeoutMs"] / 1000
    return options


def perform(request: dict[str, Any]) -> Any:
    global client
    op = request["op"]
    if op == "connect":
        if client is not None:
            client.close()
        token = request.get("token")
        client = dekd_client.connect(
            request["socket"],
            timeout=request.get("timeoutMs", 10_000) / 1000,
            token=None if token is None else bytes.fromhex(token),
        )
        return None
    assert client is not None
    options = options_of(request)
    if op == "close":
        return client.close()
    if op == "ping":
        return client.ping(**options)
    if op == "keyInfo":
        return client.key_info(options.pop("key"), **options)
    if op in ("encryptText", "decryptText"):
        return getattr(client, op.replace("Text", "_text"))(request["text"], **_named(options))
    if op in ("encryptMany", "decryptMany", "reencryptMany"):
        items = [
            Item(bytes.fromhex(each["data"]), each.get("key"), each.get("partition"), each.get("context"))
            for each in request["items"]
        ]
        return [_answer(each) for each in getattr(client, op.replace("Many", "_many"))(items, **options)]
    value = bytes.fromhex(request["data"] if op == "encrypt" else request["token"])
    return getattr(client, op)(value, **_named(options)).hex()


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """A call without a key is a mistake that the client must find."""
    return options if options.get("any_key") else {"key": None, **options}


def _answer(result: bytes | DekdError) -> dict[str, Any]:
    if isinstance(result, DekdError):
        return {"ok": False, "error": _error(result)}
    return {"ok": True, "value": result.hex()}


def _error(error: DekdError) -> dict[str, Any]:
    shown = {"code": error.code, "message": error.message, "retryable": error.retryable, "incident": error.incident}
    if error.retry_after is not None:
        shown["retryAfterMs"] = round(error.retry_after * 1000)
    return shown


def respond(line: str) -> None:
    request = json.loads(line)
    try:
        answer = {"ok": True, "value": perform(request)}
    except DekdError as error:
        answer = {"ok": False, "error": _error(error)}
    except Exception as error:  # noqa: BLE001: the runner is told, whatever it is
        answer = {"ok": False, "error": {"code": f"{type(error).__name__}: {error}"}}
    with printing:
        print(json.dumps({"id": request["id"], **answer}), flush=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(32) as pool:
        for each in sys.stdin:
            pool.submit(respond, each)
