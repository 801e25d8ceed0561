"""Loads whose cost is known beforehand, and what a right measurement of each must say.

Python loads burn CPU until their own process clock says so: it starts at the fork, so the start of the interpreter
counts towards the known figure instead of adding to it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.verdict import Flag, Near, cpu

MS = 1_000_000
MIB = 2**20

_ESCAPED_NS = 20 * MS
_PEAK = 1 * MIB
_BLOCKS = 64 * 1024
_WALL = 10 * MS


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of tool code and the figures that are known of it.

    Attributes:
        name: as it stands in the table.
        kind: tool that runs it.
        code: what is measured.
        expected: expectation per figure: a field of `records.Telemetry`, or `cpu_ns`.
        before: bash code that prepares each run; not measured.
        without: code whose figures are subtracted, run beside it each time.
        update: flags of `docker update` that hold while it runs.
        held_bytes: memory that this host process holds meanwhile, to show that it does not count.
    """

    name: str
    kind: Literal["bash", "python"] = "python"
    code: str
    expected: dict[str, Near | Flag]
    before: str = ""
    without: str = ""
    update: tuple[str, ...] = ()
    held_bytes: int = 0


_BURN = """\
import os, signal, time
def burn(ms):
    while time.process_time() < ms / 1000:
        pass
"""
_STAGE = "python3 -S -c 'import os, time\nwhile time.process_time() < 0.1: pass\nos._exit(0)'"
_CHILDREN = """\
for _ in range(2):
    if os.fork() == 0:
        burn(100)
        os._exit(0)
for _ in range(2):
    os.wait()
burn(100)
os._exit(0)
"""
_DAEMON = """\
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        burn(100)
    os._exit(0)
os.close(writer)
os.wait()
os.read(reader, 1)
burn(100)
os._exit(0)
"""
_LEFTOVER = """\
reader, writer = os.pipe()
if os.fork() == 0:
    burn(100)
    os.write(writer, b".")
    time.sleep(600)
os.read(reader, 1)
burn(100)
os._exit(0)
"""
_ESCAPE = """\
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    burn(100)
    os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
burn(100)
os._exit(0)
"""


def _touched(mib: int) -> str:
    """Allocates and touches memory."""
    return f"held = b'.' * ({mib} << 20)"


def _at_once(*mib: int) -> str:
    """Processes side by side, each with that much memory for half a second."""
    stages = (f'python3 -S -c "import time; {_touched(size)}; time.sleep(0.5)"' for size in mib)
    return " & ".join(stages) + " & wait"


_WRITE = "dd if=/dev/zero of=load.bin bs=1M count=16 status=none"
_WRITTEN = f"{_WRITE} conv=fsync"
# Both allocations lie above any floor that the measuring process itself may set.
_SMALL_MIB = 32
_MORE_MEMORY: dict[str, Near | Flag] = {"max_rss_bytes": Near(64 * MIB, _PEAK)}

LOADS: tuple[Load, ...] = (
    Load(
        name="nothing (`:`)",
        kind="bash",
        code=":",
        expected={
            "cpu_ns": cpu(0),
            "cpu_unattributed_ns": Near(0, _ESCAPED_NS),
            "write_bytes": Near(0, 0),
            "leftover_count": Near(0, 0),
        },
    ),
    # Beside `:`, because starting the shell is not what is known.
    Load(name="sleep 0.2", kind="bash", code="sleep 0.2", without=":", expected={"wall_ns": Near(200 * MS, _WALL)}),
    Load(
        name="burn 200 ms",
        code=f"{_BURN}burn(200)\nos._exit(0)",
        expected={"cpu_ns": cpu(200 * MS), "cpu_unattributed_ns": Near(0, _ESCAPED_NS)},
    ),
    Load(
        name="pipeline of 3, 100 ms each",
        kind="bash",
        code=f"{_STAGE} | {_STAGE} | {_STAGE}",
        expected={"cpu_ns": cpu(300 * MS)},
    ),
    Load(name="2 children waited for, 3 x 100 ms", code=_BURN + _CHILDREN, expected={"cpu_ns": cpu(300 * MS)}),
    Load(name="double-forked daemon, 2 x 100 ms", code=_BURN + _DAEMON, expected={"cpu_ns": cpu(200 * MS)}),
    Load(
        name="child left running, 2 x 100 ms",
        code=_BURN + _LEFTOVER,
        expected={"cpu_ns": cpu(200 * MS), "leftover_count": Near(1, 0)},
    ),
    Load(
        name="parent ignores SIGCHLD, 100 ms escape",
        code=_BURN + _ESCAPE,
        expected={"cpu_unattributed_ns": Flag(100 * MS, _ESCAPED_NS)},
    ),
    Load(
        name="64 MiB more memory",
        code=_touched(_SMALL_MIB + 64),
        without=_touched(_SMALL_MIB),
        expected=_MORE_MEMORY,
    ),
    Load(
        name="64 MiB more, 1 GiB held by this process",
        code=_touched(_SMALL_MIB + 64),
        without=_touched(_SMALL_MIB),
        held_bytes=2**30,
        expected=_MORE_MEMORY,
    ),
    Load(
        name="2 processes at once, 100 MiB more each",
        kind="bash",
        code=_at_once(_SMALL_MIB + 100, _SMALL_MIB + 100),
        without=_at_once(_SMALL_MIB),
        # The largest single process, not the sum: that is what the field means.
        expected={"max_rss_bytes": Near(100 * MIB, _PEAK)},
    ),
    Load(
        name="write 16 MiB, fsync",
        kind="bash",
        code=_WRITTEN,
        expected={"write_bytes": Near(16 * MIB, _BLOCKS), "write_chars": Near(16 * MIB, _BLOCKS)},
    ),
    Load(
        name="write 16 MiB, unlink",
        kind="bash",
        before="rm -f load.bin",
        code=f"{_WRITE}; rm load.bin",
        expected={"cancelled_write_bytes": Near(16 * MIB, _BLOCKS)},
    ),
    Load(
        name="write 16 MiB to tmpfs",
        kind="bash",
        code=f"cd /tmp && {_WRITTEN} && rm load.bin",
        expected={"write_bytes": Near(0, 0), "write_chars": Near(16 * MIB, _BLOCKS)},
    ),
    Load(
        name="read 16 MiB, O_DIRECT",
        kind="bash",
        before=f"{_WRITTEN}; cat load.bin >/dev/null",
        code="dd if=load.bin of=/dev/null bs=1M iflag=direct status=none",
        expected={"read_bytes": Near(16 * MIB, 0)},
    ),
    Load(
        name="read 16 MiB, cached",
        kind="bash",
        before=f"{_WRITTEN}; cat load.bin >/dev/null",
        code="cat load.bin >/dev/null",
        expected={"read_bytes": Near(0, 0), "read_chars": Near(16 * MIB, _BLOCKS)},
    ),
)
"""Every known load, in the order of the table."""
