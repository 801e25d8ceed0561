"""What the requests of a trace cost in US dollars: as its file says, else computed from a table of prices.

The table is `prices.toml` beside this module: every price has its day and its source. A user's own table comes before
it. What neither the file nor a table knows is unknown, never 0.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date  # noqa: TC003 - msgspec resolves it
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from agenttrace.errors import DataError
from agenttrace.records import Record
from agenttrace.store.opening import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

VARIABLE = "AGENTTRACE_PRICES"
"""Names a file of prices where no option does."""
_DATED = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2})$")
_ALIASES = {"google": "gemini", "x-ai": "xai", "moonshotai": "moonshot", "mistralai": "mistral", "z-ai": "zai"}
_REMOTE = frozenset({None, "external"})
"""Engines of which a table of sellers' prices may speak: none is known, or somebody else's endpoint was asked."""
_MILLION = 1e6
_REMEMBERED = 1000
"""Names of models; a hostile file could have millions."""

Usd = Annotated[float, Meta(ge=0, le=1e6)]


class Rates(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens.

    Attributes:
        input: of prompts.
        output: generated, reasoning included.
        cached_input: of prompts that the server had in its cache; `None` is `input`.
    """

    input: Usd
    output: Usd
    cached_input: Usd | None = None

    def of(self, given: int, generated: int, cached: int) -> float:
        """Return what a request costs."""
        cached = min(cached, given)
        of_cache = self.input if self.cached_input is None else self.cached_input
        return ((given - cached) * self.input + cached * of_cache + generated * self.output) / _MILLION


class LongRates(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request of more than `above_tokens` input tokens costs, all of it."""

    above_tokens: int


class Price(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model costs.

    Attributes:
        model: its name as requests name it.
        provider: who sells it; `None` is anyone, local servers too.
        long: for long requests.
        dated: the day on which it was the price.
        source: where it stands.
    """

    model: str
    provider: str | None = None
    long: LongRates | None = None
    dated: date | None = None
    source: str | None = None

    def request(self, given: int, generated: int, cached: int) -> float:
        """Return what a request costs, by its length."""
        rates = self.long if self.long is not None and given > self.long.above_tokens else self
        return rates.of(given, generated, cached)


class PriceFile(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of prices: TOML, `[[price]]` for each model."""

    price: tuple[Price, ...]


class Bill(NamedTuple):
    """What a trace cost, and whether its file says so or a table of prices does; both `None` where neither does."""

    usd: float | None
    source: Literal["given", "computed"] | None


UNKNOWN = Bill(None, None)


class Prices:
    """Prices by model.

    Args:
        sold: gives what vendors sell; not asked as long as every model was served locally.
        own: prices of the user, before those, for every model that they name.
    """

    def __init__(self, sold: Callable[[], Iterable[Price]], own: Iterable[Price] = ()) -> None:
        self._sellers = sold
        self._own = _by_model(own)
        self._found: dict[tuple[str, bool], Price | None] = {}

    @cached_property
    def _sold(self) -> dict[str, Price]:
        return _by_model(self._sellers())

    def bill(self, trace: Any, engine: str | None) -> Bill:  # noqa: ANN401 - a `Trace`, or what has its fields
        """Return what a trace cost.

        Computed from the tokens of its requests, or from those of the whole run where these are not known. Where
        nothing is said of a cache, nothing came from it.

        Args:
            trace: the trace.
            engine: what served its model, as its metadata say; `None` where they do not.
        """
        given = trace.totals.cost_usd if trace.totals else None
        if given is not None:
            return Bill(given, "given")
        price = self.price(trace.model, local=engine not in _REMOTE)
        usd = None if price is None else _computed(trace, price)
        return UNKNOWN if usd is None else Bill(usd, "computed")

    def price(self, model: str, *, local: bool) -> Price | None:
        """Return the price of a model, by its name with or without the provider and the day of its release."""
        key = (model, local)
        if key not in self._found:
            if len(self._found) > _REMEMBERED:
                self._found.clear()
            self._found[key] = next(self._prices(model.lower(), local=local), None)
        return self._found[key]

    def _prices(self, model: str, *, local: bool) -> Iterator[Price]:
        provider, _, name = model.rpartition("/")
        provider = _ALIASES.get(provider, provider)
        names = list(dict.fromkeys([model, name, _DATED.sub("", name)]))
        for table in (self._own, *(() if local else (self._sold,))):
            found = (table[one] for one in names if one in table)
            yield from (one for one in found if not provider or one.provider in {None, provider} or one.model == model)


def _by_model(prices: Iterable[Price]) -> dict[str, Price]:
    return {price.model.lower(): price for price in prices}


def _computed(trace: Any, price: Price) -> float | None:  # noqa: ANN401 - as above
    requests = [
        (step.input_tokens, step.output_tokens, step.timings.cached_n if step.timings else None)
        for step in trace.llm_steps
    ]
    if not requests or any(None in (given, generated) for given, generated, _ in requests):
        whole = trace.totals
        if not whole or None in (whole.input_tokens, whole.output_tokens):
            return None
        if price.long is not None and whole.input_tokens > price.long.above_tokens:
            return None  # which of the requests were long is not known
        requests = [(whole.input_tokens, whole.output_tokens, whole.cached_tokens)]
    return sum(price.request(given, generated, cached or 0) for given, generated, cached in requests)


@cache
def sold() -> Prices:
    """Return the prices of the package."""
    return Prices(_sold)


@cache
def _sold() -> tuple[Price, ...]:
    text = files("agenttrace.formats").joinpath("prices.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), PriceFile).price


def read_prices(path: Path | None) -> Prices:
    """Return the prices of a user's file before those of the package; without a file, these.

    Raises:
        UsageError: the file cannot be read.
        DataError: it is no table of prices; the message names the field.
    """
    if path is None:
        return sold()
    try:
        own = msgspec.convert(tomllib.loads(text(path).decode("utf-8")), PriceFile).price
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise DataError(
            f"{path}: no table of prices: {error}; expected [[price]] with model, input and output, US dollars per "
            "million tokens"
        ) from error
    return Prices(_sold, own)
