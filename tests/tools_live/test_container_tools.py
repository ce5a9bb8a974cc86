"""Container tools against real containers: Podman, spoken to by the Docker command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools_live.case import Case, cases

if TYPE_CHECKING:
    from tools_live.lab import Lab
    from tools_live.place import Place

SETUP = """
systemctl start podman.socket
ln -sf /run/podman/podman.sock /run/docker.sock
mkdir -p /tmp/image/bin
cp /bin/busybox /tmp/image/bin/busybox
for name in sh sleep ps cat df env; do ln -sf busybox /tmp/image/bin/$name; done
tar -C /tmp/image -c . | podman import -q - test:1
docker run -d --network host --name web localhost/test:1 \
    /bin/sh -c 'trap "exit 0" TERM; echo up; while :; do sleep 0.2; done'
"""


@pytest.fixture(scope="session")
def containers(place: Place, lab: Lab) -> Place:
    """The product with a container host."""
    place.add_lab(lab)
    place.shell(Case("setup", target="lab"), SETUP)
    return place


@pytest.mark.parametrize("case", cases("container"), ids=lambda case: case.title)
def test_a_container_tool_does_what_it_says(case: Case, containers: Place) -> None:
    containers.use(case)
