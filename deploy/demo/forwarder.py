"""Passes TCP connections on: ``forwarder.py ADDRESS TO_HOST TO_PORT OWNER``.

Agents inside a network namespace reach the orchestrator, which listens on this machine's loopback,
through one of these. It prints the port it chose. OWNER only names the demo it belongs to.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Accepts until it is ended."""
    address, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with socket.create_server((address, 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_carry, args=(client, (host, port)), daemon=True).start()


def _carry(client: socket.socket, to: tuple[str, int]) -> None:
    with client, suppress(OSError), socket.create_connection(to, timeout=5) as upstream:
        upstream.settimeout(None)
        ends = {client: upstream, upstream: client}
        while True:
            for source in select.select(list(ends), [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                ends[source].sendall(data)


if __name__ == "__main__":
    main()
