"""Batches made of whole tensors: the same squares as plain slices, the same ids as the tokenizer's, from the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from training.crops import cut, random_squares, shrunk, to_model_range, token_ids
from training.latents import Latents, Parts

WEIGHTS = Path(__file__).parents[1] / "ovseg/weights/mini"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    """3 images of 6×6 px that tell, in every pixel, which image it is of and where in it."""
    number, y, x = torch.meshgrid(torch.arange(3), torch.arange(6), torch.arange(6), indexing="ij")
    return torch.stack([number, y, x], dim=-1).to(torch.uint8)


def test_squares_are_slices_mirrored_where_asked(images):
    chosen, corners = torch.tensor([2, 0]), torch.tensor([[1, 3], [0, 2]], dtype=torch.uint8)
    plain, mirrored = cut(images, chosen, corners, 3, torch.tensor([False, True]))
    assert torch.equal(plain, images[2, 1:4, 3:6])
    assert torch.equal(mirrored, images[0, 0:3, 2:5].flip(1))


def test_random_squares_are_everywhere_or_about_places_and_depend_on_the_seed_alone(images):
    squares = random_squares(images, 200, 3, seeded(1))
    assert torch.equal(squares, random_squares(images, 200, 3, seeded(1)))
    assert set(squares[:, 1, 1].flatten(0, 0).unique(dim=0).flatten().tolist()) == {0, 1, 2, 3, 4}
    corners = squares[..., 1:].flatten(1, 2).amin(dim=1)
    assert len(corners.unique(dim=0)) == 16  # all there are
    right_way = squares[:, 0, 2, 2] > squares[:, 0, 0, 2]
    assert 50 < right_way.sum() < 150
    places = torch.tensor([[[0, 0]], [[5, 5]], [[3, 2]]], dtype=torch.uint8)
    about = random_squares(images, 50, 3, seeded(2), places)[..., :].flatten(1, 2).amin(dim=1)
    assert set(map(tuple, about.tolist())) == {(0, 0, 0), (1, 3, 3), (2, 2, 1)}


def test_a_smaller_image_is_of_means():
    images = torch.rand(2, 3, 12, 12)
    assert shrunk(images, 12) is images
    torch.testing.assert_close(shrunk(images, 6), images.unflatten(2, (6, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5)))
    assert to_model_range(np.array([[[[0, 255, 51]]]], np.uint8)).flatten().tolist() == pytest.approx([-1, 1, -0.6])


def test_ids_are_those_of_the_tokenizer():
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS)
    texts = ["", "a red boat, grass", "Hot-air  balloon's (night)", "a blue striped house on sand " * 9, "dog;cat"]
    expected = tokenizer(texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    assert torch.equal(token_ids(tokenizer, texts, 16).long(), expected)
    assert token_ids(tokenizer, [], 16).shape == (0, 16)


def test_parts_of_latents_come_with_their_captions():
    values = torch.randn(3, 2, 32, 32).half()
    corners = torch.tensor([[[0, 16], [3, 5]], [[16, 0], [1, 1]], [[2, 9], [8, 8]]], dtype=torch.uint8)
    ids = torch.arange(6, dtype=torch.int32).reshape(3, 2, 1)
    drawn, said = Parts(values, ids, corners).draw(20, seeded(3))
    assert drawn.shape == (20, 2, 16, 16) and len(said.unique()) == 6
    for part, name in zip(drawn, said.flatten().tolist(), strict=True):
        y, x = corners.flatten(0, 1)[name].tolist()
        assert torch.equal(part, values[name // 2, :, y : y + 16, x : x + 16])
    whole, named = Latents(values, ids).draw(20, seeded(3))
    assert torch.equal(whole, values[named.flatten() // 2])
