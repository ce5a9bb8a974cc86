"""A TCP proxy that breaks connections in the ways networks do."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time

MODES = ("pass", "blackhole", "half", "delay", "slow", "cut", "refuse", "corrupt")
_PIECE = 16 * 1024


class FaultProxy:
    """Forwards connections to one address; ``mode`` says how badly, also for open ones.

    ``blackhole`` forwards nothing either way and closes nothing; ``half`` still carries what the
    server says; ``delay`` holds everything for 300 ms; ``slow`` carries 32 KiB/s; ``cut`` ends a
    connection in the middle of the next piece; ``refuse`` resets all; ``corrupt`` flips a byte.
    """

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self.target = target
        self.mode = "pass"
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._closed = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def endpoint(self) -> str:
        """What an agent dials."""
        return f"127.0.0.1:{self.port}"

    def set(self, mode: str) -> None:
        """Changes how connections are treated; ``refuse`` also ends those that are open."""
        assert mode in MODES
        self.mode = mode
        if mode == "refuse":
            self.reset()

    def reset(self) -> None:
        """Ends every open connection with RST."""
        for pair in list(self._pairs):
            for end in pair:
                _reset(end)

    def close(self) -> None:
        """Ends everything."""
        self._closed = True
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        while self.mode == "blackhole" and not self._closed:
            time.sleep(0.02)  # as if the SYN were lost and sent again
        if self.mode == "refuse" or self._closed:
            _reset(client)
            return
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(None)
        self._pairs.add(pair)
        try:
            self._carry(client, server)
        except (OSError, ValueError):
            pass
        finally:
            self._pairs.discard(pair)
            _reset(client)
            _reset(server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        ends = {client.fileno(): client, server.fileno(): server}
        poller = select.poll()  # select() takes no descriptor above 1023
        for number in ends:
            poller.register(number, select.POLLIN)
        while True:
            ready = [ends[number] for number, _ in poller.poll(50)]
            mode = self.mode
            if mode == "blackhole":
                time.sleep(0.02)
                continue
            for source in ready:
                if mode == "half" and source is client:
                    time.sleep(0.02)
                    continue
                data = source.recv(_PIECE)
                if not data:
                    return
                if not self._forward(data, server if source is client else client, mode):
                    return

    def _forward(self, data: bytes, to: socket.socket, mode: str) -> bool:
        if mode == "delay":
            time.sleep(0.3)
        elif mode == "slow":
            time.sleep(len(data) / (32 * 1024))
        elif mode == "cut":
            to.sendall(data[: len(data) // 2])
            return False
        elif mode == "corrupt":
            at = self._random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
        to.sendall(data)
        return True


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
