"""Other engines on the same jobs, each in a process and an environment of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.size import Size

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".cache" / "bench" / "peers"
REQUIREMENTS = ROOT / "deploy" / "requirements" / "bench.txt"
SECONDS = 900


def measure(size: Size, folder: Path) -> list[dict[str, Any]]:
    """Returns the results of every peer; one that fails is named with its reason."""
    python = _environment()
    results = [_run(python, "peer_dbos", size, folder)]
    with _redis(folder) as url:
        results.append(_run(python, "peer_celery", size, folder, *([url] if url else [])))
    return results


def _environment() -> Path:
    """Makes the peers' environment once for a set of requirements; returns its Python."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "requirements.txt"
    wanted = REQUIREMENTS.read_bytes()
    if stamp.exists() and stamp.read_bytes() == wanted:
        return python
    venv.create(ENVIRONMENT, clear=True, with_pip=False)
    uv = Path(sys.executable).parent / "uv"
    install = (
        [str(uv), "pip", "install", "-q", "--python", str(python)]
        if uv.exists()
        else [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    )
    subprocess.run([*install, "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    stamp.write_bytes(wanted)
    return python


def _run(python: Path, name: str, size: Size, folder: Path, *more: str) -> dict[str, Any]:
    own = folder / name
    own.mkdir()
    arguments = [str(python), str(HERE / f"{name}.py"), json.dumps(size.as_arguments()), str(own)]
    try:
        done = subprocess.run(
            [*arguments, *more], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"did not end within {SECONDS} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"name": name, "error": last[0]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Runs a Redis server where one is installed; yields its address, else nothing."""
    program = shutil.which("redis-server")
    if program is None:
        yield ""
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    process = subprocess.Popen([*words, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        _wait_until_listening(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return
        time.sleep(0.01)
    raise RuntimeError("redis-server does not listen")
