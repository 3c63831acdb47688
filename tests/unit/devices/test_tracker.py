"""The tracker's protocol, against a made-up tracker."""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from ofa_tvm.devices.rpc import tracker as module
from ofa_tvm.devices.rpc.tracker import Tracker, how_to_attach, is_loopback
from ofa_tvm.support.errors import DeviceUnreachable

SUMMARY = {
    "queue_info": {},
    "server_info": [
        {"key": "server:a76", "addr": ["10.0.0.2", 9091]},
        {"key": "server:a76", "addr": ["10.0.0.2", 9090]},
        {"key": "server:a53", "addr": ["10.0.0.3", 9090]},
    ],
}


def read(connection, count):
    return connection.recv(count, socket.MSG_WAITALL)


def answering(connection, answers):
    connection.sendall(read(connection, 4))
    (size,) = struct.unpack("<i", read(connection, 4))
    code = json.loads(read(connection, size))[0]
    if code in answers:
        answer = answers[code]
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        connection.sendall(struct.pack("<i", len(data)) + data)
    connection.recv(1)  # until the other side has had enough


@contextmanager
def serving(serve):
    """The address of a server that treats its first connection so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            connection, _ = listening.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_boards_of_a_key():
    with serving(lambda connection: answering(connection, {6: [0, SUMMARY]})) as address:
        assert Tracker(address, "a76").boards() == ["10.0.0.2:9090", "10.0.0.2:9091"]


def test_a_lease():
    with serving(lambda connection: answering(connection, {4: [0, ["10.0.0.2", 9090, "a76:0.5"]]})) as address:
        lease = Tracker(address, "a76").request(5.0)
    assert lease is not None
    assert (lease.address, lease.word) == ("10.0.0.2:9090", "a76:0.5")


def test_no_board_becomes_free():
    with serving(lambda connection: answering(connection, {})) as address:
        assert Tracker(address, "a76").request(0.1) is None


@pytest.mark.parametrize(
    ("serve", "what"),
    [
        (lambda connection: connection.sendall(b"HTTP"), "is something else"),
        (lambda connection: None, "does not answer: the connection ended"),
        (lambda connection: answering(connection, {6: [-1, None]}), "is something else"),
        (lambda connection: answering(connection, {6: [0, {}]}), "is something else"),
        (lambda connection: answering(connection, {6: b"[" * 100_000}), "is something else"),
        (
            lambda connection: answering(connection, {6: b'[0, {"server_info": 1, "server_info": []}]'}),
            "is something else",
        ),
    ],
)
def test_what_is_no_tracker_is_said(serve, what):
    def answer(connection):
        serve(connection)
        connection.recv(100)  # closing with unread bytes would reset the connection

    with serving(answer) as address, pytest.raises(DeviceUnreachable, match=what) as caught:
        Tracker(address, "a76").boards()
    assert "tvm.exec.rpc_tracker" in caught.value.hint
    assert caught.value.exit_code == 5


def test_a_tracker_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(DeviceUnreachable, match=f"the tracker {address} does not answer: Connection refused"):
        Tracker(address, "a76").boards()


def test_a_tracker_that_never_answers(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.1)
    with (
        serving(lambda connection: answering(connection, {})) as address,
        pytest.raises(DeviceUnreachable, match="does not answer: timed out"),
    ):
        Tracker(address, "a76").boards()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9190", True),
        ("localhost:9190", True),
        ("[::1]:9190", True),
        ("10.0.0.1:9190", False),
        ("boards.example:9190", False),
    ],
)
def test_loopback(address, expected):
    assert is_loopback(address) is expected


def test_commands_that_attach_a_board_name_port_and_key():
    text = how_to_attach("10.0.0.1:9195", "a53")
    assert "--port 9195" in text
    assert "--key a53" in text
    assert "9190" in how_to_attach(None, "a53")
