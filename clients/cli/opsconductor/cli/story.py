"""Tells an execution as it goes, in the order a person expects: a step's output before its end."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_line, escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.cli.plain import plain, word
from opsconductor.cli.terminal import style_of
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse, WatchResponse


class Line(NamedTuple):
    """A line to show, already escaped."""

    text: str
    style: str = ""


class _Held(NamedTuple):
    """A line that waits until the output of an attempt has arrived."""

    line: Line
    attempt_id: str = ""
    size: int = 0


class Story:
    """Makes lines of events and output.

    Both arrive by themselves, so the end of an attempt may be heard before its last words; lines
    about the end, and what follows them, are held back until those have arrived.
    """

    def __init__(self, *, output: bool) -> None:
        self._output = output
        self._lines = OutputLines()
        self._began: dict[str, Timestamp] = {}
        self._arrived: Counter[str] = Counter()
        self._ends: dict[str, tuple[str, int]] = {}
        self._held: deque[_Held] = deque()

    def event(self, event: WatchResponse) -> Iterator[Line]:
        """Returns the lines that an event adds."""
        detail = plain(event.detail)
        if event.type == "attempt_granted":
            self._began[event.step_id] = event.time
        if event.type == "attempt_finished" and self._output:
            size = int(detail.get("stdout_bytes", 0)) + int(detail.get("stderr_bytes", 0))
            self._ends[event.step_id] = (event.attempt_id, size)
        text = self._text(event, detail)
        if text:
            held = self._ends.get(event.step_id, ("", 0))
            self._held.append(_Held(Line(text, _style(event)), *held))
        yield from self._released()

    def output(self, piece: ReadOutputResponse) -> Iterator[Line]:
        """Returns the lines that a piece of output completes, and those it lets go."""
        self._arrived[piece.attempt_id] += len(piece.data) + piece.gap_bytes
        for line in self._lines.add(piece):
            yield Line(line)
        yield from self._released()

    def rest(self) -> Iterator[Line]:
        """Returns what is left: unfinished lines, then what was held back."""
        for line in self._lines.finish():
            yield Line(line)
        while self._held:
            yield self._held.popleft().line

    def _released(self) -> Iterator[Line]:
        while self._held and self._arrived[self._held[0].attempt_id] >= self._held[0].size:
            held = self._held.popleft()
            if held.attempt_id:
                for line in self._lines.finish(held.attempt_id):
                    yield Line(line)
            yield held.line

    def _text(self, event: WatchResponse, detail: dict[str, Any]) -> str:
        if event.type in _SILENT:
            return ""
        if event.type == "step_finished":
            text = _end_of_step(event, detail, self._began.get(event.step_id))
        elif event.type in _TELLERS:
            text = _TELLERS[event.type](detail)
        else:
            text = event.summary or event.type.replace("_", " ")
        if not text:
            return ""
        text = escape_line(text)
        return f"{escape_name(event.step_id)}: {text}" if event.step_id else text


_SILENT = frozenset(
    {
        "submitted",
        "auto_approved",
        "attempt_started",
        "attempt_finished",
        "step_queued",
        "undo_queued",
        "execution_finished",
    }
)
"""Events between those a person waits for; the history keeps them all."""


def _granted(detail: dict[str, Any]) -> str:
    if detail.get("kind") == "undo":
        return ""
    again = f" again (attempt {detail['number']})" if detail.get("number", 1) > 1 else ""
    # The reason begins with the agent's name and ends with how busy it is.
    agent = str(detail.get("routing_reason", "")).partition(" ")[0]
    return f"runs{again} on {agent}" if agent else f"runs{again}"


def _end_of_step(event: WatchResponse, detail: dict[str, Any], began: Timestamp | None) -> str:
    status = str(detail.get("state", "ended")).replace("_", " ")
    why = (detail.get("error") or {}).get("message", "")
    if why:
        return f"{status}: {why}"
    took = formats.between(began, event.time) if began else ""
    return f"{status} in {took}" if took else status


def _closed(detail: dict[str, Any]) -> str:
    # Decisions tell themselves; only an end without one is news.
    if detail.get("state") in ("approved", "rejected", "changes_requested"):
        return ""
    return f"the approval request is {detail.get('state', 'closed')}"


def _decided(detail: dict[str, Any]) -> str:
    words = {"approve": "approved by", "reject": "rejected by", "edit": "edited by"}
    said = words.get(str(detail.get("kind")), "changes asked for by")
    return f"{said} {detail.get('person', '')}" + _because(detail)


def _rolling_back(detail: dict[str, Any]) -> str:
    order = [escape_name(str(step)) for step in detail.get("order") or []]
    return f"rolling back {', '.join(order) or 'nothing'}" + _because(detail)


def _undone(detail: dict[str, Any]) -> str:
    why = (detail.get("error") or {}).get("message", "")
    return str(detail.get("state", "undone")).replace("_", " ") + (f": {why}" if why else "")


def _because(detail: dict[str, Any]) -> str:
    return f": {detail['reason']}" if detail.get("reason") else ""


_TELLERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "approval_requested": lambda detail: f"waits for approval by {detail['requirement_text']}",
    "approval_closed": _closed,
    "decision_recorded": _decided,
    "attempt_granted": _granted,
    "step_skipped": lambda detail: "skipped" + _because(detail),
    "retry_scheduled": lambda detail: "will be tried again" + _because(detail),
    "rollback_started": _rolling_back,
    "undo_skipped": lambda detail: "nothing to take back" + _because(detail),
    "undo_finished": _undone,
    "attention_required": lambda detail: "a person has to decide" + _because(detail),
}


def _style(event: WatchResponse) -> str:
    if event.type in ("step_finished", "undo_finished"):
        return style_of(word(executions.StepState.DESCRIPTOR, event.step_state))
    if event.type == "rollback_started":
        return style_of("rolling_back")
    return style_of("attention_required") if event.type == "attention_required" else ""
