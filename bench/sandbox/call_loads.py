"""Known loads of the figures that schema 1.2.0 brought, and why one of them may not be measured in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.sandbox.loads import MIB, MS, Load
from bench.verdict import Flag, Near

if TYPE_CHECKING:
    from agenttrace.records import Telemetry

_PAGES, _FEW = 16_384, 256
_READS, _WRITES = 1000, 500
_HOPS = 400
_FORKS, _AT_ONCE = 20, 4
_PINNED = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
_TOUCH = """\
import mmap
m = mmap.mmap(-1, %d * 4096)
m.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, len(m), 4096):
    m[at] = 1
"""
_EVICTED = """\
import mmap, os
fd = os.open("load.bin", os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
m.madvise(mmap.MADV_RANDOM)
for at in range(0, %d * 16 * 4096, 16 * 4096):
    m[at]
"""
_PIPES = """\
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    for _ in range(%d):
        time.sleep(0.001)
        os.write(writer, b".")
    os._exit(0)
for _ in range(%d):
    os.read(reader, 1)
os.wait()
"""
_SPIN = (
    _PINNED
    + """\
import time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
while time.process_time() < 0.3: pass
os.wait()
os._exit(0)
"""
)
_CALLS = """\
import os
zero, null = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
for _ in range(%d): os.read(zero, 1)
for _ in range(%d): os.write(null, b".")
"""
_SAWTOOTH = """\
import mmap, time
def until(s):
    time.sleep(max(0, s - time.monotonic()))
for _ in range(2):
    start = time.monotonic()
    m = mmap.mmap(-1, %d << 20)
    for at in range(0, len(m), 4096):
        m[at] = 1
    until(start + 0.5)
    m.close()
    until(start + 0.75)
"""
_CHILDREN = """\
import os, time
for _ in range(%d):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
for _ in range(%d):
    if os.fork() == 0:
        time.sleep(0.4)
        os._exit(0)
for _ in range(%d):
    os.wait()
"""
_BURN = "import os, time\nwhile time.process_time() < 0.1: pass\nos._exit(0)"
_SHORT_OF_MEMORY = """\
import os
with open("load.bin", "wb") as file:
    for _ in range(96):
        file.write(b"." * (1 << 20))
    os.fsync(file.fileno())
for _ in range(3):
    with open("load.bin", "rb") as file:
        while file.read(1 << 20): pass
"""
_MADE = "dd if=/dev/zero of=load.bin bs=1M count=16 conv=fsync status=none"

LOADS: tuple[Load, ...] = (
    Load(name="no network, nothing swapped", kind="bash", code=":",
         expected={"network_bytes": Near(0, 0), "anon_refaults": Near(0, 0), "processes_started": Near(1, 0)}),
    Load(name=f"touch {_PAGES:,} pages", code=_TOUCH % _PAGES, without=_TOUCH % 1,
         expected={"minor_faults": Near(_PAGES, 64)}),
    Load(name=f"touch {_FEW} pages that are not in memory", before=_MADE, code=_EVICTED % _FEW, without=_EVICTED % 0,
         expected={"major_faults": Near(_FEW, 8)}),
    Load(name="wait for a disk", before=_MADE, code=_EVICTED % _FEW, expected={"io_pressure_ns": Flag(0, 0)}),
    Load(name=f"{_HOPS} bytes through a pipe, each waited for at both ends", code=_PIPES % (_HOPS, _HOPS),
         without=_PIPES % (0, 0), expected={"voluntary_switches": Near(2 * _HOPS, _HOPS // 10)}),
    Load(name="2 processes spin 300 ms on one processor", code=_SPIN,
         expected={"involuntary_switches": Flag(100, 20), "runqueue_wait_ns": Flag(600 * MS, 300 * MS),
                   "cpu_pressure_ns": Flag(600 * MS, 200 * MS)}),
    Load(name=f"{_READS:,} reads, {_WRITES} writes", code=_CALLS % (_READS, _WRITES), without=_CALLS % (0, 0),
         expected={"read_calls": Near(_READS, 2), "write_calls": Near(_WRITES, 2)}),
    Load(name="32 MiB up and down twice, 0.5 s each", code=_SAWTOOTH % 33, without=_SAWTOOTH % 1,
         expected={"tree_rss_byte_seconds": Near(32 * MIB, 6 * MIB), "tree_rss_series": Near(32 * MIB, 1 * MIB),
                   "tree_rss_mean_bytes": Near(21 * MIB, 5 * MIB)}),
    Load(name=f"{_FORKS} children one by one, then {_AT_ONCE} at once", code=_CHILDREN % (_FORKS, _AT_ONCE, _AT_ONCE),
         expected={"processes_started": Near(1 + _FORKS + _AT_ONCE, 0), "processes_peak": Near(1 + _AT_ONCE, 0)}),
    Load(name="sleep 0.3", kind="bash", code="sleep 0.3", without=":",
         expected={"blocked_ns": Near(300 * MS, 10 * MS)}),
    Load(name="burn 100 ms, limited to a tenth of a processor", code=_BURN, update=("--cpus", "0.1"),
         expected={"cfs_periods": Near(11, 5), "cfs_throttled_periods": Flag(9, 3),
                   "cfs_throttled_ns": Flag(900 * MS, 300 * MS)}),
    Load(name="read 96 MiB three times, limited to 48 MiB", code=_SHORT_OF_MEMORY,
         update=("--memory", "48m", "--memory-swap", "48m"),
         expected={"file_refaults": Flag(49_152, 1000), "memory_pressure_ns": Flag(0, 0)}),
    Load(name="count to a million", code="for _ in range(10**6): pass",
         expected={"user_instructions": Flag(30_000_000, 10**6), "cycles": Flag(10_000_000, 10**6)}),
)  # fmt: skip
"""Loads of them, in the order of the table."""

_PYTHON = "the Python helper takes no samples"
_NO_LIMIT = "the worker has no CPU limit in a cgroup of its own"
_NO_PRESSURE = "this kernel counts no pressure, or it is switched off"
_EVERYBODY = "counted for the whole machine here (cgroup v1): all of its processes would have to wait"


def not_measured(cost: Telemetry) -> dict[str, str]:
    """Return figure → why a worker does not measure it, from a call of at least 100 ms; else `null` is a failure."""
    python, machine = cost.method == "python-helper", cost.pressure_scope != "container"
    reasons = dict.fromkeys(("memory_pressure_full_ns", "io_pressure_full_ns"), _EVERYBODY) if machine else {}
    by = {
        _PYTHON: ("tree_rss_mean_bytes", "tree_rss_byte_seconds", "tree_rss_series", "processes_peak",
                  "runqueue_wait_ns", "blocked_ns") if python else (),
        _NO_LIMIT: ("cfs_periods", "cfs_throttled_periods", "cfs_throttled_ns"),
        _NO_PRESSURE: ("cpu_pressure_ns", "memory_pressure_ns", "io_pressure_ns"),
        "the kernel does not count refaults here": ("file_refaults", "anon_refaults"),
        str(cost.counters_reason): ("user_instructions", "cycles"),
    }  # fmt: skip
    return reasons | {name: why for why, names in by.items() for name in names if not getattr(cost, name)
                      and getattr(cost, name) != 0}  # fmt: skip
