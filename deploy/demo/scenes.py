"""The scenes of the demo, each ending in claims that are checked."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from stage import Stage
    from world import World


def questions(stage: Stage, world: World) -> None:
    """Questions are answered at once (level 0)."""
    stage.say("How many assets do we have?")
    world.opsctl("run", "asset_query")
    answer = world.result()
    output = answer["step_results"][0]["output"]
    stage.claim(
        f"6 assets, all of them windows_workstation (answer: {json.dumps(output['breakdown'])})",
        held=output["total_count"] == 6 and output["breakdown"] == {"windows_workstation": 6},
    )
    world.import_servers()
    stage.say("Check disk space on web-server-01.")
    world.opsctl("run", "check_disk_space", "path=/", "--target", "web-server-01", expect=0)
    result = world.result()
    filesystem = result["step_results"][0]["output"]["filesystems"][0]
    usage = os.statvfs("/")
    size = usage.f_blocks * usage.f_frsize
    stage.claim("the size told is the true size of /", held=filesystem["size_bytes"] == size)
    asked = [name for name in result["approved_by"] if not name.startswith("policy:")]
    stage.claim("nobody had to be asked", held=result["status"] == "completed" and not asked)


def restart(stage: Stage, world: World) -> None:
    """Restart a service on web-server-01 over SSH, after asking."""
    host = world.hosts["dmz"]
    before = host.web_pid()
    plan = world.plan(
        "restart",
        """\
name: restart the web service
steps:
  - id: restart
    tool: restart_service
    target: web-server-01
    inputs: {service: web}
    verify: {tool: service_status, inputs: {service: web}, success: output.active}
    undo: {tool: restart_service, inputs: {service: web}}
""",
    )
    world.opsctl("plan", "-f", plan, expect=8)
    world.opsctl("run", "-f", plan, *world.approve_flag(), expect=0)
    after = host.web_pid()
    stage.claim(f"the service's process changed ({before} → {after})", held=before != after)
    stage.claim("it answers", held=_answers(world, host.web_url))
    result = world.result()
    people = [name for name in result["approved_by"] if not name.startswith("policy:")]
    stage.claim(f"a person approved it first ({', '.join(people)})", held=bool(people))


def rollback(stage: Stage, world: World) -> None:
    """A change over two segments fails at its third step and is undone in reverse order."""
    one, two = (world.hosts[name].folder / "motd" for name in ("dmz", "office"))
    one.write_text("as it was\n")
    plan = world.plan(
        "change",
        f"""\
name: new message of the day, everywhere
on_failure: rollback
context: {{environment: staging}}
steps:
  - id: web
    tool: write_file
    target: web-server-01
    inputs: {{path: "{one}", content: "changed\\n"}}
  - id: app
    tool: write_file
    target: app-server-01
    inputs: {{path: "{two}", content: "changed\\n"}}
  - id: announce
    tool: run_command
    target: app-server-01
    inputs: {{argv: [sh, -c, "echo telling everyone; exit 3"]}}
    undo: none
""",
    )
    world.opsctl("run", "-f", plan, *world.approve_flag(), expect=5)
    stage.claim("the first host's file is as it was", held=one.read_text() == "as it was\n")
    stage.claim("the second host's file, which was new, is gone", held=not two.exists())
    execution = world.latest()
    undone = [
        event["step_id"] for event in _events(world, execution) if event["type"] == "undo_finished"
    ]
    stage.claim(f"undone in reverse order: {', '.join(undone)}", held=undone == ["app", "web"])


def killed(stage: Stage, world: World) -> None:
    """The orchestrator is killed with -9 in the middle of a plan, and the plan finishes."""
    ledger = world.folder / "ledger"
    steps = "".join(
        f"""\
  - id: line{number}
    tool: run_command
    target: web-server-01
    inputs: {{argv: [sh, -c, "echo line {number} >> {ledger}; sleep 0.25"]}}
    undo: none
"""
        for number in range(1, 7)
    )
    plan = world.plan(
        "ledger", f"name: six lines, once each\ncontext: {{environment: staging}}\nsteps:\n{steps}"
    )
    world.opsctl("run", "-f", plan, "--yes", "--detach")
    execution = world.latest()
    world.wait(lambda: ledger.exists() and len(_lines(ledger)) >= 2, "two lines are written")
    pid = world.kill_orchestrator()
    stage.say(f"  kill -9 {pid} (the orchestrator), after line {len(_lines(ledger))}")
    world.opsctl("up", "--data-dir", world.data, "--detach")
    final = ("completed", "failed", "attention_required", "timed_out")
    world.wait(lambda: world.result(execution)["status"] in final, "the plan has ended")
    status = world.result(execution)["status"]
    stage.claim(f"the plan {status}", held=status == "completed")
    stage.show(ledger.read_text())
    wanted = [f"line {number}" for number in range(1, 7)]
    stage.claim("every line is there exactly once, in order", held=_lines(ledger) == wanted)


def tampered(stage: Stage, world: World) -> None:
    """A step is altered in the orchestrator's database after approval: the agent refuses it."""
    harmless, harmful = world.folder / "harmless", world.folder / "harmful!"
    plan = world.plan(
        "approved",
        f"""\
name: approved as harmless
context: {{environment: staging}}
steps:
  - id: write
    tool: run_command
    target: web-server-01
    inputs: {{argv: [touch, "{harmless}"]}}
    undo: none
""",
    )
    world.opsctl("agents", "drain", "dmz-1")
    world.opsctl("run", "-f", plan, "--yes", "--detach")
    execution = world.latest()
    world.kill_orchestrator()
    with sqlite3.connect(world.data / "store.sqlite") as database:
        # Whoever owns the database can also drop the trigger that forbids changing events.
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
        ).fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        changed = database.execute(
            "UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'harmless\\\"',"
            " 'harmful!\\\"') AS BLOB) WHERE execution_id = ? AND type = 'submitted'",
            (execution,),
        ).rowcount
    stage.say("  the orchestrator is stopped, its database is edited, it starts again")
    world.opsctl("up", "--data-dir", world.data, "--detach")
    world.opsctl("agents", "drain", "dmz-1", "--undo")
    world.wait(lambda: world.result(execution)["status"] == "failed", "it failed")
    result = world.result(execution)
    error = result["step_results"][0]["error"]
    stage.show(json.dumps(error, indent=2))
    stage.claim("the database was really edited", held=changed == 1)
    refused = error["code"] == "DIGEST_MISMATCH"
    stage.claim("the agent refused: the digest is not the one that was signed", held=refused)
    stage.claim("nothing ran", held=not harmless.exists() and not harmful.exists())


def evidence(stage: Stage, world: World) -> None:
    """The trace, the history, and how to look inside with grpcurl."""
    world.opsctl("runs", "list")
    rolled_back = world.latest("rolled_back")
    if not rolled_back:
        stage.say("  No change was rolled back, so there is no trace of one to show.")
        return
    trace_id = str(world.result(rolled_back)["trace_id"])
    world.wait(lambda: _is_whole(world, trace_id), "the trace has arrived")
    lines = world.traces.tree(trace_id)
    stage.say(f"the trace of the change that was rolled back ({trace_id}):")
    stage.show("\n".join(lines), most=60)
    spans = world.traces.spans[trace_id].values()
    services = {span.service for span in spans}
    stage.claim(
        "one trace, from submission to rollback, with spans of orchestrator and agents",
        held=services == {"opsconductor-orchestrator", "opsconductor-agent"},
    )
    roots = [span for span in spans if span.parent_id not in world.traces.spans[trace_id]]
    stage.claim("every span has its parent", held=len(roots) == 1)
    context = json.loads((world.data / "context.yaml").read_text())
    folder = world.data
    stage.say("to look inside with grpcurl, without any proto file:")
    tls = f"-cacert {folder}/ca.crt -cert {folder}/operator.crt -key {folder}/operator.key"
    stage.command(f"grpcurl {tls} {context['endpoint']} list")


ALL = (questions, restart, rollback, killed, tampered, evidence)


def _answers(world: World, url: str) -> bool:
    try:
        world.wait(lambda: _status(url) == 200, "the web service answers", 10)
    except TimeoutError:
        return False
    return True


def _status(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=2
        ) as response:
            return int(response.status)
    except OSError:
        return 0


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _events(world: World, execution_id: str) -> list[dict[str, str]]:
    with sqlite3.connect(f"file:{world.data / 'store.sqlite'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT type, data FROM events WHERE execution_id = ? ORDER BY seq", (execution_id,)
        ).fetchall()
    return [{"type": kind, **json.loads(data)} for kind, data in rows]


def _is_whole(world: World, trace_id: str) -> bool:
    """Tells whether the spans of the undo have come in, from both sides."""
    spans = world.traces.spans.get(trace_id, {}).values()
    services = {span.service for span in spans}
    return len(services) == 2 and any(span.name == "rollback" for span in spans)
