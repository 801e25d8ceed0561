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
_DOI = re.compile(r"10\.[0-9]{4,9}(?:\.[0-9]+)?/[A-Za-z0-9:/_;.()\[\]-]{1,200}")
"""As `CITATION.cff` takes them."""
_ORCID = re.compile(r"[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?")
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


class Theirs(Record, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What of others is in the records, beside the task sets that the kit knows: texts of repositories, say.

    Attributes:
        name: whose, or which.
        licence: as the Hub writes it.
        what: whose it is, where it stands in the records, what was changed.
        notice: that the licence wants to go with it.
    """

    name: str
    licence: str
    what: str
    notice: str = ""


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
        of_others: what of others is in it.
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
    of_others: tuple[Theirs, ...] = ()


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
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value.strip() if isinstance(value, str) else value


def _check(about: About) -> None:
    """Refuse answers that no archive takes.

    Raises:
        ValueError: says which.
    """
    _check_creators(about.creators)
    _check_theirs(about.of_others)
    for name in About.__struct_fields__:
        said = getattr(about, name)
        if isinstance(said, str) and len(said) > LONGEST:
            raise ValueError(f"{name}: has {len(said)} characters, at most {LONGEST} are taken")
    if about.url and not _URL.fullmatch(about.url):
        raise ValueError("url: expected an address that begins with https:// or http://")
    if about.doi and not _DOI.fullmatch(about.doi):
        raise ValueError("doi: expected one such as 10.5281/zenodo.1234567, without https://doi.org/")
    if about.published and not _is_day(about.published):
        raise ValueError("published: expected a day such as 2026-11-29")
    if not _VERSION.fullmatch(about.version):
        raise ValueError("version: expected one such as 1.0.0")


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_creators(creators: tuple[Creator, ...]) -> None:
    if len(creators) > _MOST_CREATORS:
        raise ValueError(f"creators: more than {_MOST_CREATORS}")
    for place, creator in enumerate(creators, start=1):
        if not creator.name:
            raise ValueError(f"creators: number {place} has no name")
        if creator in creators[: place - 1]:
            raise ValueError(f"creators: number {place} stands there twice")
        if creator.orcid and not _is_orcid(creator.orcid):
            raise ValueError(f"creators: {creator.orcid[:40]!r} is no ORCID (0000-0002-1825-0097)")
        if not creator.family and (creator.orcid or creator.affiliation):
            what = "orcid" if creator.orcid else "affiliation"
            raise ValueError(
                f"creators: number {place} has `{what}`, which persons have: add `family`, the part of the name that "
                "is sorted by, or leave this out"
            )


def _check_theirs(found: tuple[Theirs, ...]) -> None:
    for place, one in enumerate(found, start=1):
        for name in ("name", "licence", "what"):
            if not getattr(one, name):
                raise ValueError(f"of_others: number {place} has no {name}")
        if one.name in (before.name for before in found[: place - 1]):
            raise ValueError(f"of_others: {one.name!r} stands there twice")
        if len(one.notice) > LONGEST or "```" in one.notice:
            raise ValueError(f"of_others: the notice of {one.name!r} has more than {LONGEST} characters, or ``` in it")


def _is_orcid(text: str) -> bool:
    """Return whether the last digit is that of the others (ISO/IEC 7064, MOD 11-2)."""
    if not _ORCID.fullmatch(text):
        return False
    total = 0
    for digit in text.replace("-", "")[:-1]:
        total = (total + int(digit)) * 2
    return text[-1] == "0123456789X"[(12 - total % 11) % 11]
