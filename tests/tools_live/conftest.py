"""One product for all cases, and one fixture for each category of cases and each extra server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from helpers.aws import moto as moto
from helpers.jaeger import jaeger as jaeger
from helpers.observability import alertmanager as alertmanager
from helpers.observability import blackbox_exporter as blackbox_exporter
from helpers.observability import node_exporter as node_exporter
from helpers.observability import prometheus as prometheus
from helpers.postgres import postgres as postgres
from helpers.servers import mariadb as mariadb
from helpers.servers import redis_server as redis_server
from helpers.snmp import snmpd as snmpd
from helpers.stack import running
from tools_live.counterparts.assets import asset as asset
from tools_live.counterparts.aws import cloud as cloud
from tools_live.counterparts.cameras import vapix as vapix
from tools_live.counterparts.databases import database as database
from tools_live.counterparts.devices import snmp as snmp
from tools_live.counterparts.hosts import booted as booted
from tools_live.counterparts.hosts import capture as capture
from tools_live.counterparts.hosts import compose as compose
from tools_live.counterparts.hosts import container as container
from tools_live.counterparts.hosts import lab as lab
from tools_live.counterparts.hosts import linux as linux
from tools_live.counterparts.hosts import network as network
from tools_live.counterparts.mailboxes import communication as communication
from tools_live.counterparts.monitoring import metrics as metrics
from tools_live.counterparts.monitoring import monitoring as monitoring
from tools_live.counterparts.monitoring import queues as queues
from tools_live.counterparts.monitoring import traces as traces
from tools_live.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


class ByCategory(LoadScopeScheduling):  # type: ignore[misc]
    """Gives all cases of a category to one process, so that their servers start once."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("[")[2].partition("-")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByCategory:
    """Returns what hands the cases out where several processes run them."""
    return ByCategory(config, log)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The product, with nothing in its inventory yet."""
    with running(tmp_path_factory.mktemp("place")) as stack:
        yield Place(stack)
