"""Networks of their own for nodes: what a cut lets through, and that nothing of them stays."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.campaigns import networks

TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as line:
    print(line.recv(8).decode())
"""
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, for a network namespace"),
    pytest.mark.skipif(not all(map(shutil.which, networks.PROGRAMS)), reason=f"needs {', '.join(networks.PROGRAMS)}"),
]


@pytest.fixture
def segment():
    with networks.segment(3) as made:
        yield made


def listening(host):
    """Return a socket that greets whom it has the time for, and its port."""
    listener = socket.create_server((host, 0))
    listener.settimeout(5)
    return listener, listener.getsockname()[1]


def reaches(segment, listener, port, within_s=5.0):
    argv = [*segment.network.enter, sys.executable, "-c", TALK, segment.host, str(port), str(within_s)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        try:
            caller, where = listener.accept()
        except TimeoutError:
            assert "timed out" in asking.communicate()[1]  # dropped, and not refused
            return False
        with caller:
            caller.sendall(b"hello")
        assert where[0] == segment.network.address
        assert asking.communicate()[0] == "hello\n"
        return True


def test_a_cut_drops_all_but_one_port_until_it_is_mended(segment):
    (head, head_port), (server, server_port) = listening(segment.host), listening(segment.host)
    with head, server:
        assert reaches(segment, head, head_port)
        segment.cut(but=server_port)
        assert not reaches(segment, head, head_port, within_s=2.0)
        assert reaches(segment, server, server_port)
        segment.mend()
        assert reaches(segment, head, head_port)


def test_what_is_open_stays_open_over_a_cut(segment):
    listener, port = listening(segment.host)
    argv = [*segment.network.enter, sys.executable, "-c", TALK, segment.host, str(port), "60"]
    with listener, subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as asking:
        caller, _ = listener.accept()
        with caller:
            segment.cut(but=1)
            caller.sendall(b"hello")  # the kernel sends it again until it arrives
            with pytest.raises(subprocess.TimeoutExpired):
                asking.wait(1)
            segment.mend()
            assert asking.communicate(timeout=60)[0] == "hello\n"


def test_nothing_of_a_segment_stays():
    with networks.segment(0), networks.segment(1):
        assert len(lines()) == 2
    assert lines() == []


def lines():
    return [path.name for path in Path("/sys/class/net").glob(f"at{os.getpid()}h*")]
