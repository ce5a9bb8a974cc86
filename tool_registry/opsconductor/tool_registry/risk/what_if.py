"""Judges PowerShell dry runs: plain calls of cmdlets that all end with -WhatIf.

Only scripts of tools' authors come here; callers' values travel beside them as parameters. A cmdlet
that knows no -WhatIf refuses the call, so that nothing happens then either.
"""

from __future__ import annotations

import re

from opsconductor.tool_registry.risk.commands import Judgement

_PARAMETERS = re.compile(r"param\((?:\[\w+\]\$\w+(?:, ?)?)+\)")
_VALUE = r"(?:\$\w+|\w+)"
_ASKED = re.compile(rf"[A-Z][A-Za-z]+-[A-Z]\w+(?: -[A-Z]\w*(?:(?::| ){_VALUE})?)* -WhatIf")


def judge_what_if(body: str) -> Judgement:
    """Returns read_only for a script in which every line is asked with -WhatIf."""
    lines = [line for line in body.splitlines() if line.strip()]
    if lines and _PARAMETERS.fullmatch(lines[0]):
        lines = lines[1:]
    for line in lines:
        if not _ASKED.fullmatch(line):
            return Judgement("destructive", f"not a plain call with -WhatIf: {line[:80]}")
    if not lines:
        return Judgement("destructive", "the script is empty")
    return Judgement("read_only", "every cmdlet is only asked with -WhatIf")
