"""agenttrace: a containerized reproducibility kit for agent traces.

`read`, `tables`, `convert` and `collect` are the Python interface (docs/api.md); nothing is loaded before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agenttrace.api import collect, convert, read, tables
    from agenttrace.campaign.result import Collected
    from agenttrace.errors import AgentTraceError
    from agenttrace.records import Trace

__all__ = ["AgentTraceError", "Collected", "Trace", "__version__", "collect", "convert", "read", "tables"]

_ELSEWHERE = {"AgentTraceError": "agenttrace.errors", "Trace": "agenttrace.records"}

if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'agenttrace' has no attribute {name!r}; it has {', '.join(__all__)}")
        return getattr(import_module(_ELSEWHERE.get(name, "agenttrace.api")), name)

    def __dir__() -> list[str]:
        return [*__all__]
