"""A compiled plan: the exact bytes that are approved and run, and what people are told of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.approval import Gates
from opsconductor.orchestrator.domain.plans.durations import from_ms, to_ms
from opsconductor.orchestrator.domain.plans.policy import ApprovalLevel
from opsconductor.orchestrator.domain.plans.risk import StepRisk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from opsconductor.rpc.errors import Fault

Json = Any


@dataclass(frozen=True)
class CompiledStep:
    """One step, or one plan-level rollback call, as an agent gets it."""

    step_id: str
    body_bytes: bytes
    """Canonical JSON; what the digest is of, never serialised again."""
    digest: str
    risk: StepRisk
    estimate: timedelta | None = None
    """Expected duration of one attempt; None when unknown."""
    command: str = ""
    """The rendered command for people; secrets and late values are shown as placeholders."""
    undo_lines: tuple[str, ...] = ("none",)
    late: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Steps whose output an input waits for, by input."""
    approval: str = ""
    """The approval the plan asks for this step itself, in words."""
    description: str = ""

    @cached_property
    def body(self) -> Mapping[str, Json]:
        """The step body, read from its bytes."""
        body: Mapping[str, Json] = json.loads(self.body_bytes)
        return body

    @property
    def changes(self) -> bool:
        """Whether anything may differ afterwards."""
        return self.risk.changes

    @property
    def needs(self) -> tuple[str, ...]:
        """Steps that end before this one starts, whatever the plan's mode."""
        return tuple(self.body["needs"])

    @property
    def tool(self) -> str:
        """Canonical tool name."""
        return str(self.body["tool"])

    @property
    def target_name(self) -> str:
        """The target as named in the plan; empty without one."""
        target = self.body["target"]
        return str(target["name"]) if target else ""

    @property
    def address(self) -> str:
        """The address the target resolves to; empty without one."""
        target = self.body["target"]
        return str(target["address"]) if target else ""

    def to_json(self) -> dict[str, Json]:
        """Returns the step as JSON; the body travels as text so that its bytes stay the same."""
        return {
            "step_id": self.step_id,
            "body": self.body_bytes.decode(),
            "digest": self.digest,
            "risk": self.risk.to_json(),
            "estimate_ms": None if self.estimate is None else to_ms(self.estimate),
            "command": self.command,
            "undo_lines": list(self.undo_lines),
            "late": {name: list(steps) for name, steps in self.late.items()},
            "approval": self.approval,
            "description": self.description,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> CompiledStep:
        """Reads what ``to_json`` wrote."""
        estimate_ms = data["estimate_ms"]
        return cls(
            step_id=data["step_id"],
            body_bytes=data["body"].encode(),
            digest=data["digest"],
            risk=StepRisk.from_json(data["risk"]),
            estimate=None if estimate_ms is None else from_ms(estimate_ms),
            command=data["command"],
            undo_lines=tuple(data["undo_lines"]),
            late={name: tuple(steps) for name, steps in data["late"].items()},
            approval=data["approval"],
            description=data["description"],
        )


@dataclass(frozen=True)
class CompiledPlan:
    """A plan ready to be approved and run; stored whole inside the ``submitted`` event."""

    steps: tuple[CompiledStep, ...]
    rollback: tuple[CompiledStep, ...]
    """Plan-level undo calls, ``rollback-1`` and so on."""
    manifest_bytes: bytes
    plan_digest: str
    level: ApprovalLevel
    risk: StepRisk
    gates: Gates
    run: str
    """``immediate`` or ``background``."""
    estimate: timedelta | None
    """Expected time along the longest path; None when unknown."""
    name: str = ""
    priority: int = 3
    inputs: Mapping[str, Json] = field(default_factory=dict)
    context: Mapping[str, Json] = field(default_factory=dict)
    warnings: tuple[Fault, ...] = ()
    """Told at submission; not stored."""

    @cached_property
    def manifest(self) -> Mapping[str, Json]:
        """The manifest, read from its bytes."""
        manifest: Mapping[str, Json] = json.loads(self.manifest_bytes)
        return manifest

    @property
    def plan_id(self) -> str:
        """The plan's id."""
        return str(self.manifest["plan_id"])

    @property
    def revision(self) -> int:
        """Revision of the plan, from 1."""
        return int(self.manifest["revision"])

    @property
    def on_failure(self) -> str:
        """``stop``, ``rollback``, ``continue`` or ``ask``."""
        return str(self.manifest["on_failure"])

    @property
    def policy(self) -> Mapping[str, str]:
        """Name and version of the policy that judged."""
        policy: Mapping[str, str] = self.manifest["policy"]
        return policy

    @property
    def timeout_ms(self) -> int:
        """Limit for the whole execution; 0 for none."""
        return int(self.manifest["timeout_ms"])

    @property
    def timeout(self) -> timedelta | None:
        """Limit for the whole execution; None for none."""
        return from_ms(self.timeout_ms) if self.timeout_ms else None

    @cached_property
    def _by_id(self) -> Mapping[str, CompiledStep]:
        return {step.step_id: step for step in (*self.steps, *self.rollback)}

    @cached_property
    def _rollback_ids(self) -> frozenset[str]:
        return frozenset(step.step_id for step in self.rollback)

    def step(self, step_id: str) -> CompiledStep:
        """Returns a step or rollback call; raises KeyError for an unknown id."""
        return self._by_id[step_id]

    def is_rollback(self, step_id: str) -> bool:
        """Tells whether an id is that of a plan-level rollback call."""
        return step_id in self._rollback_ids

    def to_json(self) -> dict[str, Json]:
        """Returns the plan as JSON; bodies and manifest travel as text, so bytes stay the same."""
        return {
            "v": 1,
            "steps": [step.to_json() for step in self.steps],
            "rollback": [step.to_json() for step in self.rollback],
            "manifest": self.manifest_bytes.decode(),
            "plan_digest": self.plan_digest,
            "level": self.level.to_json(),
            "risk": self.risk.to_json(),
            "gates": self.gates.to_json(),
            "run": self.run,
            "estimate_ms": None if self.estimate is None else to_ms(self.estimate),
            "name": self.name,
            "priority": self.priority,
            "inputs": dict(self.inputs),
            "context": dict(self.context),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> CompiledPlan:
        """Reads what ``to_json`` wrote."""
        estimate_ms = data["estimate_ms"]
        return cls(
            steps=tuple(CompiledStep.from_json(item) for item in data["steps"]),
            rollback=tuple(CompiledStep.from_json(item) for item in data["rollback"]),
            manifest_bytes=data["manifest"].encode(),
            plan_digest=data["plan_digest"],
            level=ApprovalLevel.from_json(data["level"]),
            risk=StepRisk.from_json(data["risk"]),
            gates=Gates.from_json(data["gates"]),
            run=data["run"],
            estimate=None if estimate_ms is None else from_ms(estimate_ms),
            name=data["name"],
            priority=data["priority"],
            inputs=data["inputs"],
            context=data["context"],
        )
