"""The folder of weights: round trip, damage, a full disk, a description that makes no sense."""

import hashlib
import json
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.numpy

from aia_jax.errors import RunFailed, UserError
from aia_jax.models import create_model, model_fields
from aia_jax.weights import __main__ as weights_command
from aia_jax.weights.files import (
    DESCRIPTION,
    WEIGHTS,
    describe_file,
    load_folder,
    save_folder,
    shown_fields,
    write_state_dict,
)
from aia_jax.weights.open import make_config

HEAD = {"kernel": np.ones((4, 3), "f4"), "bias": np.ones(3, "f4")}
NAMES = ["a", "b", "c"]


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / "weights", {"params": {"head": HEAD}}, {"class_names": NAMES})
    return tmp_path / "weights"


def describe(folder, **fields):
    """Changes fields of weights.json."""
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@contextmanager
def small_disk(size: int):
    """Inside, no file can grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LARGE = np.zeros((300, 300), "f4")


@pytest.mark.parametrize("size", [50, 1000, 200_000])
def test_a_full_disk_is_one_line_and_leaves_the_older_folder(folder, size):
    large = {"params": {"a": LARGE}}
    with small_disk(size), pytest.raises(RunFailed, match=r"cannot be written .*File too large"):
        save_folder(folder, large, {"report": "x" * 300_000})
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, WEIGHTS]
    assert load_folder(folder)[1]["class_names"] == NAMES


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_full_disk_leaves_no_part_of_a_state_dict(tmp_path, name):
    with small_disk(100_000), pytest.raises(RunFailed, match=f"{name} cannot be written .*File"):
        write_state_dict(tmp_path / name, {"a": LARGE}, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 200_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{",
        b'{"format": Infinity}',
    ],
)
def test_a_description_that_is_no_json_of_ours(folder, text):
    (folder / DESCRIPTION).write_bytes(text)
    with pytest.raises(UserError, match=r"weights.json is (damaged|not of format)") as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("names", [3, "abc", ["a", "b", 3], {"a": 1}, ["a", "b"], [["a"]] * 3])
def test_class_names_that_are_no_names_of_the_head(folder, names):
    describe(folder, class_names=names)
    with pytest.raises(UserError, match=r"class_names (is|has) .*convert_torch_weights"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["params", "head/kernel", "params/", "params/head/kernel/a"])
def test_paths_that_are_no_variables(folder, name):
    arrays = {"params/head/kernel": HEAD["kernel"], name: HEAD["bias"]}
    safetensors.numpy.save_file(arrays, folder / WEIGHTS)
    describe(folder, sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"which is no variable|one only can be a variable"):
        load_folder(folder)


def test_a_path_that_the_system_does_not_take(tmp_path):
    with pytest.raises(UserError, match=r"is not a folder of weights .*File name too long"):
        load_folder(tmp_path / ("x" * 5000))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", "64"),
        ("width", 2**70),
        ("stage_sizes", [[1]]),
        ("attention", ["C"]),
        ("name", ["resnet"]),
        ("name", "vgg"),
        ("dropout", True),
        ("depth", 18),
    ],
)
def test_a_network_that_is_none(folder, field, value):
    fields = {"name": "resnet", **model_fields("resnet"), "num_classes": 3, field: value}
    describe(folder, model=fields)
    arguments = ["--to-torch", "--weights", str(folder), "--out", str(folder / "net.safetensors")]
    with pytest.raises(UserError, match=f"{DESCRIPTION}: config key model.{field}: found"):
        weights_command.main(arguments)


SHIFTED = {"temporal": "tsm"}


def test_a_folder_of_an_older_version_shows_its_shift_by_its_report(folder):
    model = create_model(3)
    loaded = [{"variable": "params/x", "key": "layer1.0.conv1.net.weight", "shape": [1]}]
    assert shown_fields(folder, {"report": {"loaded": loaded}}, model) == SHIFTED
    assert shown_fields(folder, {"report": {"loaded": loaded}, "shown": {}}, model) == {}
    assert shown_fields(folder, {}, model) == shown_fields(folder, {"report": 3}, model) == {}
    description = {"report": {"loaded": loaded}, "model": {"temporal": "tsn"}}
    config, _ = make_config(folder / DESCRIPTION, description, 3)
    assert config.model.temporal == "tsm"


def test_the_description_beside_weights_counts_for_these_weights_only(folder, tmp_path):
    assert describe_file(folder / WEIGHTS)["class_names"] == NAMES
    assert describe_file(tmp_path / "other.safetensors") == {}
    describe(folder, sha256="0")
    assert describe_file(folder / WEIGHTS) == {}


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        save_folder(
            tmp_path / "weights",
            {"params": {"a": {"kernel": np.ones((2, 3), "f4")}}},
            {"source": "here"},
        )
        return tmp_path / "weights"

    def test_round_trip(self, folder):
        variables, description = load_folder(folder)
        np.testing.assert_array_equal(variables["params"]["a"]["kernel"], np.ones((2, 3)))
        assert description["source"] == "here"

    def test_saving_again_replaces(self, folder):
        save_folder(folder, {"params": {"b": np.zeros(1, "f4")}}, {})
        assert list(load_folder(folder)[0]["params"]) == ["b"]

    def test_a_flipped_byte_is_found_wherever_it_is(self, folder):
        path = folder / "weights.safetensors"
        good = path.read_bytes()
        for position in range(0, len(good), 7):
            path.write_bytes(good[:position] + bytes([good[position] ^ 16]) + good[position + 1 :])
            with pytest.raises(UserError, match="is damaged"):
                load_folder(folder)

    @pytest.mark.parametrize(
        ("break_it", "message"),
        [
            (lambda folder: (folder / "weights.json").unlink(), "not a folder of weights"),
            (lambda folder: (folder / "weights.safetensors").unlink(), "not a folder of weights"),
            (lambda folder: (folder / "weights.json").write_text("{"), "is damaged"),
            (
                lambda folder: (folder / "weights.json").write_text(json.dumps({"format": 99})),
                "not of format 1",
            ),
        ],
    )
    def test_other_damage(self, folder, break_it, message):
        break_it(folder)
        with pytest.raises(UserError, match=message):
            load_folder(folder)

    def test_a_checkpoint_given_in_its_place(self, folder):
        with pytest.raises(UserError, match="python convert_torch_weights"):
            load_folder(folder / "weights.safetensors")
