"""The risk of statements and calls, read from what they say."""

from __future__ import annotations

import pytest

from opsconductor.tool_registry.risk.sql import judge_sql
from opsconductor.tool_registry.risk.structured import judge_aws, judge_http, judge_redis

POSTGRES = {
    "read_only": [
        "select * from t where a = ? and b = 'x;y' -- ; drop",
        "with a as (select 1) select * from a union select 2",
        "values (1)",
        "show server_version",
        "explain select * from t",
        "explain delete from t",
        "explain (analyze) select 1",
        "select count(*), lower(name), now() from t group by 2",
        "select pg_size_pretty(pg_database_size(current_database()))",
        "select data->>'a', data ? 'b' from t",
    ],
    "modify": [
        "insert into t values (?, ?)",
        "insert into t select * from u",
        "update t set a = ? where id = ?",
        "create table t (a int)",
        "create index i on t (a)",
        "select * from t for update",
    ],
    "destructive": [
        "",
        "select 1; drop table t",
        "delete from t where id = ?",
        "truncate t",
        "drop table t",
        "update t set a = 1",
        "alter table t drop column a",
        "with d as (delete from t returning *) select * from d",
        "explain analyze delete from t",
        "explain (analyze, format json) update t set a = 1",
        "select * into x from t",
        "copy t to program 'id'",
        "copy t from '/etc/passwd'",
        "do $$ begin perform pg_sleep(1); end $$",
        "select pg_terminate_backend(1)",
        'select "pg_terminate_backend"(1)',
        "select pg_catalog.pg_read_file('/etc/passwd')",
        "select lo_import('/etc/passwd')",
        "select * from dblink('x', 'delete from t') as t(a int)",
        "select query_to_xml('delete from t', true, true, '')",
        "select nextval('s')",
        "select (pg_sleep(1)).*",
        "insert into t select pg_sleep(1)",
        "select my_function()",
        "create or replace view v as select 1",
        "create function f() returns int language sql as 'select 1'",
        "grant all on t to public",
        "set role postgres",
        "call p()",
        "vacuum",
        "listen x",
        "not sql at all",
        "select ${{ steps.a.output.b }}",
    ],
}
MYSQL = {
    "read_only": ["select 1", "show processlist", "show global status like ?", "describe t"],
    "modify": [
        "insert into t values (?)",
        "insert into t values (1) on duplicate key update a = 2",
    ],
    "destructive": [
        "select * from t into outfile '/tmp/x'",
        "select load_file('/etc/passwd')",
        "select sleep(5)",
        "select /*!50000 sleep(5) */ 1",
        "replace into t values (1)",
        "load data infile 'x' into table t",
        "kill 5",
        "explain analyze delete from t",
        "select get_lock('a', 1)",
    ],
}
SQLITE = {
    "read_only": [
        "select * from t",
        "pragma table_info(t)",
        "pragma integrity_check",
        "explain query plan select 1",
    ],
    "modify": ["insert into t values (1)"],
    "destructive": [
        "attach database 'x' as y",
        "pragma journal_mode = wal",
        "pragma writable_schema = on",
        "select load_extension('x')",
        "select writefile('a', 'b')",
        "insert or replace into t values (1)",
        "vacuum into 'x'",
    ],
}
CASES = [
    (dialect, risk, statement)
    for dialect, cases in (("postgresql", POSTGRES), ("mysql", MYSQL), ("sqlite", SQLITE))
    for risk, statements in cases.items()
    for statement in statements
]


@pytest.mark.parametrize(("dialect", "risk", "statement"), CASES)
def test_a_statement_has_the_risk_of_what_it_does(dialect: str, risk: str, statement: str) -> None:
    judged = judge_sql(statement, dialect)
    assert (judged.risk_class, bool(judged.reason)) == (risk, True), judged


@pytest.mark.parametrize("value", [None, 5, ["select 1"], {}])
def test_what_is_no_statement_may_destroy(value: object) -> None:
    assert judge_sql(value, "postgresql").risk_class == "destructive"


@pytest.mark.parametrize(
    ("operation", "risk"),
    [
        ("describe_instances", "read_only"),
        ("s3.list_buckets", "read_only"),
        ("get-metric-data", "read_only"),
        ("batch_get_item", "read_only"),
        ("get_secret_value", "modify"),
        ("get_password_data", "modify"),
        ("assume_role", "modify"),
        ("start_instances", "modify"),
        ("put_object", "modify"),
        ("create_tags", "modify"),
        ("terminate_instances", "destructive"),
        ("delete_bucket", "destructive"),
        ("send_command", "destructive"),
        ("invoke", "destructive"),
        ("run_task", "destructive"),
        ("revoke_security_group_ingress", "destructive"),
        ("getaway", "destructive"),
        ("", "destructive"),
        ("${{ x }}", "destructive"),
    ],
)
def test_an_aws_operation_has_the_risk_of_its_verb(operation: str, risk: str) -> None:
    assert judge_aws(operation).risk_class == risk


@pytest.mark.parametrize(
    ("args", "risk"),
    [
        (["GET", "k"], "read_only"),
        (["config", "get", "maxmemory"], "read_only"),
        (["CONFIG", "GET", "*"], "modify"),
        (["CONFIG", "GET", "requirepass"], "modify"),
        (["SET", "k", "v"], "modify"),
        (["DEL", "k"], "destructive"),
        (["FLUSHALL"], "destructive"),
        (["CONFIG", "SET", "dir", "/"], "destructive"),
        (["EVAL", "return 1", "0"], "destructive"),
        (["MODULE", "LOAD", "x"], "destructive"),
        (["KEYS", "*"], "destructive"),
        ([], "destructive"),
        (["${{ x }}"], "destructive"),
    ],
)
def test_a_redis_command_has_the_risk_of_its_name(args: list[str], risk: str) -> None:
    assert judge_redis(args).risk_class == risk


@pytest.mark.parametrize(
    ("method", "risk"),
    [("GET", "read_only"), ("POST", "modify"), ("DELETE", "destructive"), ("get", "destructive")],
)
def test_a_request_has_the_risk_of_its_method(method: str, risk: str) -> None:
    assert judge_http(method).risk_class == risk
