"""One product for all cases: an orchestrator, an agent with its logins, and the hosts to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.aws import moto as moto
from helpers.observability import alertmanager as alertmanager
from helpers.observability import blackbox_exporter as blackbox_exporter
from helpers.observability import node_exporter as node_exporter
from helpers.observability import prometheus as prometheus
from helpers.postgres import postgres as postgres
from helpers.servers import mariadb as mariadb
from helpers.servers import redis_server as redis_server
from helpers.snmp import snmpd as snmpd
from helpers.stack import running
from tools_live import lab as labs
from tools_live.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A booted Debian host."""
    if why := labs.missing():
        pytest.skip(why)
    with labs.booted(tmp_path_factory.mktemp("lab")) as host:
        yield host


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The product, with nothing in its inventory yet."""
    with running(tmp_path_factory.mktemp("place")) as stack:
        yield Place(stack)
