"""A Debian host over SSH, with containers on it, and with traffic to look at."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.go_tools import built
from helpers.servers import program
from helpers.stack import wait_until
from tools_live import lab as labs
from tools_live.debian_root import NoDebian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools_live.place import Place

CONTAINERS = """
systemctl start docker
mkdir -p /tmp/image/bin
cp /bin/busybox /tmp/image/bin/busybox
for name in sh sleep ps cat df env true; do ln -sf busybox /tmp/image/bin/$name; done
tar -C /tmp/image -c . | docker import - localhost/test:1
tar -C /tmp/image -c . | podman import -q - test:1
podman create --name pod localhost/test:1 sleep 1000
docker run -d --network host --name web localhost/test:1 \
    /bin/sh -c 'trap "exit 0" TERM; echo up; while :; do sleep 0.2; done'
"""
COMPOSE = "/usr/libexec/docker/cli-plugins/docker-compose"
SHOP = """
cat >/srv/shop.yaml <<X
services:
  web: {image: "localhost/test:1", network_mode: host, command: ["/bin/sleep", "1000"], init: true}
X
"""
TALK = """
dig +short web-01.example.com @$LAB
dig +short MX example.com @$LAB
curl -sS http://$LAB/index.html
curl -sSk https://$LAB/
curl -sS ftp://$LAB/readme
printf 'Subject: hello\\n\\nA mail.\\n' | curl -sS smtp://$LAB --mail-from ops@example.com \
    --mail-rcpt ann@example.com -T -
ssh-keyscan -t ed25519 $LAB
"""
"""One conversation in each protocol there is an analyser of."""


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A booted Debian host."""
    try:
        with labs.booted(tmp_path_factory.mktemp("lab")) as host:
            yield host
    except NoDebian as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def lab(place: Place, booted: labs.Lab) -> Place:
    """The product with the Debian host, known by the users root, opsadmin and guest."""
    for name, username in (("lab", "root"), ("lab-user", "opsadmin"), ("lab-guest", "guest")):
        place.add_login(name, kind="ssh", username=username, private_key_file=str(booted.key))
        place.add_asset(
            name,
            type="linux_server",
            address=booted.address,
            connection="ssh",
            credential=name,
            host_keys=[booted.host_key],
            service_manager="systemd",
        )
        place.hosts[name] = booted
    place.variables.update(
        LAB=booted.address,
        LAB_KEY=str(booted.key),
        LAB_LINK=labs.LINK,
        LAB_NETWORK=f"{labs.NETWORK}.0/30",
    )
    return place


@pytest.fixture(scope="session")
def linux(lab: Place) -> Place:
    """The product with the Debian host."""
    return lab


@pytest.fixture(scope="session")
def container(lab: Place) -> Place:
    """The product with a container host."""
    lab.shell(CONTAINERS, "lab")
    return lab


@pytest.fixture(scope="session")
def compose(container: Place) -> Place:
    """The product with Docker Compose on the container host."""
    put = f"mkdir -p $(dirname {COMPOSE}) && cat >{COMPOSE} && chmod 755 {COMPOSE}"
    with Path(built("docker-compose")).open("rb") as plugin:
        subprocess.run(container.hosts["lab"].ssh(put), stdin=plugin, check=True)
    container.shell(SHOP, "lab")
    return container


@pytest.fixture(scope="session")
def network(lab: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The product with a host to look at, and a folder for captures."""
    lab.variables["CAPTURES"] = str(tmp_path_factory.mktemp("captures"))
    return lab


@pytest.fixture(scope="session")
def capture(network: Place) -> Place:
    """The product with ``${CAPTURE}``: what this machine and the Debian host said to each other."""
    file = Path(network.variables["CAPTURES"], "talk.pcap")
    sniffer = subprocess.Popen(
        [
            *(program("tcpdump", "tcpdump"), "-i", labs.LINK, "-U", "-Z", "root", "-w", str(file)),
            *("ip", "host", network.variables["LAB"]),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: file.exists() and file.stat().st_size >= 24, "tcpdump captures")
        network.shell(TALK)
        wait_until(lambda: b"SSH-2.0-OpenSSH-keyscan" in file.read_bytes(), "all of it is captured")
    finally:
        sniffer.send_signal(signal.SIGINT)
        sniffer.wait(30)
    network.variables["CAPTURE"] = str(file)
    return network
