"""Writes the table of prices of the package from the list that litellm ships."""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "agenttrace" / "formats" / "prices.toml"
LIST = "litellm/model_prices_and_context_window_backup.json"
VENDORS = {
    "anthropic": "claude-", "openai": r"(gpt|o[134]|codex|chatgpt)", "gemini": "gemini-", "deepseek": "deepseek-",
    "mistral": "(mi|code|dev|magi|mini)stral", "xai": "grok-", "moonshot": "kimi-", "zai": "glm-",
    "dashscope": "(qwen|qwq)",
}  # fmt: skip
"""Who sells a model of their own → how its name begins; what they resell is priced where it is made."""
NOT_PRICED = re.compile(
    "audio|realtime|search|image|vision|transcribe|tts|embed|live|omni|ocr|computer-use|beta|multi-agent|latest|gemma"
    "|robotics|vibe|exp"
)
"""Models of other things than text, and names that mean another model every few months."""
TIER = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
DATE = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$")
ABOUT = """\
# Prices of models, US dollars per million tokens: those of the newest list of litellm (MIT licence) that has the model.
# `dated` is the day of that list, `source` the page that it names, `long` what a request of more input tokens costs.
# Prices change, and those of cache writes, batches and priority are not in it: what is computed from them is an
# estimate. Written by: scripts/update-prices.py 2026-11-20=litellm-1.110.2-*.whl 2025-08-16=litellm-1.75.8-*.whl
"""


def per_million(row: dict[str, object], key: str) -> float | None:
    """Return a price."""
    value = row.get(key)
    return round(float(value) * 1e6, 6) if isinstance(value, (int, float)) else None


def rates(row: dict[str, object], suffix: str = "") -> str:
    """Return what input, cached input and output cost, as TOML."""
    names = {
        "input": "input_cost_per_token",
        "cached_input": "cache_read_input_token_cost",
        "output": "output_cost_per_token",
    }
    found = {name: per_million(row, key + suffix) for name, key in names.items()}
    return ", ".join(f"{name} = {value!r}" for name, value in found.items() if value is not None)


def line(vendor: str, model: str, row: dict[str, object], dated: str, origin: str) -> str:
    """Return a price as a line of TOML."""
    tiers = sorted(int(found[1]) for key in row if (found := TIER.fullmatch(key)))
    long = f", long = {{ above_tokens = {tiers[0]}000, {rates(row, f'_above_{tiers[0]}k_tokens')} }}" if tiers else ""
    named = str(row.get("source"))
    where = f'dated = {dated}, source = "{named if named.startswith("https://") else origin}"'
    return f'    {{ provider = "{vendor}", model = "{model}", {rates(row)}{long}, {where} }},'


def lines(rows: dict[str, dict[str, object]], dated: str, origin: str) -> dict[str, str]:
    """Return the prices of text models of a list, by model."""
    found: dict[str, str] = {}
    for name, row in sorted(rows.items()):
        vendor, model = str(row.get("litellm_provider")), name.rpartition("/")[2]
        priced = row.get("input_cost_per_token") and row.get("output_cost_per_token")
        if (
            vendor not in VENDORS
            or not priced
            or row.get("mode") not in {"chat", "responses"}
            or name.startswith("ft:")
        ):
            continue
        if re.match(VENDORS[vendor], model) and not NOT_PRICED.search(model):
            found.setdefault(model, line(vendor, model, row, dated, origin))
    return found


def priced_as(text: str) -> str:
    """Return what a line says of the price alone."""
    return re.sub(r'model = "[^"]*"|dated = .*', "", text)


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="+", metavar="DAY=WHEEL", help="of litellm, the newest first")
    found: dict[str, str] = {}
    for given in parser.parse_args().lists:
        dated, _, wheel = given.partition("=")
        version = Path(wheel).name.split("-")[1]
        with zipfile.ZipFile(wheel) as file:
            rows = json.loads(file.read(LIST))
        found = lines(rows, dated, f"https://pypi.org/project/litellm/{version}/") | found
    # A dated name that costs what the name without its date does is found by that.
    needed = [
        text
        for model, text in sorted(found.items())
        if (name := DATE.sub("", model)) == model or name not in found or priced_as(found[name]) != priced_as(text)
    ]
    TARGET.write_text("\n".join([ABOUT + "price = [", *needed, "]", ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
