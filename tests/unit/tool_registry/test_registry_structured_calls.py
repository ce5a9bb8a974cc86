"""Templates of databases, clouds, messages, Windows and devices: what they render to, exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DocumentInvalid
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.rendering.render import RenderError, as_data, command_line, render
from opsconductor.tool_registry.rendering.structured_calls import (
    AwsCall,
    Message,
    PowerShellScript,
    RedisCommand,
    SnmpRequest,
    SqlStatement,
)
from opsconductor.tool_registry.risk.assess import assess

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

TEXT = {"type": "string", "format": "text", "maxLength": 4000, "description": "some text"}
LIST = {
    "type": "array",
    "maxItems": 20,
    "items": {"type": "string", "maxLength": 200},
    "description": "some texts",
}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 9999, "description": "some number"}
FLAG = {"type": "boolean", "default": False, "description": "some flag"}
TREE = {"type": "object", "additionalProperties": True, "description": "some data"}


def tool(method: str, command: dict[str, Any], **more: Any) -> Tool:
    """Returns a tool with this command; ``more`` replaces parts of the definition."""
    definition = {
        "schema": "opsconductor.tool/1",
        "name": "a_tool",
        "version": "1.0",
        "description": "A tool that exists only in this test.",
        "platform": "any",
        "category": "test",
        "execution": {
            "location": "automation-service",
            "method": method,
            "requires_target": False,
            "target_type": "host",
        },
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "text": TEXT,
                "list": LIST,
                "number": NUMBER,
                "flag": FLAG,
                "tree": TREE,
            },
        },
        "annotations": {"read_only": False, "destructive": True},
        "undo": {"strategy": "none", "reason": "it is only a test"},
        "command": command,
        "timeout": "30s",
        "output": {"parser": "none"},
        "examples": [],
        **more,
    }
    definition["examples"] = definition["examples"] or [
        {"name": "one", "inputs": {}, "renders": {"x": 1}}
    ]
    made, faults = read_tool(json.dumps(definition).encode())
    assert made is not None, faults
    return made


def rendered(method: str, command: dict[str, Any], **inputs: Any) -> Any:
    found = tool(method, command)
    typed, faults = check_inputs(found, inputs)
    assert faults == []
    return render(found, typed, {"name": "db-01", "address": "10.0.0.1", "credential": "c"})


SQL = {"dialect": "postgresql", "read_only": True}


def test_values_of_a_statement_are_bound_with_their_types_and_an_absent_one_is_null() -> None:
    sql = {**SQL, "statement": "SELECT ?, ?, ?, 5", "binds": ["{text}", "{number}", "{flag}"]}
    call = rendered("database", {"sql": sql}, text="'; DROP", flag=True)
    assert call == SqlStatement("postgresql", "SELECT ?, ?, ?, 5", ("'; DROP", None, True))
    assert as_data(call) == {
        "sql": {
            "dialect": "postgresql",
            "statement": "SELECT ?, ?, ?, 5",
            "binds": ["'; DROP", None, True],
            "read_only": True,
        }
    }


def test_a_statement_of_the_caller_keeps_its_text_and_its_values() -> None:
    sql = {**SQL, "statement_from": "text", "binds_from": "list", "row_limit": "{number}"}
    sql |= {"dry_run": "{flag}", "database": "shop"}
    call = rendered("database", {"sql": sql}, text="SELECT {x} ?", list=["a"], number=7, flag=True)
    assert call == SqlStatement("postgresql", "SELECT {x} ?", ("a",), "shop", True, 7, dry_run=True)


@pytest.mark.parametrize(
    ("dialect", "name", "quoted"),
    [
        ("postgresql", 'a"; DROP TABLE x; --', '"a""; DROP TABLE x; --"'),
        ("mysql", "a`; DROP", "`a``; DROP`"),
        ("sqlite", "main.t", '"main"."t"'),
    ],
)
def test_placeholders_in_a_statement_are_quoted_names(dialect: str, name: str, quoted: str) -> None:
    sql = {**SQL, "dialect": dialect, "statement": "SELECT * FROM {text}"}
    call = rendered("database", {"sql": sql}, text=name)
    assert call.statement == f"SELECT * FROM {quoted}"


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "a..b", ".a", "x" * 129])
def test_what_is_no_name_is_refused(name: str) -> None:
    sql = {**SQL, "statement": "SELECT * FROM {text}"}
    with pytest.raises(RenderError):
        render(tool("database", {"sql": sql}), {"text": name}, None)


@given(st.text(min_size=1, max_size=30))
def test_a_quoted_name_is_one_token_whatever_it_holds(name: str) -> None:
    import sqlglot

    sql = {**SQL, "statement": "SELECT * FROM {text}"}
    try:
        call: Any = render(tool("database", {"sql": sql}), {"text": name}, None)
    except RenderError:
        return
    (parsed,) = sqlglot.parse(call.statement, dialect="postgres")
    assert parsed is not None
    assert len(list(parsed.find_all(sqlglot.exp.Table))) == 1
    table = next(iter(parsed.find_all(sqlglot.exp.Table)))
    assert [part.name for part in table.parts] == name.split(".")


def test_redis_arguments_may_begin_with_a_dash_and_stay_separate() -> None:
    redis = {
        "args": ["SET", "{text}", {"each": "list", "item": ["{item}"]}],
        "database": "{number}",
    }
    call = rendered("database", {"redis": redis}, text="-k v", list=["a\r\nDEL x", "--"], number=2)
    assert call == RedisCommand(("SET", "-k v", "a\r\nDEL x", "--"), 2)
    assert command_line(call).startswith("redis-cli -n 2 SET '-k v'")


def test_powershell_keeps_script_and_parameters_apart() -> None:
    body = "param([string]$Name, [int]$Count)\nGet-Service -Name $Name"
    powershell = {"body": body, "parameters": {"Name": "{text}", "Count": "{number}"}}
    call = rendered("winrm", {"powershell": powershell}, text="'; rm -r C:\\ #")
    assert call == PowerShellScript(body, {"Name": "'; rm -r C:\\ #"})
    assert as_data(call) == {"powershell": {"Name": "'; rm -r C:\\ #"}}


def test_powershell_parameters_need_names() -> None:
    command = {"powershell": {"body_from": "text", "parameters_from": "tree"}}
    assert rendered("winrm", command, text="Get-Date", tree={"A": 1}) == PowerShellScript(
        "Get-Date", {"A": 1}
    )
    with pytest.raises(RenderError, match="no name"):
        rendered("winrm", command, text="Get-Date", tree={"A; rm": 1})


def test_aws_arguments_are_a_tree_of_typed_values() -> None:
    aws = {
        "service": "ec2",
        "operation": "stop-instances",
        "region": "eu-central-1",
        "arguments": {"InstanceIds": "{list}", "Force": "{flag}", "Hibernate": "{number}"},
        "dry_run": "{flag}",
    }
    call = rendered("aws-sdk", {"aws": aws}, list=["i-1"], flag=True)
    given = {"InstanceIds": ["i-1"], "Force": True}
    assert call == AwsCall("ec2", "stop_instances", given, "eu-central-1", dry_run=True)
    assert command_line(call) == (
        "aws ec2 stop-instances --region eu-central-1 --cli-input-json "
        '\'{"DryRun": true, "Force": true, "InstanceIds": ["i-1"]}\''
    )


@pytest.mark.parametrize("name", ["", "ec2 terminate", "../x", "EC2", "__class__"])
def test_a_service_has_a_plain_name(name: str) -> None:
    with pytest.raises(RenderError):
        rendered("aws-sdk", {"aws": {"service": "{text}", "operation": "x_y"}}, text=name)


def test_a_message_takes_lists_and_single_recipients() -> None:
    message = {"channel": "smtp", "to": "{list}", "cc": ["ops@x.y", "{text}"], "subject": "S"}
    call = rendered("communication", {"message": message}, list=["a@b.c", "d@e.f"])
    assert call == Message("smtp", to=("a@b.c", "d@e.f"), cc=("ops@x.y",), subject="S")
    data = {"channel": "webhook", "credential": "{target.credential}", "data": {"n": "{number}"}}
    call = rendered("communication", {"message": data}, number=3)
    assert call == Message("webhook", "c", data={"n": 3})


@pytest.mark.parametrize("text", ["a\nBcc: x@y.z", "a\r\nX: y", "a\x0bb", "a\u2028b"])
def test_a_header_of_a_message_is_one_line(text: str) -> None:
    for message in ({"channel": "smtp", "subject": "{text}"}, {"channel": "smtp", "to": "{text}"}):
        with pytest.raises(RenderError, match="line break"):
            render(tool("communication", {"message": message}), {"text": text}, None)


def test_snmp_sets_as_many_values_as_there_are_oids() -> None:
    snmp = {"operation": "set", "oids": ["1.3.6.1.2.1.1.4.0"], "values": ["s:{text}"]}
    call = rendered("snmp", {"snmp": snmp}, text="a b")
    assert call == SnmpRequest("set", ("1.3.6.1.2.1.1.4.0",), ("s:a b",))
    with pytest.raises(RenderError, match="1 OIDs are to be set to 0 values"):
        rendered("snmp", {"snmp": snmp})


def test_an_http_request_may_carry_a_form_a_text_and_a_credential() -> None:
    form = {"method": "POST", "url": "http://{target.address}/x", "form": {"a": "{text}"}}
    call = rendered("http", {"http": {**form, "credential": "{target.credential}"}}, text="b&c=d")
    assert (call.body, call.credential) == (b"a=b%26c%3Dd", "c")
    assert dict(call.headers)["Content-Type"] == "application/x-www-form-urlencoded"
    text = {
        "method": "PUT",
        "url": "http://h/",
        "body": "{text}",
        "headers": {"Content-Type": "x/y"},
    }
    assert rendered("http", {"http": text}, text="raw").body == b"raw"


def test_every_kind_is_portable_json() -> None:
    for call in (
        SqlStatement("sqlite", "SELECT ?", ("a", None, 1.5)),
        RedisCommand(("GET", "k")),
        PowerShellScript("x", {"a": [1]}),
        AwsCall("ec2", "x", {"a": {"b": []}}),
        Message("slack", text="x"),
        SnmpRequest("walk", ("1.3",)),
    ):
        canonical.dumps(as_data(call))
        assert command_line(call)


def faults_of(method: str, command: dict[str, Any], renders: dict[str, Any], **more: Any) -> str:
    """Returns what the lint says of a tool with one example."""
    example = {"name": "one", "inputs": more.pop("inputs", {}), "renders": renders}
    found = tool(method, command, examples=[example, {**example, "name": "two"}], **more)
    return "\n".join(str(fault) for fault in lint_tool(found))


READS = {"annotations": {"read_only": True}, "undo": {"strategy": "not_needed"}}


@pytest.mark.parametrize(
    ("method", "command", "renders", "word"),
    [
        (
            "database",
            {"sql": {"dialect": "postgresql", "statement": "DROP TABLE x", "read_only": True}},
            {"sql": {"dialect": "postgresql", "statement": "DROP TABLE x", "read_only": True}},
            "DROP",
        ),
        (
            "aws-sdk",
            {"aws": {"service": "ec2", "operation": "terminate_instances"}},
            {"aws": {"service": "ec2", "operation": "terminate_instances", "arguments": {}}},
            "terminate_instances",
        ),
        (
            "http",
            {"http": {"method": "DELETE", "url": "http://h/"}},
            {"method": "DELETE", "url": "http://h/"},
            "DELETE",
        ),
        (
            "database",
            {"redis": {"args": ["FLUSHALL"]}},
            {"redis": {"args": ["FLUSHALL"]}},
            "FLUSHALL",
        ),
        (
            "communication",
            {"message": {"channel": "slack", "text": "x"}},
            {"message": {"channel": "slack", "text": "x"}},
            "slack",
        ),
    ],
)
def test_annotations_that_contradict_the_command_are_refused(
    method: str, command: dict[str, Any], renders: dict[str, Any], word: str
) -> None:
    said = faults_of(method, command, renders, **READS)
    assert "by its annotations" in said
    assert word in said
    honest = faults_of(method, command, renders)
    assert "by its annotations" not in honest


def test_a_statement_of_the_caller_must_be_judged_by_parsing() -> None:
    sql = {**SQL, "statement_from": "text"}
    assert "risk_from: {parser: sql, parameter: text}" in faults_of(
        "database", {"sql": sql}, {"x": 1}
    )


def test_a_method_takes_only_its_kinds_of_commands() -> None:
    assert "sql or redis" not in faults_of("database", {"redis": {"args": ["PING"]}}, {"x": 1})
    assert "redis or sql" in faults_of("database", {"argv": ["psql"]}, {"x": 1})


def test_powershell_is_linted() -> None:
    body = "param([string]$Name)\nInvoke-Expression $Name"
    said = faults_of(
        "winrm", {"powershell": {"body": body, "parameters": {"Other": "{text}"}}}, {"x": 1}
    )
    assert "no Invoke-Expression" in said
    assert "$Other" in said


def test_a_cmd_script_takes_no_arguments() -> None:
    script = {"interpreter": "cmd", "body": "ver", "args": ["{text}"]}
    assert "cmd.exe has no safe quoting" in faults_of("winrm", {"script": script}, {"x": 1})


@pytest.mark.parametrize(
    ("parser", "value", "risk"),
    [
        ("sql", "SELECT 1", "read_only"),
        ("sql", "UPDATE t SET a = 1 WHERE b = ?", "modify"),
        ("sql", "DELETE FROM t", "destructive"),
        ("sql", "${{ steps.x.output.y }}", "destructive"),
        ("redis", ["GET", "k"], "read_only"),
        ("redis", ["EVAL", "return 1"], "destructive"),
        ("aws", "describe_instances", "read_only"),
        ("aws", "stop_instances", "modify"),
        ("aws", "delete_bucket", "destructive"),
        ("http", "HEAD", "read_only"),
        ("http", "PATCH", "modify"),
        ("http", "DELETE", "destructive"),
    ],
)
def test_the_risk_of_a_free_tool_comes_from_what_it_is_given(
    parser: str, value: Any, risk: str
) -> None:
    parameter = "list" if isinstance(value, list) else "text"
    source = {"risk_from": {"parser": parser, "parameter": parameter}}
    found = tool("database", {"redis": {"args": ["PING"]}}, **source)
    judged = assess(found, {parameter: value})
    assert (judged.risk_class, bool(judged.reasons)) == (risk, True)


def test_a_schema_mistake_in_a_new_kind_is_a_fault() -> None:
    assert issubclass(DocumentInvalid, Exception)
    with pytest.raises(AssertionError, match="dialect"):
        tool("database", {"sql": {"dialect": "oracle", "statement": "x", "read_only": True}})
