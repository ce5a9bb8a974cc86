"""Writes the hashed requirement exports that every installation uses.

The declared dependencies of both distributions are resolved once for all supported Python
versions and platforms. Versions already in an export are kept unless ``--upgrade`` is given. The
files name no package index: each machine installs from the one it is configured for, and the
hashes make sure that it gets the same bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "deploy" / "requirements"
OLDEST_PYTHON = "3.11"
# Each larger set keeps the versions of the smaller one, so growing a set changes nothing in it.
SMALLER = {"dev.txt": "runtime.txt", "bench.txt": "dev.txt"}
OWN_DISTRIBUTIONS = ("opsconductor", "opsconductor-client")


def declared(pyproject: Path, *, groups: tuple[str, ...] = ()) -> list[str]:
    """Returns the requirements of a project, all its extras, and the named groups."""
    document: dict[str, Any] = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = document["project"]
    found = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        found += extra
    for group in groups:
        found += document["dependency-groups"][group]
    return [text for text in found if not text.startswith(OWN_DISTRIBUTIONS)]


def exports() -> dict[str, list[str]]:
    """Returns the requirements that each export is resolved from, by file name."""
    server = ROOT / "pyproject.toml"
    groups = tomllib.loads(server.read_text(encoding="utf-8"))["dependency-groups"]
    runtime = declared(ROOT / "clients" / "pyproject.toml") + declared(server, groups=("build",))
    return {
        "installer.txt": groups["installer"],
        "runtime.txt": runtime,
        "dev.txt": runtime + groups["dev"],
        "bench.txt": runtime + groups["dev"] + groups["bench"],
    }


def resolve(name: str, requirements: list[str], *, constraint: Path | None, upgrade: bool) -> None:
    """Writes one export; with a constraint, the packages that both have are of one version."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("\n".join(sorted(set(requirements))) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate"]
        command += ["--custom-compile-command", "make lock"]
        command += ["--upgrade"] if upgrade else []
        command += ["--constraint", str(constraint)] if constraint else []
        command += ["--output-file", str(REQUIREMENTS / name), str(source)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def refuse_addresses(path: Path) -> None:
    """Raises SystemExit when an export names an index, which only one machine may know."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if "://" in line or line.startswith(("-i ", "--index"))]
    if named:
        raise SystemExit(f"{path}: an address got into the export: {named[0]}")


def main() -> None:
    """Writes all exports, the smaller ones first: the larger ones take over their versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args()
    REQUIREMENTS.mkdir(exist_ok=True)
    for name, requirements in exports().items():
        constraint = REQUIREMENTS / SMALLER[name] if name in SMALLER else None
        resolve(name, requirements, constraint=constraint, upgrade=options.upgrade)
        refuse_addresses(REQUIREMENTS / name)
        sys.stdout.write(f"wrote deploy/requirements/{name}\n")


if __name__ == "__main__":
    main()
