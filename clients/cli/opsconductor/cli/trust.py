"""Whether the store is trusted, and agents are: safe mode and quarantine, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli import formats

if TYPE_CHECKING:
    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.agent_admin_service_pb2 import Agent, SafeMode

_SKEW_SECONDS = 300.0


def in_words(mode: SafeMode) -> str:
    """Returns why nothing is granted, in one sentence."""
    if not mode.confirmed:
        return f"SAFE MODE: {mode.reason}"
    if mode.awaited_agents:
        return f"nothing is granted: work {mode.reason}"
    return "the store was restored; agents of others have yet to tell what they remember"


def remedy(mode: SafeMode) -> str:
    """Returns what a person can do about it."""
    if not mode.confirmed:
        return (
            "if the store was restored from a backup: opsctl agents confirm-restore --reason TEXT; "
            "else stop this orchestrator and find the newer store"
        )
    left_out = " ".join(f"--without {name}" for name in mode.awaited_agents)
    command = f"opsctl agents confirm-restore --reason TEXT {left_out}"
    return (
        f"bring them back, or give up on what they remember: {command}; executions that they may "
        "have gone on with are then paused until you have looked"
    )


def show(terminal: Terminal, mode: SafeMode) -> None:
    """Shows how things stand after the store went back."""
    terminal.note(in_words(mode))
    terminal.note(remedy(mode))
    if mode.lost_attempts:
        terminal.note("not known to the restored store; look at these yourself:")
        for line in mode.lost_attempts:
            terminal.note(f"  {line}")


def clock_of(agent: Agent) -> str:
    """Returns what is wrong with an agent's clock; empty when it is right, or nobody knows."""
    seconds = agent.clock_skew.ToTimedelta().total_seconds()
    if abs(seconds) <= _SKEW_SECONDS:
        return ""
    where = "ahead of" if seconds > 0 else "behind"
    return (
        f"its clock is {formats.duration(abs(seconds))} {where} the orchestrator's: certificates "
        "and approvals may not be valid there; set it by NTP"
    )


def reason_of(agent: Agent) -> str:
    """Returns why an agent takes no work, or not all; empty when it does."""
    tools = [f"tool {name}: {agent.quarantined_tools[name]}" for name in agent.quarantined_tools]
    return "; ".join(filter(None, [agent.state_reason, *sorted(tools)]))
