"""Entry point of `python3 -I -S -B /opt/agenttrace/runner [--FLAG VALUE ...]`.

Run as a directory, this file has no parent package, and its siblings' relative imports would fail. So it declares one:
a module object named `runner` whose search path is this directory. Nothing is added to `sys.path`.
"""

import os
import sys
from importlib import import_module

NAME = __package__ or "runner"

if not __package__:
    package = type(sys)(NAME)
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120 -- pathlib costs memory
    sys.modules[NAME] = package

if __name__ == "__main__":
    import_module(f"{NAME}.service").main(sys.argv[1:])
