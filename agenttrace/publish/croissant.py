"""`croissant.json` of a published folder: Croissant 1.1 with its RAI fields, for archives, conferences and loaders.

Written as JSON-LD by hand: the library of the format brings pandas and rdflib into what users install, and gives no
promise on bytes. `nox -s formats-check` validates it with that library and reads the rows by it. Sources:
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html, https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from agenttrace import __version__
from agenttrace.publish.origins import origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from agenttrace.publish.contents import Contents, Table
    from agenttrace.publish.sums import File
    from agenttrace.records import RunSpec

_Json = dict[str, Any]
_CONTEXT: _Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification recommends, with the PROV ontology."""
_CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_KINDS = {
    ".parquet": "application/x-parquet",
    ".jsonl": "application/jsonlines",
    ".json": "application/json",
    ".md": "text/markdown",
    ".zst": "application/zstd",
    ".gz": "application/gzip",
    ".tar": "application/x-tar",
    ".cff": "application/yaml",
}
"""End of a file's name → its media type, as the format names it."""
_SPDX = {
    "apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0", "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0",
    "cc0-1.0": "CC0-1.0", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "gpl-3.0": "GPL-3.0-only",
    "lgpl-3.0": "LGPL-3.0-only", "agpl-3.0": "AGPL-3.0-only", "mpl-2.0": "MPL-2.0", "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0", "isc": "ISC", "unlicense": "Unlicense",
}  # fmt: skip
"""Licence as the Hub writes it → its SPDX identifier."""
_LISTED = 50
"""Sources of imports that are named; the records name all."""
_MOST = 400
"""Characters of a text of others in here."""


def croissant(contents: Contents, tables: list[Table], files: Mapping[str, File]) -> bytes:
    """Return `croissant.json`: a pure function of what the folder holds; the same records give the same bytes.

    Args:
        contents: what is said of the records.
        tables: the configurations.
        files: path → file, of those to list.
    """
    about = contents.about
    found: _Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS,
        "name": contents.title[:_MOST],
        "description": about.description or description(contents),
        "license": [licence_url(one) for one in contents.licences],
        **_core(contents),
        **_responsible(contents, records=any(path.startswith("records/") for path in files)),
        "prov:wasDerivedFrom": list(_sources(contents)),
        "prov:wasGeneratedBy": list(_activities(contents)),
        "distribution": list(_distribution(tables, files)),
        "recordSet": [_record_set(table, files) for table in tables if table.rows],
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def spdx(name: str) -> str | None:
    """Return the SPDX identifier of a licence as the Hub writes it; `None` where none is known."""
    return _SPDX.get(name.lower())


def hub_licence(name: str) -> str:
    """Return a licence as the Hub writes it, where it is known by that name in any case, or by its SPDX identifier."""
    return next((hub for hub, known in _SPDX.items() if name.lower() in {hub, known.lower()}), name)


def licence_url(name: str) -> str:
    """Return the page of a licence; of one that is not known its name."""
    return f"https://spdx.org/licenses/{known}.html" if (known := spdx(name)) else name[:_MOST]


def description(contents: Contents) -> str:
    """Return a sentence on the records."""
    demo = f" {contents.demo} of them come from a demonstration model and are no result." if contents.demo else ""
    what = "as other kits recorded them, in one form" if contents.foreign else "with what every tool call cost"
    return f"{contents.records} traces of models that work on tasks with tools, {what}.{demo} {contents.texts}".rstrip()


def _core(contents: Contents) -> _Json:
    about = contents.about
    said = {
        "citeAs": about.citation,
        "url": about.url or (f"https://doi.org/{about.doi}" if about.doi else ""),
        "identifier": f"https://doi.org/{about.doi}" if about.doi else "",
        "datePublished": about.published,
        "dateCreated": contents.timeframe[-1].date().isoformat() if contents.times else "",
        "creator": [
            {
                "@type": "sc:Person" if one.family else "sc:Organization",
                "name": one.name,
                **({"affiliation": {"@type": "sc:Organization", "name": one.affiliation}} if one.affiliation else {}),
                **({"sameAs": f"https://orcid.org/{one.orcid}"} if one.orcid else {}),
            }
            for one in about.creators
        ],
    }
    return {
        **{name: value for name, value in said.items() if value},
        "version": about.version,
        **({"inLanguage": contents.language} if contents.language else {}),
        "keywords": [
            "agent traces",
            "tool use",
            "large language models",
            "reproducibility",
            f"agenttrace {__version__}",
        ],
    }


def _responsible(contents: Contents, *, records: bool) -> _Json:
    """Return the RAI fields: what the kit knows, and what a person says where one does."""
    about, foreign = contents.about, contents.imports.records
    kinds = ["Secondary Data analysis"] if foreign else []
    kinds += ["Experiments", "Software Collection", "Direct measurement"] if foreign < contents.records else []
    found: _Json = {
        "rai:dataCollection": " ".join(_collection(contents)),
        "rai:dataCollectionType": kinds,
        "rai:dataCollectionTimeframe": [moment.isoformat() for moment in contents.timeframe],
        "rai:dataCollectionMissingData": " ".join(_missing(contents)),
        "rai:dataCollectionRawData": _raw(contents, records=records),
        "rai:dataPreprocessingProtocol": list(_preparation(contents)),
        "rai:dataAnnotationProtocol": list(_annotation(contents)),
        "rai:machineAnnotationTools": sorted(contents.methods)[:_LISTED],
        "rai:hasSyntheticData": True,
        "rai:dataLimitations": [*_limits(contents), *filter(None, [about.limitations])],
        "rai:dataBiases": about.biases,
        "rai:dataUseCases": about.use_cases,
        "rai:personalSensitiveInformation": about.personal_information,
        "rai:dataSocialImpact": about.social_impact,
        "rai:dataReleaseMaintenancePlan": about.maintenance,
    }
    return {name: value for name, value in found.items() if value not in ("", [])}


def _raw(contents: Contents, *, records: bool) -> str:
    if not records:
        return "The record files are not in this folder; the configuration `rollouts` has every field of every record."
    if not contents.imports.records:
        return "The record files lie in records/, as they were collected."
    read = "what was read from files of others, which are not in this folder"
    return f"records/ has {read}{'' if contents.foreign else ', and our record files as they were collected'}."


def _annotation(contents: Contents) -> Iterator[str]:
    if not contents.foreign:
        yield "Verdicts are given by programs, each named by its method; no person annotated."
    if contents.imports.records:
        yield f"Of {contents.imports.records} records from files of others it is not known who annotated, or how."


def _collection(contents: Contents) -> Iterator[str]:
    foreign = contents.imports.records
    if foreign < contents.records:
        yield "A model works on tasks with tools, each run in a sandbox without network whose tree is reset before it."
        yield "Requests, replies and tool calls are recorded as they happen, with what each call cost the system."
    if foreign:
        yield f"{foreign} of the {contents.records} records were read from files of other kits."


def _missing(contents: Contents) -> Iterator[str]:
    yield "null is not measured or does not apply; 0 is zero."
    if (planned := contents.planned()) is not None:
        if (given_up := planned - contents.records) > 0:
            yield f"{given_up} of {planned} planned runs have no record, as every attempt failed for the"
            yield "infrastructure's reasons or none was made; no figure has them."
        else:
            yield f"All {planned} planned runs have a record."


def _preparation(contents: Contents) -> Iterator[str]:
    yield "Files are validated before publication: schema, ids, order, joins, counts, metadata."
    if contents.searched:
        yield "They are searched for host paths, host names, user names and keys; a finding stops the publication."
    yield "Tables are made of the records without a change of a value; nested values are JSON text where no type fits."
    specs = filter(None, contents.files.values())
    for rule in sorted({spec.dataset.prompt_sanitization_version or "" for spec in specs} - {""}):
        yield f"Paths in prompts were rewritten by the rule {rule[:_MOST]}."


def _limits(contents: Contents) -> Iterator[str]:
    if contents.demo:
        yield contents.demonstration
    if contents.tally.rollouts:
        yield "`Submitted` means that the model said it was done, not that the change is correct."
    if contents.imports.records:
        yield f"Of {contents.imports.records} records read from files of others, what these do not say is null."
    if not contents.foreign:
        yield (
            "Durations and costs are those of the machine in `environment`; token counts and texts those of the run "
            "spec."
        )
    yield "All texts of replies were generated by models and can be wrong, offensive or repeat training data."


def _sources(contents: Contents) -> Iterator[_Json]:
    """Yield what the records were made of: task sets, and files of other kits with their licences."""
    sets: dict[str, RunSpec] = {spec.dataset.sha256: spec for spec in contents.files.values() if spec is not None}
    for digest, spec in sorted(sets.items()):
        licence = f", licence {found.licence}" if (found := origin(spec.dataset)) is not None else ""
        label = (
            f"task set {spec.dataset.name[:_MOST]} from {spec.dataset.source[:_MOST]}, SHA-256 {digest[:64]}{licence}"
        )
        yield {"@type": "prov:Entity", "prov:label": label}
    for (form, name, digest), count in contents.imports.sources():
        label = f"{name[:_MOST]} ({form[:_MOST]}, {count} records), SHA-256 {digest[:64]}"
        yield {"@type": "prov:Entity", "prov:label": label}
    for licence, count in islice(sorted(contents.imports.licences.items()), _LISTED):
        yield {"@type": "prov:Entity", "prov:label": f"{count} records under {licence[:_MOST]}"}


def _activities(contents: Contents) -> Iterator[_Json]:
    """Yield how the records came about: a campaign each, with the model and the programs."""
    for spec in {spec.digest: spec for spec in contents.files.values() if spec is not None}.values():
        model, serving = spec.model, spec.serving
        licence = (model.licence or "not stated")[:_MOST]
        agents = {
            f"model {model.name[:_MOST]}, SHA-256 {model.sha256[:64]}, licence {licence}",
            f"{serving.engine[:_MOST]} {serving.engine_version[:_MOST]}",
            f"agenttrace {spec.collector_version[:_MOST]}",
        }
        yield {
            "@type": "prov:Activity",
            "prov:type": {"@id": "https://www.wikidata.org/wiki/Q4929239"},
            "prov:label": f"collection: campaign {spec.run_id[:_MOST]}, run spec SHA-256 {spec.digest}",
            "prov:wasAssociatedWith": [
                {"@type": "prov:SoftwareAgent", "prov:label": agent} for agent in sorted(agents)
            ],
        }
    yield {"@type": "prov:Activity", "prov:label": f"publication by agenttrace {__version__}"}


def media_type(path: str) -> str:
    """Return the media type of a file by its name."""
    return next((kind for end, kind in _KINDS.items() if path.endswith(end)), "text/plain")


def _distribution(tables: list[Table], files: Mapping[str, File]) -> Iterator[_Json]:
    for path, file in files.items():
        yield {
            "@type": "cr:FileObject",
            "@id": quote(path),
            "name": path,
            "contentUrl": quote(path),
            "contentSize": f"{file.bytes} B",
            "encodingFormat": media_type(path),
            "sha256": file.sha256,
        }
    for table in tables:
        if len(_shards(table, files)) > 1:
            yield {
                "@type": "cr:FileSet",
                "@id": f"files-of-{table.name}",
                "encodingFormat": _KINDS[".parquet"],
                "includes": f"{table.folder}/train-*.parquet",
            }


def _shards(table: Table, files: Mapping[str, File]) -> list[str]:
    return [path for path in files if path.rpartition("/")[0] == table.folder and path.endswith(".parquet")]


def _record_set(table: Table, files: Mapping[str, File]) -> _Json:
    shards = _shards(table, files)
    name = ("fileObject", quote(shards[0])) if len(shards) == 1 else ("fileSet", f"files-of-{table.name}")
    fields = list(_fields(table, {name[0]: {"@id": name[1]}}))
    known = {field["@id"].rpartition("/")[2] for field in fields}
    deep = [name for name in table.columns if name not in known]
    more = f" Nested more deeply than readers go, so in the Parquet schema alone: {', '.join(deep)}." if deep else ""
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"Configuration {table.name}: {table.rows} rows.{more}",
        **({"key": {"@id": f"{table.name}/trace_id"}} if table.name == "runs" else {}),
        "field": fields,
    }


def _fields(table: Table, source: _Json) -> Iterator[_Json]:
    """Yield the fields of a table; a struct, or a list of them, has sub-fields where these are plain."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    for column in table.schema:
        kind, listed = column.type, isinstance(column.type, pa.ListType | pa.LargeListType)
        kind = kind.value_type if listed else kind
        field: _Json = {"@type": "cr:Field", "@id": f"{table.name}/{column.name}", "name": column.name}
        field |= {"isArray": True, "arrayShape": "-1"} if listed else {}
        extract = {**source, "extract": {"column": column.name}}
        if (plain := _plain(kind)) is not None:
            yield {**field, "dataType": plain, "source": extract}
        elif isinstance(kind, pa.StructType):
            inner = [(one.name, _plain(one.type)) for one in kind]
            subs = [
                {
                    "@type": "cr:Field",
                    "@id": f"{table.name}/{column.name}/{name}",
                    "name": name,
                    "dataType": kind_,
                    "source": {**extract, "transform": {"jsonPath": name}},
                }
                for name, kind_ in inner
                if kind_ is not None
            ]
            if len(subs) == len(inner):
                yield {**field, "subField": subs}


def _plain(kind: pa.DataType) -> str | None:
    """Return the Croissant type of an Arrow type; `None` where it is nested."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    tests = {
        "sc:Boolean": pa.types.is_boolean,
        "sc:Integer": pa.types.is_integer,
        "sc:Float": pa.types.is_floating,
        "sc:DateTime": pa.types.is_timestamp,
        "sc:Text": lambda one: pa.types.is_string(one) or pa.types.is_large_string(one) or pa.types.is_dictionary(one),
    }
    return next((name for name, test in tests.items() if test(kind)), None)
