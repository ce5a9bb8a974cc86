from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.outputs.reading import parse_output
from opsconductor.tool_registry.outputs.success import failure_reason
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import (
    ArgvCommand,
    ScriptCommand,
    render,
    script_argv,
)

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY = Registry.load()


class Host:
    """Runs tools as an agent's local executor does, with programs of the test in front."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()

    def program(self, name: str, body: str) -> Path:
        file = self.programs / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return file

    def run(
        self,
        name: str,
        inputs: dict[str, Any],
        *,
        target: dict[str, Any] | None = None,
        captured: dict[str, Any] | None = None,
        section: str = "command",
        path: str = "",
    ) -> tuple[subprocess.CompletedProcess[bytes], dict[str, Any], str | None]:
        tool = REGISTRY.get(name)
        typed, faults = check_inputs(tool, inputs)
        assert faults == []
        command = render(tool, typed, target, captured=captured, section=section)  # type: ignore[arg-type]
        assert isinstance(command, ArgvCommand | ScriptCommand)
        argv = command.argv if isinstance(command, ArgvCommand) else script_argv(command)
        env = {"PATH": path or f"{self.programs}:{os.environ['PATH']}", "LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(argv, capture_output=True, env=env, stdin=subprocess.DEVNULL)
        if section == "undo":
            return done, {}, None
        kind: Any = section
        output = parse_output(tool, done.stdout, done.stderr, done.returncode, section=kind)
        reason = failure_reason(
            tool,
            exit_code=done.returncode,
            output=output,
            inputs=typed,
            stdout=done.stdout,
            stderr=done.stderr,
        )
        return done, output, reason


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_disk_space_of_a_path_is_told(host: Host) -> None:
    _, output, reason = host.run("check_disk_space", {"path": str(host.folder)})
    assert reason is None
    assert output["filesystems"][0]["size_bytes"] > 0
    _, _, reason = host.run("check_disk_space", {"path": "/there/is/no/such"})
    assert reason is not None
    assert "No such file" in reason


def test_processes_are_not_none_where_ps_is_missing(host: Host) -> None:
    for name in ("sh", "head"):
        (host.programs / name).symlink_to(str(shutil.which(name)))
    done, _, reason = host.run("list_processes", {}, path=str(host.programs))
    assert done.returncode == 127
    assert reason is not None
    assert "ps is not installed" in reason


def test_processes_are_listed_and_limited(host: Host) -> None:
    _, output, reason = host.run("list_processes", {"sort": "memory", "limit": 3})
    assert reason is None
    assert 0 < len(output["processes"]) <= 3
    assert output["processes"][0]["pid"] > 0
    assert output["processes"][0]["command"]
    _, output, reason = host.run("list_processes", {"name": "no-such-program"})
    assert (output, reason) == ({"processes": []}, None)


def test_a_file_is_read_exactly(host: Host) -> None:
    file = host.folder / "a file; $(id)"
    file.write_bytes(b"line\n\xc3\xa4 no newline")
    _, output, reason = host.run("read_file", {"path": str(file)})
    assert reason is None
    assert output["content"] == "line\nä no newline"
    assert output["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (output["size"], output["truncated"]) == (file.stat().st_size, False)


def test_a_large_file_is_cut_and_says_so(host: Host) -> None:
    file = host.folder / "big"
    file.write_bytes(b"x" * 100_000)
    _, output, _ = host.run("read_file", {"path": str(file), "max_bytes": 10})
    assert (output["content"], output["size"], output["truncated"]) == ("x" * 10, 100_000, True)


def test_what_is_no_file_is_not_read(host: Host) -> None:
    for path in (str(host.folder), str(host.folder / "none")):
        _, _, reason = host.run("read_file", {"path": path})
        assert reason is not None
        assert path in reason


@pytest.mark.parametrize(
    "content", ["", "a\n", "no newline", "-n\n", "%s $(id) `x` \\0\n", "\tä\n\n"]
)
def test_a_file_is_written_exactly(host: Host, content: str) -> None:
    file = host.folder / "new file"
    _, output, reason = host.run(
        "write_file", {"path": str(file), "content": content, "mode": "0640"}
    )
    assert reason is None
    assert file.read_bytes() == content.encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert output["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert output["changed"] is True
    assert [entry.name for entry in host.folder.iterdir() if entry.name.startswith(".")] == []


def test_writing_again_changes_nothing_and_keeps_permissions(host: Host) -> None:
    file = host.folder / "f"
    file.write_text("same")
    file.chmod(0o751)
    _, output, _ = host.run("write_file", {"path": str(file), "content": "same"})
    assert output["changed"] is False
    assert file.stat().st_mode & 0o777 == 0o751


def test_binary_content_is_written_from_base64(host: Host) -> None:
    file = host.folder / "f"
    encoded = base64.b64encode(bytes(range(256))).decode()
    host.run("write_file", {"path": str(file), "content": encoded, "encoding": "base64"})
    assert file.read_bytes() == bytes(range(256))
    _, _, reason = host.run(
        "write_file", {"path": str(file), "content": "%%%", "encoding": "base64"}
    )
    assert reason is not None
    assert file.read_bytes() == bytes(range(256))


def test_a_link_or_folder_is_not_overwritten(host: Host) -> None:
    (host.folder / "real").write_text("x")
    (host.folder / "link").symlink_to("real")
    for name in ("link", "bin", "no/folder"):
        _, _, reason = host.run("write_file", {"path": str(host.folder / name), "content": "y"})
        assert reason is not None
    assert (host.folder / "real").read_text() == "x"


@pytest.mark.parametrize("before", [None, b"", b"old\n", bytes(range(256)) * 180])
def test_undo_brings_back_what_was_there(host: Host, before: bytes | None) -> None:
    file = host.folder / "f"
    if before is not None:
        file.write_bytes(before)
        file.chmod(0o640)
    inputs = {"path": str(file), "content": "new"}
    _, captured, _ = host.run("write_file", inputs, section="capture")
    host.run("write_file", inputs)
    assert file.read_text() == "new"
    done, _, _ = host.run("write_file", inputs, captured=captured, section="undo")
    assert done.returncode == 0, done.stderr
    assert (file.read_bytes() if file.exists() else None) == before
    if before is not None:
        assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_too_large_to_keep_stops_the_capture(host: Host) -> None:
    file = host.folder / "f"
    file.write_bytes(b"x" * 46_081)
    tool = REGISTRY.get("write_file")
    command = render(tool, {"path": str(file), "content": "", "encoding": "text", "mode": "0644"},
                     None, section="capture")  # fmt: skip
    assert isinstance(command, ScriptCommand)
    done = subprocess.run(script_argv(command), capture_output=True)
    assert done.returncode == 5
    assert b"at most 46080" in done.stderr


SYSTEMCTL = """\
case "$*" in
  *nginx) printf 'LoadState=loaded\\nActiveState=active\\nMainPID=42\\n' ;;
  *cron) printf 'LoadState=loaded\\nActiveState=inactive\\nMainPID=0\\n' ;;
  *) printf 'LoadState=not-found\\nActiveState=inactive\\nMainPID=0\\n' ;;
esac"""


def test_a_systemd_service_tells_its_state(host: Host) -> None:
    host.program("systemctl", SYSTEMCTL)
    _, output, reason = host.run("service_status", {"service": "nginx"})
    assert reason is None
    assert output == {"service": "nginx", "active": True, "state": "active", "pid": 42}
    _, output, _ = host.run("service_status", {"service": "cron"})
    assert output == {"service": "cron", "active": False, "state": "inactive"}
    _, _, reason = host.run("service_status", {"service": "nothing"})
    assert reason == "exit code 4: there is no service nothing"


@pytest.mark.parametrize(("code", "state"), [(0, "active"), (1, "failed"), (3, "inactive")])
def test_a_sysv_service_tells_its_state_by_exit_code(host: Host, code: int, state: str) -> None:
    host.program("service", f'[ "$*" = "web status" ] && exit {code}; exit 99')
    target = {"name": "h", "service_manager": "sysv"}
    _, output, reason = host.run("service_status", {"service": "web"}, target=target)
    assert reason is None
    assert output == {"service": "web", "active": code == 0, "state": state}


def test_a_hosts_own_command_restarts_and_tells_the_state(host: Host) -> None:
    log = host.folder / "log"
    control = host.program("webctl", f'echo "$@" >> {log}; echo "running, pid 77"')
    target = {
        "name": "h",
        "service_manager": "command",
        "service_command": f"{control} --quiet",
    }
    _, output, reason = host.run("service_status", {"service": "web"}, target=target)
    assert reason is None
    assert output["pid"] == 77
    _, _, reason = host.run("restart_service", {"service": "web"}, target=target)
    assert reason is None
    assert log.read_text() == "--quiet status web\n--quiet restart web\n"


def test_a_command_and_a_script_give_their_text(host: Host) -> None:
    _, output, reason = host.run("run_command", {"argv": ["printf", "%s", "$(id) 'x'"]})
    assert (output, reason) == ({"text": "$(id) 'x'"}, None)
    _, _, reason = host.run("run_script", {"script": "echo no >&2; exit 7"})
    assert reason == "exit code 7: no"
