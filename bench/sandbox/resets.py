"""Benchmarks of the reset: trees of several sizes, few changes and all gone, beside `rm -rf` and `cp -a`.

Each whole, and what a task waits for when the reset goes on while its model thinks about the first step.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from bench.sandbox import collector_client, inside, soak
from bench.verdict import Row, interleaved, row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HELPER = "c"
_FEW = """
echo more >>d000/f0000.txt; echo new >d001/f0021.txt; chmod 600 d002/f0040.txt
rm d003/f0060.txt d003/f0061.txt; mv d004/f0080.txt moved.txt
mkdir new; touch new/a new/b
"""
_ALL = "find . -mindepth 1 -delete"


_WAIT_MS = 15.0


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A generated fixture, the targets for its reset (95th percentiles, ms), and for how long a model thinks (ms)."""

    name: str
    files: int
    file_bytes: int
    few_ms: float | None = None
    deleted_ms: float | None = None
    thinking_ms: int


TREES = (
    Tree(name="small", files=100, file_bytes=8_000, few_ms=3, deleted_ms=15, thinking_ms=100),
    Tree(name="large", files=2_000, file_bytes=6_000, few_ms=25, deleted_ms=200, thinking_ms=1_000),
    Tree(name="huge", files=10_000, file_bytes=6_000, thinking_ms=5_000),
)


def all_of(project: str, env: Mapping[str, str], rounds: int, work: Path | None = None) -> list[Row]:
    """Every row of this module, from one worker with the C helper and a client in a collector's container.

    Args:
        project: compose project.
        env: whole environment of `docker compose`.
        rounds: turns of each side.
        work: folder in which the work tree lies; `None` is a volume, as in a campaign.
    """
    flags = (*soak.FLAGS, "--fixtures", inside.FIXTURES)
    with collector_client.clients(project, env, (_HELPER,), *flags, work=work) as client:
        return [item for tree in TREES for item in of(client, tree, rounds)]


def of(client: collector_client.Client, tree: Tree, rounds: int) -> list[Row]:
    """The rows of one tree; what is timed is the whole exchange between a collector and its worker."""
    container = client.containers[_HELPER]
    inside.generate(container, tree.name, files=tree.files, file_bytes=tree.file_bytes)

    def after(change: str, thinking_ms: int = 0) -> list[float]:
        return [client.reset(_HELPER, tree.name, change, thinking_ms=thinking_ms)]

    def plain(*, emptied: bool) -> list[float]:
        taken = inside.plain_reset_ms(container, tree.name, client.work[_HELPER], emptied=emptied)
        after(":")
        return [taken]

    after(":")
    # What follows on the plain way's tree is a reset again, so every side starts from the same state.
    sides = {
        "few": partial(after, _FEW),
        "deleted": partial(after, _ALL),
        "few, thinking": partial(after, _FEW, tree.thinking_ms),
        "deleted, thinking": partial(after, _ALL, tree.thinking_ms),
        "plain": partial(plain, emptied=False),
        "plain deleted": partial(plain, emptied=True),
    }
    taken = interleaved(sides, rounds)
    judged = (
        ("few changes", "few", tree.few_ms, "plain"),
        ("all deleted", "deleted", tree.deleted_ms, "plain deleted"),
    )
    size = f"{tree.files:,} files"
    rows = []
    for what, side, target, beside in judged:
        rows += [
            row("resets", f"reset, {size}, {what}", "ms", taken[side], target=target, judged="p95",
                against=taken[beside], note="rm, cp"),
            row("resets", f"… waited for, the model thinking {tree.thinking_ms} ms", "ms", taken[f"{side}, thinking"],
                target=_WAIT_MS, judged="p95"),
        ]  # fmt: skip
    return [
        *rows,
        row("resets", f"rm -rf and cp -a, {size}", "ms", taken["plain"]),
        row("resets", f"rm -rf and cp -a, {size}, all deleted", "ms", taken["plain deleted"]),
    ]
