"""The outer limits of a plan document: what any JSON reader, signer and agent can carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import shown

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.findings import Findings

MAX_DEPTH = 32
MAX_VALUES = 400_000
MAX_TEXT = 1 << 20
MAX_INTEGER = 2**53 - 1


def check_limits(document: Mapping[Any, Any], findings: Findings) -> bool:
    """Records values outside the JSON profile; False when the document is too large to go on."""
    pending: list[tuple[Any, str, int]] = [(document, "", 0)]
    seen = 0
    while pending:
        value, path, depth = pending.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else "too many values"
            expected = f"<= {MAX_VALUES} values, nested <= {MAX_DEPTH} deep"
            findings.fault("PLAN_TOO_LARGE", path or "plan", found=what, expected=expected)
            return False
        if isinstance(value, Mapping):
            for key, item in value.items():
                _check_key(key, path, findings)
                pending.append((item, f"{path}.{key}" if path else str(key), depth + 1))
        elif isinstance(value, list | tuple):
            pending.extend(
                (item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)
            )
        else:
            _check_scalar(value, path, findings)
    return True


def _check_key(key: object, path: str, findings: Findings) -> None:
    if not isinstance(key, str):
        expected = "text as a key"
        findings.fault("TYPE", path or "plan", found=shown(key), expected=expected, hint="quote it")
    elif not _encodable(key):
        findings.fault("ENCODING", path or "plan", found=shown(key), expected="valid Unicode")


def _check_scalar(value: object, path: str, findings: Findings) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            findings.fault(
                "TOO_LONG", path, found=f"{len(value)} characters", expected=f"<= {MAX_TEXT}"
            )
        elif not _encodable(value):
            findings.fault("ENCODING", path, found=shown(value), expected="valid Unicode")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            findings.fault("NUMBER", path, found=shown(value), expected="at most 2^53-1")
    elif isinstance(value, float):
        if not math.isfinite(value):
            findings.fault("NUMBER", path, found=repr(value), expected="a finite number")
    else:
        findings.fault("TYPE", path, found=type(value).__name__, expected="a JSON value")


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
