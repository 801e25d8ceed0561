"""Networks of their own for nodes of a cluster on this machine, each with one line to it that can be cut.

    with networks.segment(0) as first:  # its processes begin with first.network.enter, and reach first.host
        first.cut(but=port)

A segment is a network namespace, which is gone with the process that holds it, and what is set up in it with it. A cut
drops every packet in both directions without a word, as a broken switch does; what is open stays open, and processes
go on. It needs Linux, root, iproute2, util-linux and iptables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.cluster.local_ray import Network
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import engine

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("ip", "iptables", "nsenter", "unshare")
_SUBNET = "198.18"
"""For benchmarks of networks (RFC 2544): nobody's."""
_CONNECTED = "03"
"""State of a socket, as the kernel lists it."""
_START_S = 10.0
_CHAINS = (("INPUT", "--sport"), ("OUTPUT", "--dport"))


class Segment:
    """A network namespace and a line to it.

    Args:
        number: from 0 on, of the segments of this process.
        holder: process in the namespace.

    Attributes:
        host: address of this machine on the line.
        network: of what is started there.
    """

    def __init__(self, number: int, holder: int) -> None:
        third, last = os.getpid() % 256, 4 * number
        self.host = f"{_SUBNET}.{third}.{last + 1}"
        self._sockets = Path(f"/proc/{holder}/net/unix")
        self._target = ("nsenter", f"--target={holder}", "--net")
        self.network = Network(address=f"{_SUBNET}.{third}.{last + 2}", enter=self._target)
        self._line = ours = f"at{os.getpid()}h{number}"
        theirs = f"at{os.getpid()}n{number}"
        engine.run(["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", str(holder)])
        engine.run(["ip", "address", "add", f"{self.host}/30", "dev", ours])
        engine.run(["ip", "link", "set", ours, "up"])
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.network.address}/30", "dev", theirs),
            ("link", "set", theirs, "up"),
            ("route", "add", "default", "via", self.host),
        ):
            engine.run([*self._target, "ip", *words])

    def cut(self, *, but: int) -> None:
        """Drop every packet over TCP from now on, in both directions, but those to and from one port."""
        for chain, port in _CHAINS:
            rule = ["--append", chain, "--protocol", "tcp", "!", port, str(but), "--jump", "DROP"]
            engine.run([*self._target, "iptables", *rule])

    def connected(self) -> list[str]:
        """Return what the kernel lists of unix sockets that are connected from there, a line each with its path."""
        every = self._sockets.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in every if f" {_CONNECTED} " in line]

    def mend(self) -> None:
        """Let all through again."""
        engine.run([*self._target, "iptables", "--flush"])

    def remove(self) -> None:
        """Remove the line, which goes by itself, too, but later."""
        engine.run(["ip", "link", "delete", self._line])


@contextlib.contextmanager
def segment(number: int) -> Iterator[Segment]:
    """Have a segment meanwhile.

    Raises:
        UsageError: this machine cannot.
    """
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if sys.platform != "linux" or os.geteuid() != 0 or lacking:
        raise UsageError(f"to cut off a node needs Linux, root and {', '.join(lacking or PROGRAMS)}")
    # It ends when what it reads from is closed: with this process, however that ends.
    holder = engine.start(["unshare", "--net", "cat"], stdin=subprocess.PIPE, output=subprocess.DEVNULL)
    try:
        _await_namespace(holder)
        made = Segment(number, holder.pid)
        yield made
        made.remove()
    finally:
        holder.kill()
        holder.wait()
        if holder.stdin is not None:
            holder.stdin.close()


def _await_namespace(holder: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while Path(f"/proc/{holder.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
        if time.monotonic() > deadline or holder.poll() is not None:
            raise AgentTraceError("no network namespace could be made: this machine does not allow it")
        time.sleep(0.01)
