"""Orders as an honest orchestrator makes them, with tools and a signer of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from opsconductor.agent.order import Order, Signed
from opsconductor.rpc import canonical, ids, sshsig, statements
from opsconductor.rpc.allowed_signers import AllowedSigners
from opsconductor.tool_registry.model import Annotations, Capture, Success, Tool, Undo
from opsconductor.tool_registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT = "default"


def make_tool(name: str, **changes: Any) -> Tool:
    """Returns a tool that runs ``NAME --word=WORD``; it only reads unless told otherwise."""
    values: dict[str, Any] = {
        "name": name,
        "version": "1.0",
        "title": name,
        "description": f"{name} for tests",
        "platform": "any",
        "category": "linux",
        "aliases": (),
        "use_cases": (),
        "not_for": (),
        "keywords": (),
        "location": "automation-service",
        "method": "command",
        "requires_target": False,
        "target_type": "host",
        "elevate": False,
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": [],
            "properties": {"word": {"type": "string", "maxLength": 40, "default": "hello"}},
        },
        "annotations": Annotations(
            read_only=True, destructive=False, idempotent=True, open_world=False
        ),
        "risk_rules": (),
        "risk_from": None,
        "command": {"argv": [name, "--word={word}"]},
        "dry_run": None,
        "capture": None,
        "undo": Undo(),
        "success": Success(),
        "retry": None,
        "timeout": timedelta(seconds=30),
        "estimate": None,
        "output": {"parser": "text"},
        "summary": "",
        "locks": (),
        "requires_binaries": (),
        "requires_capabilities": (),
        "examples": (),
        "digest": "sha256:" + name.encode().hex().ljust(64, "0")[:64],
        "source": b"",
    }
    return Tool(**{**values, **changes})


CHANGES = Annotations(read_only=False, destructive=False)
READ = make_tool("read")
CHANGE = make_tool("change", annotations=CHANGES)
KEEP = make_tool(
    "keep",
    annotations=CHANGES,
    capture=Capture({"argv": ["keep", "--show"]}, {"parser": "json"}),
    undo=Undo("state", command={"argv": ["keep", "--restore={captured.was}"]}),
)


def registry(*more: Tool) -> Registry:
    """Returns a registry of the test tools and some more."""
    return Registry([READ, CHANGE, KEEP, *more])


@dataclass(frozen=True)
class Person:
    """Someone with a key."""

    name: str
    private: bytes
    public: str

    @classmethod
    def new(cls, name: str) -> Person:
        return cls(name, *sshsig.generate_key(name))

    def sign(self, statement: bytes, namespace: str = statements.NAMESPACE) -> Signed:
        return Signed(statement, sshsig.sign(statement, self.private, namespace))

    @property
    def signer_line(self) -> str:
        return f'{self.name} namespaces="{statements.NAMESPACE}" {self.public}'


def signers(*people: Person) -> AllowedSigners:
    return AllowedSigners.parse("\n".join(person.signer_line for person in people))


def call_of(tool: Tool, **changes: Any) -> dict[str, Any]:
    return {
        "tool": tool.name,
        "tool_version": tool.version,
        "tool_digest": tool.digest,
        "location": tool.location,
        "method": tool.method,
        "inputs": {"word": "hello"},
        "target": None,
        "success": "",
        "risk": "read_only" if tool.annotations.read_only else "modify",
        **changes,
    }


def body_of(tool: Tool, step_id: Any = "one", **changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "step_id": step_id,
        "segment": "",
        "agent_labels": {},
        "late": [],
        "critical": False,
        "idempotent": tool.annotations.idempotent,
        "irreversible": False,
        "needs": [],
        "if": "",
        "timeout_ms": 30_000,
        "retry": {
            "max_attempts": 1,
            "backoff": "fixed",
            "base_ms": 0,
            "increment_ms": 0,
            "factor": 2.0,
            "max_ms": 0,
            "jitter": True,
            "on": [],
        },
        "precheck": None,
        "verify": None,
        "undo": {"strategy": "none", "manual": "", "call": None},
        "approval": None,
        "concurrency": None,
        **call_of(tool),
        **changes,
    }


def manifest_of(*bodies: dict[str, Any], tenant: str = TENANT) -> dict[str, Any]:
    return {
        "v": 1,
        "tenant": tenant,
        "plan_id": "plan_1",
        "revision": 1,
        "mode": "sequential",
        "on_failure": "stop",
        "timeout_ms": 0,
        "environment": "",
        "policy": {"name": "embedded", "version": "1"},
        "steps": [
            {
                "id": body["step_id"],
                "digest": canonical.digest(canonical.STEP_DOMAIN, canonical.dumps(body)),
                "risk": body["risk"],
                "needs": body["needs"],
            }
            for body in bodies
        ],
        "rollback": [],
    }


@dataclass
class Orchestrator:
    """Makes orders for one execution; nothing in it is dishonest unless a test makes it so."""

    execution_id: str = "exec_1"
    people: tuple[Person, ...] = ()
    at: datetime = NOW
    epoch: int = 1
    manifest: dict[str, Any] = field(default_factory=dict)

    def order(
        self,
        body: dict[str, Any],
        *,
        kind: str = "forward",
        number: int = 1,
        late: dict[str, Any] | None = None,
        others: tuple[dict[str, Any], ...] = (),
        **changes: Any,
    ) -> Order:
        manifest = canonical.dumps(manifest_of(body, *others))
        order = Order(
            attempt_id=ids.attempt_id(self.execution_id, body["step_id"], kind, number),
            execution_id=self.execution_id,
            step_id=body["step_id"],
            kind=kind,
            number=number,
            body=canonical.dumps(body),
            manifest=manifest,
            approvals=tuple(
                person.sign(self.approval(manifest, approver=person.name)) for person in self.people
            ),
            late_inputs=json.dumps(late).encode() if late is not None else b"",
            start_ttl=20.0,
            session_epoch=self.epoch,
        )
        return replace(order, **changes)

    def approval(self, manifest: bytes, *, approver: str, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "tenant": TENANT,
            "execution_id": self.execution_id,
            "plan_digest": canonical.digest(canonical.MANIFEST_DOMAIN, manifest),
            "steps": ["*"],
            "approver": approver,
            "not_before": self.at - timedelta(minutes=1),
            "not_after": self.at + timedelta(hours=4),
            **changes,
        }
        return statements.approval_statement(**values)

    def resolution(self, step_id: str, number: int, *, approver: str, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "tenant": TENANT,
            "execution_id": self.execution_id,
            "step_id": step_id,
            "attempt_id": ids.attempt_id(self.execution_id, step_id, "forward", number),
            "approver": approver,
            "not_before": self.at - timedelta(minutes=1),
            "not_after": self.at + timedelta(hours=4),
            **changes,
        }
        return statements.resolution_statement(**values)
