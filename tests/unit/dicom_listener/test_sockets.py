"""The sockets that we listen on."""

import socket

import pytest

from dicom_listener.sockets import bind
from worker.errors import StartError


def test_both_are_bound_and_take_connections_before_anybody_serves_them() -> None:
    secure, plain = bind("127.0.0.1", 0, 0)
    with secure, plain:
        for one in (secure, plain):
            with socket.create_connection(one.getsockname(), timeout=20):
                assert not one.getblocking()


def test_where_the_second_cannot_be_bound_the_first_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(StartError, match="FIRSTREAD_DICOM_PLAIN_PORT"):
            bind("127.0.0.1", port, taken.getsockname()[1])
        bind("127.0.0.1", port)[0].close()
