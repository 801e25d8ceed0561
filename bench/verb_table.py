"""The README's table of verbs, made from the one table of the command line."""

from __future__ import annotations

from agenttrace.errors import DataError
from agenttrace.verbs import GROUPS, VERBS

BEGIN, END = "<!-- verbs -->\n", "<!-- /verbs -->"


def markdown() -> str:
    """Return a table with a row for each verb, by group; its links lead into `docs/`."""
    lines = ["| | command | what you get |", "|---|---|---|"]
    for group, purpose in GROUPS.items():
        names = [name for name, verb in VERBS.items() if verb.group == group]
        for number, name in enumerate(names):
            first = f"**{group}**: {purpose}" if number == 0 else ""
            lines.append(f"| {first} | [`{name}`](docs/{VERBS[name].page}) | {VERBS[name].help} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """Return a document with the table between its markers.

    Raises:
        DataError: it has no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"the table of verbs stands between {BEGIN.strip()} and {END}, which are not there")
    return f"{before}{begin}\n{markdown()}\n{end}{after}"
