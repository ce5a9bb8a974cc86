"""What a plan is: frozen values, as its author meant them, nothing resolved yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Any

DOCUMENT_VERSION = "opsconductor/v1"
MODES = ("sequential", "parallel", "graph")
ON_FAILURE = ("stop", "rollback", "continue", "ask")
RUN_MODES = ("auto", "immediate", "background")
BACKOFFS = ("fixed", "linear", "exponential")
ON_CONFLICT = ("queue", "fail")

NAME_LABEL = "name"
"""Label every agent carries by itself: its name. A plan can so ask for one agent."""
MAX_STEPS = 2000
MAX_ATTEMPTS = 20
MIN_TIMEOUT = timedelta(seconds=1)
MAX_TIMEOUT = timedelta(hours=24)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool inside a step."""

    tool: str
    inputs: Mapping[str, Json] = field(default_factory=dict)
    target: str = ""
    """Empty means the step's target."""
    success: str = ""
    path: str = ""
    """Where it stands in the document, for messages."""


@dataclass(frozen=True)
class Retry:
    """When and how often a step is tried again."""

    max_attempts: int = 1
    backoff: str = "exponential"
    base: timedelta = timedelta(0)
    increment: timedelta = timedelta(0)
    factor: float = 2.0
    max: timedelta = timedelta(0)
    """Upper bound of a delay; zero means none."""
    jitter: bool = True
    on: tuple[str, ...] = ()
    """Error classes or patterns on the error text; empty means every retryable class."""


@dataclass(frozen=True)
class Concurrency:
    """A named lock with room for ``max_runs`` holders."""

    key: str
    max_runs: int = 1
    on_conflict: str = "queue"


@dataclass(frozen=True)
class GroupQuorum:
    """How many people of a group must agree."""

    group: str
    approve: int = 1


@dataclass(frozen=True)
class ApprovalAsk:
    """Approvals a plan asks for beyond policy."""

    all_of: tuple[GroupQuorum, ...] = ()
    any_of: tuple[GroupQuorum, ...] = ()
    expires: timedelta | None = None


@dataclass(frozen=True)
class UndoAsk:
    """How the plan's author wants a step undone."""

    strategy: str
    """``none``, ``state``, ``manual`` or ``call``."""
    manual: str = ""
    call: ToolCall | None = None


@dataclass(frozen=True)
class Step:
    """One typed piece of work."""

    id: str
    tool: str
    description: str = ""
    target: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    condition: str = ""
    success: str = ""
    timeout: timedelta | None = None
    retry: Retry | None = None
    concurrency: Concurrency | None = None
    approval: ApprovalAsk | None = None
    precheck: ToolCall | None = None
    verify: ToolCall | None = None
    undo: UndoAsk | None = None
    irreversible: bool = False
    dry_run: bool = False
    """Whether only what the call would do is asked."""
    segment: str = ""
    agent_labels: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    """Where it stands in the document, for messages."""


@dataclass(frozen=True)
class Plan:
    """A small graph of typed steps."""

    steps: tuple[Step, ...]
    name: str = ""
    plan_id: str = ""
    mode: str = "sequential"
    on_failure: str = "stop"
    run: str = "auto"
    priority: int = 3
    risk: str = ""
    """The author's claim as a level, ``low`` to ``critical``; empty when none was made."""
    rollback: tuple[ToolCall, ...] = ()
    timeout: timedelta | None = None
    context: Mapping[str, Json] = field(default_factory=dict)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    segment: str = ""
    agent_labels: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    """Whether every step is a dry run."""

    @property
    def environment(self) -> str:
        """Returns the environment the context names, such as ``production``; empty when none."""
        value = self.context.get("environment", "")
        return value if isinstance(value, str) else ""
