"""TVM's RPC tracker, asked without TVM: its own client waits a minute for a tracker, and for ever for a board."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.support.json_text import parse_json

ANSWER_S = 5.0
WAIT_S = 15.0
"""How long to wait for a free board: a server offers itself again within seconds after a session."""
_MAGIC = struct.pack("<i", 0x2F271)
_REQUEST, _SUMMARY = 4, 6


@dataclass(frozen=True)
class Lease:
    """A board that waits for one session: where it is, and the word that opens it."""

    host: str
    port: int
    word: str

    @property
    def address(self) -> str:
        """HOST:PORT, which names the board."""
        return f"{self.host}:{self.port}"


def how_to_attach(tracker: str | None, key: str) -> str:
    """Commands that attach a board."""
    port = (tracker or "127.0.0.1:9190").rpartition(":")[2]
    return "\n".join(
        [
            "attach a board (README, 'Boards', says more):",
            f"  here: python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port {port}",
            f"  here: ssh -N -R {port}:127.0.0.1:{port} -L 9090:127.0.0.1:9090 USER@BOARD",
            "  on the board: python -m tvm.exec.rpc_server --host 127.0.0.1 --port 9090 --port-end 9091 "
            f"--tracker 127.0.0.1:{port} --key {key}",
        ]
    )


def is_loopback(tracker: str) -> bool:
    """Whether only this machine reaches an address HOST:PORT."""
    host = tracker.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Tracker:
    """Asks a tracker for boards of one key.

    Args:
        address: HOST:PORT.
        key: what the boards are registered as.
    """

    def __init__(self, address: str, key: str) -> None:
        host, _, port = address.rpartition(":")
        self._where, self._address, self._key = (host.strip("[]"), int(port)), address, key

    def boards(self) -> list[str]:
        """Addresses of all boards of the key, in use or not.

        Raises:
            DeviceUnreachable: no tracker answers.
        """
        with self._connection(ANSWER_S) as connection:
            servers = _ask(connection, [_SUMMARY])["server_info"]
            return sorted(
                ":".join(map(str, server["addr"])) for server in servers if server["key"] == f"server:{self._key}"
            )

    def request(self, timeout_s: float) -> Lease | None:
        """The next free board; None when none became free in time.

        Raises:
            DeviceUnreachable: no tracker answers.
        """
        with self._connection(timeout_s) as connection:
            try:
                return Lease(*_ask(connection, [_REQUEST, self._key, "", 1]))
            except TimeoutError:
                return None

    @contextmanager
    def _connection(self, timeout_s: float) -> Iterator[socket.socket]:
        try:
            with socket.create_connection(self._where, ANSWER_S) as connection:
                connection.sendall(_MAGIC)
                if _receive(connection, len(_MAGIC)) != _MAGIC:
                    raise ValueError
                connection.settimeout(timeout_s)
                yield connection
        except OSError as error:
            raise self._unreachable(f"does not answer: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise self._unreachable("is something else") from error

    def _unreachable(self, why: str) -> DeviceUnreachable:
        return DeviceUnreachable(f"the tracker {self._address} {why}", how_to_attach(self._address, self._key))


def _ask(connection: socket.socket, question: list[Any]) -> Any:
    data = json.dumps(question).encode()
    connection.sendall(struct.pack("<i", len(data)) + data)
    (size,) = struct.unpack("<i", _receive(connection, 4))
    status, answer = parse_json(_receive(connection, size))
    if status != 0:
        raise ValueError(status)
    return answer


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError("the connection ended")
        data += part
    return data
