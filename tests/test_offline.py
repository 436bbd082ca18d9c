import socket
import subprocess
import sys

import pytest

TRY = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"


def test_no_connection_leaves_this_machine():
    with pytest.raises(OSError, match="may not"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="may not look up"):
        socket.getaddrinfo("example.org", 80)


def test_child_processes_are_blocked_too():
    child = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True)
    assert "NetworkBlocked" in child.stderr


def test_this_machine_can_talk_to_itself():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
