"""What a visitor does: commands that are shown as they run, and looks at what came of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interrupts import HeldBack
from opsconductor.client.context import Context
from opsconductor.client.result import execution_result
from opsconductor.client.sync_client import SyncClient
from stage import Declined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stage import Stage

BIN = Path(sys.executable).parent
_REJECTED = 3
_STOP_SECONDS = 60


class Visitor:
    """Works with one deployment.

    Commands that are shown are run as programs; what only checks a claim goes through the Python
    client, which is quicker.
    """

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.data = folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every program of the demo."""
        return {
            **os.environ,
            "OPSCONDUCTOR_CONTEXT": str(self.data / "context.yaml"),
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        }

    def opsctl(self, *words: str | Path, expect: int | None = None) -> None:
        """Runs opsctl as the visitor would, and shows the command and what it says.

        Raises:
            Declined: The visitor was asked and said no.
        """
        shown = " ".join(_quoted(str(word)) for word in words)
        self.stage.command(f"opsctl {shown}")
        program: list[str | Path] = [BIN / "opsctl", *words]
        if self.stage.interactive and words[0] == "run" and "-f" in words:
            # The visitor's own terminal: opsctl asks, and Ctrl-C reaches it.
            code = subprocess.run(program, env=self.environment, check=False).returncode
            if code == _REJECTED:
                raise Declined
        else:
            code, output = self.program(program)
            self.stage.show(output)
        if expect is not None:
            self.stage.claim(f"the exit code is {expect}", held=code == expect)

    def program(self, words: Sequence[str | Path]) -> tuple[int, str]:
        """Runs a program to its end; returns its exit code and all it wrote."""
        with HeldBack() as interrupts:
            process = subprocess.Popen(
                [str(word) for word in words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with process:
                try:
                    interrupts.let_through()
                    output, _ = process.communicate()
                except KeyboardInterrupt:
                    # Ended politely, it takes down what it had begun to start.
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=_STOP_SECONDS)
                    raise
        return process.returncode, output.decode(errors="replace")

    def must(self, *words: str | Path) -> None:
        """Runs opsctl unseen; raises RuntimeError with what it said when it fails."""
        code, output = self.program([BIN / "opsctl", *words])
        if code:
            named = " ".join(str(word) for word in words)
            raise RuntimeError(f"opsctl {named}: {output.strip()}")

    def client(self) -> SyncClient:
        """Opens the Python client."""
        return SyncClient(Context.load(self.data / "context.yaml"))

    def latest(self, state: str = "") -> str:
        """Returns the id of the newest execution, of all or of a state; "" when there is none."""
        with self.client() as client:
            found = client.list(states=(state,) if state else (), page_size=1).executions
        return found[0].execution_id if found else ""

    def result(self, execution_id: str = "") -> dict[str, Any]:
        """Returns the result object of an execution, of the newest without an id."""
        with self.client() as client:
            return execution_result(client.get(execution_id or self.latest()))

    def plan(self, name: str, text: str) -> Path:
        """Writes a plan file and returns it."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def approve_flag(self) -> tuple[str, ...]:
        """Returns ``--yes`` where nobody can be asked."""
        return () if self.stage.interactive else ("--yes",)

    def wait(self, true: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
        """Waits until something is true; raises TimeoutError naming it."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:g} s it is not so that {what}")
            time.sleep(0.05)


def _quoted(word: str) -> str:
    return f"'{word}'" if any(character in word for character in ' "[]{}') else word
