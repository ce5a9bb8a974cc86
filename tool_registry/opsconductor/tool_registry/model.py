"""A tool as the rest of the system sees it: frozen, checked, with the digest of its definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

UndoStrategy = Literal["none", "not_needed", "manual", "call", "state"]
RiskClass = Literal["read_only", "modify", "destructive"]


@dataclass(frozen=True, slots=True)
class Annotations:
    """Hints about a tool's effects; the defaults assume the worst, as MCP's do."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    security_relevant: bool = False
    """Changes identities, firewalls or credentials."""
    resource_heavy: bool = False
    """Loads its host so much that it is never run in the foreground by itself."""


@dataclass(frozen=True, slots=True)
class Undo:
    """How a call of the tool is undone when the plan does not say."""

    strategy: UndoStrategy = "none"
    reason: str = ""
    """Why nothing is needed, nothing is possible, or what a person has to do (strategy manual)."""
    tool: str = ""
    """Tool that undoes it (strategy call)."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Its inputs; ``${{ inputs.x }}`` refers to the inputs of the undone call."""
    command: Mapping[str, Any] | None = None
    """Command template over inputs, target and ``captured`` (strategy state)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a person is shown of a call whose outcome nobody knows."""

    tool: str
    """Tool that only reads."""
    inputs: Mapping[str, Any]
    """Its inputs; ``${{ inputs.x }}`` refers to the inputs of the call asked about."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What is read before a change so that it can be undone from state."""

    command: Mapping[str, Any]
    output: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Success:
    """When a call counts as successful; every given condition must hold."""

    exit_codes: tuple[int, ...] = (0,)
    expression: str = ""
    """CEL over output, exit_code and inputs."""
    stdout_regex: str = ""
    stderr_not_regex: str = ""


@dataclass(frozen=True, slots=True)
class DryRun:
    """How the program itself tells what a call would do."""

    command: Mapping[str, Any]
    read_only: bool = False
    """Whether the author answers for it that nothing changes, where no parser can tell."""
    unprivileged: bool = False
    """Whether it needs no rights of root, though the call itself does."""
    output: Mapping[str, Any] = field(default_factory=lambda: {"parser": "text"})
    success: Success = Success()


@dataclass(frozen=True, slots=True)
class RiskFrom:
    """Says that the risk of a call comes from parsing one of its inputs."""

    parser: Literal["argv", "script", "sql", "redis", "aws", "http"]
    parameter: str
    interpreter: str = ""
    """Input that names what runs the script (parser script)."""
    dialect: Literal["postgresql", "mysql", "sqlite"] = "postgresql"
    """How the parser ``sql`` reads the statement."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected duration: ``base`` and, for each named numeric input, ``per`` times its value."""

    base: timedelta
    per: Mapping[str, timedelta]


@dataclass(frozen=True, slots=True)
class Example:
    """One call with the exact command it renders to."""

    name: str
    inputs: Mapping[str, Any]
    target: Mapping[str, Any] | None
    captured: Mapping[str, Any] | None
    section: str
    renders: Mapping[str, Any]
    risk: str


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A tool definition that passed the schema, the lint and its own examples."""

    name: str
    version: str
    title: str
    description: str
    platform: str
    category: str
    aliases: tuple[str, ...]
    use_cases: tuple[str, ...]
    not_for: tuple[str, ...]
    keywords: tuple[str, ...]
    location: str
    """Service it runs in, such as automation-service."""
    method: str
    """Executor: command (carried by the target's connection), local-command, http, inventory, …"""
    requires_target: bool
    target_type: str
    """host, device, url, … or none when a step may not name a target."""
    elevate: bool
    """Whether it needs the rights of root: run through sudo unless it has them."""
    parameters: Mapping[str, Any]
    """JSON Schema of the inputs."""
    annotations: Annotations
    risk_rules: tuple[Mapping[str, Any], ...]
    risk_from: RiskFrom | None
    command: Mapping[str, Any]
    dry_run: DryRun | None
    capture: Capture | None
    undo: Undo
    success: Success
    retry: Mapping[str, Any] | None
    """Retry in a plan's words (max_attempts, backoff, base, max, on, …); None means one attempt."""
    timeout: timedelta
    estimate: Estimate | None
    output: Mapping[str, Any]
    summary: str
    """One sentence about a finished call, with ``${{ inputs… }}`` and ``${{ output… }}``."""
    locks: tuple[Mapping[str, str], ...]
    requires_binaries: tuple[str, ...]
    requires_capabilities: tuple[str, ...]
    """What it needs of root's rights, where that is all; an agent that has them needs no sudo."""
    examples: tuple[Example, ...]
    digest: str
    """``sha256:…`` of the canonical definition."""
    source: bytes
    """The file as written."""
    elevated_cases: frozenset[str] = frozenset()
    """Cases of its commands that need the rights of root, where not all do."""
    probe: Probe | None = None
    """Its own look at what became of a call; None where it declares none."""

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """The parameter schemas by name."""
        properties: Mapping[str, Mapping[str, Any]] = self.parameters.get("properties", {})
        return properties

    @property
    def required(self) -> frozenset[str]:
        """The names of inputs that must be given."""
        return frozenset(self.parameters.get("required", ()))

    @property
    def runs_on_agent_host(self) -> bool:
        """Whether a call without a target runs on the agent's own host."""
        return self.method in ("command", "local-command")
