"""The network: Qwen3's architecture at a very small size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; every row length is a multiple of 32, as the q8_0 format needs."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 32
    inner: int = 384
    context: int = 32768
    rope_base: float = 10000.0
    epsilon: float = 1e-6


class Norm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """The normalised input, in the input's type."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (y * self.weight).type_as(x)


def rotation(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (batch, 1, length, head width), of the rotary embedding at these positions."""
    half = shape.head_width // 2
    frequencies = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Heads turned by their positions; the halves of a head form the pairs."""
    first, second = x.chunk(2, dim=-1)
    return (x * turn[0] + torch.cat([-second, first], dim=-1) * turn[1]).type_as(x)


class Block(nn.Module):
    """One layer: grouped-query attention with normalised queries and keys, then SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attn_norm = Norm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.attn_k = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.attn_v = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.attn_output = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)
        self.attn_q_norm = Norm(shape.head_width, shape.epsilon)
        self.attn_k_norm = Norm(shape.head_width, shape.epsilon)
        self.ffn_norm = Norm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.inner, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.inner, bias=False)
        self.ffn_down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """The layer's output, (batch, length, width) like its input."""
        batch, length, _ = x.shape
        y = self.attn_norm(x)
        split = (batch, length, -1, self.shape.head_width)
        q = rotate(self.attn_q_norm(self.attn_q(y).view(split)).transpose(1, 2), turn)
        k = rotate(self.attn_k_norm(self.attn_k(y).view(split)).transpose(1, 2), turn)
        v = self.attn_v(y).view(split).transpose(1, 2)
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(heads.transpose(1, 2).reshape(batch, length, -1))
        y = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Network(nn.Module):
    """Decoder whose output layer is its embedding."""

    def __init__(self, shape: Shape, vocabulary: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.epsilon)
        nn.init.normal_(self.token_embd.weight, std=0.04)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = math.sqrt(2 * shape.layers) if name.endswith(("attn_output", "ffn_down")) else 1.0
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features) / scale)

    def forward(self, ids: Tensor, positions: Tensor, where: Tensor) -> Tensor:
        """Scores over the vocabulary at the flat positions `where` of the batch, (len(where), vocabulary)."""
        x = self.token_embd(ids)
        turn = rotation(positions, self.shape)
        for block in self.blk:
            x = block(x, turn)
        x = x.reshape(-1, self.shape.width).index_select(0, where)
        return functional.linear(self.output_norm(x), self.token_embd.weight)
