"""An executor of databases and what it asks, for tests."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from helpers.places import MemorySink
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.executor import DatabaseExecutor
from opsconductor.tool_registry.rendering.rendered import RedisCommand, Rendered, SqlStatement


class Client:
    """An executor and the target it asks."""

    def __init__(self, credential: Credential, port: int, database: str = "", **more: Any) -> None:
        self.executor = DatabaseExecutor(lambda _: credential)
        self.target = {"name": "db-01", "address": "127.0.0.1", "port": port, **more}
        self.database = database
        self.sink = MemorySink()
        self.cancel = asyncio.Event()

    async def run(self, rendered: Rendered, *, read_only: bool = False, seconds: float = 30) -> Any:
        call = Call("a", rendered, self.target, timedelta(seconds=seconds), read_only=read_only)
        return await self.executor.run(call, self.sink, self.cancel)

    async def sql(self, dialect: Any, text: str, *binds: Any, **options: Any) -> Outcome:
        given = {"read_only": False, "database": self.database, **options}
        outcome: Outcome = await self.run(SqlStatement(dialect, text, binds, **given))
        return outcome

    async def redis(self, *args: str, **options: Any) -> Outcome:
        outcome: Outcome = await self.run(RedisCommand(args), **options)
        return outcome


def told(outcome: Outcome) -> tuple[str, str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code, outcome.error.error_class


def login(user: str = "", password: str = "", **settings: str) -> Credential:
    return Credential("database", user, password=password, settings=tuple(settings.items()))
