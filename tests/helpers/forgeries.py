"""Orders no agent may carry out, each with the code it is refused with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from helpers.evil_world import ALICE, BOB, EVE, REGISTRY, RUN, World
from helpers.orders import NOW, Orchestrator, body_of, call_of, manifest_of
from opsconductor.agent.order import Signed
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.order import Order


@dataclass(frozen=True)
class Forgery:
    what: str
    code: str
    make: Callable[[World], Order]


def rebodied(world: World, order: Order, body: dict[str, Any], *, manifest: bool) -> Order:
    changed = replace(order, body=canonical.dumps(body))
    if manifest:
        changed = replace(changed, manifest=canonical.dumps(manifest_of(body)))
    return changed


def restated(world: World, change: Callable[[bytes], bytes]) -> Order:
    order = world.honest()
    signed = order.approvals[0]
    return replace(order, approvals=(Signed(change(signed.statement), signed.signature),))


def resigned(world: World, change: Callable[[str], str]) -> Order:
    order = world.honest()
    signed = order.approvals[0]
    return replace(order, approvals=(Signed(signed.statement, change(signed.signature)),))


def manifest_with(world: World, **changes: Any) -> Order:
    order = world.unsigned()
    manifest = canonical.dumps({**manifest_of(world.change()), **changes})
    statement = Orchestrator().approval(manifest, approver="alice")
    return replace(order, manifest=manifest, approvals=(ALICE.sign(statement),))


def with_resolution_only(world: World) -> Order:
    order = world.unsigned()
    resolution = Orchestrator().resolution("one", 1, approver="alice")
    return replace(order, approvals=(ALICE.sign(resolution),))


def undoable(world: World, **changes: Any) -> dict[str, Any]:
    undo = {"strategy": "call", "manual": "", "call": call_of(RUN, inputs=world.command("undone"))}
    return world.change(undo=undo, **changes)


ELSEWHERE = {"name": "web-01", "address": "10.9.9.9", "connection": "local", "segment": "office"}
STATE_UNDO = {"strategy": "state", "manual": "", "call": None}
WRITE = REGISTRY.get("write_file")

FORGERIES = [
    Forgery("a change nobody signed", "APPROVAL_MISSING", lambda w: w.unsigned()),
    Forgery(
        "a change that calls itself a read",
        "APPROVAL_MISSING",
        lambda w: w.unsigned(w.change(risk="read_only")),
    ),
    Forgery(
        "another command in an approved step",
        "DIGEST_MISMATCH",
        lambda w: rebodied(w, w.honest(), w.change(inputs=w.command("other")), manifest=False),
    ),
    Forgery(
        "another command with a manifest to match",
        "APPROVAL_DIGEST_MISMATCH",
        lambda w: rebodied(w, w.honest(), w.change(inputs=w.command("other")), manifest=True),
    ),
    Forgery(
        "another timeout",
        "DIGEST_MISMATCH",
        lambda w: rebodied(w, w.honest(), w.change(timeout_ms=1), manifest=False),
    ),
    Forgery(
        "a manifest that names the step twice",
        "DIGEST_MISMATCH",
        lambda w: manifest_with(w, steps=manifest_of(w.change(), w.change())["steps"]),
    ),
    Forgery("a manifest without the step", "DIGEST_MISMATCH", lambda w: manifest_with(w, steps=[])),
    Forgery(
        "the signature of another execution",
        "APPROVAL_DIGEST_MISMATCH",
        lambda w: w.approved(execution_id="exec_2"),
    ),
    Forgery(
        "the signature of another tenant",
        "APPROVAL_DIGEST_MISMATCH",
        lambda w: w.approved(tenant="acme"),
    ),
    Forgery(
        "the signature for another plan",
        "APPROVAL_DIGEST_MISMATCH",
        lambda w: w.approved(plan_digest="sha256:" + "0" * 64),
    ),
    Forgery(
        "the signature for another step", "APPROVAL_MISSING", lambda w: w.approved(steps=["two"])
    ),
    Forgery(
        "a signature that has expired",
        "APPROVAL_EXPIRED",
        lambda w: w.approved(
            not_before=NOW - timedelta(hours=2), not_after=NOW - timedelta(hours=1)
        ),
    ),
    Forgery(
        "a signature for tomorrow",
        "APPROVAL_EXPIRED",
        lambda w: w.approved(
            not_before=NOW + timedelta(hours=20), not_after=NOW + timedelta(hours=21)
        ),
    ),
    Forgery("a stranger's signature", "SIGNATURE_INVALID", lambda w: w.approved(EVE)),
    Forgery("a stranger as alice", "SIGNATURE_INVALID", lambda w: w.approved(EVE, "alice")),
    Forgery("bob as alice", "SIGNATURE_INVALID", lambda w: w.approved(BOB, "alice")),
    Forgery(
        "alice's signature of a git commit",
        "SIGNATURE_INVALID",
        lambda w: replace(
            w.honest(),
            approvals=(ALICE.sign(w.honest().approvals[0].statement, "git"),),
        ),
    ),
    Forgery(
        "a statement with one word altered",
        "SIGNATURE_INVALID",
        lambda w: restated(w, lambda text: text.replace(b'"steps":["*"]', b'"steps":["one"]')),
    ),
    Forgery(
        "a rejection sold as approval",
        "SIGNATURE_INVALID",
        lambda w: restated(w, lambda text: text.replace(b'"approve"', b'"reject"')),
    ),
    Forgery(
        "a statement with trailing blanks",
        "SIGNATURE_INVALID",
        lambda w: restated(w, lambda text: text + b" "),
    ),
    Forgery(
        "a signature with something behind it",
        "SIGNATURE_INVALID",
        lambda w: resigned(w, lambda text: text + "AAAA"),
    ),
    Forgery("no signature", "SIGNATURE_INVALID", lambda w: resigned(w, lambda _: "")),
    Forgery("a resolution as approval", "APPROVAL_MISSING", with_resolution_only),
    Forgery(
        "an attempt id of another step",
        "ATTEMPT_ID_MISMATCH",
        lambda w: replace(w.honest(), attempt_id=w.honest(number=2).attempt_id),
    ),
    Forgery("attempt number 0", "ATTEMPT_ID_MISMATCH", lambda w: w.honest(number=0)),
    Forgery("a kind nobody knows", "ATTEMPT_ID_MISMATCH", lambda w: w.honest(kind="probe")),
    Forgery("an order of an older session", "STALE_EPOCH", lambda w: w.honest(session_epoch=0)),
    Forgery("an order of a later session", "STALE_EPOCH", lambda w: w.honest(session_epoch=9)),
    Forgery("a heartbeat never sent", "START_TTL_EXPIRED", lambda w: w.honest(beat=7)),
    Forgery("an order that lay too long", "START_TTL_EXPIRED", lambda w: w.honest(start_ttl=0.0)),
    Forgery(
        "a tool defined otherwise",
        "TOOL_DIGEST_MISMATCH",
        lambda w: w.honest(w.change(tool_digest="sha256:" + "0" * 64)),
    ),
    Forgery(
        "a tool swapped under its digest",
        "TOOL_DIGEST_MISMATCH",
        lambda w: w.unsigned(w.read(tool="run_command", inputs=w.command())),
    ),
    Forgery("a tool unknown here", "UNKNOWN_TOOL", lambda w: w.honest(w.change(tool="rootkit"))),
    Forgery(
        "a step of another segment", "WRONG_SEGMENT", lambda w: w.honest(w.change(segment="office"))
    ),
    Forgery(
        "a target of another segment",
        "WRONG_SEGMENT",
        lambda w: w.honest(w.change(target=ELSEWHERE)),
    ),
    Forgery("a plan of another tenant", "WRONG_TENANT", lambda w: manifest_with(w, tenant="acme")),
    Forgery(
        "a command as late input",
        "LATE_INPUT_INVALID",
        lambda w: w.honest(late=w.command("late")),
    ),
    Forgery(
        "a change as precheck of a read",
        "NOT_READ_ONLY",
        lambda w: w.unsigned(w.read(precheck=call_of(RUN, inputs=w.command(), risk="read_only"))),
    ),
    Forgery(
        "a change as verification of a read",
        "NOT_READ_ONLY",
        lambda w: w.unsigned(w.read(verify=call_of(RUN, inputs=w.command(), risk="read_only"))),
    ),
    Forgery("an undo of a step that has none", "NO_UNDO", lambda w: w.honest(kind="undo")),
    Forgery(
        "an undo nobody signed",
        "APPROVAL_MISSING",
        lambda w: w.unsigned(undoable(w), kind="undo"),
    ),
    Forgery(
        "an undo call behind a read",
        "APPROVAL_MISSING",
        lambda w: w.unsigned(w.read(undo=undoable(w)["undo"]), kind="undo"),
    ),
    Forgery(
        "a state to restore that was never captured here",
        "CAPTURE_UNVERIFIED",
        lambda w: w.honest(
            body_of(
                WRITE,
                inputs={"path": str(w.ledger), "content": "x"},
                undo=STATE_UNDO,
            ),
            kind="undo",
            captured=b'{"existed":true,"content":"evil"}',
            undoes_attempt_id="att_1",
        ),
    ),
    Forgery("a body of version 2", "VERSION_UNSUPPORTED", lambda w: w.honest(w.change(v=2))),
    Forgery("a field too many", "MALFORMED", lambda w: w.honest(w.change(sudo=True))),
    Forgery("a timeout of a year", "MALFORMED", lambda w: w.honest(w.change(timeout_ms=1 << 40))),
    Forgery("a target that is a number", "MALFORMED", lambda w: w.honest(w.change(target=7))),
    Forgery(
        "inputs the tool does not take",
        "INPUT_INVALID",
        lambda w: w.honest(w.change(inputs={**w.command(), "as_root": True})),
    ),
    Forgery(
        "brackets without end",
        "MALFORMED",
        lambda w: replace(w.honest(), body=b"[" * 200_000),
    ),
    Forgery(
        "a tool name of half a megabyte",
        "UNKNOWN_TOOL",
        lambda w: w.honest(w.change(tool="\u20ac" * 150_000)),
    ),
]
