"""Steps of plan documents, as tests write them."""

from __future__ import annotations

from typing import Any


def disk(id: Any = "space", **fields: Any) -> dict[str, Any]:
    return {"id": id, "tool": "check_disk_space", "target": "web-01", **fields}


def restart(id: Any = "restart", **fields: Any) -> dict[str, Any]:
    fields = {"target": "web-01", "inputs": {"service": "nginx"}, **fields}
    return {"id": id, "tool": "restart_service", **fields}


def write(id: Any = "write", **fields: Any) -> dict[str, Any]:
    fields = {"target": "web-01", "inputs": {"path": "/srv/a", "content": "x\n"}, **fields}
    return {"id": id, "tool": "write_file", **fields}


def command(*argv: Any, id: Any = "run", **fields: Any) -> dict[str, Any]:
    return {"id": id, "tool": "run_command", "inputs": {"argv": list(argv)}, **fields}
