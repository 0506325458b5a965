"""Weights on disk: what is missing is one error that says all, and the marks of files tell them apart."""

from __future__ import annotations

import pytest

from ground.weights import WeightsMissing, builtin_folder, file_marks, hub_folder, one_line, refuse_code

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FACTS = {"size_mb": 7, "license": "MIT", "revision": COMMIT}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fetched(*, download=False, repo="org/repo", checked=lambda folder: folder):
    files = ["a.bin", "b.bin"]
    return hub_folder(repo, patterns=["*"], checked=checked, weights=files, download=download, **FACTS)


def test_missing_weights_carry_their_facts(cache):
    with pytest.raises(WeightsMissing) as caught:
        fetched()
    error = caught.value
    assert isinstance(error, FileNotFoundError)
    assert (error.model, error.size_mb, error.license, error.revision) == ("org/repo", 7, "MIT", COMMIT)
    assert error.preset is None
    assert error.reason == "a.bin, b.bin not in the Hugging Face cache"
    assert "\n" not in str(error) and all(part in str(error) for part in ("org/repo", "7 MB", "MIT", error.reason))


def test_facts_that_are_not_known_are_said_to_be_unknown():
    error = WeightsMissing("org/repo", size_mb=0, license="", revision=None, reason="none")
    assert "size not stated" in str(error) and "licence: not stated" in str(error) and "(revision main)" in str(error)


def test_what_is_in_the_cache_is_not_asked_for_again(cache):
    snapshot = cache / "models--org--repo" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    assert fetched() == fetched(download=True) == snapshot


def test_an_incomplete_snapshot_is_missing_for_its_reason(cache):
    (cache / "models--org--repo" / "snapshots" / COMMIT).mkdir(parents=True)

    def checked(path):
        raise FileNotFoundError(f"b.bin is missing in {path}")

    with pytest.raises(WeightsMissing, match=r"b\.bin is missing in .*snapshots"):
        fetched(checked=checked)


def test_a_download_that_fails_is_missing_for_its_reason(cache):
    with pytest.raises(WeightsMissing, match=r"the download failed: .*HF_HUB_OFFLINE"):
        fetched(download=True)


def test_what_cannot_be_a_repository_is_a_bad_value(cache):
    with pytest.raises(ValueError, match="'not/a/repository' is not the id of a hub repository"):
        fetched(repo="not/a/repository")


def test_builtin_models_are_found_by_their_marker(tmp_path):
    for name in ("mini", "maxi"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    (tmp_path / "empty").mkdir()
    assert builtin_folder(tmp_path, "mini", "config.json", in_clone="a.b=c") == tmp_path / "mini"
    for name in ("empty", "midi", "../mini"):
        with pytest.raises(FileNotFoundError, match=r"no built-in model .*; there is: maxi, mini$"):
            builtin_folder(tmp_path, name, "config.json", in_clone="a.b=c")


def test_weights_for_research_are_in_the_source_repository(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^builtin:research is not .* research.* -e CLONE`, or set a.b=c$"
    ) as told:
        builtin_folder(tmp_path, "research", "config.json", in_clone="a.b=c")
    assert "\n" not in str(told.value)


def test_marks_change_with_size_and_end(tmp_path):
    path, marks = tmp_path / "weights", set()
    for content in (b"", b"a", b"b", b"ab", bytes(2**20) + b"a", bytes(2**20 + 1) + b"a"):
        path.write_bytes(content)
        marks.add(file_marks([path])[0])
    assert len(marks) == 6
    assert file_marks([path, path]) == file_marks([path]) * 2


@pytest.mark.parametrize(
    "config", ['{"auto_map": {}}', '{"_attn_implementation": "sdpa"}', '{"_class_name": "Own"}', "{}"]
)
def test_configs_that_name_no_code_are_taken(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "vocab.json").write_text('{"auto_map": 5}')  # a token
    refuse_code(tmp_path)


@pytest.mark.parametrize("where", ["config.json", "unet/config.json"])
@pytest.mark.parametrize("config", ['{"a": [{"auto_map": {"AutoModel": "own.Own"}}]}', '{"trust_remote_code": true}'])
def test_configs_that_name_code_are_refused_however_deep_the_key(tmp_path, where, config):
    (tmp_path / "unet").mkdir()
    (tmp_path / where).write_text(config)
    with pytest.raises(ValueError, match=f"{where} has the key '(auto_map|trust_remote_code)'"):
        refuse_code(tmp_path)


def test_messages_of_libraries_become_one_line():
    assert one_line(ValueError("first\n\tsecond")) == "first second"
    assert one_line(KeyError("model")) == "KeyError 'model'"
    assert one_line(OSError()) == "OSError"
    assert len(one_line(RuntimeError("tensor " * 1000))) < 310
