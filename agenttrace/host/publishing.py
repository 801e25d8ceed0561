"""Publishes records in two containers: one reads records without network, one has the token and reads the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.host import analysis, weights

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def run(verb: str, arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Exit status of one of the verbs. The token reaches the second container on its standard input alone.

    Args:
        verb: `publish` or `publish-rollouts`.
        arguments: its arguments, checked.
        words: the same as they were typed.
    """
    if arguments.files:
        status = analysis.run(verb, [*words, "--make-only"])
        if status != 0 or arguments.upload is None:
            return status
    settings = msgspec.json.encode(weights.host_settings())
    words = ["--output", str(arguments.output), "--upload", arguments.upload, "--from-host"]
    private = ["--private"] if arguments.private_repository else []
    return analysis.run("publish-rollouts", [*words, *private], order=settings)
