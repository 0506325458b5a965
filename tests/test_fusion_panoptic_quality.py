"""Panoptic quality by hand, by a literal transcription of its definition, and by panopticapi where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from random_regions import disturbed, rectangles

from fusion.evaluation.panoptic_quality import panoptic_counts, panoptic_quality

NUM_LABELS = 4
SEEDS = range(24)


def random_image(seed):
    """The arguments of `panoptic_counts`: void, one crowd a label at most, and regions that nearly match."""
    rng = np.random.default_rng(seed)
    truth = rectangles(rng, (26, 30), 7)
    predicted = disturbed(rng, truth, 3) - 1
    true_labels = rng.integers(0, NUM_LABELS + 1, 8)
    found_labels = np.append(true_labels, rng.integers(1, NUM_LABELS + 1, 3))[1:]
    found_labels = np.where(found_labels == 0, rng.integers(1, NUM_LABELS + 1, 10), found_labels)
    crowds = {label: region for region, label in enumerate(true_labels) if label and rng.random() < 0.3}
    truth[rectangles(rng, truth.shape, 2) > 0] = -1
    return truth, true_labels, frozenset(crowds.values()), predicted, found_labels, NUM_LABELS


def literal_counts(truth, true_labels, crowds, predicted, found_labels, num_labels):
    """The definition of the paper in sets of pixels, with void and crowds as its section on them says."""
    true_pixels, found_pixels, void = {}, {}, set()
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            if truth[y, x] < 0 or true_labels[truth[y, x]] == 0:
                void.add((y, x))
            else:
                true_pixels.setdefault(int(truth[y, x]), set()).add((y, x))
            if predicted[y, x] >= 0:
                found_pixels.setdefault(int(predicted[y, x]), set()).add((y, x))
    counts = np.zeros((num_labels, 4))
    hit_true, hit_found = set(), set()
    for found, p in found_pixels.items():
        for true, g in true_pixels.items():
            label = true_labels[true]
            iou = len(p & g) / len((p - void) | g)
            if found_labels[found] == label and true not in crowds and iou > 0.5:
                counts[label - 1] += [iou, 1, 0, 0]
                hit_true.add(true)
                hit_found.add(found)
    for true in true_pixels:
        if true not in hit_true and true not in crowds:
            counts[true_labels[true] - 1, 3] += 1
    for found, p in found_pixels.items():
        label = found_labels[found]
        free = void.union(*(true_pixels.get(crowd, set()) for crowd in crowds if true_labels[crowd] == label))
        if found not in hit_found and len(p & free) <= len(p) / 2:
            counts[label - 1, 2] += 1
    return counts


def test_counts_are_those_of_the_definition():
    total = np.zeros((NUM_LABELS, 4))
    for seed in SEEDS:
        counts = panoptic_counts(*random_image(seed))
        np.testing.assert_allclose(counts, literal_counts(*random_image(seed)), rtol=0, atol=1e-9)
        total += counts
    assert (total.sum(axis=0) > 10).all(), "the maps try too little"


def test_counts_are_those_of_panopticapi(tmp_path):
    evaluation = pytest.importorskip("panopticapi.evaluation")
    categories = {label: {"id": label, "isthing": label % 2} for label in range(1, NUM_LABELS + 1)}
    total, pairs = np.zeros((NUM_LABELS, 4)), []
    for seed in SEEDS:
        truth, true_labels, crowds, predicted, found_labels, _ = random_image(seed)
        ids = np.where((truth >= 0) & (true_labels[truth] > 0), truth + 1, 0)
        names = [
            write_panoptic(tmp_path / f"{seed}{suffix}.png", id_map, labels, crowd)
            for suffix, id_map, labels, crowd in (
                ("true", ids, true_labels, crowds),
                ("found", predicted + 1, found_labels, ()),
            )
        ]
        pairs.append(names)
        made = evaluation.pq_compute_single_core(0, [names], tmp_path, tmp_path, categories)
        expected = [[one.iou, one.tp, one.fp, one.fn] for one in (made[label] for label in categories)]
        counts = panoptic_counts(*random_image(seed))
        np.testing.assert_allclose(counts, expected, rtol=0, atol=1e-9)
        total += counts
    made = evaluation.pq_compute_single_core(0, pairs, tmp_path, tmp_path, categories)
    things = np.array([one["isthing"] == 1 for one in categories.values()])
    for isthing, chosen in ((None, None), (True, things), (False, ~things)):
        expected, _ = made.pq_average(categories, isthing)
        for name, value in panoptic_quality(total, chosen).items():
            assert value == pytest.approx(expected[name], abs=1e-9)


def write_panoptic(path, id_map, labels, crowds):
    """An image's PNG and its entry; id = region + 1."""
    Image.fromarray(np.stack([id_map, id_map * 0, id_map * 0], axis=-1).astype(np.uint8)).save(path)
    segments = [
        {
            "id": int(i),
            "category_id": int(labels[i - 1]),
            "area": int((id_map == i).sum()),
            "iscrowd": int(i - 1 in crowds),
        }
        for i in np.unique(id_map)
        if i
    ]
    return {"image_id": 1, "file_name": path.name, "segments_info": segments}


def row(*ids):
    return np.array([ids], np.int32)


def test_by_hand():
    # Label 1: a region of 4 px, 3 of them found, and one more px beside it. Label 2: missed. Label 3: found, not there.
    truth, predicted = row(0, 0, 0, 0, 1, 1, 1, 1), row(-1, 0, 0, 0, 0, 1, 1, 1)
    counts = panoptic_counts(truth, np.array([1, 2]), frozenset(), predicted, np.array([1, 3]), 3)
    assert counts.tolist() == [[3 / 5, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert panoptic_quality(counts) == pytest.approx({"pq": 0.2, "sq": 0.2, "rq": 1 / 3})
    assert panoptic_quality(counts, np.array([True, True, False]))["pq"] == pytest.approx(0.3)


@pytest.mark.parametrize("matched, hits", [(2, 0), (3, 1)])
def test_half_is_no_match_and_more_is(matched, hits):
    truth, predicted = row(0, 0, 0, 0), row(*[0] * matched, *[-1] * (4 - matched))
    counts = panoptic_counts(truth, np.array([1]), frozenset(), predicted, np.array([1]), 1)
    assert counts[0, 1:].tolist() == [hits, 1 - hits, 1 - hits]


def test_void_is_off_the_union_and_pardons_more_than_a_half():
    truth, predicted = row(-1, -1, 1, 0, 0, 0), row(0, 0, 0, 0, 0, 1)
    # 5 px found, 3 of them void (region 1 is none of the labels): IoU = 2 / 3.
    counts = panoptic_counts(truth, np.array([1, 0]), frozenset(), predicted, np.array([1, 2]), 2)
    assert counts.tolist() == [[2 / 3, 1, 0, 0], [0, 0, 1, 0]]
    assert panoptic_counts(row(-1, -1, 0), np.array([1]), frozenset(), row(0, 0, 0), np.array([2]), 2)[1, 2] == 0
    assert panoptic_counts(row(-1, 0), np.array([1]), frozenset(), row(0, 0), np.array([2]), 2)[1, 2] == 1


@pytest.mark.parametrize("label, wrong", [(1, 0), (2, 1)])
def test_a_crowd_is_never_missed_and_pardons_its_own_label(label, wrong):
    truth, predicted = row(0, 0, 0, 0), row(0, 0, 0, -1)
    counts = panoptic_counts(truth, np.array([1]), frozenset([0]), predicted, np.array([label]), 2)
    assert counts.sum(axis=0).tolist() == [0, 0, wrong, 0]


def test_quality_of_many_sums_at_once():
    rng = np.random.default_rng(0)
    images = np.stack([panoptic_counts(*random_image(seed)) for seed in range(5)])  # n x L x 4
    weights = rng.integers(0, 3, (3, 2, 5))
    sums = np.einsum("abn,nlc->ablc", weights, images)
    together = panoptic_quality(sums)
    for place in np.ndindex(3, 2):
        alone = panoptic_quality(sum(w * image for w, image in zip(weights[place], images, strict=True)))
        for name, value in together.items():
            assert value.shape == (3, 2)
            assert value[place] == pytest.approx(float(alone[name]))


def test_nothing_is_nan():
    counts = panoptic_counts(row(-1, -1), np.array([], int), frozenset(), row(-1, -1), np.array([], int), 2)
    assert counts.tolist() == [[0] * 4] * 2
    assert all(np.isnan(value) for value in panoptic_quality(counts).values())
    counts[0] = [0.9, 1, 0, 0]
    assert panoptic_quality(counts) == pytest.approx({"pq": 0.9, "sq": 0.9, "rq": 1})
    assert np.isnan(panoptic_quality(counts, np.array([False, True]))["pq"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"predicted_regions": row(0)}, r"predicted regions are \(1, 1\), expected \(1, 2\) as the true"),
        ({"truth_regions": row(0, 2)}, "true regions have values 0 … 2, expected -1 … 0"),
        ({"predicted_labels": np.array([3])}, "labels of predicted regions have values 3 … 3, expected 0 … 2"),
    ],
)
def test_ids_out_of_range_are_named(change, message):
    arguments = {
        "truth_regions": row(0, 0),
        "region_labels": np.array([1]),
        "crowds": frozenset(),
        "predicted_regions": row(0, -1),
        "predicted_labels": np.array([1]),
        "num_labels": 2,
    }
    with pytest.raises(ValueError, match=message):
        panoptic_counts(**{**arguments, **change})
