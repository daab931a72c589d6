"""What the rest of the program asks of a network, of every row of the table."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from aia_jax import create_model
from aia_jax.evaluation.gradcam import grad_cam
from aia_jax.models import NETWORKS, clip_shape
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.parameter_groups import assign_groups, layer_factors, parse_groups

_STAGES = {"width": 16, "stage_sizes": (1, 1), "stem": "small"}
NARROW = {
    "resnet": {**_STAGES, "attention": "S3D-G", "non_local": True},  # both have biases
    "h2cn": _STAGES,
    "vit": {"width": 48, "layers": 2, "heads": 6, "mlp_dim": 64, "image_size": (32, 32)},
    "gst": _STAGES,
    "c3d": _STAGES,
}
SEGMENTS = 3


@pytest.fixture(scope="module", params=NETWORKS)
def net(request):
    """A narrow network, its clips and its variables; of both only the shapes."""
    model = create_model(5, SEGMENTS, name=request.param, **NARROW[request.param])
    clips = jax.ShapeDtypeStruct((2, *clip_shape(model, 32)), jnp.float32)
    return model, clips, jax.eval_shape(model.init, jax.random.key(0), clips)


def of(net, method):
    model, clips, variables = net
    return jax.eval_shape(lambda v, c: model.apply(v, c, method=method), variables, clips)


def test_a_vector_and_a_map_of_each_segment(net):
    vectors, maps = of(net, "embed"), of(net, "features")
    assert vectors.dtype == np.float32 and vectors.shape[:2] == maps.shape[:2] == (2, SEGMENTS)
    assert len(vectors.shape) == 3 and len(maps.shape) == 5
    assert of(net, "__call__").shape == (2, 5)
    head = net[2]["params"]["head"]["kernel"]
    assert head.shape == (vectors.shape[-1], 5)  # the vector is what the head sees


def test_its_groups_cover_its_parameters_and_each_has_some(net):
    assert assign_groups(net[2]["params"], parse_groups(net[0].optim_groups))


def test_each_parameter_belongs_to_one_of_its_layers(net):
    """Each layer has some, the first ones those that see pixels, the last one the head."""
    model, _, variables = net
    layers, names = model.layer_paths, flatten_dict(variables["params"], sep="/")
    matching = {name: [p for p in layers if re.fullmatch(p, name)] for name in names}
    assert all(len(patterns) == 1 for patterns in matching.values()), matching
    assert {patterns[0] for patterns in matching.values()} == set(layers)
    factors = flatten_dict(layer_factors(variables["params"], layers, 0.5), sep="/")
    first = factors.get("stem/conv/kernel", factors.get("patch_embedding/kernel"))
    assert (first, factors["head/kernel"]) == (min(factors.values()), 1)
    assert set(factors.values()) == {0.5**depth for depth in range(4)}  # two blocks between them


def test_partial_bn_freezes_scales_and_biases_of_batch_norm_but_for_the_first(net):
    model, _, variables = net
    if not hasattr(model, "partial_bn"):
        return
    rule = frozen_rule("", model.partial_bn_frozen)
    frozen = {name for name, is_ in flatten_dict(rule(variables["params"]), sep="/").items() if is_}
    statistics = flatten_dict(variables["batch_stats"], sep="/")
    norms = {name.rpartition("/")[0] for name in statistics}
    assert frozen and all(re.fullmatch(r"(.+)/(scale|bias)", name)[1] in norms for name in frozen)
    assert not {name for name in frozen if name.startswith("stem/")}


def test_grad_cam_has_a_layer_with_a_map_of_each_segment(net):
    model, clips, variables = net
    classes = np.array([0, 4])
    maps = jax.eval_shape(lambda v, c: grad_cam(model, v, c, classes), variables, clips)
    assert maps.shape == of(net, "features").shape[:-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_its_variants_are_networks_with_words_of_their_own(name):
    model = create_model(5, name=name)
    variants = [model.clone(**fields) for fields in model.variants()]
    for other in variants:
        other.check()
    assert model in variants
    assert len({(other.describe(), other.num_frames) for other in variants}) == len(variants)


def test_a_clip_has_all_frames_of_its_segments(net):
    model, clips, _ = net
    assert clips.shape == (2, SEGMENTS * model.segment_frames, 32, 32, 3)
    size = getattr(model, "image_size", (224, 224))
    assert clip_shape(model) == (SEGMENTS * model.segment_frames, *size, 3)
