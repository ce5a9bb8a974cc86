"""What CI skips is not tested, so a skip there is a failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SETTINGS = "[pytest]\nmarkers = cannot_run_in_ci(reason)\n"
SKIPPED = """
import pytest

def test_needs_a_server():
    pytest.skip("no server: apt-get install server")
"""
SKIPPED_MODULE = 'import pytest\npytest.importorskip("a_module_that_is_nowhere")\n'
ALLOWED = """
import pytest

@pytest.mark.cannot_run_in_ci("needs Windows")
def test_needs_windows():
    pytest.skip("no Windows")

@pytest.mark.xfail(strict=True)
def test_is_known_to_fail():
    assert False
"""


def outcome(folder: Path, source: str, *, ci: bool) -> tuple[int, str]:
    """Runs pytest on one file with the project's conftest; returns exit code and output."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_example.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"} | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("source", [SKIPPED, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_fails_in_ci_and_repeats_its_reason(tmp_path: Path, source: str) -> None:
    code, output = outcome(tmp_path, source, ci=True)
    assert code != 0
    assert "skipped in CI" in output
    assert "apt-get install server" in output or "a_module_that_is_nowhere" in output


def test_a_skip_is_only_a_skip_on_a_persons_machine(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, SKIPPED, ci=False)
    assert code == 0
    assert "1 skipped" in output


def test_a_skip_with_a_reason_on_record_is_allowed_in_ci(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, ALLOWED, ci=True)
    assert code == 0
    assert "1 skipped, 1 xfailed" in output
