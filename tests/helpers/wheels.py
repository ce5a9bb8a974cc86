"""Wheels, built once, and environments with nothing in them but what a test installs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Wheels:
    """The wheels of both distributions."""

    server: Path
    client: Path


@dataclass(frozen=True)
class Installation:
    """An environment that has the third-party packages of this one, and none of our code."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        """Where the wheels were unpacked to."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs, far from the source tree, and returns how it ended."""
        environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


def build(project: Path, output: Path) -> Path:
    """Builds a wheel with the build backend that is already installed: no network is needed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = output.glob("*.whl")
    return wheel


def install(folder: Path, *wheels: Path) -> Installation:
    """Makes an environment and installs wheels into it.

    A path file lends it the packages of this environment. Path files found behind such a path are
    not read, so the project's own links to its source tree stay out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    installation = Installation(folder)
    lent = installation.site_packages / "lent.pth"
    lent.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = str(folder / "bin" / "python")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    # Without --ignore-installed the lent metadata of our own packages would count as installed.
    command += ["--no-index", "--ignore-installed", *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return installation
