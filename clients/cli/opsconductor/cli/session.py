"""What every command of one run of opsctl shares: the terminal and the way to the orchestrator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.cli.failure import NoContext
from opsconductor.cli.terminal import Terminal

if TYPE_CHECKING:
    import typer

    from opsconductor.client.context import Context
    from opsconductor.client.sync_client import SyncClient

VARIABLE = "OPSCONDUCTOR_CONTEXT"
_LOCAL = Path(".opsconductor/context.yaml")
_PERSONAL = Path("~/.config/opsconductor/context.yaml")


@dataclass(frozen=True, slots=True)
class Session:
    """The terminal, and which context file was asked for."""

    terminal: Terminal
    context_option: str | None = None

    @property
    def context_is_given(self) -> bool:
        """Whether the option or the environment names a context file."""
        return bool(self.context_option or os.environ.get(VARIABLE))

    def context_path(self) -> Path:
        """Returns the context file in force.

        The option beats OPSCONDUCTOR_CONTEXT, then come ./.opsconductor/context.yaml and the one in
        the home directory.

        Raises:
            NoContext: None is given and none is there, or the given one does not exist.
        """
        given = self.context_option or os.environ.get(VARIABLE)
        if given:
            path = Path(given).expanduser()
            if path.is_file():
                return path
            source = "--context" if self.context_option else VARIABLE
            raise NoContext(f"{source} names {path}, which does not exist")
        for path in (_LOCAL, _PERSONAL.expanduser()):
            if path.is_file():
                return path
        raise NoContext(
            "no context says where the orchestrator is: 'opsctl up --data-dir DIR --detach' starts "
            f"one and prints the line 'export {VARIABLE}=DIR/context.yaml' to use it"
        )

    def context(self, path: str | None = None) -> Context:
        """Reads the context file in force, or exactly the given one."""
        # First the cheap look: without a context nothing heavy need be imported.
        file = Path(path) if path else self.context_path()
        from opsconductor.client.context import Context

        # Variables say where to go instead of the context in force; a given file is meant itself.
        return Context.load(file, {} if path else os.environ)

    def client(self, path: str | None = None) -> SyncClient:
        """Opens a client; it connects at its first call."""
        context = self.context(path)
        from opsconductor.client.sync_client import SyncClient

        return SyncClient(context)


def session_of(ctx: typer.Context) -> Session:
    """Returns the session that the top of the command line made."""
    session = ctx.find_object(Session)
    return session if session is not None else Session(Terminal())
