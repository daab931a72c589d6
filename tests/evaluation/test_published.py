"""Published numbers: beside the very test that the publisher made, and no other."""

import pytest

from aia_jax.evaluation.published import find_published, published_notes, published_text
from aia_jax.weights.source_cards import CARDS
from tests.helpers.tiny_scores import RESNET, make_evaluation

AIA, H2CN = CARDS["aia_8f_ssv2"], CARDS["h2cn_8f_k400"]
H2CN_TEST = {
    "dataset": "kinetics400",
    "crops": 3,
    "clips": 10,
    "crop_size": 256,
    "resize": "short256",
    "averaging": "probabilities",
    "step": None,
}


@pytest.mark.parametrize(
    ("fields", "top1", "table"),
    [
        ({}, 0.617, "II"),
        ({"clips": 2}, 0.627, "II"),
        ({"clips": 2, "crops": 3, "crop_size": 240}, 0.634, "II"),
        ({"model": RESNET | {"attention": "C"}}, None, ""),  # Table I is of SSv1
        ({"crop_size": 240}, None, ""),
        ({"frames": 16}, None, ""),  # another card's
        ({"step": 120}, None, ""),  # a run of this project
    ],
)
def test_the_numbers_of_aias_authors_are_the_papers(fields, top1, table):
    found = find_published(AIA, make_evaluation(**({"step": None} | fields)))
    if top1 is None:
        assert found is None
    else:
        assert found["top1"] == pytest.approx(top1) and found["by"].endswith(f"(Table {table})")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("dataset", "ssv2"), ("split", "train"), ("label", "verb"), ("frames", 16)),
        *(("crops", 1), ("clips", 1), ("crop_size", 224), ("resize", "240x320")),
        *(("averaging", "logits"), ("sampling", "uniform")),
    ],
)
def test_every_part_of_the_protocol_counts(field, value):
    assert find_published(H2CN, make_evaluation(**H2CN_TEST))["top1"] == pytest.approx(0.769)
    other = make_evaluation(**(H2CN_TEST | {field: value}))
    assert find_published(H2CN, other) is None and published_text(None) == ""


def test_what_is_said_beside_a_result():
    about = make_evaluation(**H2CN_TEST)
    found = find_published(H2CN, about)
    assert published_text(found) == (
        "; H2CN's authors report top-1 76.9%, top-5 93% for this protocol (their number, not "
        "measured here)"
    )
    assert "ten clips at random" in published_notes(H2CN, about, found)[0]
    assert find_published(None, about) is None
    # A test of a card whose publisher gives no number for it.
    fields = {"resize": "short256", "step": None}
    one_crop = make_evaluation(**fields, dataset="ssv2")
    unknown = CARDS["mit_tsm_r50_8f_ssv2"]
    assert find_published(unknown, one_crop) is None
    assert "is not known here" in published_notes(unknown, one_crop, None)[0]
    dense = make_evaluation(**fields, dataset="kinetics400", crops=3, clips=10, crop_size=256)
    assert find_published(CARDS["mit_tsm_nl_r50_8f_k400_dense"], dense)["top1"] == 0.756
