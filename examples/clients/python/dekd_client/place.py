"""Where the agent's socket is, and whether its folder can be trusted (docs/client.md, "Connecting")."""

from __future__ import annotations

import os
import stat
import tempfile

from .errors import DekdError

SYSTEM_SOCKET = "/run/dekd/agent.sock"


def find_socket(given: str | None) -> str:
    """The first socket there is. @raises DekdError AGENT_UNAVAILABLE; PERMISSION_DENIED where others could answer there"""
    named = given or os.environ.get("DEKD_SOCKET")
    candidates = [named] if named else _usual()
    for path in candidates:
        try:
            mode = os.stat(path).st_mode
            folder = os.stat(os.path.dirname(path) or ".")
        except OSError:
            continue
        if not stat.S_ISSOCK(mode):
            raise DekdError("AGENT_UNAVAILABLE", f"{path} is not a socket")
        if not named and path != SYSTEM_SOCKET and folder.st_uid != os.getuid():
            raise DekdError("PERMISSION_DENIED", f"the folder of {path} belongs to uid {folder.st_uid}")
        if folder.st_mode & stat.S_IWOTH:
            raise DekdError("PERMISSION_DENIED", f"the folder of {path} is writable by others, who could answer there")
        return path
    raise DekdError("AGENT_UNAVAILABLE", f"no agent socket: tried {', '.join(candidates)}")


def _usual() -> list[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [
        *([os.path.join(runtime, "dekd/agent.sock")] if runtime else []),
        SYSTEM_SOCKET,
        os.path.join(tempfile.gettempdir(), f"dekd-{os.getuid()}", "agent.sock"),
    ]
