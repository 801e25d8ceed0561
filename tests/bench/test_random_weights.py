"""Files of a model's shape: laid out as the real ones, as long as wanted, and the same every time."""

from __future__ import annotations

import itertools

import gguf
import numpy as np
import pytest

from agenttrace.models import pins
from agenttrace.models.gguf import read_facts
from bench.random_weights import SHAPES, Shape, tensors, write

pytestmark = pytest.mark.slow
SMALL = Shape(label="tiny", layers=2, width=64, inner=96, heads=4, kv_heads=2, head_width=32, rows=12_000, unused=3)
PARAMETERS = {"Qwen/Qwen3-0.6B": 596_049_920, "Qwen/Qwen3-1.7B": 1_720_574_976}
"""As llama-server reports them of the real files (`n_params`); the released records have that of 1.7B."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "small.gguf"
    write(path, SMALL)
    return path


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_have_as_many_parameters_as_the_real_models(name):
    assert sum(int(np.prod(size)) for size in tensors(SHAPES[name]).values()) == PARAMETERS[name]
    assert len(tensors(SHAPES[name])) == 2 + 28 * 11


def test_what_the_pinned_files_hold_beside_their_tensors_is_one_vocabulary_of_one_length():
    def tensor_bytes(shape):
        return sum(int(np.prod(size)) * 34 // 32 if len(size) == 2 else 4 * size[0] for size in tensors(shape).values())

    rest = {pins.model_pin(name).bytes - tensor_bytes(shape) for name, shape in SHAPES.items()}
    assert rest == {5_951_136}


def test_every_tensor_is_where_and_what_its_header_says(small):
    found = {one.name: one for one in gguf.GGUFReader(small).tensors}
    assert list(found) == list(tensors(SMALL))
    assert {"token_embd.weight", "output_norm.weight", "blk.1.attn_q_norm.weight", "blk.0.ffn_down.weight"} <= {*found}
    for name, size in tensors(SMALL).items():
        one = found[name]
        assert tuple(one.shape) == size[::-1], name
        assert one.tensor_type.name == ("Q8_0" if len(size) == 2 else "F32"), name
    weights = gguf.quants.dequantize(found["blk.0.ffn_up.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    assert 0.019 < weights.std() < 0.021
    assert abs(weights.mean()) < 0.002
    assert (found["output_norm.weight"].data == 1).all()


def test_the_kit_reads_from_its_header_what_it_reads_from_the_real_one(small):
    facts = read_facts(small)
    assert (facts.architecture, facts.size_label, facts.quantization) == ("qwen3", "tiny", "Q8_0")
    assert (facts.context_length, facts.template_tools) == (40_960, True)


def test_the_vocabulary_has_every_row_and_the_special_tokens_where_the_header_says(small):
    fields = gguf.GGUFReader(small).fields
    tokens, merges, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type"))
    assert len(tokens) == len(kinds) == len({*tokens}) == SMALL.rows
    assert tokens[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"
    assert tokens[fields["tokenizer.ggml.bos_token_id"].contents()] == "<|endoftext|>"
    normal = {token for token, kind in zip(tokens, kinds, strict=True) if kind == gguf.TokenType.NORMAL}
    assert len(normal) == 256 + len(merges), "256 bytes, and whatever is merged"
    for merge in merges:
        first, second = merge.split(" ")
        assert {first, second, first + second} <= normal
    assert sum(kind == gguf.TokenType.UNUSED for kind in kinds) == SMALL.unused


def test_a_file_is_as_long_as_wanted_and_words_alone_are_longer_for_it(small, tmp_path):
    size = small.stat().st_size + 32 * 100
    write(tmp_path / "longer.gguf", SMALL, size=size)
    assert (tmp_path / "longer.gguf").stat().st_size == size
    every = [gguf.GGUFReader(path) for path in (small, tmp_path / "longer.gguf")]
    for one, other in zip(*(reader.tensors for reader in every), strict=True):
        assert np.array_equal(one.data, other.data)
    words = [reader.fields["tokenizer.ggml.tokens"].contents() for reader in every]
    assert sum(map(len, words[1])) > sum(map(len, words[0]))
    with pytest.raises(ValueError, match="wanted were"):
        write(tmp_path / "short.gguf", SMALL, size=small.stat().st_size - 64)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(small, tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"{seed}.gguf", SMALL, seed=seed)
    same, other = ((tmp_path / f"{seed}.gguf").read_bytes() for seed in (0, 1))
    assert same == small.read_bytes()
    assert len(other) == len(same)
    assert sum(a != b for a, b in itertools.islice(zip(reversed(same), reversed(other), strict=True), 50_000)) > 20_000
