"""Tool calls of synthetic traces: commands with a cost of their own, and the ways in which a call goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.records import Record, SpanStatus, canonical_json

if TYPE_CHECKING:
    from random import Random

_COMMANDS: tuple[tuple[str, float, float, int], ...] = (
    ("find /testdata -type f | wc -l", 3.0, 3.4, 0),
    ("ls -la /testdata/workspace", 1.5, 3.3, 0),
    ("grep -rn 'total' /testdata/system", 4.0, 3.6, 0),
    ("cat /testdata/workspace/dir1/a.txt | sort | uniq -c", 2.5, 5.0, 0),
    ("LC_ALL=C sort -k2 /testdata/workspace/results.txt", 6.0, 6.5, 0),
    ("awk '{ sum += $1 } END { print sum }' data.csv", 2.0, 4.2, 0),
    ("sed -i 's/old/new/g' /testdata/testbed/hello.c", 1.8, 3.5, 4096),
    ("tar -czf backup.tar.gz /testdata/workspace", 30.0, 7.0, 262_144),
    ("/usr/bin/du -sh /testdata", 5.0, 3.4, 0),
    ("python3 -c 'print(sum(range(10**6)))'", 60.0, 12.0, 0),
)
"""Command, median CPU milliseconds, peak memory in MiB, bytes written."""
_CODE = (
    "def total(rows):\n    return sum(rows)\n\nprint(total([1, 2, 3]))",
    "import re\nprint(re.findall(r'\\d+', 'a1b22'))",
    "assert max([3, 1, 2]) == 3",
)
_MIB = 1 << 20


class Call(Record, frozen=True, kw_only=True):
    """One call: what was asked and what it cost."""

    tool: str
    arguments: str
    stdout: str
    exit_code: int
    status: SpanStatus
    wall_ns: int
    cpu_ns: int
    rss_bytes: int
    read_bytes: int
    write_bytes: int


def call(draw: Random, dataset: str) -> Call:
    """Draw a call as a model working on this data set makes it."""
    bash = dataset == "nl2bash" or (dataset != "mbpp" and draw.random() < 0.5)  # noqa: PLR2004
    if bash:
        command, cpu_ms, rss_mib, write_bytes = _COMMANDS[int(draw.random() ** 1.7 * len(_COMMANDS))]
        tool, arguments = "bash", canonical_json({"command": command}).decode()
    else:
        cpu_ms, rss_mib, write_bytes = 35.0, 13.0, 0
        tool, arguments = "python_interpreter", canonical_json({"code": draw.choice(_CODE)}).decode()
    status, exit_code = _end(draw, bash=bash)
    cpu_ns = int(draw.lognormvariate(0, 0.4) * cpu_ms * 1e6)
    wall_ns = 30_000_000_000 if status == "timeout" else int(cpu_ns * (1.1 + draw.random())) + 400_000
    return Call(
        tool=tool,
        arguments=arguments,
        stdout="".join(f"{draw.randrange(10**6)} /testdata/file{n}\n" for n in range(int(draw.expovariate(0.3)))),
        exit_code=exit_code,
        status=status,
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        rss_bytes=int(rss_mib * _MIB * (1 + 0.1 * draw.random())) // 4096 * 4096,
        read_bytes=4096 * int(draw.expovariate(0.5)) if draw.random() < 0.1 else 0,  # noqa: PLR2004
        write_bytes=write_bytes,
    )


def _end(draw: Random, *, bash: bool) -> tuple[SpanStatus, int]:
    """How the call ended: shares in the order of size of those in the AgentTrace release."""
    share = draw.random()
    for below, status, exit_code in (
        (0.62, "ok", 0),
        (0.90, "ok", 1),
        (0.94, "not_executed", -1),
        (0.965, "ok", 2 if bash else 1),
        (0.985, "ok", 127 if bash else 1),
        (0.991, "timeout", 143),
        (0.995, "oom", 137),
    ):
        if share < below:
            return status, exit_code  # type: ignore[return-value]
    return "lost", -1
