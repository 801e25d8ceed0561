"""Publishes records in two containers: one reads records without network, one has the token and reads the folder."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from agenttrace.host import analysis, weights
from agenttrace.rollouts.surroundings import Surroundings
from agenttrace.verbs import MODULES

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = ("publish", "publish-rollouts")


def run(verb: str, argv: Sequence[str]) -> int:
    """Exit status of one of the verbs. The token reaches the second container on its standard input alone.

    Raises:
        UsageError: an argument is not possible.
    """
    module = import_module(MODULES[verb])
    parser = argparse.ArgumentParser(prog=f"nox -s {verb} --", description=module.HELP)
    module.add(parser)
    arguments = parser.parse_args(list(argv))
    module.check(arguments)
    if arguments.files:
        status = analysis.run(verb, [*argv, "--make-only"])
        if status != 0 or arguments.upload is None:
            return status
    around = Surroundings(environment=weights.user_settings(os.environ), certificates=weights.certificates())
    words = ["--output", str(arguments.output), "--upload", arguments.upload, "--from-host"]
    private = ["--private"] if arguments.private_repository else []
    return analysis.run("publish-rollouts", [*words, *private], order=msgspec.json.encode(around))
