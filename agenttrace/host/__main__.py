"""`python -m agenttrace.host VERB`: what the nox sessions run on the user's machine."""

import os

from agenttrace.cli import main
from agenttrace.errors import DOOR

if __name__ == "__main__":
    os.environ[DOOR] = "nox"
    main(session=True)
