"""`random-weights`: a file of exactly the shape, format and size of a pinned Qwen3, with random weights.

What such a file costs (transfer, start, memory, tokens per second) is what the real one costs; what it writes is noise.
Tensors and metadata are those that llama.cpp's `convert_hf_to_gguf.py` writes for Qwen3; names come from `gguf`. The
vocabulary has Qwen's rows and special tokens, under Qwen's numbers. Its other tokens are the bundled model's, which fit
the kit's prompts, and made-up words, whose length makes the file as long as the pinned one, to the byte. The chat
template is the bundled model's.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import gguf
import msgspec
import numpy as np

from agenttrace.errors import UsageError, did_you_mean
from agenttrace.models import pins
from agenttrace.models.fetch import sha256_of
from agenttrace.show import say

if TYPE_CHECKING:
    from pathlib import Path

_CONTROL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
_TAGS = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)
_SYLLABLES = tuple(a + b for a, b in itertools.product("bcdfghjklmnpqrstvwxz", "aeiou"))
_LONGER_COSTS = 4
"""Bytes that a word costs which is a syllable longer: two in the list of tokens, two in the list of merges."""
_BLOCK, _BLOCK_BYTES = 32, 34
"""Weights in a block of Q8_0, and its bytes: a 16-bit scale and 32 signed bytes."""
_SPREAD = 0.02
"""Standard deviation of the weights, about that of a trained model: values stay in range through all layers."""
_BYTE_SPREAD = 73.9
"""Of bytes that are drawn evenly."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The dimensions of a Qwen3, as its `config.json` has them.

    Attributes:
        label: size by its name, such as `0.6B`.
        rows: of the vocabulary, `unused` ones at its end among them.
        context: tokens that it was trained for.
    """

    label: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_width: int = 128
    rows: int = 151_936
    unused: int = 267
    context: int = 40_960


SHAPES = {
    "Qwen/Qwen3-0.6B": Shape(label="0.6B", layers=28, width=1024, inner=3072, heads=16, kv_heads=8),
    "Qwen/Qwen3-1.7B": Shape(label="1.7B", layers=28, width=2048, inner=6144, heads=16, kv_heads=8),
}
"""By pinned name; embeddings are tied, so there is no output matrix."""


def run(*, model: str, output: Path, seed: int) -> int:
    """Write the file of a pinned model's shape, say what it is, and return 0.

    Raises:
        UsageError: the shape of the model is not known here.
    """
    if model not in SHAPES:
        raise UsageError(f"no shape of {model!r} is known{did_you_mean(model, SHAPES)}; known: {', '.join(SHAPES)}")
    write(output, SHAPES[model], size=pins.model_pin(model).bytes, seed=seed)
    say(f"{output}: {output.stat().st_size:,} bytes, SHA-256 {sha256_of(output)}, random weights (seed {seed})")
    return 0


def write(path: Path, shape: Shape, *, size: int | None = None, seed: int = 0) -> None:
    """Write a GGUF file of the shape; its bytes depend on the arguments alone.

    Args:
        path: is written over.
        shape: matrices become Q8_0, norms 32-bit floats.
        size: bytes that the file is to have; words take what is left.
        seed: of the weights.

    Raises:
        ValueError: the shape cannot have that size.
    """
    longer = 0
    if size is not None:
        writer = _begin(path, shape, longer=0)
        longer = (size - _at(writer) - sum(map(_bytes, tensors(shape).values()))) // _LONGER_COSTS
        writer.close()
    writer = _begin(path, shape, longer=longer)
    bits = np.random.PCG64(seed)
    for of in tensors(shape).values():
        writer.write_tensor_data(_random(bits, *of) if len(of) > 1 else np.ones(of, np.float32))
    writer.close()
    if size not in {None, path.stat().st_size}:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, wanted were {size}")


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the tensors in file order, and the size of each: rows and columns, or the length of a norm."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, shape.layers)
    heads, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    layer = {
        "input_layernorm": (shape.width,),
        "mlp.down_proj": (shape.width, shape.inner),
        "mlp.gate_proj": (shape.inner, shape.width),
        "mlp.up_proj": (shape.inner, shape.width),
        "post_attention_layernorm": (shape.width,),
        "self_attn.k_norm": (shape.head_width,),
        "self_attn.k_proj": (kv, shape.width),
        "self_attn.o_proj": (shape.width, heads),
        "self_attn.q_norm": (shape.head_width,),
        "self_attn.q_proj": (heads, shape.width),
        "self_attn.v_proj": (kv, shape.width),
    }
    every: dict[str, tuple[int, ...]] = {"model.embed_tokens": (shape.rows, shape.width)}
    every |= {f"model.layers.{number}.{name}": of for number in range(shape.layers) for name, of in layer.items()}
    every["model.norm"] = (shape.width,)
    return {f"{names.get_name(name)}.weight": of for name, of in every.items()}


def _bytes(rows: tuple[int, ...]) -> int:
    return rows[0] * rows[1] // _BLOCK * _BLOCK_BYTES if len(rows) > 1 else 4 * rows[0]


def _begin(path: Path, shape: Shape, *, longer: int) -> gguf.GGUFWriter:
    """Return a writer that has written everything before the first tensor."""
    writer = gguf.GGUFWriter(path, "qwen3")
    _describe(writer, shape)
    _add_vocabulary(writer, shape, longer)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for name, of in tensors(shape).items():
        if len(of) > 1:
            packed = (of[0], of[1] // _BLOCK * _BLOCK_BYTES)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), _bytes(of), gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor_info(name, of, np.dtype(np.float32), _bytes(of))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return writer


def _at(writer: gguf.GGUFWriter) -> int:
    return writer.fout[0].tell() if writer.fout else 0


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_type("model")
    writer.add_name(f"Qwen3 {shape.label} shape, random weights")
    writer.add_size_label(shape.label)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)


def _add_vocabulary(writer: gguf.GGUFWriter, shape: Shape, longer: int) -> None:
    """Add tokens, merges and chat template; `longer` of the made-up words have a syllable more."""
    bundled = gguf.GGUFReader(pins.BUNDLED / pins.model_pin(pins.DEFAULT_MODEL).artifact)
    tokens, types, merges, template = (
        bundled.fields[f"tokenizer.{key}"].contents()
        for key in ("ggml.tokens", "ggml.token_type", "ggml.merges", "chat_template")
    )
    special = [*_CONTROL, *_TAGS]
    normal = [token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.NORMAL]
    words = _words({*normal}, shape.rows - shape.unused - len(special) - len(normal), longer)
    first = len(normal) + len(words)
    unused = [f"[PAD{number}]" for number in range(first + len(special), shape.rows)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*normal, *words, *special, *unused])
    kinds = [gguf.TokenType.NORMAL] * first + [_kind(token) for token in special]
    writer.add_token_types([*kinds, *[gguf.TokenType.UNUSED] * len(unused)])
    writer.add_token_merges([*merges, *words.values()])
    for add, token in (
        (writer.add_eos_token_id, "<|im_end|>"),
        (writer.add_pad_token_id, "<|endoftext|>"),
        (writer.add_bos_token_id, "<|endoftext|>"),
    ):
        add(first + special.index(token))
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(template)


def _kind(token: str) -> gguf.TokenType:
    return gguf.TokenType.CONTROL if token in _CONTROL else gguf.TokenType.USER_DEFINED


def _words(taken: set[str], count: int, longer: int) -> dict[str, str]:
    """Return so many made-up words, each with the two tokens that it is merged from.

    They have 1, 2 and 4 syllables; the last `longer` of them have 5.
    """
    short = {word: f"{word[0]} {word[1]}" for word in _SYLLABLES}
    short |= {a + b: f"{a} {b}" for a, b in itertools.product(_SYLLABLES, repeat=2)}
    found = {word: merge for word, merge in itertools.islice(short.items(), count) if word not in taken}
    two = [word for word in short if word not in _SYLLABLES]
    four = ((a + b, f"{a} {b}") for a, b in itertools.product(two, repeat=2) if a + b not in taken)
    long = dict(itertools.islice(four, max(0, count - len(found) - longer)))
    five = ((a + b, f"{a} {b}") for a, b in itertools.product(long, _SYLLABLES))
    return found | long | dict(itertools.islice(five, max(0, longer)))


def _random(bits: np.random.PCG64, rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a matrix as blocks of Q8_0: one scale everywhere, bytes from -127 to 127."""
    blocks = np.empty((rows * columns // _BLOCK, _BLOCK_BYTES), np.uint8)
    blocks[:, :2] = np.frombuffer(np.array(_SPREAD / _BYTE_SPREAD, "<f2").tobytes(), np.uint8)
    drawn = bits.random_raw(len(blocks) * _BLOCK // 8).astype("<u8", copy=False)
    blocks[:, 2:] = drawn.view(np.uint8).reshape(len(blocks), _BLOCK) | 1  # odd: -128 is no value of the format
    return blocks.reshape(rows, -1)
