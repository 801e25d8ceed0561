"""Trains a demo model and writes it as one GGUF file."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "agenttrace/models/bundled"
PINNED = ROOT / "scripts/demo_model/pinned.toml"
ABOUT = """
Trains the small model that solves the demo tasks (`tools`) or the bundled tasks of rollouts (`swe`) and writes it as
one GGUF file. It learns on the processor, in about ten minutes on two cores. Needs the packages of
requirements/train.in. The same seed gives the same file on the same kind of processor; on another kind it may give
other bytes, which is why the file itself lies in the repository.
"""


def main() -> int:
    """Exit code: 0 written (and equal to the pinned file, with --check), 1 not equal."""
    arguments = _arguments()
    pinned = tomllib.loads(PINNED.read_text(encoding="utf-8"))[arguments.model]
    for key in ("seed", "steps"):
        pinned[key] = pinned[key] if (value := getattr(arguments, key)) is None else value
    if arguments.out or not arguments.check:
        digest = _train(arguments, pinned, arguments.out or BUNDLED / pinned["artifact"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            digest = _train(arguments, pinned, Path(folder) / pinned["artifact"])
    if not arguments.check:
        return 0
    equal = digest == pinned["sha256"]
    print("equal to the pinned file" if equal else f"NOT equal to the pinned file, which has sha256 {pinned['sha256']}")
    return 0 if equal else 1


def _train(arguments: argparse.Namespace, pinned: dict[str, Any], out: Path) -> str:
    """SHA-256 of the file that was written."""
    # Before torch is loaded: waiting threads soon sleep, so that other load on the machine does not stall the training.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    import torch  # noqa: PLC0415 - --help must answer without it
    from demo_model import gguf_file, swe_samples, tool_samples, training  # noqa: PLC0415

    torch.set_num_threads(arguments.threads)
    settings = training.Settings(seed=pinned["seed"], steps=pinned["steps"])
    source = {"swe": swe_samples.SweSamples, "tools": tool_samples.ToolSamples}[arguments.model](settings.seed)
    network, data = training.train(settings, source, report=lambda line: print(line, flush=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    gguf_file.write(out, network, data.tokenizer, source.template_text, pinned["name"])
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {out.stat().st_size:,} bytes, sha256 {digest}")
    return digest


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=ABOUT)
    parser.add_argument("--model", choices=("tools", "swe"), default="tools", help="which one (default: tools)")
    parser.add_argument("--seed", type=int, help="start of all randomness (default: that of the pinned file)")
    parser.add_argument("--steps", type=int, help="number of training steps (default: that of the pinned file)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads to use (default: 2)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: the bundled file)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="train, compare with the pinned SHA-256, fail if it differs; keeps the result only with --out",
    )
    arguments = parser.parse_args()
    if arguments.out and arguments.out.is_dir():
        parser.error(f"--out {arguments.out} is a folder: give the name of a file")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
