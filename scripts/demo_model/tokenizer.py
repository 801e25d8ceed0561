"""Byte-level BPE with the splitting rules of Qwen2, learned from the training conversations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tokenizers

if TYPE_CHECKING:
    from demo_model.conversations import Piece

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
VOCABULARY_SIZE = 1024
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = re.compile("(" + "|".join(re.escape(token) for token in CONTROL + TAGS) + ")")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a sample, and for each whether the model learns to write it."""

    ids: list[int]
    learned: list[bool]


class Tokenizer:
    """Text to token ids: the learned tokens first, then the control tokens and the tags."""

    def __init__(self, bpe: tokenizers.Tokenizer, merges: list[str]) -> None:
        self._bpe = bpe
        self.merges = merges
        learned = sorted(bpe.get_vocab().items(), key=lambda item: item[1])
        self.tokens = [token for token, _ in learned] + list(CONTROL + TAGS)
        self._special = {token: len(learned) + number for number, token in enumerate(CONTROL + TAGS)}

    def id_of(self, special: str) -> int:
        """Id of a control token or tag."""
        return self._special[special]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; control tokens and tags are recognised in it."""
        ids: list[int] = []
        for part in _SPECIAL.split(text):
            if part in self._special:
                ids.append(self._special[part])
            elif part:
                ids += self._bpe.encode(part, add_special_tokens=False).ids
        return ids

    def encode_sample(self, pieces: list[Piece]) -> Encoded:
        """Token ids of the whole sample; a piece never shares a token with the next one."""
        ids: list[int] = []
        learned: list[bool] = []
        for piece in pieces:
            new = self.encode(piece.text)
            ids += new
            learned += [piece.learned] * len(new)
        return Encoded(ids, learned)


def learn(texts: list[str]) -> Tokenizer:
    """Tokenizer learned from `texts`, which are cut at control tokens and tags first."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(_SPLIT), behavior="isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(CONTROL + TAGS),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    parts = [part for text in texts for part in _SPECIAL.split(text) if part and part not in CONTROL + TAGS]
    bpe.train_from_iterator(parts, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Tokenizer(bpe, merges)
