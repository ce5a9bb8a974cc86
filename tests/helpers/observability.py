"""Private monitoring servers for tests: Prometheus, its Alertmanager, and two exporters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from helpers.servers import Server, accepts, private_folder, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RULES = """\
groups:
  - name: hosts
    rules:
      - {alert: AlwaysThere, expr: vector(1), labels: {severity: page}}
"""
_QUIET = ("--log.level=warn",)


def _node(server: Server) -> list[str]:
    name = program("prometheus-node-exporter", "prometheus-node-exporter")
    return [name, f"--web.listen-address=127.0.0.1:{server.port}", "--collector.disable-defaults",
            "--collector.loadavg", "--collector.uname", *_QUIET]  # fmt: skip


def _blackbox(server: Server) -> list[str]:
    config = server.folder / "blackbox.yml"
    config.write_text(
        json.dumps({"modules": {"http_2xx": {"prober": "http"}, "tcp_connect": {"prober": "tcp"}}})
    )
    name = program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
    where = f"--web.listen-address=127.0.0.1:{server.port}"
    return [name, f"--config.file={config}", where, *_QUIET]


def _alertmanager(server: Server) -> list[str]:
    config = server.folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    name = program("prometheus-alertmanager", "prometheus-alertmanager")
    return [
        *(name, f"--config.file={config}", f"--storage.path={server.folder}/data"),
        *(f"--web.listen-address=127.0.0.1:{server.port}", "--cluster.listen-address=", *_QUIET),
    ]


def _prometheus(node: int, alerts: int) -> Callable[[Server], list[str]]:
    def command(server: Server) -> list[str]:
        (server.folder / "rules.yml").write_text(RULES)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]
            },
            "scrape_configs": [
                {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{node}"]}]}
            ],
        }
        (server.folder / "prometheus.yml").write_text(json.dumps(config))
        return [
            *(program("prometheus", "prometheus"), "--config.file=prometheus.yml"),
            *(f"--storage.tsdb.path={server.folder}/data", *_QUIET),
            # What fires before Alertmanager is found is sent again, by default after a minute.
            *(f"--web.listen-address=127.0.0.1:{server.port}", "--rules.alert.resend-delay=1s"),
        ]

    return command


def _started(command: Callable[[Server], list[str]], prefix: str) -> Iterator[Server]:
    with private_folder(prefix) as folder:
        server = Server(command, accepts, folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def node_exporter() -> Iterator[Server]:
    """A node exporter that shows load and name of this host."""
    program("prometheus-node-exporter", "prometheus-node-exporter")
    yield from _started(_node, "opsc-node-")


@pytest.fixture(scope="session")
def blackbox_exporter() -> Iterator[Server]:
    """A blackbox exporter that probes by HTTP and TCP."""
    program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
    yield from _started(_blackbox, "opsc-blackbox-")


@pytest.fixture(scope="session")
def alertmanager() -> Iterator[Server]:
    """An Alertmanager that tells nobody."""
    program("prometheus-alertmanager", "prometheus-alertmanager")
    yield from _started(_alertmanager, "opsc-alerts-")


@pytest.fixture(scope="session")
def prometheus(node_exporter: Server, alertmanager: Server) -> Iterator[Server]:
    """A Prometheus that asks the node exporter and has one alert that always fires."""
    program("prometheus", "prometheus")
    yield from _started(_prometheus(node_exporter.port, alertmanager.port), "opsc-prom-")
