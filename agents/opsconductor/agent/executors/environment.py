"""The environment of a step: built from nothing, so that nothing of the agent leaks into it."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import MARKER

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for on the agent's host."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
# Each of these makes a loader, shell or interpreter run something else than the command says.
_FORBIDDEN = re.compile(
    r"LD_.*|DYLD_.*|PYTHON.*|PERL.*|RUBY.*|NODE_.*|GIT_.*|BASH.*|ENV|IFS|PATH|SHELLOPTS|PS4|HOME"
)


def step_variables(call: Call) -> dict[str, str]:
    """Returns the variables every step gets, local or remote; drops those that steer loaders."""
    variables = {
        name: value
        for name, value in call.env.items()
        if _NAME.fullmatch(name) and not _FORBIDDEN.fullmatch(name) and "\0" not in value
    }
    return {**variables, "LC_ALL": "C", "TZ": "UTC", MARKER: call.attempt_id}


def local_environment(call: Call) -> dict[str, str]:
    """Returns the whole environment of a step on the agent's own host."""
    return {**step_variables(call), "PATH": PATH, "HOME": _home()}


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"
