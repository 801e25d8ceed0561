"""Shards made on the nodes of a Ray cluster: a task for each, where sandbox workers are, one process with threads.

Ray places the tasks and tells of nodes that are gone. Nothing lies in its object store, and nothing of the run would be
lost with it. Ray's own retries are not used: a process that is gone may be its machine's doing or the shard's, and only
the driver, which looks at the store, can tell whether such attempts still get anywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import importlib.metadata
import logging
import os
import platform
import shutil
import signal
import socket
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import agenttrace
from agenttrace.cluster.attempts import OF_MACHINE, AttemptResult, How
from agenttrace.cluster.gather import Gatherer, GatherOrder
from agenttrace.cluster.nodetrees import NoRoomError
from agenttrace.cluster.orders import RESOURCE, Order, seat_of
from agenttrace.errors import AgentTraceError, UsageError, with_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from agenttrace.cluster.seat import Seat

AUTH_MODE, TOKEN = "RAY_AUTH_MODE", "token"
_ABOUT_S = 60.0
_REACH_S = 10.0
_STOP_S = 30.0
_HOLD_S = 15.0
"""So long an attempt that fails takes at least: else a machine on which each fails at once would take all shards."""
_LOOK_S = 1.0
_HOW: dict[int, How] = {2: "refused", 3: "no_endpoint", 4: "no_sandbox", 5: "no_store"}
"""How an attempt ended, by the exit status of its error."""
_LONGEST = 500


def ray_module() -> Any:  # noqa: ANN401 - an extra, which may not be here
    """Return Ray, which takes how it authenticates from the environment when it is imported, and only then.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault(AUTH_MODE, TOKEN)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(f"this needs Ray, which is not installed ({error}): {with_extra('cluster')}") from error


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of what must be the same on every node; the kit's with a digest of its code.

    Records of a run are compressed to the same bytes wherever that is done, by the same zstd.
    """
    import zstandard  # noqa: PLC0415 - heavy

    package = Path(agenttrace.__file__).parent
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return {
        "agenttrace-kit": f"{agenttrace.__version__} ({code.hexdigest()[:8]})",
        "ray": importlib.metadata.version("ray"),  # to import it is to have it look for its token
        "Python": platform.python_version(),
        "zstandard": f"{zstandard.__version__} (zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))})",
    }


_NOTICED = {"RAY_grpc_client_keepalive_time_ms": "10000", "RAY_grpc_client_keepalive_timeout_ms": "15000"}
"""So long a driver waits for a word of a node that is away; Ray's own are five and two minutes."""


def connect(address: str) -> Any:  # noqa: ANN401 - Ray's module
    """Connect to a Ray cluster that runs, and return Ray.

    Raises:
        UsageError: there is none, it has no token authentication, or a node of it has other versions.
    """
    mode = os.environ.get(AUTH_MODE, TOKEN)
    if mode.lower() != TOKEN:
        raise UsageError(
            f"{AUTH_MODE} is {mode!r}: without a token whoever reaches the cluster can run any code there; start it "
            f"with {AUTH_MODE}={TOKEN} (`ray get-auth-token --generate` makes one), and set that here, too"
        )
    _reach(address)
    for name, value in _NOTICED.items():
        os.environ.setdefault(name, value)
    ray = ray_module()
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"--ray {address}: {_line(error)}; start one with `ray start`, or `cluster up`") from error
    finally:
        signal.signal(signal.SIGTERM, terminated)  # Ray's own ends the driver before anything is kept
    _check_nodes(ray)
    return ray


def _reach(address: str) -> None:
    """See that something listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():  # `auto`, or the address of a client
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--ray {address}: nothing listens there ({error}); start a head with `ray start`") from error


def _check_nodes(ray: Any) -> None:  # noqa: ANN401 - Ray's module
    """Refuse a cluster of which a node says that it has no token, or other versions."""
    asked = _on_every_node(ray, about)
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=_ABOUT_S)
    for one in ready:
        try:
            said = ray.get(one)
        except ray.exceptions.RayTaskError as error:
            raise UsageError(f"a node cannot load the kit ({_line(error)}): install it on every node") from error
        except ray.exceptions.RayError:  # it is gone; what joins later is asked with its first shard
            continue
        if why := _unlike(said, versions()):
            raise UsageError(why)


def about() -> dict[str, str]:
    """Return what a node says of itself: its name, whether it asks for a token, and its versions."""
    return {"node": _node(), AUTH_MODE: os.environ.get(AUTH_MODE, ""), **versions()}


def _node() -> str:
    return f"{platform.node()}/{ray_module().get_runtime_context().get_node_id()[:8]}"


def _unlike(said: dict[str, str], here: dict[str, str]) -> str:
    """Return why a node may not take part; nothing where it may."""
    if said[AUTH_MODE].lower() != TOKEN:
        return f"node {said['node']} was started without {AUTH_MODE}={TOKEN}: whoever reaches it can run any code there"
    other = [
        f"{name} {said.get(name)}, the driver {version}" for name, version in here.items() if said.get(name) != version
    ]
    return f"node {said['node']} has {'; '.join(other)}: install the same on every node" if other else ""


class RayMachines:
    """The nodes of a Ray cluster as what makes shards, or files of them; see `agenttrace.cluster.driver.Machines`.

    Args:
        ray: Ray, connected.
        order: what nodes need to know.
    """

    def __init__(self, ray: Any, order: Order | GatherOrder) -> None:  # noqa: ANN401 - Ray's module
        self._ray = ray
        self._order = msgspec.json.encode(order)
        self._versions, self._name = versions(), uuid.uuid4().hex
        self._takes, self._in_flight = order.takes, order.in_flight
        name, count = order.takes
        taken = {"num_cpus": count} if name == "CPU" else {"num_cpus": 0, "resources": {name: count}}
        self._task = ray.remote(**taken, max_retries=0, scheduling_strategy="SPREAD")(make_there)
        self._begun: dict[Any, tuple[int, float]] = {}
        self._held: dict[Any, tuple[float, AttemptResult]] = {}
        self._room: list[int] = []
        self._looked = float("-inf")

    def room(self) -> list[int]:
        """Return how many shards each node suffices for, those that do for any."""
        if time.monotonic() - self._looked >= _LOOK_S:
            name, each = self._takes
            self._room = [room for count in nodes_have(self._ray, name) if (room := int(count // each))]
            self._looked = time.monotonic()
        return self._room

    def begin(self, shard: int) -> Any:  # noqa: ANN401 - Ray's reference
        """Have a shard made, with its share of what each endpoint may have at a time."""
        share = None if self._in_flight is None else max(1, self._in_flight // max(1, sum(self._room)))
        attempt = self._task.remote(self._order, shard, share, self._versions, self._name)
        self._begun[attempt] = shard, time.monotonic()
        return attempt

    def ended(self, attempts: Collection[Any], *, within_s: float) -> Iterator[tuple[Any, AttemptResult]]:
        """Yield the attempts that have ended; one whose process was gone at once counts as running for a while."""
        now = time.monotonic()
        for attempt in [one for one, (until, _) in self._held.items() if until <= now]:
            yield attempt, self._held.pop(attempt)[1]
        others = [one for one in attempts if one in self._begun]
        if not others:
            time.sleep(within_s)
            return
        if self._ray.wait(others, num_returns=1, timeout=within_s)[0]:
            for attempt in self._ray.wait(others, num_returns=len(others), timeout=0)[0]:
                shard, begun = self._begun.pop(attempt)
                result, until = self._result(attempt, shard), begun + _HOLD_S
                if result.how == "lost" and until > time.monotonic():
                    self._held[attempt] = until, result
                else:
                    yield attempt, result

    def _result(self, attempt: Any, shard: int) -> AttemptResult:  # noqa: ANN401 - Ray's reference
        errors = self._ray.exceptions
        try:
            return msgspec.json.decode(self._ray.get(attempt), type=AttemptResult)
        except errors.RayTaskError as error:  # what it raises itself comes back as a value: it could not be begun
            return AttemptResult(shard=shard, how="failed", why=_line(error))
        except errors.RayError as error:
            why = f"its process is gone ({type(error).__name__}: {_line(error).partition('. ')[0]})"
            return AttemptResult(shard=shard, how="lost", why=why)

    def stop(self, attempts: Collection[Any]) -> None:
        """Terminate the seats of this driver, which keep what is finished, remove their folders, and leave Ray.

        Cancelling is not used: in Ray 2.60 a task that ends meanwhile can take the driver with it. Nor is leaving alone
        enough: Ray kills the processes of a driver that has left.
        """
        asked = _on_every_node(self._ray, terminate, self._name)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.wait(asked, num_returns=len(asked), timeout=_REACH_S + (_STOP_S if attempts else 0))
        self._ray.shutdown()


def _on_every_node(ray: Any, function: Callable[..., Any], *arguments: str) -> list[Any]:  # noqa: ANN401 - Ray's module
    """Have a function called on every living node, and return what stands for its results."""
    at_node = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    return [
        task.options(scheduling_strategy=at_node(node["NodeID"], soft=False)).remote(*arguments)
        for node in ray.nodes()
        if node["Alive"]
    ]


def nodes_have(ray: Any, resource: str = RESOURCE) -> list[float]:  # noqa: ANN401 - Ray's module
    """Return how much of something each living node has: how many sandbox workers, if nothing else is said."""
    return [node["Resources"].get(resource, 0.0) for node in ray.nodes() if node["Alive"]]


_SEATS: dict[tuple[bytes, Path], Seat | Gatherer] = {}
"""By its order and its folder, the seat of this process: Ray gives it one shard after the other."""


def make_there(order: bytes, shard: int, in_flight: int | None, here: dict[str, str], driver: str) -> bytes:
    """Make a shard, or a file, in this process and return a `AttemptResult`, as JSON; this is what Ray runs on a node.

    Args:
        order: an `Order` or a `GatherOrder`, as JSON.
        shard: its number.
        in_flight: requests that each endpoint may have of it at a time.
        here: the driver's versions.
        driver: its name, by which `terminate` finds this process.
    """
    started, said = time.monotonic(), about()
    try:
        if why := _unlike(said, here):
            return _said(AttemptResult(shard=shard, how="refused", why=why, node=said["node"]))
        with _at_work_for(driver) as scratch:
            if (seat := _SEATS.get((order, scratch))) is None:
                given = msgspec.json.decode(order, type=Order | GatherOrder)
                if isinstance(given, GatherOrder):
                    seat = Gatherer(given, scratch=scratch)
                else:
                    seat = seat_of(given, node=said["node"], scratch=scratch)
                _SEATS[order, scratch] = seat
            made = seat.make(shard, in_flight=in_flight)
            result = AttemptResult(shard=shard, how="attempted", attempted=made)
    except NoRoomError as error:
        result = AttemptResult(shard=shard, how="no_room", why=_line(error))
    except AgentTraceError as error:
        result = AttemptResult(shard=shard, how=_HOW.get(error.exit_code, "failed"), why=_line(error))
    except Exception as error:  # noqa: BLE001 - a fault of one attempt; the driver says it, and tries the shard again
        result = AttemptResult(shard=shard, how="failed", why=f"{type(error).__name__}: {_line(error)}")
    elapsed_s = time.monotonic() - started
    if result.how == "failed" or result.how in OF_MACHINE:
        time.sleep(max(0.0, _HOLD_S - elapsed_s))
    return _said(msgspec.structs.replace(result, node=said["node"], elapsed_s=elapsed_s))


def _said(result: AttemptResult) -> bytes:
    return msgspec.json.encode(result)


_SEATS_OF = "agenttrace-seat-"
_YOUNG_S = 60.0
"""So long a folder may have no lock yet: what works for another driver has just made it."""
_BUSY, _TOLD = "busy", "told"
_HELD: dict[Path, int] = {}
"""Folders of this process, by their driver's; a lock on each says that it lives, also to other containers."""


def _folder_of(driver: str) -> Path:
    """Return the folder in which each process that works for a driver has one; containers may share it."""
    return Path(tempfile.gettempdir(), f"{_SEATS_OF}{driver}")


def _processes() -> str:
    """Return what begins the names of folders whose processes can be told anything from here: ids mean others else."""
    try:
        return f"{Path('/proc/self/ns/pid').stat().st_ino}-"
    except FileNotFoundError:  # no Linux, no containers
        return "0-"


@contextlib.contextmanager
def _at_work_for(driver: str) -> Iterator[Path]:
    """Let `terminate` find this process meanwhile, and give it a folder that is removed with the driver's."""
    parent = _folder_of(driver)
    folder = next((one for one in _HELD if one.parent == parent and one.exists()), None)
    if folder is None:
        _remove_left_by_others(driver)
        parent.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_processes()}{os.getpid()}-", dir=parent))
        _HELD[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(_HELD[folder], fcntl.LOCK_EX)
    (folder / _BUSY).touch()
    try:
        yield folder
    finally:
        for name in (_BUSY, _TOLD):
            (folder / name).unlink(missing_ok=True)


def _remove_left_by_others(driver: str) -> None:
    """Remove what drivers that were killed have left here: folders of processes that are all gone."""
    own, begun = _folder_of(driver), time.time() - _YOUNG_S
    for folder in own.parent.glob(f"{_SEATS_OF}*"):
        with contextlib.suppress(FileNotFoundError):  # others remove it as well
            if folder != own and folder.stat().st_mtime < begun and not any(_lives(path) for path in folder.glob("*")):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(folder: Path) -> bool:
    """Whether the process lives that has a folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if folder.lstat().st_uid != os.geteuid():  # of another user of the machine, who may not let it be opened
            return True
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(found)
    return False


def terminate(driver: str) -> None:
    """Terminate what works for a driver on this node, and wait until it has kept what is finished.

    Each is told once, also where several nodes of Ray are on one machine: a second signal would end the keeping. What
    needs longer keeps its folder, which goes with those of later drivers.
    """
    folder, deadline = _folder_of(driver), time.monotonic() + _STOP_S
    while _tell_to_end(folder):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    for path in folder.glob(f"{_processes()}*"):
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):  # another container may have one, or a process that has just begun
        folder.rmdir()


def _tell_to_end(folder: Path) -> bool:
    """Tell processes that are busy and have not been told, also those that have begun since, and say if any is busy."""
    here = _processes()
    for path in folder.glob(f"{here}*/{_BUSY}"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            path.rename(path.with_name(_TOLD))
            if _lives(path.parent):
                os.kill(int(path.parent.name.removeprefix(here).partition("-")[0]), signal.SIGTERM)
    return any(_lives(path.parent) for name in (_BUSY, _TOLD) for path in folder.glob(f"{here}*/{name}"))


def _line(error: Exception) -> str:
    """Return an error in one line: all of ours, and the last line of others', which of Ray's is what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines if isinstance(error, AgentTraceError) else lines[-1:]
    return (" ".join(told) or type(error).__name__)[:_LONGEST]
