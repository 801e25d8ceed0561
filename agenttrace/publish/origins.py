"""What of others is in records: texts of the task sets that the kit knows, under which licence, and what to cite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace.records.base import Record
from agenttrace.tasks import OWN

if TYPE_CHECKING:
    from agenttrace.records import DatasetSpec, ModelPin


class Work(Record, frozen=True, kw_only=True):
    """A publication, as its own page says how to cite it.

    Attributes:
        title: in full.
        authors: given names and family name of each, `GIVEN|FAMILY`, in their order.
        year: of publication.
        venue: conference; without one it is a preprint.
        arxiv: its number there.
    """

    title: str
    authors: tuple[str, ...]
    year: int
    venue: str = ""
    arxiv: str

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def line(self) -> str:
        """It as a bibliography has it."""
        *first, last = (one.replace("|", " ") for one in self.authors)
        where = f"{self.venue}, {self.url}" if self.venue else self.url
        return f"{', '.join(first)} and {last} ({self.year}): {self.title}. {where}"


class Origin(Record, frozen=True, kw_only=True):
    """Whose the texts of a task set are.

    Attributes:
        licence: as the Hub writes it.
        what: whose they are, and what was changed.
        works: to cite; none of a set that was made for the kit.
        notice: that the licence wants to go with them.
    """

    licence: str
    what: str
    works: tuple[Work, ...] = ()
    notice: str = ""


NL2BASH = Work(
    title="NL2Bash: A Corpus and Semantic Parser for Natural Language Interface to the Linux Operating System",
    authors=("Xi Victoria|Lin", "Chenglong|Wang", "Luke|Zettlemoyer", "Michael D.|Ernst"),
    year=2018,
    venue="Eleventh International Conference on Language Resources and Evaluation (LREC 2018)",
    arxiv="1802.08979",
)
INTERCODE = Work(
    title="InterCode: Standardizing and Benchmarking Interactive Coding with Execution Feedback",
    authors=("John|Yang", "Akshara|Prabhakar", "Karthik|Narasimhan", "Shunyu|Yao"),
    year=2023,
    venue="Advances in Neural Information Processing Systems 36, Datasets and Benchmarks (NeurIPS 2023)",
    arxiv="2306.14898",
)
MBPP = Work(
    title="Program Synthesis with Large Language Models",
    authors=(
        *("Jacob|Austin", "Augustus|Odena", "Maxwell|Nye", "Maarten|Bosma", "Henryk|Michalewski", "David|Dohan"),
        *("Ellen|Jiang", "Carrie|Cai", "Michael|Terry", "Quoc|Le", "Charles|Sutton"),
    ),
    year=2021,
    arxiv="2108.07732",
)
SMOLLM2 = Work(
    title="SmolLM2: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
    authors=(
        *("Loubna|Ben Allal", "Anton|Lozhkov", "Elie|Bakouch", "Gabriel|Martín Blázquez", "Guilherme|Penedo"),
        *("Lewis|Tunstall", "Andrés|Marafioti", "Hynek|Kydlíček", "Agustín|Piqueres Lajarín", "Vaibhav|Srivastav"),
        *("Joshua|Lochner", "Caleb|Fahlgren", "Xuan-Son|Nguyen", "Clémentine|Fourrier", "Ben|Burtenshaw"),
        *("Hugo|Larcher", "Haojun|Zhao", "Cyril|Zakka", "Mathieu|Morlon", "Colin|Raffel", "Leandro|von Werra"),
        "Thomas|Wolf",
    ),
    year=2025,
    arxiv="2502.02737",
)
_MIT = """\
Copyright (c) 2023 Princeton Natural Language Processing

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
SETS = {
    "demo": Origin(licence="apache-2.0", what="made for agenttrace"),
    "mbpp": Origin(
        licence="cc-by-4.0",
        what="Mostly Basic Python Problems by Jacob Austin and others, Google Research "
        "(https://github.com/google-research/google-research/tree/master/mbpp), licensed under CC BY 4.0 "
        "(https://creativecommons.org/licenses/by/4.0/). Changed: text and asserts of a task are put into one prompt.",
        works=(MBPP,),
    ),
    "nl2bash": Origin(
        licence="mit",
        what="200 sentences that InterCode (https://github.com/princeton-nlp/intercode, MIT) chose and changed from "
        "NL2Bash (https://github.com/TellinaTool/nl2bash, data/bash, MIT). Changed: paths, and a sentence on the tool.",
        works=(INTERCODE, NL2BASH),
        notice=_MIT,
    ),
}
"""Name of a task set that the kit knows → whose its texts are; sets of checkouts are of their repositories."""
MODELS = {"HuggingFaceTB/SmolLM2-": SMOLLM2}
"""Beginning of a model's name → what to cite of it."""


def origin(dataset: DatasetSpec) -> Origin | None:
    """Return whose the texts of a task set are; `None` where the kit does not know."""
    return SETS.get(dataset.name) if dataset.source != OWN and dataset.sampling is UNSET else None


def work_on(model: ModelPin) -> Work | None:
    """Return what to cite of a model, where the kit knows it."""
    return next((work for start, work in MODELS.items() if model.name.startswith(start)), None)
