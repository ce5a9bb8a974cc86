"""Three servers and a database on which the ready plans of deploy/examples are run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import yaml

from helpers.source_tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.postgres import Cluster
    from helpers.sshd import SshServer
    from helpers.stack import Answer, Stack

EXAMPLES = ROOT / "deploy/examples"
CONTROL = """\
#!/bin/sh
# The service manager of a host: the shop runs unless its release or configuration is broken.
cd {folder}
case $1 in
restart)
    echo restart >>restarts
    if grep -qs broken current/version shop.conf; then rm -f running; exit 0; fi
    cp current/version running ;;
status) if [ -e running ]; then echo "shop is running"; else exit 3; fi ;;
esac
"""


@dataclass
class Site:
    """Three servers and a database, one of the servers over SSH."""

    stack: Stack
    folder: Path
    cluster: Cluster
    health: str

    def run(self, name: str, *words: str, **inputs: Any) -> tuple[Answer, dict[str, Any]]:
        """Runs an example with other inputs, approving what is asked; returns its result too."""
        document = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
        unknown = inputs.keys() - document.get("inputs", {}).keys()
        assert not unknown, f"{name} has no input {unknown}"
        if inputs:
            document["inputs"].update(inputs)
        plan = self.stack.plan(document, name)
        answer = self.stack.opsctl("run", "-f", plan, *words, "--yes", "-o", "json", seconds=120)
        assert answer.stdout, answer.err
        return answer, answer.json

    def outputs(self, name: str, **inputs: Any) -> dict[str, Any]:
        """Runs an example that completes and returns the output of every step."""
        answer, result = self.run(name, **inputs)
        assert (answer.code, result["status"]) == (0, "completed"), json.dumps(result, indent=1)
        return {step["step_id"]: step["output"] for step in result["step_results"]}

    def restarts(self) -> int:
        file = self.folder / "restarts"
        return len(file.read_text().split()) if file.exists() else 0

    def release(self, name: str, version: str) -> Path:
        """Makes an archive of a release."""
        source = self.folder / "build" / name
        source.mkdir(parents=True, exist_ok=True)
        (source / "version").write_text(version + "\n")
        archive = self.folder / f"shop-{name}.tar.gz"
        subprocess.run(["tar", "-czf", archive, "-C", source.parent, name], check=True)
        return archive

    def count(self, database: str) -> int:
        where = ["-h", "127.0.0.1", "-p", str(self.cluster.port), "-U", "opsc", "-qAt"]
        done = subprocess.run(
            ["psql", *where, "-c", "SELECT count(*) FROM orders", database],
            check=True,
            capture_output=True,
        )
        return int(done.stdout)


def asset(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "linux_server", "address": "127.0.0.1", **more}


def assets(site: Path, server: SshServer, cluster: Cluster) -> list[dict[str, Any]]:
    control = {"service_manager": "command", "service_command": str(site / "control")}
    ssh = {"connection": "ssh", "credential": "web", "host_keys": [server.host_key]}
    local = {"connection": "local"}
    where = {"address": server.address, "port": server.port}
    database = {"type": "postgresql", "port": cluster.port, "credential": "shop"}
    return [
        asset("web-01", **{**ssh, **where, **control}),
        asset("web-02", **local, **control),
        asset("app-01", **local, **control),
        asset("db-01", **database),
    ]


class Health(BaseHTTPRequestHandler):
    """Tells whether the shop runs."""

    running: Path

    def do_GET(self) -> None:
        """Answers 200 when it does."""
        self.send_response(200 if self.running.exists() else 503)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def health_page(folder: Path) -> Iterator[str]:
    page = type("Page", (Health,), {"running": folder / "running"})
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


def bring(stack: Stack, entries: list[dict[str, Any]]) -> None:
    document = stack.folder / "assets.json"
    document.write_text(json.dumps({"assets": entries}))
    answer = stack.opsctl("assets", "import", str(document))
    assert answer.code == 0, answer.err
