"""Entry point of `python3 -I -S -B /opt/agenttrace/runner [--FLAG VALUE ...]`.

Run as a directory, this file has no parent package and relative imports would fail. So it declares one: a module
object named `runner` whose search path is this directory. Nothing is added to `sys.path`.
"""

import os
import sys

if not __package__:
    package = type(sys)("runner")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120 -- pathlib costs memory
    sys.modules["runner"] = package
    __package__ = "runner"  # how a script says which package it is part of

from .service import main

if __name__ == "__main__":
    main(sys.argv[1:])
