"""Conversion: a bijection for all 22 nets, complete lists of errors, partial loading, reports."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax import create_model
from aia_jax.weights import WeightsError, from_torch, load_matching, load_own, to_torch
from tests.helpers import torch_nets
from tests.helpers.paths import GOLDEN

NARROW = {"width": 4, "stage_sizes": (2, 1), "fold_div": 4}
CLIP = (3, 16, 24, 3)
PAIRS = [
    (temporal, attention)
    for temporal in torch_nets.TEMPORAL
    for attention in torch_nets.EXPRESSIONS
]


def numbers(shapes, seed=0):
    """A state dict of these shapes with a different value everywhere."""
    rng = np.random.default_rng(seed)
    return {
        k: np.array(7) if k.endswith("tracked") else rng.uniform(0.5, 1.5, s).astype("f4")
        for k, s in shapes.items()
    }


def net(num_classes=5, **arguments):
    """A narrow network here, and a state dict of the same one there."""
    arguments = {**NARROW, **arguments}
    return create_model(num_classes, **arguments), numbers(
        torch_nets.key_shapes(num_classes, **arguments)
    )


def fresh(model):
    """Initial variables, as far as loading looks at them."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *CLIP)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), shapes)


def arrays(tree):
    return flatten_dict(tree, sep="/")


@pytest.mark.parametrize(("temporal", "attention"), PAIRS)
def test_every_net_loads_and_gives_the_logits_of_pytorch(temporal, attention):
    arguments = {**NARROW, "temporal": temporal, "attention": attention}
    oracle = torch_nets.randomise(torch_nets.VideoNet(5, **arguments), seed=1).float().eval()
    state_dict = {key: value.numpy() for key, value in oracle.state_dict().items()}
    model = create_model(5, **arguments)
    variables = from_torch(state_dict, model, CLIP)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *CLIP), "f4"))
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    back = to_torch(variables, model)
    assert list(back) == list(dict.fromkeys(back)) and set(back) == set(state_dict)
    for key, value in back.items():
        tracked = key.endswith("tracked")
        np.testing.assert_array_equal(value, 0 if tracked else state_dict[key], err_msg=key)
        assert value.dtype == (np.int64 if tracked else np.float32) and value.flags.c_contiguous
    oracle.load_state_dict(
        {key: torch.from_numpy(value) for key, value in back.items()}, strict=True
    )

    total = sum(value.size for key, value in state_dict.items() if not key.endswith("tracked"))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == total

    clips = np.random.default_rng(0).normal(size=(2, *CLIP)).astype("f4")
    expected = oracle(torch.tensor(clips)).detach().numpy()
    np.testing.assert_allclose(
        model.apply(variables, clips), expected, rtol=0, atol=1e-5 * expected.std()
    )


def test_long_stages_carry_attention_on_every_other_block():
    model, state_dict = net(stage_sizes=(1, 23), width=2, fold_div=2, attention="C", temporal="tsm")
    variables = from_torch(state_dict, model, CLIP)
    carriers = [name for name in variables["params"] if "attention" in variables["params"][name]]
    assert set(carriers) == {"stage1_block0", *(f"stage2_block{i}" for i in range(0, 23, 2))}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_names_that_do_not_matter(dropout):
    model, state_dict = net(temporal="tsm", attention="C", dropout=dropout)
    expected = from_torch(state_dict, model, CLIP)
    head = "base_model.fc" if dropout else "new_fc"

    def other(key):
        key = key.replace("new_fc", head) if dropout else key.replace("base_model.fc", head)
        return "module." + key.replace(
            "conv1.weight", "conv1.net.weight" if "layer" in key else "conv1.weight"
        )

    renamed = {
        other(key): value for key, value in state_dict.items() if not key.endswith("tracked")
    }
    assert not set(renamed) & set(state_dict)
    jax.tree.map(np.testing.assert_array_equal, from_torch(renamed, model, CLIP), expected)


def test_values_are_new_float32_arrays_in_our_order():
    model, state_dict = net(attention="ST")
    variables = from_torch({k: v.astype("f8") for k, v in state_dict.items()}, model, CLIP)
    block = variables["params"]["stage1_block1"]
    theirs = state_dict["base_model.layer1.1.eft.H_conv.weight"]
    assert block["attention"]["ST"]["H"]["conv"]["kernel"][0, 1, 2, 1] == theirs[0, 1, 0, 1, 2]
    assert (
        block["conv2"]["kernel"][0, 1, 2, 3]
        == state_dict["base_model.layer1.1.conv2.weight"][3, 2, 0, 1]
    )
    assert variables["params"]["head"]["kernel"][6, 2] == state_dict["new_fc.weight"][2, 6]
    for leaf in jax.tree.leaves(variables):
        assert leaf.dtype == np.float32 and leaf.flags.c_contiguous and leaf.flags.owndata


def test_all_problems_are_listed_with_the_nearest_keys():
    model, state_dict = net(attention="CinST->STinC")
    state_dict["base_model.layer1.0.conv2.wieght"] = state_dict.pop(
        "base_model.layer1.0.conv2.weight"
    )
    state_dict["base_model.layer2.0.eft2.T_conv.weight"] = np.zeros((1, 3, 3, 3, 2), "f4")
    state_dict["base_model.bn1.bias"] = np.full(4, np.nan, "f4")
    state_dict["base_model.bn1.weight"] = np.ones(4, int)
    state_dict["module.base_model.conv1.weight"] = state_dict["base_model.conv1.weight"]
    state_dict["optimizer.step"] = np.zeros(3, "f4")
    with pytest.raises(WeightsError) as caught:
        from_torch(state_dict, model, CLIP)
    assert isinstance(caught.value, ValueError)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 7
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    for line in (
        "missing: base_model.layer1.0.conv2.weight [4, 4, 3, 3]; nearest unused keys: "
        "base_model.layer1.0.conv2.wieght",
        "not in this net: base_model.layer1.0.conv2.wieght [4, 4, 3, 3]; nearest missing keys: "
        "base_model.layer1.0.conv2.weight",
        "not in this net: optimizer.step [3]; nearest missing keys: none",
        "shape: base_model.layer2.0.eft2.T_conv.weight is [1, 3, 3, 3, 2], ",
        "values: base_model.bn1.bias holds NaN",
        "dtype: base_model.bn1.weight is int64",
        "twice: base_model.conv1.weight and module.base_model.conv1.weight",
    ):
        assert line in problems


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_bijection_or_an_error(data):
    """Whatever keys are lost, and whatever keys get another name: each is named, once on its side,
    and nothing else is.
    """
    model, state_dict = net(stage_sizes=(1,))
    keys = sorted(key for key in state_dict if not key.endswith("tracked"))
    lost = data.draw(st.sets(st.sampled_from(keys), max_size=5))
    renamed = data.draw(st.sets(st.sampled_from(keys), max_size=5)) - lost
    changed = {
        (f"other.{k}" if k in renamed else k): v for k, v in state_dict.items() if k not in lost
    }
    if not lost | renamed:
        from_torch(changed, model, CLIP)
        return
    with pytest.raises(WeightsError) as caught:
        from_torch(changed, model, CLIP)
    named = sorted(
        problem.split(" ")[1]
        for problem in caught.value.problems
        if problem.startswith("missing: ")
    )
    unused = sorted(
        problem.split(" ")[4]
        for problem in caught.value.problems
        if problem.startswith("not in this net: ")
    )
    assert named == sorted(lost | renamed)
    assert unused == sorted(f"other.{key}" for key in renamed)


OTHERS = [
    ("C->ST", "ST->C"),
    ("none", "C"),
    ("C", "none"),
    ("CinST", "CinST->STinC"),
    ("C+ST", "CinST"),
]


@pytest.mark.parametrize(("ours", "theirs"), OTHERS)
def test_another_attention_does_not_fit(ours, theirs):
    model, _ = net(attention=ours)
    with pytest.raises(WeightsError, match="not one of this net"):
        from_torch(net(attention=theirs)[1], model, CLIP)


class TestLoadMatching:
    def imagenet(self, **arguments):
        """A state dict with torchvision's names and 1000 classes."""
        return {
            key.removeprefix("base_model."): value
            for key, value in net(1000, dropout=0.0, **arguments)[1].items()
        }

    def test_backbone_loads_attention_and_head_stay(self):
        model, _ = net(attention="C->ST")
        source, before = self.imagenet(), fresh(model)
        after, report = load_matching(source, before, model)
        assert jax.tree.structure(after) == jax.tree.structure(before)
        expected = arrays(from_torch(source, create_model(1000, **NARROW), CLIP))
        for name, leaf in arrays(after).items():
            stays = "/attention/" in name or "head" in name
            np.testing.assert_array_equal(leaf, arrays(before)[name] if stays else expected[name])
            assert (name in report.fresh) == stays
        assert {entry.variable for entry in report.loaded} | set(report.fresh) == set(
            arrays(before)
        )
        assert [(entry.key, entry.shape) for entry in report.dropped] == [
            ("fc.weight", (1000, 32)),
            ("fc.bias", (1000,)),
        ]
        assert "1000 classes there, 5 here" in str(report) and "attention/C" in str(report)

    def test_head_of_the_same_class_count_loads(self):
        model, state_dict = net(attention="CinST")
        after, report = load_matching(state_dict, fresh(model), model)
        assert not report.fresh and not report.dropped
        jax.tree.map(np.testing.assert_array_equal, after, from_torch(state_dict, model, CLIP))

    def test_a_part_of_another_attention_module_is_not_loaded(self):
        model, _ = net(attention="C->ST")
        _, report = load_matching(net(attention="CinST->STinC")[1], fresh(model), model)
        assert {entry.reason for entry in report.dropped} == {"of another attention module"}
        assert all("/attention/" in name for name in report.fresh)

    @pytest.mark.parametrize("stages", [(3, 1), (1, 1), (2, 1, 1)])
    def test_another_depth_is_one_clear_error(self, stages):
        model, _ = net()
        there = "-".join(map(str, stages))
        with pytest.raises(
            WeightsError,
            match=rf"of a ResNet \({there} blocks\), this net is a ResNet \(2-1 blocks\)",
        ) as caught:
            load_matching(self.imagenet(stage_sizes=stages), fresh(model), model)
        assert not caught.value.problems

    def test_a_backbone_that_is_not_whole_is_an_error_with_the_nearest_keys(self):
        model, _ = net(attention="C")
        source = self.imagenet()
        source["layer1.0.conv2.wieght"] = source.pop("layer1.0.conv2.weight")
        source["layer2.0.se.fc1.weight"] = np.ones((4, 4, 1, 1), "f4")
        with pytest.raises(WeightsError) as caught:
            load_matching(source, fresh(model), model)
        missing, *unknown = sorted(caught.value.problems)
        assert missing.startswith(
            "missing: layer1.0.conv2.weight [4, 4, 3, 3]; nearest unused keys: "
            "layer1.0.conv2.wieght"
        )
        assert [line.split(" ")[4] for line in unknown] == [
            "layer1.0.conv2.wieght",
            "layer2.0.se.fc1.weight",
        ]
        assert all(line.count("layer") == 4 for line in unknown), "itself and three nearest"

    def test_another_width_is_one_line(self):
        model, _ = net()
        wide = self.imagenet(width=8)
        with pytest.raises(WeightsError, match=r"\(layer1.0.bn1.running_mean: \[8\], here \[4\]"):
            load_matching(wide, fresh(model), model)
        other = create_model(5, **NARROW | {"width": 8})
        with pytest.raises(
            WeightsError, match=r"fit this net: (\d+) of \1 arrays .* set model.width to"
        ):
            load_own(fresh(other), fresh(model), model)

    def test_other_shapes_are_an_error_for_each(self):
        model, _ = net()
        source = self.imagenet()
        for name in ("layer1.0.conv2.weight", "layer2.0.conv1.weight"):
            source[name] = np.ones((3, *source[name].shape[1:]), "f4")
        with pytest.raises(
            WeightsError, match=r"shape: layer1.0.conv2.weight is \[3, 4, 3"
        ) as caught:
            load_matching(source, fresh(model), model)
        assert len(caught.value.problems) == 2

    def test_a_source_without_a_match_is_an_error(self):
        model, state_dict = net()
        head = {key: value for key, value in state_dict.items() if "new_fc" in key}
        for source in ({"bert.embeddings.weight": np.zeros((3, 4), "f4")}, head, {}):
            with pytest.raises(WeightsError, match=f"none of the {len(source)} keys"):
                load_matching(source, fresh(model), model)

    def test_own_variables(self):
        model, state_dict = net(attention="CinST->STinC")
        own = from_torch(state_dict, model, CLIP)
        other = create_model(7, **NARROW, temporal="tsm", attention="STinC->CinST")
        after, report = load_own(own, fresh(other), other)
        # Our names say which module it is, so another order of them finds its own.
        assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}
        assert [entry.key for entry in report.dropped] == ["params/head/bias", "params/head/kernel"]
        name = "stage2_block0"
        jax.tree.map(np.testing.assert_array_equal, after["params"][name], own["params"][name])
        with pytest.raises(WeightsError, match="none of the"):
            load_own({"params": {"head": own["params"]["head"]}}, fresh(model), model)


class TestToTorch:
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_the_head_is_named_as_the_reference_names_it(self, dropout):
        model, state_dict = net(attention="STinC", dropout=dropout)
        assert {
            key: np.shape(value)
            for key, value in to_torch(from_torch(state_dict, model, CLIP), model).items()
        } == {key: value.shape for key, value in state_dict.items()}

    @pytest.mark.parametrize("golden", ["TSM", "C2D_CinST2STinC_BN"])
    def test_full_size_has_the_keys_and_shapes_of_the_reference_and_comes_back(self, golden):
        """Another number in every array; the narrow nets show that each element has its place."""
        model = create_model(174, attention="CinST->STinC" if "CinST" in golden else "none")
        shapes = json.loads((GOLDEN / "aia_state_dict_shapes.json").read_text())[golden]
        state_dict = {
            key: np.broadcast_to(np.float32(0 if key.endswith("tracked") else number), shape)
            for number, (key, shape) in enumerate(shapes.items(), 1)
        }
        back = to_torch(from_torch(state_dict, model, CLIP), model, CLIP)
        assert {key: list(value.shape) for key, value in back.items()} == shapes
        for key, value in back.items():
            np.testing.assert_array_equal(value, state_dict[key], err_msg=key)

    def test_what_is_not_the_whole_net_is_an_error(self):
        model, state_dict = net(attention="C")
        variables = from_torch(state_dict, model, CLIP)
        del variables["params"]["head"]["bias"]
        variables["params"]["other"] = np.zeros(3, "f4")
        variables["params"]["head"]["kernel"] = variables["params"]["head"]["kernel"].astype("f2")
        with pytest.raises(WeightsError) as caught:
            to_torch(variables, model)
        assert sorted(problem.split(" ")[0] for problem in caught.value.problems) == [
            "missing:",
            "not",
            "params/head/kernel",
        ]
