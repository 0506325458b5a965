"""Every variant of the last block against its published formula, written down once more: head by head, no tricks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_ovseg import tiny_clip
from torch import Tensor

from ovseg import variants
from ovseg.dense import dense_tokens
from ovseg.variants import gaussian_rows

ATTENDING = ("sclip", "clearclip", "naclip")  # by a rule of their own, which a scope can bound
GRIDS = [(4, 4), (3, 7), (1, 1)]
TOWERS: dict[str, dict[str, Any]] = {
    "GELU": {},
    "QuickGELU": {"quick_gelu": True},
    "average pooling": {"pool_type": "avg"},
    "layer scale": {"ls_init_value": 0.3, "layers": 1},
}


@pytest.fixture(params=list(TOWERS.values()), ids=list(TOWERS))
def visual(request: pytest.FixtureRequest) -> Any:
    return tiny_clip(**request.param).visual


def pixels_of(grid_hw: tuple[int, int]) -> Tensor:
    rows, columns = grid_hw
    return torch.randn((2, 3, 8 * rows, 8 * columns), generator=torch.Generator().manual_seed(1))


def before_last_block(visual: Any, pixels: Tensor) -> Tensor:
    """Tokens (B, N, D) that come into the last block."""
    seen = []
    block = visual.transformer.resblocks[-1]
    handle = block.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    dense_tokens(visual, pixels, "clip")
    handle.remove()
    return seen[0]


def formula(visual: Any, pixels: Tensor, weights_of: Any) -> Tensor:
    """Proj(A v) of every token, A = weights_of(q, k) of one head of one image, with q and k (N, d)."""
    block = visual.transformer.resblocks[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    heads, width = block.attn.num_heads, weight.shape[1]
    size = width // heads
    images = []
    for tokens in block.ln_1(before_last_block(visual, pixels)):
        mixed = []
        for head in range(heads):
            q, k, v = (
                tokens @ weight[part * width + head * size :][:size].T + bias[part * width + head * size :][:size]
                for part in range(3)
            )
            mixed.append(weights_of(q, k) @ v)
        images.append(block.attn.out_proj(torch.cat(mixed, dim=1)))
    return block.ls_1(torch.stack(images))


def similar(a: Tensor) -> Tensor:
    return a @ a.T / math.sqrt(a.shape[1])


def projected(visual: Any, tokens: Tensor) -> Tensor:
    return visual.ln_post(tokens) @ visual.proj


@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_sclip(visual: Any, grid_hw: tuple[int, int]) -> None:
    pixels = pixels_of(grid_hw)
    block = visual.transformer.resblocks[-1]
    x = before_last_block(visual, pixels)
    x = x + formula(visual, pixels, lambda q, k: similar(q).softmax(1) + similar(k).softmax(1))
    x = x + block.ls_2(block.mlp(block.ln_2(x)))
    torch.testing.assert_close(dense_tokens(visual, pixels, "sclip"), projected(visual, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_clearclip(visual: Any, grid_hw: tuple[int, int]) -> None:
    pixels = pixels_of(grid_hw)
    expected = projected(visual, formula(visual, pixels, lambda q, k: similar(q).softmax(1)))
    torch.testing.assert_close(dense_tokens(visual, pixels, "clearclip"), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_naclip(visual: Any, grid_hw: tuple[int, int]) -> None:
    pixels = pixels_of(grid_hw)
    places = [(row, column) for row in range(grid_hw[0]) for column in range(grid_hw[1])]
    omega = torch.zeros(1 + len(places), 1 + len(places))
    for i, (row, column) in enumerate(places, 1):
        for j, (other_row, other_column) in enumerate(places, 1):
            omega[i, j] = math.exp(-((row - other_row) ** 2 + (column - other_column) ** 2) / (2 * 5**2))
    expected = projected(visual, formula(visual, pixels, lambda q, k: (similar(k) + omega).softmax(1)))
    torch.testing.assert_close(dense_tokens(visual, pixels, "naclip"), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_maskclip(visual: Any, grid_hw: tuple[int, int]) -> None:
    pixels = pixels_of(grid_hw)
    expected = projected(visual, formula(visual, pixels, lambda q, k: torch.eye(len(q))))
    torch.testing.assert_close(dense_tokens(visual, pixels, "maskclip"), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_clip_is_open_clips_own_forward(quick_gelu: bool) -> None:
    model = tiny_clip(quick_gelu=quick_gelu)
    pixels = pixels_of((4, 4))
    torch.testing.assert_close(
        dense_tokens(model.visual, pixels, "clip")[:, 0], model.encode_image(pixels), atol=1e-5, rtol=0
    )


def test_the_neighbourhood_is_widest_at_the_patch_itself_and_knows_no_class_token() -> None:
    omega = gaussian_rows(slice(0, 13), (3, 4))
    assert omega.shape == (13, 13)
    assert not omega[0].any() and not omega[:, 0].any()
    torch.testing.assert_close(omega, omega.T)
    torch.testing.assert_close(omega[1:, 1:].diagonal(), torch.ones(12))
    assert omega[1, 2] == pytest.approx(math.exp(-1 / 50)) and omega[4, 5] == pytest.approx(math.exp(-10 / 50))
    torch.testing.assert_close(gaussian_rows(slice(5, 9), (3, 4)), omega[5:9])


@pytest.mark.parametrize("variant", ["sclip", "clearclip", "naclip"])
@pytest.mark.parametrize("tower", [{}, {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True}], ids=str)
def test_queries_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch, tower: dict[str, Any], variant: str) -> None:
    visual, pixels = tiny_clip(**tower).visual, pixels_of((3, 7))
    whole = dense_tokens(visual, pixels, variant)
    monkeypatch.setattr(variants, "CELLS", 2 * 2 * 22 * 5)  # five of 22 queries
    torch.testing.assert_close(dense_tokens(visual, pixels, variant), whole, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(variants, "CELLS", 1)
    torch.testing.assert_close(dense_tokens(visual, pixels, variant), whole, atol=1e-5, rtol=1e-4)


# Within regions


@pytest.mark.parametrize("variant", ATTENDING)
@pytest.mark.parametrize("cells", [2**24, 40])
def test_within_regions_each_patch_sees_its_own_alone(
    variant: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "CELLS", cells)
    visual, pixels = tiny_clip().visual, pixels_of((3, 4))
    block, tokens = visual.transformer.resblocks[-1], before_last_block(tiny_clip().visual, pixels)
    regions = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 2, 5]]).repeat(2, 1)

    def among(rows: slice) -> Tensor:
        return variants.region_rows(rows, regions)

    before = variants.DENSE[variant](block, tokens, (3, 4), among)
    others = regions[0] != 1
    changed = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    changed[:, 1:][:, ~others] = tokens[:, 1:][:, ~others]
    changed[:, 0] = tokens[:, 0]
    after = variants.DENSE[variant](block, changed, (3, 4), among)
    torch.testing.assert_close(after[:, 1:][:, ~others], before[:, 1:][:, ~others], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[:, 0], before[:, 0])  # the class token looks at all


@pytest.mark.parametrize("variant", ATTENDING)
def test_a_region_is_a_set_of_keys(variant: str) -> None:
    """Those of one region alone give the same: of NACLIP without its neighbourhood, which knows places."""
    visual, pixels = tiny_clip().visual, pixels_of((2, 3))
    block, tokens = visual.transformer.resblocks[-1], before_last_block(visual, pixels)
    regions = torch.tensor([[0, 1, 0, 1, 1, 0]]).repeat(2, 1)
    found = variants.DENSE[variant](block, tokens, (2, 3), lambda rows: variants.region_rows(rows, regions))
    ours = torch.tensor([2, 4, 5])  # tokens of region 1
    inside = tokens[:, ours]
    query, key, value = variants.in_projection(block, inside)
    if variant == "naclip":
        bias = gaussian_rows(slice(1, 7), (2, 3))[ours - 1][:, ours]
        expected = variants.out_projection(block, variants.attention(block, key, key, value, lambda rows: bias[rows]))
    elif variant == "clearclip":
        expected = variants.out_projection(block, variants.attention(block, query, query, value))
    else:
        mixed = variants.attention(block, query, query, value) + variants.attention(block, key, key, value)
        expected = inside + variants.out_projection(block, mixed)
        expected = expected + block.ls_2(block.mlp(block.ln_2(expected)))
    torch.testing.assert_close(found[:, ours], expected, atol=1e-5, rtol=1e-4)
