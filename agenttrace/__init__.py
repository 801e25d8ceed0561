"""agenttrace: a containerized reproducibility kit for agent traces."""

__version__ = "0.1.0"
