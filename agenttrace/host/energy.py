"""What the machine consumes while a session of a campaign runs, by its own counters, read on the host.

Sources: the kernel's Documentation/power/powercap (RAPL: microjoules that wrap at `max_energy_range_uj`; only root may
read them since CVE-2020-8694, and engines hide them from containers); NVML's `nvmlDeviceGetTotalEnergyConsumption`
(millijoules since the driver was loaded), by NVIDIA's own `nvidia-ml-py`, where that is installed.
"""

from __future__ import annotations

import importlib
import platform
import threading
import time
from datetime import UTC, datetime
from functools import partial
from math import inf, isinf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.store.energy import SessionEnergy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

POWERCAP = Path("/sys/class/powercap")
_EVERY_S, _UNSEEN_S = 30.0, 120.0
"""Between two looks, and the most that may pass: a counter takes about four minutes to wrap at a kilowatt, and a
machine that slept may have begun it anew."""
_WHOLE = ("package", "dram")
"""How the zones begin that are added up: `core` and `uncore` are part of a package, `psys` is all of them and more."""


class EnergyCounter(NamedTuple):
    """A counter of joules that starts again at `wraps`."""

    read: Callable[[], float]
    wraps: float


def energy_counters(
    powercap: Path = POWERCAP, *, engine_kernel: str | None = None
) -> tuple[dict[str, EnergyCounter], dict[str, str]]:
    """Return the counters of this machine by name, and per kind without any (`rapl`, `nvml`) why there is none.

    Args:
        powercap: where the kernel shows them.
        engine_kernel: that of the engine; where it is another one, the campaign runs on another machine than this.
    """
    if engine_kernel not in {None, platform.release()}:
        return {}, dict.fromkeys(("rapl", "nvml"), "the engine runs on another machine, or in a virtual one")
    counters: dict[str, EnergyCounter] = {}
    unknown: dict[str, str] = {}
    for kind, find in (("rapl", partial(_rapl, powercap)), ("nvml", _nvml)):
        try:
            counters |= {f"{kind}:{name}": counter for name, counter in find().items()}
        except (OSError, ValueError) as error:
            unknown[kind] = str(getattr(error, "strerror", None) or error)
    return counters, unknown


def _rapl(powercap: Path) -> dict[str, EnergyCounter]:
    if not powercap.is_dir():
        raise OSError("the kernel shows no powercap zones here")
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's are called so, too
        name = (zone / "name").read_text(encoding="ascii").strip()
        if name.startswith(_WHOLE):
            file, wraps = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
            counter = EnergyCounter(partial(_file_joules, file), (wraps + 1) / 1e6)
            counter.read()  # only root may
            found[name if name not in found else f"{name}@{zone.name}"] = counter
    if not found:
        raise OSError("the kernel shows no zone of a processor package")
    return found


def _nvml() -> dict[str, EnergyCounter]:
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        raise OSError("nvidia-ml-py is not installed") from None
    try:
        nvml.nvmlInit()
        devices = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        found = {
            str(number): EnergyCounter(partial(_device_joules, nvml, device), inf)
            for number, device in enumerate(devices)
        }
        for counter in found.values():
            counter.read()
    except nvml.NVMLError as error:
        raise OSError(f"NVML: {error}") from None
    if not found:
        raise OSError("NVML shows no device")
    return found


def _file_joules(file: Path) -> float:
    return int(file.read_text(encoding="ascii")) / 1e6


def _device_joules(nvml: Any, device: Any) -> float:  # noqa: ANN401 - of a package that has no types
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1e3


class EnergyMeter:
    """Adds up what counters grow by from its beginning to its end; use it as a context.

    Args:
        counters: by name.
        unknown: why there are none, by kind.
        every_s: pause between two looks; a counter must not wrap twice within one.

    Attributes:
        measures: there is a counter.
    """

    def __init__(
        self,
        counters: dict[str, EnergyCounter],
        unknown: Mapping[str, str] = MappingProxyType({}),
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self.measures = bool(counters)
        self._counters = counters
        self._every_s = every_s
        self._joules = dict.fromkeys(counters, 0.0)
        self._last: dict[str, float] = {}
        self._looked = 0.0
        reasons = "; ".join(f"{kind}: {why}" for kind, why in unknown.items())
        self._unknown = None if counters else f"no counter ({reasons})" if reasons else "no counter"
        self._start = ""
        self._over: str | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def session(self) -> SessionEnergy:
        """Return what it was; what is not known before its end, nor where a counter failed, says why."""
        unknown = self._unknown or (None if self._over else "it did not come to its end")
        joules = None if unknown else {name: round(one, 3) for name, one in self._joules.items()}
        return SessionEnergy(start_utc=self._start, end_utc=self._over, joules=joules, unknown=unknown)

    def _look(self) -> None:
        before, self._looked = self._looked, _awake_or_not()
        pause_s = self._looked - before if self._last else 0.0
        if pause_s > _UNSEEN_S and any(counter.wraps < inf for counter in self._counters.values()):
            self._fail(f"nobody looked for {pause_s:.0f} s (the machine slept?), so it may have wrapped unseen")
            return
        for name, counter in self._counters.items():
            try:
                now = counter.read()
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: a gap would make a figure that is too small
                self._fail(f"{name} could not be read ({getattr(error, 'strerror', None) or error})")
                return
            if name in self._last:
                grown = now - self._last[name]
                if grown < 0 and isinf(counter.wraps):
                    self._fail(f"{name} began anew")
                    return
                self._joules[name] += grown if grown >= 0 else grown + counter.wraps
            self._last[name] = now

    def _fail(self, why: str) -> None:
        self._unknown = why
        self._counters = {}

    def _follow(self) -> None:
        while not self._end.wait(self._every_s):
            self._look()

    def __enter__(self) -> Self:
        self._start = _now()
        self._look()
        if self._counters:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._look()
        self._over = _now()


def _awake_or_not() -> float:
    """Return seconds that a sleep of the machine is part of, where it has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
