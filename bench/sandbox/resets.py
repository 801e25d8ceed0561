"""Benchmarks of the reset: small and large trees, few changes and all gone, beside `rm -rf` and `cp -a`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from bench.sandbox import collector_client, inside, soak
from bench.verdict import Row, interleaved, row

if TYPE_CHECKING:
    from collections.abc import Mapping

_HELPER = "c"
_FEW = """
echo more >>d000/f0000.txt; echo new >d001/f0021.txt; chmod 600 d002/f0040.txt
rm d003/f0060.txt d003/f0061.txt; mv d004/f0080.txt moved.txt
mkdir new; touch new/a new/b
"""
_ALL = "find . -mindepth 1 -delete"


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A generated fixture and the targets for its reset, 95th percentiles in milliseconds."""

    name: str
    files: int
    file_bytes: int
    few_ms: float
    deleted_ms: float


TREES = (
    Tree(name="small", files=100, file_bytes=8_000, few_ms=3, deleted_ms=15),
    Tree(name="large", files=2_000, file_bytes=6_000, few_ms=25, deleted_ms=200),
)


def all_of(project: str, env: Mapping[str, str], rounds: int) -> list[Row]:
    """Every row of this module, from one worker with the C helper and a client in a collector's container."""
    with collector_client.clients(project, env, (_HELPER,), *soak.FLAGS, "--fixtures", inside.FIXTURES) as client:
        return [item for tree in TREES for item in of(client, tree, rounds)]


def of(client: collector_client.Client, tree: Tree, rounds: int) -> list[Row]:
    """The rows of one tree; what is timed is the whole exchange between a collector and its worker."""
    container = client.containers[_HELPER]
    inside.generate(container, tree.name, files=tree.files, file_bytes=tree.file_bytes)

    def after(change: str) -> list[float]:
        return [client.reset(_HELPER, tree.name, change)]

    def plain(*, emptied: bool) -> list[float]:
        taken = inside.plain_reset_ms(container, tree.name, client.work[_HELPER], emptied=emptied)
        after(":")
        return [taken]

    after(":")
    # What follows on the plain way's tree is a reset again, so every side starts from the same state.
    sides = {
        "few": partial(after, _FEW),
        "deleted": partial(after, _ALL),
        "plain": partial(plain, emptied=False),
        "plain deleted": partial(plain, emptied=True),
    }
    taken = interleaved(sides, rounds)
    label = f"reset, {tree.files:,} files"
    judged = (
        ("few changes", "few", tree.few_ms, "plain"),
        ("all deleted", "deleted", tree.deleted_ms, "plain deleted"),
    )
    return [
        *(
            row("resets", f"{label}, {what}", "ms", taken[side], target=target, judged="p95", against=taken[beside],
                note="rm, cp")
            for what, side, target, beside in judged
        ),
        row("resets", f"rm -rf and cp -a, {tree.files:,} files", "ms", taken["plain"]),
        row("resets", f"rm -rf and cp -a, {tree.files:,} files, all deleted", "ms", taken["plain deleted"]),
    ]  # fmt: skip
