"""The guided filter: borders move to the image's edges, at the image's own size; where there is none it smooths."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff
from emerdiff.frame import resize_plane, resized_planes
from emerdiff.guided import EPSILON, GuidedFilter, guided_planes, over_areas, shares
from ground.planes import largest_plane


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5
    return (np.hypot(y - side / 2, x - side / 2) < radius).astype(np.float32)


def coloured(inside: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: red where `inside` is 1, green elsewhere."""
    return np.where(inside[..., None] > 0, (200, 40, 40), (40, 160, 60)).astype(np.uint8)


@pytest.mark.parametrize("side", [96, 64, 200, 31])
def test_coarse_blocks_take_the_outline_of_what_is_seen(side):
    truth = disc(side, 0.3 * side)
    blocks = cv2.resize(cv2.resize(truth, (8, 8), interpolation=cv2.INTER_AREA).round(), (64, 64), interpolation=0)
    planes = [torch.from_numpy(1 - blocks), torch.from_numpy(blocks)]
    rough = largest_plane(resized_planes(planes, (side, side)))
    fine = largest_plane(guided_planes(planes, coloured(truth), (64, 64), 8))
    assert (rough != truth).mean() > 0.02
    assert (fine != truth).mean() < 0.25 * (rough != truth).mean()


def test_it_is_the_filter_of_the_paper():
    """Against He, Sun and Tang's equations written out for each window, far from the image's sides."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (16, 16, 3), np.uint8)
    plane, radius = rng.random((16, 16)).astype(np.float32), 2
    guide = rgb / 255
    coefficients = {}
    for y in range(2, 14):
        for x in range(2, 14):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            colours, values = guide[window].reshape(-1, 3), plane[window].ravel()
            covariance = np.cov(colours.T, bias=True) + EPSILON * np.eye(3)
            slope = np.linalg.solve(covariance, ((colours - colours.mean(0)) * values[:, None]).mean(0))
            coefficients[y, x] = (slope, values.mean() - slope @ colours.mean(0))
    filtered = GuidedFilter(rgb, (16, 16), radius)(torch.from_numpy(plane))
    for y in range(4, 12):
        for x in range(4, 12):
            around = [coefficients[y + i, x + j] for i in range(-2, 3) for j in range(-2, 3)]
            expected = np.mean([slope @ guide[y, x] + offset for slope, offset in around])
            assert filtered[y, x] == pytest.approx(expected, abs=1e-4)


def test_without_edges_it_smooths_alone():
    plane = torch.from_numpy(disc(32, 10))
    filtered = GuidedFilter(np.full((32, 32, 3), 77, np.uint8), (32, 32), 3)(plane)
    twice = cv2.blur(cv2.blur(plane.numpy(), (7, 7)), (7, 7))
    np.testing.assert_allclose(filtered, twice, atol=1e-5)


def test_shares_of_each_pixel_add_up_to_one_where_anything_differs():
    planes = [torch.rand(5, 7) * scale for scale in (1, 100, 1e-3)]
    planes[0][0, 0] = planes[1][0, 0] = planes[2][0, 0] = 0
    total = torch.stack(shares(planes)).sum(dim=0)
    assert total[0, 0] == 0
    torch.testing.assert_close(total.flatten()[1:], torch.ones(34))


@pytest.mark.parametrize("size_hw", [(64, 64), (1, 1), (1, 300), (33, 47), (500, 40)])
def test_segment_filters_the_shares_of_its_planes_and_keeps_the_planes_themselves(size_hw):
    plain, guided = (EmerDiff(tiny_backbone(), tiny_config(guided_radius=radius)) for radius in (0, 1.5))
    image = picture(*size_hw)
    before, after = (segmenter.segment(image, keep_difference=True) for segmenter in (plain, guided))
    for name in ("low_res", "features", "difference"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    assert after.label_map.shape == size_hw
    if size_hw == (64, 64):  # the model's own frame: its planes are known, up to rounding to float16
        planes = [torch.from_numpy(plane.astype(np.float32)) for plane in before.difference]
        expected = largest_plane(guided_planes(planes, image, (64, 64), round(1.5 * 64 / before.low_res.shape[0])))
        assert (after.label_map == expected).mean() > 0.99
        assert (after.label_map != before.label_map).mean() > 0.01


def test_guided_planes_are_shares_at_the_size_of_the_image():
    planes = [torch.rand(8, 12) for _ in range(3)]
    image = picture(20, 30)
    guide = GuidedFilter(image, (8, 12), 2)
    for found, share in zip(guided_planes(planes, image, (8, 12), 2), shares(planes), strict=True):
        assert found.shape == (20, 30)
        np.testing.assert_array_equal(found, guide(share))


def test_planes_of_another_size_are_brought_to_the_frame():
    planes, image = [torch.rand(4, 6) for _ in range(3)], picture(20, 30)
    whole = [resize_plane(share, (16, 24)) for share in shares(planes)]
    guide = GuidedFilter(image, (16, 24), 2)
    for found, share in zip(guided_planes(planes, image, (16, 24), 2), whole, strict=True):
        np.testing.assert_array_equal(found, guide(share))


@pytest.mark.parametrize("grey", [False, True])
def test_images_without_colour_and_without_contrast_lose_nothing_in_float32(grey):
    """Three equal channels: the covariance is singular but for EPSILON. Against float64, for the same windows."""
    rng = np.random.default_rng(1)
    rgb = np.repeat(rng.integers(0, 256, (24, 24, 1), np.uint8), 3, axis=2) if grey else np.zeros((24, 24, 3), np.uint8)
    plane = rng.random((24, 24)).astype(np.float32)

    def mean(values):
        return cv2.blur(values, (5, 5))

    guide = rgb / 255
    products = np.stack([mean(guide[..., i] * guide[..., j]) for i in range(3) for j in range(3)], -1)
    means, average = mean(guide), mean(plane.astype(np.float64))
    covariance = products.reshape(24, 24, 3, 3) - means[..., :, None] * means[..., None, :] + EPSILON * np.eye(3)
    right = mean(guide * plane[..., None]) - means * average[..., None]
    slopes = np.linalg.solve(covariance, right[..., None])[..., 0]
    expected = (mean(slopes) * guide).sum(-1) + mean(average - (slopes * means).sum(-1))
    filtered = GuidedFilter(rgb, (24, 24), 2)(torch.from_numpy(plane))
    np.testing.assert_allclose(filtered, expected, atol=1e-4)


def test_the_default_is_the_paper():
    assert tiny_config().choices.guided_radius == 0


def test_shares_are_over_the_areas_of_their_masks():
    low_res = np.array([[0, 1, 1, 1]], np.int32)
    planes = [torch.tensor([[1.0, 0, 1, 3]]), torch.tensor([[1.0, 1, 3, 1]])]
    small, large = over_areas(planes, low_res, 0.5)
    torch.testing.assert_close(small, torch.tensor([[0.5, 0, 0.25, 0.75]]) * 2)  # of a quarter of the image
    torch.testing.assert_close(large, torch.tensor([[0.5, 1, 0.75, 0.25]]) * (4 / 3) ** 0.5)
    assert all(given is kept for given, kept in zip(planes, over_areas(planes, low_res, 0), strict=True))


def test_with_areas_a_small_mask_keeps_what_a_wide_filter_takes_from_it():
    truth = disc(64, 6)
    low_res = cv2.resize(truth, (16, 16), interpolation=cv2.INTER_AREA).round().astype(np.int32)
    planes = [resize_plane(torch.from_numpy((low_res == index).astype(np.float32)), (64, 64)) for index in range(2)]
    noise = np.random.default_rng(0).integers(-30, 30, (64, 64, 3))
    image = (coloured(truth) * 0.5 + 60 + noise).astype(np.uint8)
    lost, kept = (
        largest_plane(guided_planes(over_areas(planes, low_res, power), image, (64, 64), 10)) for power in (0, 0.5)
    )
    assert (lost != truth).sum() > 0.5 * truth.sum()
    assert (kept != truth).sum() < 0.1 * truth.sum()


def test_segment_weighs_areas_and_keeps_the_planes_themselves():
    plain, weighed = (
        EmerDiff(tiny_backbone(), tiny_config(image_size=128, speed="instant", area_power=power)).segment(
            picture(64, 64), keep_difference=True
        )
        for power in (0.0, 0.9)
    )
    assert np.array_equal(plain.difference, weighed.difference) and np.array_equal(plain.low_res, weighed.low_res)
    assert (plain.label_map != weighed.label_map).any()


def test_difference_maps_are_not_weighed():
    plain, weighed = (
        EmerDiff(tiny_backbone(), tiny_config(image_size=128, speed="fast", area_power=power)).segment(picture(64, 64))
        for power in (0.0, 0.9)
    )
    assert np.array_equal(plain.label_map, weighed.label_map)
