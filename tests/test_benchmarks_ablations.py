"""The studies: their tables hold for the models that are here, a run goes on where it ended, intervals are right."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_emerdiff import picture, tiny_backbone, tiny_config

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from benchmarks import ablations  # noqa: E402
from benchmarks.studies import measure, report  # noqa: E402
from benchmarks.studies.records import Record, append_record, read_records  # noqa: E402
from benchmarks.studies.table import BASE, STUDIES, Study, Value  # noqa: E402
from emerdiff import EmerDiff, EmerDiffConfig  # noqa: E402
from emerdiff.frame import to_frame  # noqa: E402
from emerdiff.modulate import modulated_ends  # noqa: E402
from fusion.evaluation.datasets import Sample  # noqa: E402
from ground.presets import read_section  # noqa: E402

STRENGTHS = Study("strength", "λ", tuple(Value(f"{each:g}", {"strength": each}) for each in (1.0, 10.0)), "near 10")
BLURS = Study("blur", "blur", tuple(Value(f"{each:g}", {"difference_blur": each}) for each in (0.0, 1.0, 2.0)), "some")


@pytest.fixture(scope="module")
def model():
    return EmerDiff(tiny_backbone(), tiny_config(difference_blur=0.0))


def sample(seed: int) -> Sample:
    regions = np.repeat(np.int32([[0] * 32 + [1] * 32]), 64, axis=0)
    return Sample(str(seed), picture(seed=seed), regions + 1, regions)


@pytest.fixture
def counted(monkeypatch):
    """Every point that is computed, by the name of its value."""
    asked, plain = [], ablations.scores

    def scores(model, sample, value, kept):
        asked.append(value.name)
        return plain(model, sample, value, kept)

    monkeypatch.setattr(ablations, "scores", scores)
    return asked


def test_a_study_has_a_base_value_in_each_embedded_preset():
    for preset in ("toy", "mini"):
        base = EmerDiffConfig.from_mapping({**read_section(preset, "emerdiff"), **BASE})
        for study in STUDIES:
            assert [value.is_base(base) for value in study.values].count(True) == 1, study.name
            assert len({measure.setting_hash(base, value) for value in study.values}) == len(study.values)
            assert len({value.name for value in study.values}) == len(study.values)


def test_studies_vary_what_there_is():
    names = {field.name for field in fields(EmerDiffConfig)}
    assert len({study.name for study in STUDIES}) == len(STUDIES)
    assert {name for study in STUDIES for name in study.fields} | BASE.keys() <= names


@pytest.mark.weights
def test_every_value_fits_the_embedded_model():
    """Layers exist, also at the finest grid, and timesteps are on the schedule: else it could not be made."""
    segmenter = EmerDiff.from_preset("toy", device="cpu", model="builtin:research", **BASE)
    for study in STUDIES:
        for value in study.values:
            EmerDiff(segmenter.backbone, value.config(segmenter.config))


def test_a_run_goes_on_where_it_ended(model, tmp_path, counted):
    path = tmp_path / "ablations.csv"
    samples = [sample(0), sample(1)]
    first = ablations.measure(model, [STRENGTHS], samples, path, "abc")
    begun = [next(first) for _ in range(3)]
    rest = list(ablations.measure(model, [STRENGTHS], samples, path, "def"))
    assert len(begun) + len(rest) == len(counted) == 4
    assert [record.commit for record in read_records(path)] == ["abc", "abc", "abc", "def"]
    assert list(ablations.measure(model, [STRENGTHS], samples, path, "def")) == []


def test_other_settings_are_measured_anew(model, tmp_path):
    path = tmp_path / "ablations.csv"
    list(ablations.measure(model, [STRENGTHS], [sample(0)], path, "abc"))
    other = EmerDiff(model.backbone, replace(model.config, clusters=2))
    assert len(list(ablations.measure(other, [STRENGTHS], [sample(0)], path, "abc"))) == 2
    assert len(report.points(STRENGTHS, model.config, read_records(path))[0].scores["bound"]) == 1


def test_studies_share_their_base(model, tmp_path, counted):
    list(ablations.measure(model, [STRENGTHS, BLURS], [sample(0)], tmp_path / "ablations.csv", "abc"))
    assert counted == ["1", "10", "1", "2"]


def test_what_is_used_again_changes_nothing(model, tmp_path):
    kept = {}
    together = [measure.scores(model, sample(0), value, kept) for value in BLURS.values]
    assert together == [measure.scores(model, sample(0), value, {}) for value in BLURS.values]
    assert len(kept) == 1


def test_the_line_that_was_being_written_is_cut_off(tmp_path):
    path = tmp_path / "ablations.csv"
    record = Record("strength", "1", "image", "setting", "abc", 0.5, 0.25, 0.75, 1.0)
    append_record(path, record)
    whole = path.read_bytes()
    for torn in (whole + whole.splitlines()[1][:-3], whole[:10]):
        path.write_bytes(torn)
        read_records(path)
        append_record(path, record)
        assert set(read_records(path)) == {record}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"columns a,b, expected study,value"):
        read_records(path)


def test_before_the_projection_is_in_front_of_its_matrix(model):
    """f(x + c·M), with the offset put there by hand, for the pass at t_m."""
    config, backbone = replace(model.config, inject_attention=False), model.backbone
    layer = backbone.layer(config.modulation_layer, "modulation_layer")
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    plain = torch.zeros(1, 4, 4)
    plain[0, :, :2] = 3.0

    def ends(offsets):
        return modulated_ends(backbone, clean, [21, 11, 1], offsets, config, torch.Generator().manual_seed(0))

    with measure.offset_before_projection(model):
        found = ends(plain)
    calls = []

    def by_hand(module, inputs):
        # The recorded pass and that after it; the second is of the modulated latent.
        calls.append(len(inputs[0]))
        return (inputs[0] + plain.flatten(1)[..., None],) if len(calls) == 2 else None

    # Without recorded passes: each pass of the layer runs as it is.
    with pytest.MonkeyPatch.context() as patched:
        from contextlib import nullcontext

        patched.setattr("emerdiff.modulate.recorded_prefix", lambda unet, layer: nullcontext())
        patched.setattr("emerdiff.modulate.resumed_after", lambda prefix, offsets, latent_hw: nullcontext())
        hook = layer.to_out[0].register_forward_pre_hook(by_hand)
        expected = ends(torch.zeros_like(plain))
        hook.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, ends(plain), atol=1e-3)


def test_intervals_are_of_differences_image_by_image():
    """Images differ far more than the two values do: only pairs can tell these apart."""
    base = Value("base")
    scores = np.array([0.1, 0.9, 0.3, 0.7, 0.5, 0.2])

    def point(value, shift, is_base):
        names = ("bound", "naive_bound", "boundary_f2", "naive_boundary_f2")
        return report.Point(value, is_base, {name: scores + shift for name in names})

    lines = report.table([point(base, 0, True), point(Value("other"), 0.02, False)]).splitlines()
    assert lines[2].startswith("| **base** (base) | 0.450 (")
    assert lines[3].endswith("+0.020 (+0.020 to +0.020) | +0.020 (+0.020 to +0.020) |")
    assert report.mean_interval(np.array([0.0] * 50 + [1.0] * 50)) == pytest.approx((0.4, 0.6), abs=0.02)


def test_the_page_has_a_plot_a_table_and_the_sentence(model, tmp_path):
    path = tmp_path / "ablations.csv"
    list(ablations.measure(model, [STRENGTHS], [sample(0), sample(1)], path, "abc"))
    # One value on one image more, which the others do not have.
    append_record(path, replace(read_records(path)[0], image="another"))
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump({"strength": "It bends alike."}))
    page = report.write_report(tmp_path, "ablations", [STRENGTHS, BLURS], model.config, read_records(path), "command")
    text = page.read_text()
    assert "It bends alike." in text and "**10** (base)" in text and "abc" in text and "Images: 2." in text
    assert "## blur" not in text
    with Image.open(tmp_path / "ablations-strength.png") as plot:
        assert plot.width > plot.height
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump({"nothing": "?"}))
    with pytest.raises(ValueError, match=r"'nothing', expected title, summary"):
        report.write_report(tmp_path, "ablations", [STRENGTHS], model.config, read_records(path), "command")
