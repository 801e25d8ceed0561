"""The training loop: first copying alone, then the dialogues with copying in between."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from demo_model import conversations, tokenizer
from demo_model import turns as gold
from demo_model.network import Network, Shape

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the result, apart from the data."""

    seed: int = 0
    steps: int = 750
    copy_steps: int = 250
    """Steps at the start that only copy."""
    copy_every: int = 4
    """After those, every so many steps one is still a copy batch."""
    batch: int = 16
    copy_batch: int = 32
    padded_every: int = 20
    """Every so many steps the batch has long system prompts, and a third of the samples."""
    learning_rate: float = 3e-3
    last_rate: float = 0.03
    warm_up: int = 60
    decay: float = 0.05
    clip: float = 1.0
    skip_share: float = 0.3
    """Share of samples with gaps in their positions, so that a longer prompt than the trained one does no harm."""
    longest_skip: int = 3000


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded samples: ids and positions (batch, length), and where in the flat batch which token is to be predicted."""

    ids: Tensor
    positions: Tensor
    where: Tensor
    expected: Tensor
    weights: Tensor


class Data:
    """Endless random batches from the dialogues."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rng = random.Random(settings.seed)  # noqa: S311 - training data, not secrets
        self.renderer = conversations.Renderer()
        self.dialogues = gold.load_dialogues()
        self.outputs = gold.load_outputs()
        self.known = sorted({output.as_value() for outputs in self.outputs.values() for output in outputs} - {""})
        self.tokenizer = tokenizer.learn([piece.text for pieces in self._tokenizer_samples() for piece in pieces])
        self._queue: list[gold.Dialogue] = []

    def copy_batch(self) -> Batch:
        """Samples that teach copying."""
        return self._batch(
            [conversations.copy_sample(self.known, self.rng) for _ in range(self.settings.copy_batch)], skips=False
        )

    def dialogue_batch(self, *, padded: bool = False) -> Batch:
        """Samples of dialogues, every reply as often as every other."""
        count = self.settings.batch // 3 if padded else self.settings.batch
        return self._batch([self._sample(self._next_dialogue(), padded=padded) for _ in range(count)], skips=True)

    def _sample(self, dialogue: gold.Dialogue, *, padded: bool = False) -> list[conversations.Piece]:
        return conversations.sample(self.renderer, dialogue, self.outputs[dialogue.id], self.rng, padded=padded)

    def _next_dialogue(self) -> gold.Dialogue:
        if not self._queue:
            # A reply is a sample, so a dialogue with more turns comes up more often.
            self._queue = [dialogue for dialogue in self.dialogues for _ in dialogue.turns]
            self.rng.shuffle(self._queue)
        return self._queue.pop()

    def _tokenizer_samples(self) -> list[list[conversations.Piece]]:
        samples = [self._sample(dialogue) for dialogue in self.dialogues for _ in range(12)]
        return samples + [conversations.copy_sample(self.known, self.rng) for _ in range(400)]

    def _batch(self, samples: list[list[conversations.Piece]], *, skips: bool) -> Batch:
        encoded = [self.tokenizer.encode_sample(pieces) for pieces in samples]
        length = _up_to(32, max(len(item.ids) for item in encoded) - 1)
        padding = self.tokenizer.id_of("<|endoftext|>")
        ids = torch.full((len(encoded), length), padding)
        positions = torch.zeros((len(encoded), length), dtype=torch.long)
        where: list[int] = []
        expected: list[int] = []
        for row, item in enumerate(encoded):
            ids[row, : len(item.ids) - 1] = torch.tensor(item.ids[:-1])
            positions[row] = self._positions(len(item.ids), length, skips=skips)
            for column in range(1, len(item.ids)):
                if item.learned[column]:
                    where.append(row * length + column - 1)
                    expected.append(item.ids[column])
        count = len(where)
        total = _up_to(256, count)
        return Batch(
            ids=ids,
            positions=positions,
            where=torch.tensor(where + [0] * (total - count)),
            expected=torch.tensor(expected + [0] * (total - count)),
            weights=torch.tensor([1.0 / count] * count + [0.0] * (total - count)),
        )

    def _positions(self, used: int, length: int, *, skips: bool) -> Tensor:
        positions = torch.arange(length)
        if skips and self.rng.random() < self.settings.skip_share:
            for cut in (self.rng.randrange(used), self.rng.randrange(used)):
                positions[cut:] += round(math.exp(self.rng.uniform(0, math.log(self.settings.longest_skip))))
        return positions


def train(settings: Settings, report: Callable[[str], None]) -> tuple[Network, Data]:
    """Trained network and the data it learned from; `report` gets a line of progress now and then.

    The same settings give the same weights on the same kind of machine, with any number of threads.
    """
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(mode=True)
    data = Data(settings)
    network = Network(Shape(), len(data.tokenizer.tokens))
    report(f"{sum(weight.numel() for weight in network.parameters()):,} parameters, {settings.steps} steps")
    optimizers = _optimizers(network, settings)
    started = time.monotonic()
    for step in range(settings.steps):
        copying = step < settings.copy_steps or step % settings.copy_every == 0
        padded = step % settings.padded_every == 1
        batch = data.copy_batch() if copying else data.dialogue_batch(padded=padded)
        loss = _step(network, optimizers, batch, _rate(step, settings), settings.clip)
        if (step + 1) % 50 == 0 or step + 1 == settings.steps:
            taken = time.monotonic() - started
            left = taken / (step + 1) * (settings.steps - step - 1)
            report(f"step {step + 1:5}/{settings.steps}  loss {loss:.4f}  {taken:4.0f} s  about {left:.0f} s left")
    return network, data


def _optimizers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    matrices = [weight for weight in network.blk.parameters() if weight.ndim > 1]
    others = [network.token_embd.weight, *(weight for weight in network.parameters() if weight.ndim == 1)]
    return [
        torch.optim.Muon(
            matrices,
            lr=settings.learning_rate,
            momentum=0.95,
            weight_decay=settings.decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.decay),
    ]


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    wave = 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (settings.last_rate + (1 - settings.last_rate) * wave)


def _step(network: Network, optimizers: list[torch.optim.Optimizer], batch: Batch, rate: float, clip: float) -> float:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(batch.ids, batch.positions, batch.where)
    loss = (functional.cross_entropy(scores.float(), batch.expected, reduction="none") * batch.weights).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
    return float(loss.detach())


def _up_to(multiple: int, number: int) -> int:
    return -(-number // multiple) * multiple
