"""Tools that need root: what an approver sees, and what their digest covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from opsconductor.tool_registry.loader import ToolDefinitionInvalid
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import command_line, render
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, ScriptCommand
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def test_the_command_of_an_elevated_tool_shows_sudo(registry: Registry) -> None:
    rendered = render(registry.get("password_status"), {"username": "guest"}, None)
    assert isinstance(rendered, ArgvCommand)
    assert rendered.elevated
    assert command_line(rendered) == f"sudo -n -- {command_line(ArgvCommand(rendered.argv))}"


def test_capture_and_undo_of_an_elevated_tool_are_elevated_too(registry: Registry) -> None:
    tool = registry.get("set_file_mode")
    inputs = {"path": "/srv/x", "mode": "0640"}
    target = {"name": "web-01"}
    captured = {"mode": "600", "text": "600", "lines": ["600"], "rows": [{"mode": "600"}]}
    for section in ("capture", "undo"):
        rendered = render(tool, inputs, target, captured=captured, section=section)
        assert command_line(rendered).startswith("sudo -n -- "), section


def test_a_script_can_be_elevated() -> None:
    script = ScriptCommand("sh", "id -u", elevated=True)
    assert command_line(script) == "sudo -n -- /bin/sh -c 'id -u' opsconductor"


def test_other_tools_show_no_sudo(registry: Registry) -> None:
    rendered = render(registry.get("check_disk_space"), {"path": "/"}, None)
    assert not command_line(rendered).startswith("sudo")


def test_only_the_named_cases_of_a_tool_are_elevated(registry: Registry) -> None:
    tool = registry.get("restart_service")
    own = {"name": "web-01", "service_manager": "command", "service_command": "/usr/local/bin/ctl"}
    for target, elevated in (({**own, "service_manager": "systemd"}, True), (own, False)):
        rendered = render(tool, {"service": "shop"}, target)
        assert command_line(rendered).startswith("sudo -n -- ") is elevated


def test_an_elevated_case_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    document = yaml.safe_load((tools_root() / "linux" / "restart_service.yaml").read_text())
    document["execution"]["elevate"] = ["upstart"]
    (tmp_path / "restart_service.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ToolDefinitionInvalid) as refused:
        Registry.load([tmp_path])
    assert "execution.elevate" in {fault.field.split(": ")[-1] for fault in refused.value.faults}


def test_the_digest_covers_the_elevation(registry: Registry, tmp_path: Path) -> None:
    original = tools_root() / "linux" / "password_status.yaml"
    document = yaml.safe_load(original.read_text())
    del document["execution"]["elevate"]
    (tmp_path / "password_status.yaml").write_text(yaml.safe_dump(document))
    changed = Registry.load([tmp_path]).get("password_status")
    assert not changed.elevate
    assert changed.digest != registry.get("password_status").digest
