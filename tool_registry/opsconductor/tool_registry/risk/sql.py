"""Judges a SQL statement by parsing it; what cannot be parsed or is not known may destroy."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from opsconductor.tool_registry.risk.commands import Judgement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlglot import exp

_PARSED_AS = {"postgresql": "postgres", "mysql": "mysql", "sqlite": "sqlite"}
# Functions that neither parser nor standard knows, and that only read. Everything else that is not
# standard may do anything: end sessions, write files, start programs.
_READING = frozenset(
    [
        *(
            "version",
            "current_setting",
            "current_schemas",
            "has_table_privilege",
            "pg_get_userbyid",
        ),
        *("pg_database_size", "pg_total_relation_size", "pg_relation_size", "pg_table_size"),
        *("pg_indexes_size", "pg_size_pretty", "pg_postmaster_start_time", "pg_is_in_recovery"),
        *("pg_current_wal_lsn", "pg_last_wal_replay_lsn", "pg_last_wal_receive_lsn"),
        *("pg_last_xact_replay_timestamp", "pg_wal_lsn_diff", "pg_blocking_pids"),
        *("pg_get_indexdef", "pg_get_viewdef", "pg_get_constraintdef", "pg_get_functiondef"),
        *("pg_stat_get_numscans", "pg_backend_pid", "pg_encoding_to_char", "obj_description"),
        *("inet_server_addr", "inet_server_port", "clock_timestamp", "statement_timestamp"),
        *("to_regclass", "format_type", "col_description", "age", "cardinality", "jsonb_pretty"),
        *("connection_id", "found_rows", "row_count", "sqlite_version"),
        *("total_changes", "typeof", "printf", "julianday", "unixepoch", "changes", "quote"),
    ]
)
_DANGEROUS = frozenset(
    [
        *("sleep", "nextval", "setval", "read_csv", "read_parquet", "load_file", "get_lock"),
        *("next_value_for", "execute", "exec", "query_to_xml", "dblink"),
    ]
)
_EXPLAIN = re.compile(
    r"\s*explain\s+(?:query\s+plan\s+|(?P<options>\([^()]*\)|(?:(?:analyze|verbose)\s+)+))?",
    re.IGNORECASE,
)
_UNREADABLE = "the statement"
_SHOW = re.compile(r"\s*show\s+(?:[a-z_][a-z0-9_.]*|time zone)\s*;?\s*", re.IGNORECASE)
_READING_PRAGMA = re.compile(
    r"\s*pragma\s+(?:(?:table_info|table_xinfo|table_list|index_list|index_info|foreign_key_list"
    r"|foreign_key_check|integrity_check|quick_check)(?:\s*\(\s*\"?\w+\"?\s*\))?"
    r"|database_list|collation_list|compile_options|page_count|page_size|freelist_count"
    r"|user_version|schema_version|encoding|journal_mode)\s*;?\s*",
    re.IGNORECASE,
)


def judge_sql(statement: object, dialect: str) -> Judgement:
    """Returns the risk of one statement; several statements count as the worst there is."""
    if not isinstance(statement, str) or "${{" in statement:
        return Judgement("destructive", "the statement is not known yet")
    if "/*!" in statement or "/*M!" in statement:
        return Judgement("destructive", "a comment that MySQL carries out hides what it does")
    explained = _EXPLAIN.match(statement)
    if explained and dialect != "mysql":
        carried_out = "analyze" in (explained["options"] or "").lower()
        judged = _parsed(statement[explained.end() :], dialect)
        if carried_out or judged.reason.startswith(_UNREADABLE):
            return judged
        return Judgement("read_only", "EXPLAIN only shows the plan")
    if dialect == "postgresql" and _SHOW.fullmatch(statement):
        return Judgement("read_only", "SHOW only shows")
    if dialect == "sqlite" and _READING_PRAGMA.fullmatch(statement):
        return Judgement("read_only", "this pragma only shows")
    return _parsed(statement, dialect)


def _parsed(statement: str, dialect: str) -> Judgement:
    import sqlglot  # slow to load, wanted only where SQL is judged
    from sqlglot.errors import SqlglotError

    # It warns of every statement it does not know; that is told as the risk.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        parsed = sqlglot.parse(statement, dialect=_PARSED_AS[dialect])
    except (SqlglotError, RecursionError, ValueError) as error:
        line = (str(error).splitlines() or [""])[0][:120]
        return Judgement("destructive", f"{_UNREADABLE} cannot be parsed: {line}")
    found = [part for part in parsed if part is not None]
    if len(found) != 1:
        return Judgement("destructive", f"{_UNREADABLE} is {len(found)} statements instead of one")
    return _judge(found[0])


def _judge(statement: exp.Expr) -> Judgement:
    from sqlglot import exp

    if isinstance(statement, exp.Show | exp.Describe):
        return _showing(statement)
    if isinstance(statement, exp.Insert):
        return _writing(statement, "it adds rows")
    if isinstance(statement, exp.Update | exp.Merge):
        return _changing_rows(statement)
    if isinstance(statement, exp.Create):
        return _creating(statement)
    if isinstance(statement, exp.Query | exp.Values):
        return _reading(statement)
    return Judgement(
        "destructive", f"{statement.key.upper()} can destroy or replace what it acts on"
    )


def _showing(statement: exp.Expr) -> Judgement:
    """Judges SHOW, DESCRIBE and MySQL's EXPLAIN, which with ANALYZE carries out its statement."""
    from sqlglot import exp

    if any(True for _ in statement.find_all(exp.DML)):
        return Judgement("destructive", "what it explains changes rows")
    return _called(statement) or Judgement("read_only", f"{statement.key.upper()} only shows")


def _reading(statement: exp.Expr) -> Judgement:
    from sqlglot import exp

    for part, why in (
        (exp.Insert, "a part of the query adds rows"),
        (exp.Update, "a part of the query changes rows"),
        (exp.Delete, "a part of the query deletes rows"),
        (exp.Merge, "a part of the query changes rows"),
        (exp.Into, "the result becomes a table or a file"),
        (exp.Command, "a part of the query is not understood"),
    ):
        if statement.find(part):
            return Judgement("destructive", why)
    if statement.find(exp.Lock):
        return Judgement("modify", "the query locks rows")
    return _called(statement) or Judgement("read_only", "the query only reads")


def _changing_rows(statement: exp.Expr) -> Judgement:
    if statement.key == "update" and statement.args.get("where") is None:
        return Judgement("destructive", "UPDATE without WHERE changes every row")
    if statement.key == "merge" and "DELETE" in statement.sql().upper():
        return Judgement("destructive", "MERGE deletes rows")
    return _writing(statement, "it changes rows")


def _writing(statement: exp.Expr, why: str) -> Judgement:
    from sqlglot import exp

    if statement.find(exp.Delete, exp.Command, exp.Into):
        return Judgement("destructive", "a part of the statement deletes or is not understood")
    if statement.args.get("overwrite") or statement.args.get("alternative"):
        return Judgement("destructive", "it replaces rows that exist")
    return _called(statement) or Judgement("modify", why)


def _creating(statement: exp.Expr) -> Judgement:
    kind = str(statement.args.get("kind") or "").upper()
    if statement.args.get("replace"):
        return Judgement("destructive", f"CREATE OR REPLACE replaces the {kind.lower()}")
    if kind in ("TABLE", "INDEX", "VIEW", "SCHEMA", "SEQUENCE", "DATABASE"):
        return _called(statement) or Judgement("modify", f"it creates a {kind.lower()}")
    return Judgement("destructive", f"CREATE {kind} can hold code")


def _called(statement: exp.Expr) -> Judgement | None:
    """Returns the judgement of the first function that is not known only to compute."""
    for name in _functions(statement):
        if name in _DANGEROUS or name.startswith(("dblink", "lo_", "xp_")):
            return Judgement("destructive", f"function {name} has effects")
        if name.startswith("?") and name[1:] not in _READING:
            return Judgement("destructive", f"what function {name[1:]} does is not known")
    return None


def _functions(statement: exp.Expr) -> Iterator[str]:
    """Yields the name of each function; one that the parser does not know begins with ``?``."""
    from sqlglot import exp

    for call in statement.find_all(exp.Func):
        if isinstance(call, exp.Anonymous | exp.AnonymousAggFunc):
            yield f"?{call.name.lower()}"
        else:
            yield call.sql_name().lower()
    for dotted in statement.find_all(exp.Dot):
        # schema.function(): the schema decides which function it is.
        if isinstance(dotted.expression, exp.Func):
            schema = dotted.this.name.lower()
            if schema not in ("pg_catalog", "information_schema"):
                yield f"?{schema}.{dotted.expression.name.lower()}"
