"""What only a person can say of a data set: who made it, how to cite it, what it is for and what is wrong with it.

It stands in a TOML file (`--about FILE`) under the names of the fields of `About`; `WANTED` says which of them archives
and conferences ask for.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError, UsageError, did_you_mean
from agenttrace.records.base import Record
from agenttrace.store.opening import text

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 20_000
"""Characters of one answer."""
_MOST_CREATORS = 500
_DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>{}\\]{1,200}")
_ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]")
_URL = re.compile(r"https?://[^\s\"<>{}\\]{1,2000}")


class Creator(Record, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who made a data set: a person, or an organization.

    Attributes:
        name: in full; of a person as it is written in that language.
        family: the part of a person's name by which it is sorted; without it the creator is an organization.
        affiliation: of a person.
        orcid: of a person, sixteen digits.
    """

    name: str
    family: str = ""
    affiliation: str = ""
    orcid: str = ""


class About(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a person says; what is empty was not said.

    Attributes:
        creators: who made it.
        citation: how to cite it (BibTeX).
        url: its page.
        published: day on which it was published, `YYYY-MM-DD`.
        use_cases: what it is for, and what not.
        biases: which slice of the world it shows.
        personal_information: whether it holds personal or sensitive information, and of whom.
        social_impact: what good and what harm its use may do.
        limitations: what it does not show, beside what the kit says of itself.
        description: what it is, in a paragraph.
        maintenance: who keeps it, and how it changes.
        doi: that an archive gave it.
        version: of the data set, `MAJOR.MINOR.PATCH`.
    """

    creators: tuple[Creator, ...] = ()
    citation: str = ""
    url: str = ""
    published: str = ""
    use_cases: str = ""
    biases: str = ""
    personal_information: str = ""
    social_impact: str = ""
    limitations: str = ""
    description: str = ""
    maintenance: str = ""
    doi: str = ""
    version: str = "1.0.0"


WANTED = (
    *("creators", "citation", "url", "published"),
    *("use_cases", "biases", "personal_information", "social_impact"),
)
"""What must be said under `--strict`: the core and minimal RAI fields that no program knows."""


def unsaid(about: About) -> list[str]:
    """Return the names in `WANTED` that are empty."""
    return [name for name in WANTED if not getattr(about, name)]


def said_about(path: Path | None, *, strict: bool) -> About:
    """Return what a file says; without one, nothing.

    Args:
        path: the file.
        strict: refuse it where something of `WANTED` is not said.

    Raises:
        UsageError: it cannot be read, or names everything that is not said.
        DataError: it is no TOML, or a value is none; the message names it.
    """
    about = About() if path is None else _read(path)
    if strict and (missing := unsaid(about)):
        raise UsageError(
            f"--strict: nobody said {', '.join(missing)}: say it in a TOML file (--about FILE, see "
            "docs/publish.md); nothing was written"
        )
    return about


def _read(path: Path) -> About:
    try:
        found = tomllib.loads(text(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not TOML: {error}") from error
    for name in found:
        if name not in About.__struct_fields__:
            known = ", ".join(About.__struct_fields__)
            raise DataError(f"{path}: {name!r} is none of {known}{did_you_mean(name, About.__struct_fields__)}")
    try:
        about = msgspec.convert({name: _plain(value) for name, value in found.items()}, About)
        _check(about)
    except (msgspec.ValidationError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    return about


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of TOML
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    return value.strip() if isinstance(value, str) else value


def _check(about: About) -> None:
    """Refuse answers that no archive takes.

    Raises:
        ValueError: says which.
    """
    if len(about.creators) > _MOST_CREATORS:
        raise ValueError(f"creators: more than {_MOST_CREATORS}")
    for place, creator in enumerate(about.creators, start=1):
        if not creator.name.strip():
            raise ValueError(f"creators: number {place} has no name")
        if creator.orcid and not _ORCID.fullmatch(creator.orcid):
            raise ValueError(f"creators: {creator.orcid[:40]!r} is no ORCID (0000-0002-1825-0097)")
    for name in About.__struct_fields__:
        said = getattr(about, name)
        if isinstance(said, str) and len(said) > LONGEST:
            raise ValueError(f"{name}: has {len(said)} characters, at most {LONGEST} are taken")
    if about.url and not _URL.fullmatch(about.url):
        raise ValueError("url: expected an address that begins with https:// or http://")
    if about.doi and not _DOI.fullmatch(about.doi):
        raise ValueError("doi: expected one such as 10.5281/zenodo.1234567, without https://doi.org/")
    if about.published and dt.date.fromisoformat(about.published).isoformat() != about.published:
        raise ValueError("published: expected a day such as 2026-11-29")
