"""What a published folder says of its records, counted while they pass: for its card and its `croissant.json`."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from agenttrace.analysis.runs import Tally
from agenttrace.formats.conversation import in_text
from agenttrace.publish.about import About
from agenttrace.publish.imports import OWN_LICENCE, Imports, source_of
from agenttrace.publish.origins import Origin, Work, origin, work_on
from agenttrace.store.coverage import planned_runs
from agenttrace.tasks import OWN

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.formats import Sourced
    from agenttrace.records import RunSpec, Trace

_MOST_METHODS, _LONGEST_METHOD = 50, 80


class Table(NamedTuple):
    """A configuration of the folder: name, folder, rows, Arrow schema."""

    name: str
    folder: str
    rows: int
    schema: pa.Schema

    @property
    def columns(self) -> dict[str, str]:
        """Name of each column → its type."""
        return {field.name: str(field.type) for field in self.schema}


SOLVED = {True: "solved", False: "not solved", None: "unknown"}
"""What is said of a record by `outcome.solved`."""


class Contents:
    """What the card says of the records, counted while they pass.

    Attributes:
        title: heading.
        licence: identifier as the Hub writes it; `None` is that of the records.
        release: cassettes, verdicts and a manifest lie beside the records.
        searched: what looks private is not in them.
        about: what a person says of them.
        records: number of records.
        demo: records of a model that is a test fixture.
        memorised: those of them whose tasks it was trained on.
        groups: (run id, data set, model) → records, and how they ended.
        files: record files, with the run spec of each that has one.
        with_tasks: names of those beside which their task set lies, a set of somebody's own.
        tally: of the records of a bash-block agent of ours.
        imports: of those that were read from another format.
        times: record file → start of its earliest run that says it, and end of the one that ended last.
        methods: by which verdicts were given.
    """

    def __init__(
        self,
        title: str,
        licence: str | None,
        *,
        release: bool = False,
        searched: bool = True,
        about: About | None = None,
    ) -> None:
        self.title, self.licence, self.release, self.searched = title, licence, release, searched
        self.about = about or About()
        self.records = self.demo = self.memorised = 0
        self.groups: dict[tuple[str, str, str], Counter[str]] = {}
        self.files: dict[str, RunSpec | None] = {}
        self.with_tasks: frozenset[str] = frozenset()
        self.tally = Tally()
        self.imports = Imports(licence)
        self.times: dict[str, tuple[datetime, datetime]] = {}
        self.methods: set[str] = set()

    @property
    def foreign(self) -> bool:
        """Whether all were read from another format."""
        return 0 < self.imports.records == self.records

    @property
    def licences(self) -> list[str]:
        """Those in the header: the one that was named, else those of the records; and those of others' task sets."""
        own = [OWN_LICENCE] if self.records > self.imports.records else []
        said = [self.licence] if self.licence is not None else [*own, *sorted(self.imports.licences)]
        return list(dict.fromkeys([*said, *(one.licence for one in self.of_others.values())]))

    @property
    def of_others(self) -> dict[str, Origin]:
        """Name → whose texts of others are: as a person says, and of task sets that the kit knows."""
        known = {spec.dataset.name: origin(spec.dataset) for spec in self.files.values() if spec is not None}
        sets = {name: found for name, found in sorted(known.items()) if found is not None and found.works}
        said = {one.name: Origin(licence=one.licence, what=one.what, notice=one.notice) for one in self.about.of_others}
        return {**said, **sets}

    @property
    def texts(self) -> str:
        """A sentence on texts of others; empty where none are known."""
        named = ", ".join(f"{name} ({one.licence})" for name, one in self.of_others.items())
        where = "Records" if self.about.of_others else "Prompts"
        return f"{where} hold texts of others, under their licences: {named}." if named else ""

    @property
    def works(self) -> list[Work]:
        """What to cite beside the records: of the task sets, then of the models."""
        models = (work_on(spec.model) for spec in self.files.values() if spec is not None)
        found = [*(work for one in self.of_others.values() for work in one.works), *filter(None, models)]
        return list(dict.fromkeys(found))

    @property
    def demonstration(self) -> str:
        """A sentence on the records of a model that is a test fixture; empty where there are none."""
        if not self.demo:
            return ""
        which = "" if self.memorised == self.demo else f" of {self.memorised} of them"
        trained = f", trained on the very tasks{which}" if self.memorised else ""
        return (
            f"{self.demo} of the {self.records} records come from a demonstration model of under a million "
            f"parameters{trained}."
        )

    def counted(self, record: Sourced) -> Sourced:
        """Count a record and return it; one that was read from another format has its licence then."""
        trace = self.imports.licensed(record.trace)
        self.records += 1
        demo = trace.metadata.get("demo") is True
        self.demo += demo
        self.memorised += demo and record.spec is not None and record.spec.dataset.bundled
        self.files[record.source] = record.spec
        self._note(record.source, trace)
        source = source_of(trace)
        run = trace.metadata.get("run_id") if source is None else f"(read from {source.format})"
        key = (str(run), str(trace.metadata.get("dataset_name", "")), trace.model)
        self.groups.setdefault(key, Counter()).update(["records", SOLVED[trace.outcome.solved]])
        if source is None and in_text(trace, record.spec):
            self.tally.add(trace)
        return record._replace(trace=trace)

    @property
    def timeframe(self) -> list[datetime]:
        """Start of the earliest run and end of the last; empty where none says it."""
        return (
            [min(one[0] for one in self.times.values()), max(one[1] for one in self.times.values())]
            if self.times
            else []
        )

    def _note(self, source: str, trace: Trace) -> None:
        """Keep the time of a run, and by which methods it was judged."""
        with suppress(TypeError, ValueError, OverflowError):
            began = datetime.fromisoformat(trace.timestamp_utc or "")
            began = began if began.tzinfo else began.replace(tzinfo=UTC)
            ended = began + timedelta(milliseconds=trace.total_duration_ms or 0)
            first, last = self.times.get(source, (began, ended))
            self.times[source] = min(first, began), max(last, ended)
        if len(self.methods) < _MOST_METHODS:
            self.methods |= {verdict.method[:_LONGEST_METHOD] for verdict in trace.outcome.verdicts}

    @property
    def language(self) -> str | None:
        """The language of the tasks, where they are all of sets that the kit knows; of others it is not known."""
        specs = self.files.values()
        return "en" if all(spec is not None and spec.dataset.source != OWN for spec in specs) else None

    def planned(self) -> int | None:
        """How many runs the campaigns planned; `None` where one has no run spec."""
        specs = list(self.files.values())
        known = [planned_runs(spec) for spec in specs if spec is not None]
        return sum(known) if known and len(known) == len(specs) else None
