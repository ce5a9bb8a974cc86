"""What tools say about their output: complete, true to its sources, and true to what is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.session
import jc
import jsonschema
import pytest
import yaml

from helpers.cloud_outputs import OUTPUTS as CLOUD
from helpers.windows_outputs import OUTPUTS as WINDOWS
from opsconductor.tool_registry.export import mcp_tool
from opsconductor.tool_registry.loader import ToolDefinitionInvalid
from opsconductor.tool_registry.outputs import shapes
from opsconductor.tool_registry.outputs.parsers import MAX_BYTES, PARSERS
from opsconductor.tool_registry.outputs.reading import OutputUnparsable, parse_output
from opsconductor.tool_registry.outputs.schema import output_schema
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool

REGISTRY = Registry.load()
TOOLS = REGISTRY.tools
STRUCTURED = [
    tool for tool in TOOLS if tool.output["parser"] not in ("none", "text", "lines", "content")
]
AWS = [tool for tool in TOOLS if tool.method == "aws-sdk"]
BOTOCORE = {
    "string": "string", "character": "string", "timestamp": "string", "blob": "string",
    "integer": "integer", "long": "integer", "float": "number", "double": "number",
    "boolean": "boolean", "structure": "object", "map": "object", "list": "array",
}  # fmt: skip
FREE = {"run_command", "run_script", "run_powershell", "run_shell_command"}


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every field that has no fields of its own."""
    inner = [(f"{path}.{name}", each) for name, each in schema.get("properties", {}).items()]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            inner.append((f"{path}[]", schema[key]))
    if not inner:
        yield path, schema
    for where, each in inner:
        yield from leaves(each, where)


def untold(schema: Mapping[str, Any]) -> list[str]:
    """Returns the fields that nothing is said of."""
    found = leaves(schema)
    return [
        path for path, leaf in found if path[-2:] not in ("", "[]") and not leaf.get("description")
    ]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_tool_has_an_output_schema_that_exports_show(tool: Tool) -> None:
    schema = output_schema(tool)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert mcp_tool(tool)["outputSchema"] == schema


@pytest.mark.parametrize("tool", STRUCTURED, ids=lambda tool: tool.name)
def test_a_structured_output_names_its_fields_and_what_they_mean(tool: Tool) -> None:
    schema = output_schema(tool)
    nothing_is_answered = tool.name in NO_ANSWER
    assert nothing_is_answered or "properties" in schema or "additionalProperties" in schema
    assert untold(schema) == []


NO_ANSWER = {"aws_ec2_delete_snapshot", "aws_ec2_reboot_instances"}
"""AWS answers these with nothing."""


@pytest.mark.parametrize("name", shapes.names())
def test_a_shared_shape_is_used_and_told(name: str) -> None:
    used = {tool.output.get("shape") for tool in TOOLS} | {
        f"jc_{tool.output.get('jc_parser')}" for tool in TOOLS
    }
    assert name in used | {"http_answer"}
    schema = shapes.shape(name)
    assert schema is not None
    assert untold(schema) == []


@pytest.mark.parametrize("tool", AWS, ids=lambda tool: tool.name)
def test_what_an_aws_tool_promises_is_what_the_service_answers(tool: Tool) -> None:
    call = tool.command["aws"]
    model = botocore.session.get_session().get_service_model(call["service"])
    by_name = {botocore.xform_name(name): name for name in model.operation_names}
    answer = model.operation_model(by_name[call["operation"]]).output_shape
    assert_same(output_schema(tool), answer, tool.name)


def assert_same(schema: Mapping[str, Any], shape: Any, path: str) -> None:
    if shape is None:
        assert "properties" not in schema, path
        return
    assert schema.get("type") == BOTOCORE[shape.type_name], path
    if shape.type_name == "list":
        assert_same(schema["items"], shape.member, f"{path}[]")
    elif shape.type_name == "structure":
        for name, each in schema.get("properties", {}).items():
            assert name in shape.members, f"{path}.{name}"
            assert_same(each, shape.members[name], f"{path}.{name}")


@pytest.mark.parametrize(
    "name", [name for name in shapes.names() if name.startswith("jc_") and name != "jc_xml"]
)
def test_what_is_said_of_a_jc_parser_stands_in_its_documentation(name: str) -> None:
    parser = name.removeprefix("jc_")
    documented = str(jc.get_parser(parser).__doc__)
    named = set(_names(shapes.shape(name) or {})) - ALSO.get(parser, set())
    assert {each for each in named if f'"{each}"' not in documented} == set()


ALSO = {
    "free": {"buffers", "cache"},
    "ss": {"process"},
    "os_release": {"ID", "NAME", "PRETTY_NAME", "VERSION_ID", "VERSION_CODENAME"},
}
"""What these parsers answer beyond their documentation; seen in the answers of real hosts."""


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, each in schema.get("properties", {}).items():
        yield name
        yield from _names(each)
    if "items" in schema:
        yield from _names(schema["items"])


@pytest.mark.parametrize(
    "tool", [tool for tool in TOOLS if tool.category == "windows"], ids=lambda tool: tool.name
)
def test_what_a_windows_tool_promises_stands_in_its_script(tool: Tool) -> None:
    if tool.name in FREE or tool.output["parser"] != "json":
        return
    body = tool.command["powershell"]["body"]
    rows = output_schema(tool)["properties"]["items"]
    assert [name for name in _names(rows) if name not in body] == []


@pytest.mark.parametrize("name", sorted(WINDOWS | CLOUD))
def test_a_recorded_answer_fits_its_schema(name: str) -> None:
    tool = REGISTRY.get(name)
    answer = {**WINDOWS, **CLOUD}[name]
    output = parse_output(tool, answer.encode(), b"", 0)
    jsonschema.validate(output, output_schema(tool))


def test_a_schema_is_enforced_where_the_definition_has_it() -> None:
    tool = REGISTRY.get("get_volume")
    volume = json.loads(WINDOWS["get_volume"])[0]
    wrong = json.dumps([{**volume, "Size": "large"}])
    with pytest.raises(OutputUnparsable, match="Size"):
        parse_output(tool, wrong.encode(), b"", 0)
    assert parse_output(tool, json.dumps([volume]).encode(), b"", 0)["items"] == [volume]


def test_what_is_derived_from_a_parser_refuses_nothing() -> None:
    tool = REGISTRY.get("kubectl_get")
    assert parse_output(tool, b'{"kind": 5}', b"", 0) == {"kind": 5}


def test_a_list_in_xml_is_a_list_also_when_one_thing_is_found() -> None:
    tool = REGISTRY.get("nmap_port_scan")
    port = '<port protocol="tcp" portid="{}"><state state="open"/></port>'
    for count in (1, 2):
        ports = "".join(port.format(number) for number in range(count))
        text = f'<nmaprun><host><address addr="::1"/><ports>{ports}</ports></host></nmaprun>'
        output = parse_output(tool, text.encode(), b"", 0)
        assert len(output["nmaprun"]["host"][0]["ports"]["port"]) == count


@pytest.mark.parametrize("parser", ["lines", "jsonlines", "json"])
def test_of_a_long_log_the_end_is_kept_where_the_tool_says_so(parser: str) -> None:
    rows = [f"line {number} {'x' * 100}" for number in range(2_000)]
    text = json.dumps(rows) if parser == "json" else "\n".join(
        json.dumps(row) if parser == "jsonlines" else row for row in rows
    )  # fmt: skip
    for keep, place in (("first", 0), ("last", -1)):
        output = PARSERS[parser](text, {"keep": keep, "field": "rows"})
        assert output["rows"][place] == rows[place]
        assert output["truncated"]
        assert output["total_count"] == 2_000


def test_of_a_long_text_the_end_is_kept_where_the_tool_says_so() -> None:
    text = "\u20ac" * 30_000 + "end"
    cut = PARSERS["text"](text, {"keep": "last"})
    assert cut["truncated"]
    assert cut["text"].endswith("\u20acend")
    assert len(cut["text"].encode()) <= MAX_BYTES


def test_a_large_json_object_loses_the_end_of_its_longest_list() -> None:
    value = {"kind": "List", "short": [1], "items": [{"name": "x" * 100}] * 2_000}
    output = PARSERS["json"](json.dumps(value), {})
    assert (output["kind"], output["short"]) == ("List", [1])
    assert 0 < len(output["items"]) < 2_000
    assert (output["truncated"], output["total_count"]) == (True, 2_000)
    assert len(json.dumps(output).encode()) <= MAX_BYTES + 100
    with pytest.raises(OutputUnparsable, match="larger than"):
        PARSERS["json"](json.dumps({"a": "x" * 100_000}), {})


@pytest.mark.parametrize(
    ("output", "field"),
    [
        ({"parser": "json", "schema": {"type": "array"}}, "output.schema.type"),
        ({"parser": "json", "schema": {"type": "object", "required": ["a"]}},
         "output.schema.required"),
        ({"parser": "json", "schema": {"type": "object", "properties": {"a": {"type": "text"}}}},
         "output.schema.properties.a.type"),
        ({"parser": "json", "shape": "no_such_shape"}, "output.shape"),
        ({"parser": "json", "lists": ["a"]}, "output.lists"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_enforced_is_refused(
    tmp_path: Path, output: dict[str, Any], field: str
) -> None:
    document = yaml.safe_load((tools_root() / "linux" / "password_status.yaml").read_text())
    (tmp_path / "password_status.yaml").write_text(yaml.safe_dump({**document, "output": output}))
    with pytest.raises(ToolDefinitionInvalid) as refused:
        Registry.load([tmp_path])
    assert any(fault.field.endswith(field) for fault in refused.value.faults)
