"""`python -m agenttrace.host VERB`: what the nox sessions run on the user's machine."""

from agenttrace.cli import main

if __name__ == "__main__":
    main(session=True)
