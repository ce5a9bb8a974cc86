"""Tools that run scapy, between network namespaces: a client, a router, and what is behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.outputs.reading import parse_output
from opsconductor.tool_registry.outputs.schema import output_schema
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import ScriptCommand, render, script_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cannot_run_in_ci("needs network namespaces of its own")
REGISTRY = Registry.load()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK = """
ip link add {a}0 type veth peer name {r}0
ip link set {a}0 netns {a}
ip link add {t}0 type veth peer name {r}1
ip link set {t}0 netns {t}
ip link add {s}0 type veth peer name {r}2
ip link set {s}0 netns {s}
ip link set {r}0 netns {r}
ip link set {r}1 netns {r}
ip link set {r}2 netns {r}
ip -n {r} link add bridge type bridge
ip -n {r} link set {r}0 master bridge up
ip -n {r} link set {r}1 master bridge up
ip -n {r} link set bridge up
ip -n {r} addr add 10.91.0.2/24 dev bridge
ip -n {r} addr add 10.91.0.7/24 dev bridge
ip -n {r} addr add 10.92.0.1/24 dev {r}2
ip -n {r} link set {r}2 up
ip -n {r} link set lo up
ip netns exec {r} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
ip -n {r} route add prohibit 10.92.0.9/32
ip -n {r} route add blackhole 10.92.0.8/32
ip -n {a} addr add 10.91.0.1/24 dev {a}0
ip -n {a} link set {a}0 up
ip -n {a} link set lo up
ip -n {a} route add default via 10.91.0.2
ip -n {t} addr add 10.91.0.7/24 dev {t}0
ip -n {t} link set {t}0 up
ip -n {s} addr add 10.92.0.2/24 dev {s}0
ip -n {s} link set {s}0 up
ip -n {s} route add default via 10.92.0.1
"""
LISTENER = """
import socket
listener = socket.create_server(("10.92.0.2", 80))
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""
DHCP_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"bridge")
server.bind(("0.0.0.0", 67))
print("ready", flush=True)
while True:
    asked = server.recv(2048)
    ip = socket.inet_aton
    head = b"\\2\\1\\6\\0" + asked[4:8] + b"\\0\\0\\x80\\0" + bytes(4)
    head += ip("10.91.0.50") + bytes(8)
    options = b"\\x63\\x82\\x53\\x63" + b"\\x35\\1\\2" + b"\\x36\\4" + ip("10.91.0.2")
    options += b"\\1\\4" + ip("255.255.255.0") + b"\\3\\4" + ip("10.91.0.2")
    options += b"\\6\\x08" + ip("10.91.0.2") + ip("9.9.9.9")
    options += b"\\x33\\4\\0\\0\\x0e\\x10" + b"\\xff"
    answer = head + asked[28:44] + bytes(192) + options
    server.sendto(answer.ljust(300, b"\\0"), ("255.255.255.255", 68))
"""


class Spaces:
    """The namespaces, and how to run a tool in the client's."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.interface = f"{names['a']}0"

    def start(self, where: str, program: str) -> subprocess.Popen[str]:
        """Starts a server and returns once it listens."""
        started = subprocess.Popen(
            ["ip", "netns", "exec", self.names[where], sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        return started

    def run(
        self, name: str, *, section: str = "command", as_user: str = "", **inputs: Any
    ) -> tuple[Any, str]:
        """Returns the output of a tool, and why it failed."""
        tool = REGISTRY.get(name)
        typed, faults = check_inputs(tool, inputs)
        assert faults == []
        rendered = render(tool, typed, None, section=section)  # type: ignore[arg-type]
        assert isinstance(rendered, ScriptCommand)
        assert rendered.elevated
        words = ["ip", "netns", "exec", self.names["a"]]
        words += ["setpriv", f"--reuid={as_user}", "--clear-groups"] if as_user else []
        done = subprocess.run(
            [*words, *script_argv(rendered)],
            check=False,
            capture_output=True,
            env={"PATH": PATH, "LC_ALL": "C", "HOME": "/nonexistent"},
        )
        if done.returncode or section == "dry_run":
            return done.stdout.decode(), done.stderr.decode()
        output = parse_output(tool, done.stdout, done.stderr, 0)
        schema = output_schema(tool)
        assert set(output) <= set(schema["properties"])
        return output, ""


def _missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = ["python3", "-c", "import scapy"]
    if subprocess.run(probe, env={"PATH": PATH}, capture_output=True, check=False).returncode:
        return "scapy is missing: apt-get install python3-scapy"
    if shutil.which("ip") is None:
        return "ip is missing: apt-get install iproute2"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "no network namespaces can be made here" if made.returncode else ""


@pytest.fixture(scope="module")
def spaces() -> Iterator[Spaces]:
    if why := _missing():
        pytest.skip(why)
    names = {letter: f"opsc{os.getpid() % 100_000}{letter}" for letter in "arst"}
    servers: list[subprocess.Popen[str]] = []
    try:
        for name in names.values():
            subprocess.run(["ip", "netns", "add", name], check=True)
        for line in NETWORK.format(**names).strip().splitlines():
            subprocess.run(line.split(), check=True)
        made = Spaces(names)
        servers += [made.start("s", LISTENER), made.start("r", DHCP_SERVER)]
        yield made
    finally:
        for server in servers:
            server.kill()
            server.communicate()
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)


def test_an_arp_sweep_finds_hosts_and_an_address_that_two_of_them_claim(spaces: Spaces) -> None:
    output, _ = spaces.run("arp_sweep", interface=spaces.interface, network="10.91.0.0/28")
    hosts = {host["address"]: host for host in output["hosts"]}
    assert set(hosts) == {"10.91.0.2", "10.91.0.7"}
    assert output["asked"] == 14
    assert (hosts["10.91.0.2"]["conflict"], len(hosts["10.91.0.2"]["macs"])) == (False, 1)
    assert (hosts["10.91.0.7"]["conflict"], len(hosts["10.91.0.7"]["macs"])) == (True, 2)


def test_an_icmp_sweep_finds_hosts_behind_a_router(spaces: Spaces) -> None:
    output, _ = spaces.run("icmp_sweep", network="10.92.0.0/28")
    hosts = {host["address"]: host for host in output["hosts"]}
    assert set(hosts) == {"10.92.0.1", "10.92.0.2"}
    assert hosts["10.92.0.2"]["ttl"] == hosts["10.92.0.1"]["ttl"] - 1
    assert all(host["round_trip_ms"] > 0 for host in hosts.values())


def test_a_syn_probe_tells_open_closed_and_filtered_apart(spaces: Spaces) -> None:
    output, _ = spaces.run("tcp_syn_probe", host="10.92.0.2", ports="79-80")
    states = {port["port"]: (port["state"], port["answer"]) for port in output["ports"]}
    assert states == {79: ("closed", "RA"), 80: ("open", "SA")}
    for host, answer, wait in (("10.92.0.8", "none", 1), ("10.92.0.9", "icmp dest-unreach", 15)):
        output, _ = spaces.run("tcp_syn_probe", host=host, ports="80", wait_seconds=wait)
        (port,) = output["ports"]
        assert (port["state"], port["answer"]) == ("filtered", answer)


def test_a_tcp_traceroute_finds_every_hop(spaces: Spaces) -> None:
    output, _ = spaces.run("tcp_traceroute", host="10.92.0.2", port=80, max_hops=6)
    assert output["reached"]
    assert [hop["address"] for hop in output["hops"]] == ["10.91.0.2", "10.92.0.2"]
    output, _ = spaces.run("tcp_traceroute", host="10.92.0.8", port=80, max_hops=4, wait_seconds=1)
    assert not output["reached"]


def test_dhcp_servers_are_found_by_their_offers(spaces: Spaces) -> None:
    output, _ = spaces.run("dhcp_discover", interface=spaces.interface, wait_seconds=2)
    assert output["servers"] == 1
    (offer,) = output["offers"]
    mac = offer.pop("mac")
    assert len(mac.split(":")) == 6
    assert offer == {
        "server": "10.91.0.2",
        "address": "10.91.0.50",
        "subnet_mask": "255.255.255.0",
        "routers": ["10.91.0.2"],
        "name_servers": ["10.91.0.2", "9.9.9.9"],
        "lease_seconds": 3600,
    }


def test_a_dry_run_shows_the_packets_and_needs_no_right_to_send(spaces: Spaces) -> None:
    shown, _ = spaces.run(
        "tcp_syn_probe", section="dry_run", as_user="nobody", host="10.92.0.2", ports="80-90"
    )
    assert "10.92.0.2:http S" in shown
    assert shown.endswith("11 packets in all\n")


def test_without_the_right_to_send_a_tool_says_what_is_missing(spaces: Spaces) -> None:
    _, said = spaces.run("icmp_sweep", as_user="nobody", network="10.92.0.0/30")
    assert said.strip().splitlines()[-1] == "sending such packets needs root, or CAP_NET_RAW"


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("icmp_sweep", {"network": "10.0.0.0/16"}, "/24 or smaller"),
        ("icmp_sweep", {"network": "fd00::/120"}, "IPv4 network"),
        ("arp_sweep", {"interface": "nothing0", "network": "10.0.0.0/24"}, "no interface nothing0"),
        ("tcp_syn_probe", {"host": "10.92.0.2", "ports": "1-1024"}, "1024 ports; at most 256"),
    ],
)
def test_more_than_the_limits_is_refused_before_anything_is_sent(
    spaces: Spaces, name: str, inputs: dict[str, Any], said: str
) -> None:
    _, error = spaces.run(name, **inputs)
    assert said in error


def test_a_host_without_scapy_is_told_what_to_install() -> None:
    tool = REGISTRY.get("icmp_sweep")
    rendered = render(tool, check_inputs(tool, {"network": "10.0.0.0/30"})[0], None)
    assert isinstance(rendered, ScriptCommand)
    _, *words = script_argv(rendered)
    done = subprocess.run([sys.executable, "-I", *words], check=False, capture_output=True)
    assert done.returncode == 1
    assert b"apt-get install python3-scapy" in done.stderr
