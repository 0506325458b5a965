"""What decides a run: which choices change its hash, and which values are refused in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion import RunSpec, run_folder


def test_a_seed_of_another_type_is_the_same_run(tiny_preset):
    ours, theirs = (RunSpec(tiny_preset, ["cat"], seed=kind(3)) for kind in (int, np.int64))
    assert (ours.hash, ours.mask_hash) == (theirs.hash, theirs.mask_hash)
    assert type(theirs.run_file([], 0).seed) is int


def test_how_samples_are_read_belongs_to_the_run(tiny_preset, tmp_path):
    plain, twelve, same = (RunSpec(tiny_preset, ["cat"], bits=bits) for bits in (None, 12, np.int64(12)))
    assert twelve.hash == same.hash != plain.hash
    assert twelve.mask_hash == same.mask_hash != plain.mask_hash
    (tmp_path / "run.json").write_bytes(twelve.run_file([], 0).to_bytes())
    assert RunSpec.read(tmp_path).hash == twelve.hash


def test_what_auto_is_here_belongs_to_the_run(tiny_preset, tmp_path):
    def spec(**choices):
        return RunSpec(tiny_preset, ["cat"], **{"device": "cpu", **choices})

    auto, float32, bfloat16 = spec(), spec(dtype="float32"), spec(dtype="bfloat16")
    assert (auto.hash, auto.mask_hash) == (float32.hash, float32.mask_hash)
    assert auto.hash != bfloat16.hash and auto.mask_hash != bfloat16.mask_hash
    assert auto.ran == {"device": "cpu", "dtype": "float32"}
    (tmp_path / "run.json").write_bytes(bfloat16.run_file([], 0).to_bytes())
    read = RunSpec.read(tmp_path)
    # Other labels may run elsewhere; the masks that are there stay what they are.
    assert read.mask_hash == bfloat16.mask_hash and replace(read, dtype="float32").mask_hash == bfloat16.mask_hash
    assert replace(read, dtype="float32").hash not in (auto.hash, bfloat16.hash)
    with pytest.raises(ValueError, match="device is 'gpu', expected auto or a usable one of cpu, cuda, mps"):
        _ = spec(device="gpu").hash


@pytest.mark.parametrize("bits", [0, 8, 17, -12, True, "12", 12.5])
def test_bits_that_no_sample_holds_are_refused(tiny_preset, bits):
    with pytest.raises(ValueError, match=rf"bits is {bits!r}, expected a whole number from 9 to 16"):
        RunSpec(tiny_preset, ["cat"], bits=bits)


@pytest.mark.parametrize("output", ["", " "])
def test_empty_text_is_not_the_current_folder(tiny_preset, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"output is .*, expected a folder"):
        run_folder(RunSpec(tiny_preset, ["cat"]), "photos", output)
    with pytest.raises(ValueError, match="input is '', expected an image"):
        run_folder(RunSpec(tiny_preset, ["cat"]), "", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
