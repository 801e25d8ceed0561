"""What tells programs of others what a published folder is: `CITATION.cff`, `croissant.json`, of a release an RO-Crate.

All are pure functions of the folder's other files, so a check makes them again.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from agenttrace.publish.croissant import croissant, description, licence_url, media_type, spdx
from agenttrace.publish.sums import CITATION, CRATE, CROISSANT, DESCRIPTIONS, File

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agenttrace.publish.about import About, Creator
    from agenttrace.publish.contents import Contents, Table
    from agenttrace.publish.origins import Work
    from agenttrace.records import RunSpec

_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CRATE = "https://w3id.org/ro/crate/1.1"
_Entity = dict[str, Any]
_MOST = 400
"""Characters of a text of others in here."""


def descriptions(contents: Contents, tables: list[Table], files: Mapping[str, File]) -> dict[str, bytes]:
    """Return name → content of the files that describe a folder; each lists those before it, none itself.

    Args:
        contents: what is said of the records; of a release there is an RO-Crate, too. Without makers there is no
            `CITATION.cff`, which would be none.
        tables: the configurations.
        files: path → every file of the folder; those that describe it are not looked at.
    """
    plain = {path: file for path, file in files.items() if path not in DESCRIPTIONS}
    found: dict[str, bytes] = {}

    def add(name: str, data: bytes) -> None:
        found[name] = data
        plain[name] = File(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    if contents.about.creators:
        add(CITATION, citation(contents))
    add(CROISSANT, croissant(contents, tables, plain))
    if contents.release:
        add(CRATE, crate(contents, plain))
    return found


def citation(contents: Contents) -> bytes:
    """Return `CITATION.cff` (Citation File Format 1.2.0) of a data set whose makers are known."""
    import yaml  # noqa: PLC0415 - heavy

    about, licences = contents.about, [spdx(name) for name in contents.licences]
    whole = len(licences) == 1 and licences[0] is not None  # a list of several would mean: any of them, as you like
    found = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them as below.",
        "type": "dataset",
        "title": contents.title,
        "authors": [_author(one) for one in about.creators],
        "version": about.version,
        "license": licences if whole else [],
        "doi": about.doi,
        "url": about.url,
        "date-released": about.published,
        "abstract": about.description or description(contents),
        "references": [_reference(work) for work in contents.works],
    }
    text: str = yaml.safe_dump(
        {name: value for name, value in found.items() if value}, sort_keys=False, allow_unicode=True, width=100
    )
    return text.encode()


def _reference(work: Work) -> dict[str, Any]:
    names = [one.split("|") for one in work.authors]
    return {
        "type": "conference-paper" if work.venue else "article",
        "title": work.title,
        "authors": [{"family-names": family, "given-names": given} for given, family in names],
        "year": work.year,
        **({"conference": {"name": work.venue}} if work.venue else {}),
        "url": work.url,
    }


def given_name(creator: Creator) -> str:
    """Return a person's name without the family name: its last place as words of their own, else at one of the ends."""
    name, family = (" ".join(text.split()) for text in (creator.name, creator.family))
    places = [*re.finditer(rf"(?<![^\s,]){re.escape(family)}(?![^\s,])", name)]
    if places:
        rest = name[: places[-1].start()] + name[places[-1].end() :]
    else:
        rest = name.removeprefix(family) if name.startswith(family) else name.removesuffix(family)
    return " ".join(rest.split()).strip(" ,")


def _author(creator: Creator) -> dict[str, str]:
    if not creator.family:
        return {"name": creator.name}
    found = {
        "family-names": creator.family,
        "given-names": given_name(creator),
        "affiliation": creator.affiliation,
        "orcid": f"https://orcid.org/{creator.orcid}" if creator.orcid else "",
    }
    return {name: value for name, value in found.items() if value}


def crate(contents: Contents, files: Mapping[str, File]) -> bytes:
    """Return `ro-crate-metadata.json`: a Process Run Crate 0.5, in which each campaign is an action.

    Source: https://www.researchobject.org/workflow-run-crate/profiles/process_run_crate/ (RO-Crate 1.1).

    Args:
        contents: what is said of the records.
        files: path → file, of those that are parts.
    """
    about = contents.about
    actions = list(_actions(contents, files))
    licences = [licence_url(name) for name in contents.licences]
    root: _Entity = {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": {"@id": _PROFILE},
        "name": contents.title,
        "description": about.description or description(contents),
        "datePublished": about.published or (contents.timeframe[-1].date().isoformat() if contents.times else ""),
        "license": [{"@id": one} if one.startswith("https://") else one for one in licences],
        "version": about.version,
        "hasPart": [{"@id": quote(path)} for path in files],
        "mentions": [{"@id": action["@id"]} for action in actions if action["@type"] == "CreateAction"],
        **({"identifier": f"https://doi.org/{about.doi}"} if about.doi else {}),
        **({"url": about.url} if about.url else {}),
        **({"author": [{"@id": _id_of(one)} for one in about.creators]} if about.creators else {}),
        **({"citation": [{"@id": work.url} for work in contents.works]} if contents.works else {}),
    }
    graph: list[_Entity] = [
        {"@id": CRATE, "@type": "CreativeWork", "conformsTo": {"@id": _CRATE}, "about": {"@id": "./"}},
        root,
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        *({"@id": one, "@type": "CreativeWork", "name": one} for one in licences if one.startswith("https://")),
        *({"@id": work.url, "@type": "ScholarlyArticle", "name": work.line} for work in contents.works),
        *_makers(about),
        *actions,
        *(
            {"@id": quote(path), "@type": "File", "name": path, "contentSize": str(file.bytes),
             "encodingFormat": media_type(path), "sha256": file.sha256}
            for path, file in files.items()
        ),
    ]  # fmt: skip
    context = [f"{_CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
    return msgspec.json.format(msgspec.json.encode({"@context": context, "@graph": graph}), indent=1) + b"\n"


def _id_of(creator: Creator) -> str:
    return f"https://orcid.org/{creator.orcid}" if creator.orcid else f"#{quote(creator.name, safe='')}"


def _makers(about: About) -> Iterator[_Entity]:
    for one in {_id_of(one): one for one in about.creators}.values():
        more = {"affiliation": one.affiliation} if one.affiliation else {}
        yield {"@id": _id_of(one), "@type": "Person" if one.family else "Organization", "name": one.name, **more}


def _kit_id(spec: RunSpec) -> str:
    return f"#agenttrace-{quote(spec.collector_version[:_MOST], safe='')}"


def _model_id(spec: RunSpec) -> str:
    return f"#model-{quote(spec.model.sha256[:64], safe='')}"


def _actions(contents: Contents, files: Mapping[str, File]) -> Iterator[_Entity]:
    """Yield each campaign as an action, and the kits and models that they worked with."""
    models: dict[str, RunSpec] = {}
    kits: dict[str, RunSpec] = {}
    for name, spec in contents.files.items():
        if spec is None:
            continue
        stem = name.removesuffix(".jsonl")
        records, run, tape = (f"records/{stem}{end}" for end in (".jsonl", ".run.json", ".cassette.zst"))
        models.setdefault(_model_id(spec), spec)
        kits.setdefault(_kit_id(spec), spec)
        began, ended = contents.times.get(name, (None, None))
        yield {
            "@id": f"#campaign-{quote(stem, safe='')}",
            "@type": "CreateAction",
            "name": f"campaign {spec.run_id[:_MOST]} over the task set {spec.dataset.name[:_MOST]}",
            "instrument": {"@id": _kit_id(spec)},
            "object": [{"@id": quote(run)}, {"@id": _model_id(spec)}],
            "result": [{"@id": quote(path)} for path in (records, tape) if path in files],
            **({"startTime": began.isoformat()} if began else {}),
            **({"endTime": ended.isoformat()} if ended else {}),
        }
    for identity, spec in kits.items():
        version = spec.collector_version[:_MOST]
        yield {"@id": identity, "@type": "SoftwareApplication", "name": "agenttrace", "softwareVersion": version}
    for identity, spec in models.items():
        name, artifact, engine = (text[:_MOST] for text in (spec.model.name, spec.model.artifact, spec.serving.engine))
        about = f"{artifact}, SHA-256 {spec.model.sha256[:64]}, served by {engine}"
        yield {"@id": identity, "@type": "CreativeWork", "name": name, "description": about}
