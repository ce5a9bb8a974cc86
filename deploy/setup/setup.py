"""Makes .venv with everything the project needs, once: a second run finds it and does nothing.

Needs only a Python 3.11 or newer. The packages come from hashed exports, by uv where it can be
installed and by pip where it cannot; both distributions of the project are linked, not copied.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import environment
from progress import CommandFailed, Progress

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CACHE = ROOT / ".cache"
STAMP = VENV / "setup.json"
REQUIREMENTS = ROOT / "deploy" / "requirements"
SETS = ("runtime", "dev", "bench")  # each holds the one before it
EDITABLE = ("--no-deps", "--no-build-isolation", "-e", "./clients", "-e", ".")


def fingerprint() -> str:
    """Returns a digest of everything that decides what the environment contains."""
    digest = hashlib.sha256(f"{sys.version}\0{ROOT}\0".encode())
    inputs = [
        *sorted(REQUIREMENTS.glob("*.txt")),
        ROOT / "pyproject.toml",
        ROOT / "clients" / "pyproject.toml",
        *sorted(Path(__file__).parent.glob("*.py")),
    ]
    for path in inputs:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def installed_set(stamp: Path, *, key: str | None = None) -> str | None:
    """Returns which set is installed, or None; with a key, only when it was made from that."""
    try:
        written = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(written, dict) or written.get("set") not in SETS:
        return None
    return str(written["set"]) if key is None or written.get("key") == key else None


def is_ready(wanted: str, key: str) -> bool:
    """Tells whether the wanted set, or a larger one, is installed and still whole."""
    there = installed_set(STAMP, key=key)
    whole = PYTHON.exists() and (VENV / "bin" / "opsctl").exists()
    return whole and there is not None and SETS.index(there) >= SETS.index(wanted)


def install(wanted: str, progress: Progress) -> None:
    """Brings the environment to the wanted set; a set once installed is never made smaller."""
    before = installed_set(STAMP)
    chosen = max(wanted, before or wanted, key=SETS.index)
    STAMP.unlink(missing_ok=True)
    if not environment.is_usable(VENV):
        environment.make(VENV, progress)
    export = REQUIREMENTS / f"{chosen}.txt"
    count = sum("==" in line for line in export.read_text(encoding="utf-8").splitlines())
    phase = f"installing {count} packages"
    try:
        _install_with_uv(phase, export, progress)
    except CommandFailed as failure:
        progress.say(f"uv cannot do it here ({failure}); pip takes over, which takes longer")
        _install_with_pip(phase, export, progress)
    key = fingerprint()
    STAMP.write_text(json.dumps({"set": chosen, "key": key}) + "\n", encoding="utf-8")
    progress.say(f"ready: {VENV.name} with {count} packages, {progress.elapsed:.0f} s")


def _install_with_uv(phase: str, export: Path, progress: Progress) -> None:
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--require-hashes", "-r"]
    progress.run("installing uv", [*pip, str(REQUIREMENTS / "installer.txt")])
    uv = [str(VENV / "bin" / "uv"), "pip"]
    # Without bytecode every start of the program compiles it again, at several times the cost.
    settings = {"UV_COMPILE_BYTECODE": "1", "UV_PYTHON": str(PYTHON), **_index_settings()}
    progress.run(phase, [*uv, "sync", "--require-hashes", str(export)], environment=settings)
    progress.run("linking the project", [*uv, "install", *EDITABLE], environment=settings)


def _install_with_pip(phase: str, export: Path, progress: Progress) -> None:
    pip = [str(PYTHON), "-m", "pip", "install", "-q"]
    progress.run(phase, [*pip, "--require-hashes", "-r", str(export)])
    progress.run("linking the project", [*pip, *EDITABLE])


def _index_settings() -> dict[str, str]:
    """Returns pip's settings of this machine in uv's words, so that a mirror serves both."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    )
    words = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    settings = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        variable = words.get(key.rpartition(".")[2])
        if variable and variable not in os.environ:
            settings[variable] = value.strip("'\"")
    return settings


def main() -> int:
    """Installs what is missing and returns the exit code; two at once wait for each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS, nargs="?", default="runtime")
    options = parser.parse_args()
    os.chdir(ROOT)
    if is_ready(options.set, fingerprint()):
        return 0
    if not os.access(ROOT, os.W_OK):
        sys.stderr.write(f"setup: {ROOT} belongs to somebody else: clone it as yourself\n")
        return 1
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(options.set, fingerprint()):
            return 0
        return _report_failures(options.set)


def _report_failures(wanted: str) -> int:
    progress = Progress("setup", CACHE / "setup.log")
    try:
        install(wanted, progress)
    except environment.EnvironmentImpossible as impossible:
        progress.say(str(impossible))
    except CommandFailed as failure:
        progress.say(f"failed while {failure}. Its last lines:\n{progress.end_of_log()}")
        progress.say("everything it printed: .cache/setup.log")
    except KeyboardInterrupt:
        progress.say("stopped; 'make setup' goes on from here")
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
