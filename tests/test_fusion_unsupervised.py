"""Masks that learn their classes from the truth: against a slow computation with maps, and what must hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from tiny_fusion import masks_of

from fusion.evaluation.metrics import class_counts
from fusion.evaluation.unsupervised import count_masks, modified, traditional

CLASSES = 4  # none of the labels, and three labels


def images(count=6, noise=0.2, seed=0):
    """Masks with features and the truth (H, W) of each image; the features of a class point in one direction."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(CLASSES, 5))
    made = []
    for _ in range(count):
        masks = masks_of(np.repeat(rng.permutation(12).reshape(3, 4), 5, axis=1))
        classes = rng.integers(1, CLASSES, 12)
        truth = classes[masks.label_map].astype(np.int32)
        truth[0, :2] = rng.integers(1, CLASSES)  # masks are not pure
        truth[2, 5:8] = -1
        features = directions[classes] * rng.uniform(1, 9, (12, 1)) + noise * rng.normal(size=(12, 5))
        made.append((replace(masks, features=features.astype(np.float32)), truth))
    return made


def counted(made):
    return [count_masks(masks, truth, CLASSES) for masks, truth in made]


def slow_modified(made):
    """Every pixel with the feature of its mask, of length 1: class means, then the nearest for each mask."""
    pixels, classes = [], []
    for masks, truth in made:
        unit = masks.features / np.linalg.norm(masks.features, axis=1, keepdims=True)
        for y, x in np.argwhere(truth >= 0):
            pixels.append(unit[masks.label_map[y, x]])
            classes.append(truth[y, x])
    pixels, classes = np.array(pixels), np.array(classes)
    means = {c: pixels[classes == c].mean(axis=0) for c in np.unique(classes)}
    maps = []
    for masks, _ in made:
        cosines = {c: masks.features @ mean / np.linalg.norm(mean) for c, mean in means.items()}
        best = np.array(list(cosines))[np.argmax(np.stack(list(cosines.values())), axis=0)]
        maps.append(best[masks.label_map].astype(np.int32))
    return maps


def test_modified_is_the_nearest_of_the_means_of_all_pixels():
    made = images(noise=2.0)
    for counts, found, (_, truth) in zip(modified(counted(made)), slow_modified(made), made, strict=True):
        np.testing.assert_array_equal(counts, class_counts(truth, found, CLASSES))


def test_a_class_without_a_pixel_is_never_found():
    for counts in modified(counted(images())):
        assert counts[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("protocol", [modified, traditional])
def test_features_that_tell_classes_apart_find_them(protocol):
    made = images(noise=0.0)
    pure = [(masks, np.where(truth >= 0, majority(masks, truth), -1)) for masks, truth in made]
    for right, true, found in np.concatenate(protocol(counted(pure))):
        assert right == true == found


def majority(masks, truth):
    classes = [np.bincount(truth[(masks.label_map == mask) & (truth >= 0)], minlength=CLASSES) for mask in range(12)]
    return np.argmax(classes, axis=1).astype(np.int32)[masks.label_map]


def test_clusters_are_matched_so_that_most_pixels_are_right():
    made = counted(images(noise=3.0))
    total = np.sum(traditional(made), axis=0)
    best = total[:, 0].sum()
    from sklearn.cluster import MiniBatchKMeans

    features = np.concatenate([image.features for image in made]).astype(float)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    counts = np.concatenate([image.counts for image in made])
    kmeans = MiniBatchKMeans(3, batch_size=4096, n_init=3, random_state=0)
    clusters = kmeans.fit_predict(features, sample_weight=counts.sum(axis=1).astype(float))
    shared = np.array([counts[clusters == cluster].sum(axis=0)[1:] for cluster in range(3)])
    assert best == max(shared[range(3), order].sum() for order in map(list, permutations(range(3))))


def test_none_of_the_labels_is_a_class_only_where_it_is_true():
    made = images(noise=0.0)
    assert np.sum(traditional(counted(made)), axis=0)[0].tolist() == [0, 0, 0]
    with_other = [(masks, np.where(truth == 1, 0, truth)) for masks, truth in made]
    right, true, _ = np.sum(traditional(counted(with_other)), axis=0)[0]
    assert 0 < right <= true


def test_fewer_masks_than_classes_are_too_few():
    masks = masks_of([[0, 1]])
    with pytest.raises(ValueError, match="2 masks in 1 images, expected at least one for each of the 3 classes"):
        traditional([count_masks(masks, np.array([[1, 2]], np.int32), CLASSES)])
