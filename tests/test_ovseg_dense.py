"""Laws of the dense variants: what they must equal, and that nothing of them stays behind in the tower."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from tiny_ovseg import tiny_backbone, tiny_clip
from torch import Tensor

from ovseg.choices import DenseVariant
from ovseg.dense import bounded_attention, captured_input, dense_tokens, interpolate_positions, resized_positions
from ovseg.variants import DENSE

TOWERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one block": {"layers": 1},
    "norm after pooling": {"final_ln_after_pool": True},
    "QuickGELU": {"quick_gelu": True},
    "layer scale": {"ls_init_value": 0.3},
    "fixed positions, no first norm": {"pos_embed_type": "sin_cos_2d", "no_ln_pre": True},
    "patches not square": {"patch_size": (8, 16)},
    "own attention": {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True},
}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=list(TOWERS.values()), ids=list(TOWERS))
def visual(request: pytest.FixtureRequest) -> Any:
    return tiny_clip(**request.param).visual


def test_clip_is_the_towers_own_output(visual: Any) -> None:
    pixels = noise(2, 3, 32, 32)
    own = visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )  # tokens of the last block after ln_post, and the pooled embedding
    tokens = dense_tokens(visual, pixels, "clip")
    torch.testing.assert_close(tokens[:, 1:], own["image_intermediates"][0] @ visual.proj)
    torch.testing.assert_close(tokens[:, 0], own["image_features"])


def test_average_pooling_is_the_mean_of_the_patches() -> None:
    visual = tiny_clip(pool_type="avg").visual
    pixels = noise(2, 3, 32, 32)
    torch.testing.assert_close(dense_tokens(visual, pixels, "clip")[:, 1:].mean(1), visual(pixels))


def test_maskclip_is_the_attention_in_which_each_token_sees_only_itself(visual: Any) -> None:
    pixels = noise(2, 3, 32, 32)
    x = visual._embeds(pixels)
    *before, block = visual.transformer.resblocks
    for earlier in before:
        x = earlier(x)
    x = block.ln_1(x)
    alone = torch.full((x.shape[1], x.shape[1]), -torch.inf).fill_diagonal_(0)
    if isinstance(block.attn, torch.nn.MultiheadAttention):
        x = block.attn(x, x, x, attn_mask=alone, need_weights=False)[0]
    else:
        x = block.ln_attn(block.attn(x, attn_mask=alone))
    expected = visual.ln_post(block.ls_1(x)) @ visual.proj
    torch.testing.assert_close(dense_tokens(visual, pixels, "maskclip"), expected)


def test_the_variants_differ() -> None:
    visual, pixels = tiny_clip().visual, noise(1, 3, 32, 32)
    found = [torch.nn.functional.normalize(dense_tokens(visual, pixels, name), dim=-1) for name in DENSE]
    assert all((first - second).abs().max() > 0.01 for first, second in combinations(found, 2))


def test_the_choices_are_the_keys_of_the_table() -> None:
    assert tuple(DENSE) == DenseVariant.values()


@pytest.mark.parametrize("grid_hw", [(4, 4), (1, 1), (3, 7), (9, 2)])
def test_without_attention_a_patch_is_seen_in_its_own_cell_alone(grid_hw: tuple[int, int]) -> None:
    rows, columns = grid_hw
    backbone = tiny_backbone(layers=1)  # a single block, and maskclip drops its attention
    pixels = noise(3, 8 * rows, 8 * columns).numpy()
    before = backbone.encode_patches(pixels[None], "maskclip")[0]
    row, column = rows // 2, columns - 1
    pixels[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
    changed = (backbone.encode_patches(pixels[None], "maskclip")[0] != before).any(axis=0)  # h x w
    assert changed.shape == grid_hw
    assert changed[row, column] and changed.sum() == 1


@pytest.mark.parametrize("variant", DENSE)
def test_patch_embeddings_are_unit_vectors_at_any_size(variant: str) -> None:
    backbone = tiny_backbone(layers=2)
    for rows, columns in ((4, 4), (1, 5), (11, 3)):
        (embeddings,) = backbone.encode_patches(noise(1, 3, 8 * rows, 8 * columns).numpy(), variant)
        assert embeddings.shape == (12, rows, columns) and str(embeddings.dtype) == "float32"
        torch.testing.assert_close(torch.from_numpy(embeddings).norm(dim=0), torch.ones(rows, columns))


def test_positions_keep_their_class_token_and_their_directions() -> None:
    rows = torch.arange(6.0)[:, None].expand(6, 5)
    columns = torch.arange(5.0)[None].expand(6, 5)
    grid = torch.stack([rows, columns, torch.full((6, 5), 7.0)], dim=-1).flatten(0, 1)  # 30 x 3
    positions = torch.cat([torch.tensor([[-1.0, -2.0, -3.0]]), grid])
    torch.testing.assert_close(interpolate_positions(positions, (6, 5), (6, 5)), positions)
    resized = interpolate_positions(positions, (6, 5), (12, 20))
    torch.testing.assert_close(resized[0], positions[0])
    planes = resized[1:].unflatten(0, (12, 20))
    torch.testing.assert_close(planes[..., 2], torch.full((12, 20), 7.0))
    torch.testing.assert_close(planes[..., 0], planes[:, :1, 0].expand(12, 20))
    torch.testing.assert_close(planes[..., 1], planes[:1, :, 1].expand(12, 20))
    assert (planes[:, 0, 0].diff() > 0).all() and (planes[0, :, 1].diff() > 0).all()


def test_positions_are_put_back_also_after_an_error() -> None:
    visual = tiny_clip().visual
    original = visual.positional_embedding
    values = original.clone()
    with pytest.raises(RuntimeError, match="stop"), resized_positions(visual, (5, 3)):
        assert visual.positional_embedding.shape == (16, 32)
        raise RuntimeError("stop")
    assert visual.positional_embedding is original
    torch.testing.assert_close(original, values, rtol=0, atol=0)


def test_at_the_native_grid_positions_are_not_touched() -> None:
    visual = tiny_clip().visual
    with resized_positions(visual, (4, 4)):
        assert visual.positional_embedding is visual.get_parameter("positional_embedding")


def test_hooks_are_removed_also_after_an_error() -> None:
    visual = tiny_clip().visual
    block = visual.transformer.resblocks[-1]
    with pytest.raises(RuntimeError, match="stop"), captured_input(block):
        raise RuntimeError("stop")
    with pytest.raises(RuntimeError):  # pixels of two channels: the tower itself fails
        dense_tokens(visual, noise(1, 2, 32, 40), "clip")
    assert not block._forward_pre_hooks and not block._forward_hooks
    assert visual.transformer.resblocks[-1] is block
    assert torch.backends.mha.get_fastpath_enabled()
    assert visual.positional_embedding.shape == (17, 32)


def test_the_last_that_leaves_puts_torchs_setting_back() -> None:
    first, second = bounded_attention(), bounded_attention()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.mha.get_fastpath_enabled()
    second.__exit__(None, None, None)
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_last_block_itself_runs_in_its_own_variant_alone() -> None:
    visual = tiny_clip().visual
    runs: list[str] = []
    visual.transformer.resblocks[-1].register_forward_hook(lambda *_: runs.append("block"))
    for variant in DENSE:
        dense_tokens(visual, noise(1, 3, 32, 40), variant)
    assert runs == ["block"]


def test_a_call_leaves_the_model_as_it_was() -> None:
    backbone = tiny_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    first = backbone.encode_patches(noise(1, 3, 40, 64).numpy(), "maskclip")
    backbone.encode_patches(noise(1, 3, 24, 24).numpy(), "clip")
    assert (backbone.encode_patches(noise(1, 3, 40, 64).numpy(), "maskclip") == first).all()
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
