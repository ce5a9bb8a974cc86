"""Makes the virtual environment, also where Python came without ensurepip and forbids pip."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import permission
from progress import CommandFailed, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

SYSTEM_WHEELS = Path("/usr/share/python-wheels")
NO_PIP = (
    "this Python has neither ensurepip nor pip, and none could be found. "
    "Run 'apt-get install python3-venv' as root (or 'YES=1 make setup'), then try again"
)


class EnvironmentImpossible(Exception):
    """No virtual environment with pip can be made here; the message says what would help."""


def is_usable(venv: Path) -> bool:
    """Tells whether an environment of exactly this Python, with pip, is already there."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    question = "import pip, sys; print(sys.version)"
    answer = subprocess.run(
        [str(python), "-c", question], check=False, capture_output=True, text=True
    )
    return answer.returncode == 0 and answer.stdout.strip() == sys.version


def make(venv: Path, progress: Progress) -> None:
    """Makes the environment afresh, with pip in it.

    Raises:
        EnvironmentImpossible: No source of pip is within reach.
    """
    phase = f"making {venv.name} with Python {sys.version.split()[0]}"
    if _module_exists("ensurepip"):
        progress.run(phase, [sys.executable, "-m", "venv", "--clear", str(venv)])
        return
    if not _module_exists("venv"):
        _install_python3_venv(progress)
    progress.run(phase, [sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])
    with tempfile.TemporaryDirectory() as folder:
        wheel = _pip_wheel(Path(folder), progress)
        command = [str(venv / "bin" / "python"), f"{wheel}/pip", "install", "--no-index"]
        progress.run("installing pip", [*command, "--no-deps", str(wheel)])


def _pip_wheel(folder: Path, progress: Progress) -> Path:
    """Returns a pip wheel from the first source that has one; the gentlest source goes first."""
    sources: list[Callable[[], Path | None]] = [
        lambda: _newest(SYSTEM_WHEELS),
        lambda: _from_system_pip(folder, progress),
        lambda: _from_unpacked_package(folder, progress),
        lambda: _from_installed_package(progress),
    ]
    for source in sources:
        wheel = source()
        if wheel is not None:
            return wheel
    raise EnvironmentImpossible(NO_PIP)


def _from_system_pip(folder: Path, progress: Progress) -> Path | None:
    """Lets the system's pip fetch pip: PEP 668 forbids it to install, not to download."""
    if not _module_exists("pip"):
        return None
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "pip"]
    try:
        progress.run("fetching pip", command)
    except CommandFailed:
        return None
    return _newest(folder)


def _from_unpacked_package(folder: Path, progress: Progress) -> Path | None:
    """Fetches Debian's package of pip and only unpacks it: that needs no rights at all."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    script = 'cd "$1" && apt-get download -q python3-pip-whl && dpkg-deb -x python3-pip-whl*.deb .'
    try:
        progress.run("fetching pip", ["/bin/sh", "-c", script, "sh", str(folder)])
    except CommandFailed:
        return None
    return _newest(folder / SYSTEM_WHEELS.relative_to("/"))


def _from_installed_package(progress: Progress) -> Path | None:
    _install_python3_venv(progress)
    return _newest(SYSTEM_WHEELS)


def _install_python3_venv(progress: Progress) -> None:
    """Installs Debian's python3-venv, which brings a pip wheel along, when that is allowed."""
    commands = permission.apt_commands(["python3-venv"])
    if commands is None or not permission.may_install("python3-venv"):
        raise EnvironmentImpossible(NO_PIP)
    for phase, command in commands.items():
        progress.run(phase, command)


def _newest(folder: Path) -> Path | None:
    wheels = sorted(folder.glob("pip-*.whl"))
    return wheels[-1] if wheels else None


def _module_exists(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
