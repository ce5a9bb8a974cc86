"""A real Prometheus and its kin, Jaeger and RabbitMQ; recorded answers of others."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from helpers.servers import free_port
from helpers.stack import wait_until
from tools_live.counterparts.recorded import TOKEN, RecordedApis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.jaeger import Jaeger
    from helpers.servers import Server
    from tools_live.place import Place

METRICS = ("prometheus", "alertmanager", "node_exporter", "blackbox_exporter")
BROKER = """
systemctl start rabbitmq-server
rabbitmqctl -q add_user ops queue-password
rabbitmqctl -q set_user_tags ops administrator
rabbitmqctl -q set_permissions ops '.*' '.*' '.*'
"""
SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "GET /",
    "kind": 2,
}


@pytest.fixture(scope="session")
def monitoring(place: Place) -> Iterator[Place]:
    """The product with one server that answers as five systems do."""
    server = RecordedApis()
    place.add_login("recorded", kind="http", hosts=["127.0.0.1"], scheme="bearer", token=TOKEN)
    _add(place, "recorded", server.port, credential="recorded")
    _add(place, "recorded-closed", server.port)
    place.variables["RECORDED"] = f"http://127.0.0.1:{server.port}"
    yield place
    server.stop()


def _add(place: Place, name: str, port: int, address: str = "127.0.0.1", **fields: str) -> None:
    connection = {"type": "monitoring", "connection": "http"}
    place.add_asset(name, address=address, port=port, **connection, **fields)


@pytest.fixture(scope="session")
def metrics(place: Place, request: pytest.FixtureRequest) -> Place:
    """The product with Prometheus and its kin, an alert having arrived."""
    for name in METRICS:
        server: Server = request.getfixturevalue(name)
        _add(place, name, server.port)
        place.variables[name.upper()] = f"http://127.0.0.1:{server.port}"
    wait_until(
        lambda: "AlwaysThere" in place.shell("curl -s $ALERTMANAGER/api/v2/alerts"),
        "the alert has arrived",
    )
    return place


@pytest.fixture(scope="session")
def traces(place: Place, jaeger: Jaeger) -> Place:
    """The product with a Jaeger that holds one trace of the service web."""
    _add(place, "jaeger", jaeger.http)
    now = time.time_ns()
    span = {**SPAN, "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 5_000_000)}
    service = {"key": "service.name", "value": {"stringValue": "web"}}
    resource = {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}
    sent = httpx.post(
        f"http://127.0.0.1:{jaeger.posts}/v1/traces", json={"resourceSpans": [resource]}
    )
    assert sent.is_success, sent.text
    wait_until(lambda: "web" in str(jaeger.get("services")), "the trace has arrived")
    return place


@pytest.fixture(scope="session")
def queues(lab: Place) -> Iterator[Place]:
    """The product with a RabbitMQ whose queue mail holds two messages.

    It is on the Debian host and reached by a tunnel: a password never goes over plain HTTP.
    """
    lab.shell(BROKER, "lab")
    lab.add_login(
        "queues",
        kind="http",
        hosts=["127.0.0.1"],
        scheme="basic",
        username="ops",
        password="queue-password",
    )
    port = free_port()
    _add(lab, "rabbitmq", port, credential="queues")
    tunnel = ["-N", "-L", f"{port}:127.0.0.1:15672"]
    with subprocess.Popen(lab.hosts["lab"].ssh(*tunnel), stdin=subprocess.DEVNULL) as process:
        try:
            _fill_queue(f"http://127.0.0.1:{port}/api", ("ops", "queue-password"))
            yield lab
        finally:
            process.terminate()


def _fill_queue(url: str, login: tuple[str, str]) -> None:
    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return api.get("/overview").is_success
        return False

    with httpx.Client(base_url=url, auth=login) as api:
        wait_until(answers, "RabbitMQ's management answers")
        assert api.put("/queues/%2F/mail", json={}).is_success
        for _ in range(2):
            message = {"routing_key": "mail", "payload": "x", "payload_encoding": "string"}
            sent = api.post(
                "/exchanges/%2F/amq.default/publish", json={**message, "properties": {}}
            )
            assert sent.json() == {"routed": True}
        # RabbitMQ counts messages every few seconds.
        wait_until(lambda: api.get("/queues/%2F/mail").json().get("messages") == 2, "both count")
