from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsconductor.rpc.errors import UnknownTool
from opsconductor.tool_registry import tools_root
from opsconductor.tool_registry.registry import Registry, ToolDefinitionInvalid
from opsconductor.tool_registry.rendering.render import command_line, render

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
schema: opsconductor.tool/1
name: show_kernel
version: "1.0"
description: Show the kernel of a host.
platform: linux
category: linux
execution:
  {location: automation-service, method: command, requires_target: false, target_type: host}
parameters:
  type: object
  properties:
    field: {type: string, enum: [release, machine], default: release, description: what to show}
  required: []
  additionalProperties: false
annotations: {read_only: true}
command:
  argv: [uname, {map: field, values: {release: [-r], machine: [-m]}}]
timeout: 5s
output: {parser: text}
examples:
  - {name: the release, inputs: {}, renders: {argv: [uname, -r]}}
  - {name: the machine, inputs: {field: machine}, renders: {argv: [uname, -m]}}
"""


def load(folder: Path, **files: str) -> Registry:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return Registry.load([folder])


def faults(folder: Path, text: str, name: str = "show_kernel") -> list[str]:
    with pytest.raises(ToolDefinitionInvalid) as error:
        load(folder, **{name: text})
    return [str(fault) for fault in error.value.faults]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def test_the_shipped_tools_pass_schema_lint_and_their_examples(registry: Registry) -> None:
    names = {tool.name for tool in registry.tools}
    assert names >= {
        "asset_query", "check_disk_space", "http_check", "list_processes", "ping", "read_file",
        "restart_service", "run_command", "run_script", "service_status", "write_file",
    }  # fmt: skip
    assert all(file.stem in names for file in tools_root().rglob("*.yaml"))
    assert all(tool.estimate or tool.risk_from or tool.name == "run_script"
               for tool in registry.tools)  # fmt: skip


def test_names_are_found_in_any_spelling_and_by_alias(registry: Registry) -> None:
    for name in ("check_disk_space", "Check-Disk-Space", "check disk space", "df", "disk-space"):
        assert registry.get(name).name == "check_disk_space"
    assert registry.find("nothing") is None


def test_an_unknown_tool_is_refused_with_a_suggestion(registry: Registry) -> None:
    with pytest.raises(UnknownTool) as error:
        registry.get("dfk")
    assert "did you mean check_disk_space" in error.value.message
    assert registry.suggest("restart_servce")[0] == "restart_service"
    assert "restart_service" in registry.suggest("restart_nginx_service_now")
    with pytest.raises(UnknownTool):
        registry.get("")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("how many assets do we have?", "asset_query"),
        ("check disk space on web-server-01", "check_disk_space"),
        ("restart a service", "restart_service"),
        ("is nginx running", "service_status"),
        ("measure latency", "ping"),
    ],
)
def test_the_best_tool_for_a_question_comes_first(
    registry: Registry, query: str, name: str
) -> None:
    assert registry.search(query, 1)[0].name == name


def test_words_that_match_nothing_find_nothing(registry: Registry) -> None:
    assert registry.search("zzz qqq") == []


def test_a_digest_follows_what_a_definition_says_not_how_it_is_written(tmp_path: Path) -> None:
    first = load(tmp_path, show_kernel=GOOD).get("show_kernel")
    commented = load(tmp_path, show_kernel="# a comment\n" + GOOD).get("show_kernel")
    changed = load(tmp_path, show_kernel=GOOD.replace("5s", "6s")).get("show_kernel")
    assert first.digest == commented.digest
    assert first.digest != changed.digest
    assert first.digest.startswith("sha256:")
    assert first.source == GOOD.encode()


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("timeout: 5s", "timout: 5s", "did you mean timeout?"),
        ("timeout: 5s", "timeout: 5", "timeout, line"),
        ("timeout: 5s", "timeout: 100ms", "1s to 24h"),
        ("read_only: true", "read_only: false", "a reason why there is none"),
        ("{parser: text}", "{parser: xml}", "output.parser"),
        ("{parser: text}", "{parser: jc}", "jc_parser"),
        ("[uname, -r]", "[uname, -a]", "examples.the release"),
        ("machine: [-m]", "machine: []", "examples.the machine"),
        ("enum: [release, machine], ", "", "without bounds"),
        ("default: release", "default: both", "inputs.field default"),
        ("map: field", "map: felt", "{felt}"),
        ("name: show_kernel", "name: show_kernels", "as the file"),
        ("description: what to show", "format: hots, description: what to show", "format hots"),
        ("annotations: {", "success: {expression: 'outptu.x'}\nannotations: {", "outptu"),
        ("annotations: {", "summary: '${{ steps.x }}'\nannotations: {", "summary"),
        ("annotations: {", "retry: {max_attempts: 99}\nannotations: {", "retry.max_attempts"),
        ("method: command", "method: http", "found argv, expected http"),
        ("type: object\n", "type: object\n  extra: 1\n", "UNKNOWN_KEY"),
        (
            "- {name: the machine, inputs: {field: machine}, renders: {argv: [uname, -m]}}\n",
            "",
            "two",
        ),
    ],
)
def test_a_faulty_definition_is_refused_with_what_and_where(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    assert old in GOOD
    found = faults(tmp_path, GOOD.replace(old, new, 1))
    assert any(part in fault for fault in found), found
    assert all("show_kernel.yaml" in fault for fault in found)


PARAMETER = "    word: {type: string, format: line, maxLength: 9, description: any text}\n"


@pytest.mark.parametrize(
    ("argv", "safe"),
    [
        ("[uname, '{word}']", False),
        ("[uname, -x, '{word}']", False),
        ("[uname, [-x, '{word}']]", False),
        ("[uname, '--word={word}']", True),
        ("[uname, --, '{word}']", True),
        ("[uname, -r, 'x{word}']", True),
        ("[uname, {if: {param: word, present: true}, then: ['{word}']}]", False),
        ("[uname, --, {if: {param: word, present: true}, then: ['{word}']}]", True),
        ("[uname, '{target.environment}']", False),
    ],
)
def test_a_placeholder_that_could_become_an_option_is_refused(
    tmp_path: Path, argv: str, safe: bool
) -> None:
    text = GOOD.replace("  required: []", PARAMETER + "  required: []")
    text = text.replace("[uname, {map: field, values: {release: [-r], machine: [-m]}}]", argv)
    found = faults(tmp_path, text)
    assert any("can begin with -" in fault for fault in found) is not safe, found


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ('eval "$1"', "eval"),
        ("echo `id`", "backtick"),
        ("echo $1", "$1 unquoted"),
        ('x="$(cat $1)"', "$1 unquoted"),
        ("rm -f ${path}", "${path unquoted"),
    ],
)
def test_a_script_that_could_split_or_run_a_value_is_refused(
    tmp_path: Path, body: str, part: str
) -> None:
    script = f"script: {{interpreter: sh, args: ['{{field}}'], body: '{body}'}}"
    text = GOOD.replace(
        "argv: [uname, {map: field, values: {release: [-r], machine: [-m]}}]", script
    )
    found = faults(tmp_path, text)
    assert any(part in fault for fault in found), found


def test_two_tools_may_not_share_a_name_in_any_spelling(tmp_path: Path) -> None:
    other = GOOD.replace("name: show_kernel", "name: kernel_show\naliases: [Show-Kernel]")
    with pytest.raises(ToolDefinitionInvalid) as error:
        load(tmp_path, show_kernel=GOOD, kernel_show=other)
    assert [fault.code for fault in error.value.faults] == ["DUPLICATE_TOOL"]


def test_a_missing_folder_and_every_faulty_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text("- x\n")
    with pytest.raises(ToolDefinitionInvalid) as error:
        Registry.load([tmp_path, tmp_path / "none"])
    codes = [fault.code for fault in error.value.faults]
    assert codes == ["YAML_SYNTAX", "ONE_DOCUMENT_EXPECTED", "NO_SUCH_FOLDER"]


def test_a_loaded_tool_renders(tmp_path: Path) -> None:
    tool = load(tmp_path, show_kernel=GOOD).get("show_kernel")
    assert command_line(render(tool, {"field": "machine"}, None)) == "uname -m"


def test_no_aws_tool_prefers_a_region_to_that_of_its_credential() -> None:
    aws = [tool for tool in Registry.load().tools if tool.method == "aws-sdk"]
    assert len(aws) >= 20
    assert [tool.name for tool in aws if "default" in tool.properties["region"]] == []
