"""Judges HTTP requests, AWS operations, Redis commands, messages and SNMP by what they say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    AwsCall,
    HttpRequest,
    Message,
    RedisCommand,
    Rendered,
    SnmpRequest,
    SqlStatement,
)
from opsconductor.tool_registry.risk.commands import Judgement
from opsconductor.tool_registry.risk.free_commands import judge_command, judge_shell
from opsconductor.tool_registry.risk.sql import judge_sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import RiskFrom

_AWS_READ = re.compile(
    r"(?:batch_)?(?:describe|list|get|head|lookup|search|filter|check|preview|simulate|estimate"
    r"|query|scan|view|count|validate|detect)(?:_|\Z)"
)
_AWS_CHANGE = re.compile(
    r"(?:batch_)?(?:create|put|update|modify|attach|associate|start|stop|reboot|add|tag|enable"
    r"|set|copy|register|send|publish|run|allocate|import|restore|upload|increase|change|assign"
    r"|authorize|complete|invite|accept|subscribe|promote|resume|suspend|rotate|request)(?:_|\Z)"
)
_AWS_SECRET = re.compile(
    r"get_(?:secret_value|parameters?(?:_by_path)?|password_data|authorization_token|login_profile"
    r"|session_token|federation_token|credentials.*|.*_policy_preview|cluster_credentials.*)"
    r"|batch_get_secret_value|get_object|assume_role.*"
)
_AWS_RUNS = re.compile(
    r"send_command|invoke.*|execute_.*|start_session|run_task|start_automation.*"
)
_REDIS_READ = frozenset(
    [
        *("ping", "get", "mget", "strlen", "exists", "ttl", "pttl", "type", "scan", "dbsize"),
        *("hget", "hgetall", "hlen", "hkeys", "hvals", "hmget", "hexists", "hscan", "llen"),
        *("lrange", "lindex", "scard", "smembers", "sismember", "sscan", "zcard", "zrange"),
        *("zrangebyscore", "zscore", "zrank", "zcount", "zscan", "xlen", "xread", "xrange"),
        *("info", "time", "xinfo", "lastsave", "randomkey", "echo", "getrange", "bitcount"),
        "pubsub",
    ]
)
_REDIS_READ_SUB = {
    "config": {"get"},
    "client": {"list", "info", "id", "getname"},
    "slowlog": {"get", "len"},
    "memory": {"usage", "stats", "doctor"},
    "command": {"count", "docs", "info", "list"},
    "cluster": {"info", "nodes", "slots", "shards", "myid"},
    "object": {"encoding", "freq", "idletime", "refcount"},
    "latency": {"latest", "history", "doctor"},
    "acl": {"list", "users", "whoami", "cat"},
}
_REDIS_CHANGE = frozenset(
    [
        *("set", "setex", "setnx", "mset", "append", "incr", "incrby", "decr", "decrby", "expire"),
        *("pexpire", "persist", "hset", "hsetnx", "hincrby", "lpush", "rpush", "sadd", "zadd"),
        *("xadd", "publish", "bgsave", "touch", "zincrby", "setbit"),
    ]
)


def judge_from(source: RiskFrom, inputs: Mapping[str, Any]) -> Judgement:
    """Returns the risk that the inputs of a free tool bring, by the parser the tool names."""
    value = inputs.get(source.parameter)
    match source.parser:
        case "script":
            return judge_shell(str(inputs.get(source.interpreter)), value)
        case "sql":
            return judge_sql(value, source.dialect)
        case "redis":
            return judge_redis(value)
        case "aws":
            return judge_aws(value)
        case "http":
            return judge_http(value)
        case _:
            return judge_command(value)


def judge_rendered(rendered: Rendered) -> Judgement | None:
    """Returns the least risk that a rendered call has; None where only the author can tell."""
    match rendered:
        case SqlStatement():
            return judge_sql(rendered.statement, rendered.dialect)
        case RedisCommand(args):
            return judge_redis(list(args))
        case AwsCall():
            return _judge_aws_call(rendered)
        case HttpRequest(method):
            return judge_http(method)
        case Message(channel):
            return Judgement("modify", f"a {channel} message is sent to people or systems")
        case SnmpRequest(operation):
            if operation == "set":
                return Judgement("modify", "SNMP set changes the device")
            return Judgement("read_only", f"SNMP {operation} only reads")
        case ArgvCommand(("aws", _, operation, *options)):
            if "--dry-run" in options and not any(word.startswith("--no-") for word in options):
                return Judgement("read_only", f"aws {operation} is only asked with --dry-run")
            return judge_aws(operation)
        case _:
            return None


def judge_http(method: Any) -> Judgement:
    """Returns the risk of a request by its method."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return Judgement("read_only", f"{method} only reads")
    if method in ("POST", "PUT", "PATCH"):
        return Judgement("modify", f"{method} can change what it is sent to")
    return Judgement("destructive", f"{str(method)[:20]} can destroy what it is sent to")


def judge_aws(operation: Any) -> Judgement:
    """Returns the risk of an operation of AWS by its verb; an unknown verb may destroy."""
    if not isinstance(operation, str) or not re.fullmatch(r"[a-z0-9_.-]+", operation):
        return Judgement("destructive", "the operation is not known yet")
    name = operation.rpartition(".")[2].replace("-", "_")
    if _AWS_SECRET.fullmatch(name):
        return Judgement("modify", f"{name} hands out what may be secret")
    if _AWS_RUNS.fullmatch(name):
        return Judgement("destructive", f"{name} runs code that is not seen here")
    if _AWS_READ.match(name):
        return Judgement("read_only", f"{name} only reads")
    if _AWS_CHANGE.match(name):
        return Judgement("modify", f"{name} changes the account")
    return Judgement("destructive", f"{name} can destroy or replace what it acts on")


def _judge_aws_call(call: AwsCall) -> Judgement:
    """Judges an operation; the executor refuses a dry run that an operation does not offer."""
    if call.dry_run:
        return Judgement("read_only", f"{call.operation} is only asked with DryRun")
    function = (call.service, call.operation) == ("lambda", "invoke")
    if function and call.arguments.get("InvocationType") == "DryRun":
        return Judgement("read_only", "Lambda only checks the rights and the arguments")
    return judge_aws(call.operation)


def judge_redis(args: Any) -> Judgement:
    """Returns the risk of a Redis command; an unknown one may destroy."""
    if not isinstance(args, list) or not args or not isinstance(args[0], str) or "${{" in args[0]:
        return Judgement("destructive", "the command is not known yet")
    name = args[0].lower()
    word = str(args[1]).lower() if len(args) > 1 else ""
    if name in _REDIS_READ or word in _REDIS_READ_SUB.get(name, ()):
        if name == "config" and word == "get" and _names_password(args[2:]):
            return Judgement("modify", "CONFIG GET would show the password")
        return Judgement("read_only", f"{name.upper()} only reads")
    if name in _REDIS_CHANGE:
        return Judgement("modify", f"{name.upper()} changes keys")
    return Judgement("destructive", f"{name[:40].upper()} can destroy or replace what it acts on")


def _names_password(patterns: list[Any]) -> bool:
    return any(re.search(r"pass|auth|acl|user|[*?\[]", str(item), re.I) for item in patterns)
