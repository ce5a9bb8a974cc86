from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import RenderError, command_line, render
from opsconductor.tool_registry.rendering.rendered import (
    AwsCall,
    PowerShellScript,
    ScriptCommand,
    is_elevated,
)
from opsconductor.tool_registry.risk.dry_runs import assess_dry_run, judge_dry_run
from opsconductor.tool_registry.risk.free_commands import judge_command
from opsconductor.tool_registry.risk.what_if import judge_what_if

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

REGISTRY = Registry.load()
DRY = [tool for tool in REGISTRY.tools if tool.dry_run is not None]


def tool(dry_run: dict[str, Any] | None, **changes: Any) -> Tool:
    """Returns a tool that removes a package, with a dry run of one's own."""
    command = changes.pop("command", {"argv": ["apt-get", "-y", "remove", "--", "{name}"]})
    example = {
        "name": "one call",
        "inputs": {"name": "htop"},
        "renders": changes.pop("renders", {"argv": ["x"]}),
    }
    asked = {"name": "what it would do", "section": "dry_run", "inputs": {"name": "htop"}}
    definition = {
        "schema": "opsconductor.tool/1",
        "name": "made",
        "version": "1.0",
        "description": "Removes a package in tests.",
        "platform": "linux",
        "category": "linux",
        "execution": {
            "location": "automation-service",
            "method": "command",
            "requires_target": False,
            "target_type": "host",
        },
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "format": "package", "description": "what to remove"}
            },
            "required": ["name"],
            "additionalProperties": False,
        },
        "annotations": {"read_only": False},
        "command": command,
        **({"dry_run": dry_run} if dry_run else {}),
        "undo": {"strategy": "none", "reason": "nothing here brings it back"},
        "timeout": "1m",
        "output": {"parser": "text"},
        "examples": [
            example,
            {**example, "name": "the same call"},
            *([{**asked, "renders": changes.pop("asks", {"argv": ["x"]})}] if dry_run else []),
        ],
        **changes,
    }
    found, faults = read_tool(json.dumps(definition).encode())
    assert found is not None, faults
    return found


def complaints(made: Tool) -> str:
    """Returns what the lint says, without what it says of the examples' exact words."""
    return "\n".join(
        str(fault) for fault in lint_tool(made) if not fault.found.startswith("renders {")
    )


def test_what_has_a_dry_run_is_known() -> None:
    names = {made.name for made in DRY}
    assert {"install_package", "kubectl_scale", "aws_ec2_stop_instances"} <= names
    assert {"postgres_execute", "restart_windows_service", "rotate_logs"} <= names
    assert len(names) >= 45
    counted = [
        made.name
        for made in DRY
        for example in made.examples
        if example.section == "dry_run"
        and assess_dry_run(made, check_inputs(made, example.inputs)[0], example.target).risk_class
        != "read_only"
    ]
    # A statement that is rolled back has run; Compose may start providers of its own.
    assert sorted(counted) == ["docker_compose_up", "postgres_execute"]


@pytest.mark.parametrize("made", DRY, ids=lambda made: made.name)
def test_a_dry_run_is_never_the_command(made: Tool) -> None:
    for example in made.examples:
        if example.section == "dry_run":
            dry = render(made, example.inputs, example.target, section="dry_run")
            call = render(made, example.inputs, example.target)
            assert command_line(dry) != command_line(call)


@pytest.mark.parametrize(
    ("command", "risk"),
    [
        ("apt-get -s install nginx", "read_only"),
        ("apt-get -s -q --no-install-recommends install -- nginx=1.2", "read_only"),
        ("apt-get -s -o Dpkg::Pre-Invoke::=x install nginx", "destructive"),
        ("apt-get -s install nginx --no-simulate", "destructive"),
        ("sudo -n apt-get -s upgrade", "read_only"),
        ("dpkg --dry-run -i /tmp/a.deb", "read_only"),
        ("dpkg -i /tmp/a.deb --dry-run", "destructive"),
        ("rpm -e --test nginx", "read_only"),
        ("rpm -U --test http://evil/a.rpm", "destructive"),
        ("rsync -avn --delete /a/ /b/", "read_only"),
        ("rsync -av --dry-run /a /b", "read_only"),
        ("rsync -av /a /b", "destructive"),
        ("rsync -avn --no-n /a /b", "destructive"),
        ("rsync -avn -e 'sh -c x' /a /b", "destructive"),
        ("rsync -avn /a host:/b", "destructive"),
        ("rsync -av -- -n /a", "destructive"),
        ("kubectl scale --replicas=3 --dry-run=server deployment/web", "read_only"),
        ("kubectl delete pod -- --dry-run=server", "destructive"),
        ("kubectl delete pod web --dry-run=server --dry-run=none", "destructive"),
        ("kubectl delete pod web --dry-run=none", "destructive"),
        ("kubectl apply --server-side --dry-run=server --filename=/srv/a.yaml", "read_only"),
        ("kubectl apply --dry-run=server --output=yaml --filename=/srv/secret.yaml", "destructive"),
        ("kubectl --kubeconfig=/tmp/k delete pod web --dry-run=server", "destructive"),
        ("helm rollback --namespace=shop --dry-run -- web 3", "read_only"),
        ("helm upgrade --install --dry-run=server --hide-secret -- web repo/web", "read_only"),
        ("helm upgrade --install --dry-run=server -- web repo/web", "destructive"),
        (
            "helm upgrade --install --dry-run=server --hide-secret --post-renderer=/x w c",
            "destructive",
        ),
        ("docker compose --project-name=shop --dry-run down", "read_only"),
        ("docker compose down --dry-run", "destructive"),
        ("logrotate --debug -- /etc/logrotate.d/nginx", "read_only"),
        ("logrotate --debug -- /etc/logrotate.d/..", "destructive"),
        ("logrotate --debug -- /etc/shadow", "destructive"),
        ("logrotate --debug --force /etc/logrotate.conf", "destructive"),
        ("ufw --dry-run allow 22/tcp", "read_only"),
        ("ufw allow 22/tcp --dry-run", "destructive"),
        ("iptables-restore --test /etc/iptables/rules.v4", "read_only"),
        ("iptables-restore --modprobe=/tmp/x --test /etc/iptables/rules.v4", "destructive"),
        ("nft -c -f /etc/nftables.conf", "read_only"),
        ("nft -c -f /etc/shadow", "modify"),
        ("nginx -t", "read_only"),
        ("nginx -t -c /tmp/own.conf", "destructive"),
        ("sshd -t", "read_only"),
        ("sshd -t -f /etc/shadow", "destructive"),
        ("visudo -c", "read_only"),
        ("visudo -cf /etc/shadow", "destructive"),
        ("terraform plan", "destructive"),
        ("ansible-playbook --check site.yml", "destructive"),
        ("make -n", "destructive"),
    ],
)
def test_only_whole_known_forms_of_a_dry_run_count_as_reading(command: str, risk: str) -> None:
    assert judge_command(shlex.split(command)).risk_class == risk


@pytest.mark.parametrize(
    ("body", "risk"),
    [
        ("Stop-Service -Name $name -Force:$force -WhatIf", "read_only"),
        ("param([string]$name,[bool]$force)\nStop-Service -Name $name -WhatIf\n", "read_only"),
        ("Stop-Service -Name $name", "destructive"),
        ("Stop-Service -Name $name -WhatIf:$false", "destructive"),
        ("Stop-Service -Name $name -WhatIf -Force; Stop-Service x", "destructive"),
        ("Stop-Service -Name x -WhatIf | Remove-Item", "destructive"),
        ("Stop-Service -Name $(Remove-Item x) -WhatIf", "destructive"),
        ("Stop-Service -Name x # -WhatIf", "destructive"),
        ("Stop-Service -Name x `\n -WhatIf", "destructive"),
        ("& $name -WhatIf", "destructive"),
        ("stop.exe -WhatIf", "destructive"),
        ("param([string]$name = (Remove-Item x))\nGet-Service -WhatIf", "destructive"),
        ("", "destructive"),
    ],
)
def test_powershell_is_a_dry_run_where_every_line_asks_with_what_if(body: str, risk: str) -> None:
    assert judge_what_if(body).risk_class == risk
    assert judge_dry_run(PowerShellScript(body)).risk_class == risk


def test_aws_is_asked_with_its_own_dry_run() -> None:
    stop = AwsCall("ec2", "stop_instances", {"InstanceIds": ["i-1"]}, dry_run=True)
    assert judge_dry_run(stop).risk_class == "read_only"
    assert judge_dry_run(AwsCall("ec2", "stop_instances")).risk_class != "read_only"
    ask = {"InvocationType": "DryRun"}
    assert judge_dry_run(AwsCall("lambda", "invoke", ask)).risk_class == "read_only"
    assert judge_dry_run(AwsCall("lambda", "invoke", {})).risk_class == "destructive"
    assert judge_dry_run(AwsCall("other", "invoke", ask)).risk_class == "destructive"


def test_a_dry_run_that_no_parser_knows_counts_as_the_call() -> None:
    made = tool({"command": {"argv": ["zypper", "remove", "--dry-run", "--", "{name}"]}})
    found = assess_dry_run(made, {"name": "htop"}, None)
    assert found.risk_class == "destructive"
    assert "counts as the call itself" in found.reasons[0]
    answered = tool(
        {"command": {"argv": ["zypper", "remove", "--dry-run", "--", "{name}"]}, "read_only": True}
    )
    found = assess_dry_run(answered, {"name": "htop"}, None)
    assert (found.risk_class, found.idempotent) == ("read_only", True)
    assert "the definition of made answers for it" in found.reasons[0]


def test_a_value_known_only_later_keeps_the_risk_of_the_call() -> None:
    later = {"package": "${{ steps.find.output.name }}"}
    assert assess_dry_run(REGISTRY.get("remove_package"), later, None).risk_class == "destructive"
    known = {"package": "htop"}
    assert assess_dry_run(REGISTRY.get("remove_package"), known, None).risk_class == "read_only"


def test_a_script_of_a_dry_run_is_judged_by_its_text() -> None:
    assert (
        judge_dry_run(ScriptCommand("sh", "apt-get -s upgrade | wc -l")).risk_class == "read_only"
    )
    assert judge_dry_run(ScriptCommand("sh", "apt-get upgrade")).risk_class == "destructive"
    assert judge_dry_run(ScriptCommand("python3", "pass")).risk_class == "destructive"


def test_a_tool_without_the_section_renders_none() -> None:
    with pytest.raises(RenderError, match="has no dry run"):
        render(REGISTRY.get("delete_file"), {"path": "/a"}, None, section="dry_run")


COMMAND = {"argv": ["apt-get", "-y", "remove", "--", "{name}"]}


@pytest.mark.parametrize(
    ("dry_run", "changes", "said"),
    [
        ({"command": COMMAND}, {}, "the command itself"),
        (
            {"command": {"argv": [*COMMAND["argv"][:4], "htop"]}},
            {},
            "renders to the command itself",
        ),
        (
            {"command": {"argv": ["apt-get", "install", "{name}"]}},
            {},
            "modify by its command",
        ),
        (
            {"command": {"argv": ["apt-get", "install", "{name}"]}, "read_only": True},
            {},
            "modify by its command",
        ),
        (
            {"command": {"argv": ["apt-get", "-s", "remove", "--", "{name}"]}},
            {"annotations": {"read_only": True}, "undo": {"strategy": "not_needed"}},
            "a dry run of a read-only tool",
        ),
        ({"command": {"argv": ["apt-get", "-s", "remove", "{other}"]}}, {}, "{other}"),
        (
            {
                "command": {
                    "sql": {"dialect": "sqlite", "read_only": False, "statement": "DELETE x"}
                }
            },
            {},
            "a statement that would be kept",
        ),
        (
            {"command": {"aws": {"service": "ec2", "operation": "stop_instances"}}},
            {},
            "dry_run: true, or an operation",
        ),
        (
            {"command": {"argv": ["apt-get", "remove", "{name}"]}, "read_only": True},
            {},
            "read_only left out",
        ),
        (
            {"command": {"http": {"method": "DELETE", "url": "http://h/x"}}, "read_only": True},
            {},
            "read_only left out",
        ),
        (
            {
                "command": {"argv": ["apt-get", "-s", "remove", "--", "{name}"]},
                "success": {"expression": "output..x"},
            },
            {},
            "dry_run.success.expression",
        ),
    ],
)
def test_the_lint_refuses_a_dry_run_that_is_none(
    dry_run: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    assert said in complaints(tool(dry_run, **changes))


def test_the_lint_wants_an_example_of_the_dry_run() -> None:
    asking = {"command": {"argv": ["apt-get", "-s", "remove", "--", "{name}"]}}
    made = tool(asking, asks={"argv": ["apt-get", "-s", "remove", "--", "htop"]})
    assert complaints(made) == ""
    examples = [{"name": f"call {n}", "inputs": {"name": "a"}, "renders": {"a": 1}} for n in (1, 2)]
    assert "an example with section: dry_run" in complaints(tool(asking, examples=examples))


def test_a_dry_run_asks_for_no_more_rights_than_it_needs() -> None:
    inputs = {"package": "htop"}
    install = REGISTRY.get("install_package")
    assert not is_elevated(render(install, inputs, None, section="dry_run"))
    assert is_elevated(render(install, inputs, None))
    rotate = {"config": "/etc/logrotate.conf"}
    assert is_elevated(render(REGISTRY.get("rotate_logs"), rotate, None, section="dry_run"))
