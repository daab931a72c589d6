"""Tables in the paper's form, with the paper's numbers, escaped for Markdown and LaTeX."""

import re

import pytest

from aia_jax.evaluation.ensembles import join
from aia_jax.evaluation.paper_tables import PaperNumber, find_paper_number
from aia_jax.evaluation.tables import make_table, to_latex, to_markdown
from configs import diving48, egtea, epic55, ssv1, ssv2
from configs.networks import NETWORKS
from configs.paper import paper_text
from tests.helpers.tiny_scores import RESNET, make_evaluation, make_scores


def columns(table) -> dict[str, tuple[str, ...]]:
    return {column.heading: column.cells for column in table.columns}


@pytest.mark.parametrize("recipe", [ssv1, ssv2, diving48, egtea, epic55])
def test_the_papers_numbers_are_those_of_the_recipes(recipe):
    for argument, reported in recipe.PAPER.items():
        network = NETWORKS[argument.partition(",")[0]]
        about = make_evaluation(
            dataset=recipe.__name__.rpartition(".")[2],
            frames=reported.frames,
            crops=reported.crops or 1,
            clips=reported.clips or 1,
            network=f"{network.title}, ResNet-50",
            model={"depth": 50, **network.fields},
            paper=paper_text(recipe.PAPER, argument, network.title),
        )
        found = find_paper_number(about)
        assert found is not None, argument
        assert (found.top1, found.top5) == (reported.top1, reported.top5)
        assert reported.table.startswith(found.table) and found.source == reported.source


def test_the_papers_number_is_of_the_same_protocol():
    assert find_paper_number(make_evaluation(frames=16, crops=3, clips=2)) == PaperNumber(
        64.3, 88.9, "II"
    )
    assert find_paper_number(make_evaluation(clips=10)) is None
    assert find_paper_number(make_evaluation(dataset="ucf101")) is None
    assert find_paper_number(make_evaluation(model={**RESNET, "depth": 101})) is None
    assert find_paper_number(make_evaluation(model={**RESNET, "width": 16})) is None
    assert find_paper_number(make_evaluation()) is not None
    for other in ({"split": "train"}, {"crop_size": 256}, {"averaging": "probabilities"}):
        assert find_paper_number(make_evaluation(**other)) is None
    full = make_evaluation(crops=3, clips=2, crop_size=256)  # the paper's "full resolution"
    assert find_paper_number(full) is not None
    plug_in = {**RESNET, "temporal": "tsn", "attention": "SE3D"}
    assert find_paper_number(make_evaluation(dataset="ssv1", model=plug_in)).top1 == 22.0


@pytest.mark.parametrize(
    ("weights", "rule", "is_there"),
    [(None, "logits", True), ((1.0, 2.0), "logits", False), (None, "probabilities", False)],
)
def test_the_papers_ensembles_are_plain_means_of_logits(weights, rule, is_there):
    members = {f"{frames}.npz": make_scores(frames=frames, crops=3, clips=2) for frames in (8, 16)}
    joined, _ = join(members, weights, rule)
    assert (find_paper_number(joined.about) is not None) == is_there


def test_tests_of_other_splits_and_crops_share_no_row():
    files = {
        "a.npz": make_scores(dataset="ssv1"),
        "b.npz": make_scores(dataset="ssv2", split="train"),
        "c.npz": make_scores(dataset="ssv2", crop_size=256),
    }
    for form in ("I", "II"):
        found = columns(make_table(files, form))
        assert found["Split"] == ("validation", "train", "validation")
        assert found["Crop"] == ("224", "224", "256")


def test_costs_of_small_networks_keep_two_digits():
    small = make_scores(params=129_048, macs=33_270_000, paper_flops=34_140_000)
    found = columns(make_table({"a.npz": small}))
    assert (found["Params"], found["MACs"]) == (("0.13M",), ("0.033G×1",))


def test_a_recipes_words_count_for_their_network_and_protocol_only():
    words = "79.4% top-1, 97.5% top-5 (Table III; split V2; 8 frames) for TSM with CinST->STinC"
    usual = {"dataset": "diving48", "paper": words}
    assert find_paper_number(make_evaluation(**usual)) == PaperNumber(79.4, 97.5, "III")
    assert find_paper_number(make_evaluation(**usual, frames=16)) is None
    other = {"network": "TSM, ResNet-50", "model": {**RESNET, "attention": "none"}}
    assert find_paper_number(make_evaluation(**usual, **other)) is None
    for text in ("none on this data set", "none for TSM", "", "79% of something"):
        assert find_paper_number(make_evaluation(dataset="diving48", paper=text)) is None


def table_two_files():
    files = {f"{n}.npz": make_scores(seed=n, frames=n, crops=3, clips=2) for n in (8, 12, 16)}
    joined, _ = join(files)
    v1 = make_scores(seed=1, frames=8, crops=3, clips=2, dataset="ssv1")
    return {**files, "v1.npz": v1, "joined.npz": joined}


def test_table_two_has_the_papers_columns_and_data_sets_side_by_side():
    found = columns(make_table(table_two_files()))
    assert found["Frames×Crops×Clips"] == ("8×3×2", "12×3×2", "16×3×2", "(8+12+16)×3×2")
    assert found["Method"] == ("AIA(TSM)",) * 4
    assert found["Backbone"] == ("ResNet-50",) * 4
    assert found["Params"] == ("23.9M", "23.9M", "23.9M", "—")
    assert found["FLOPs as the paper counts"][0] == "33.1G×6"
    assert found["MACs"] == ("33.0G×6", "33.0G×6", "33.0G×6", "98.9G×6")
    assert found["ssv2: Paper's Top-1"] == ("63.4", "64.0", "64.3", "67.2")
    assert found["ssv1: Paper's Top-5"] == ("79.1", "—", "—", "—")
    assert found["ssv1: Top-1"][1:] == ("—",) * 3
    assert "Scores" not in found


def test_rows_that_only_their_files_tell_apart_name_them():
    found = columns(make_table({"a.npz": make_scores(seed=1), "b.npz": make_scores(seed=2)}))
    assert found["Scores"] == ("a.npz", "b.npz")


def test_table_one_has_models_and_blocks():
    plain = {
        "network": "TSN, ResNet-50",
        "model": {**RESNET, "temporal": "tsn", "attention": "none"},
    }
    files = {"a": make_scores(dataset="ssv1", **plain), "b": make_scores(seed=1, dataset="ssv1")}
    found = columns(make_table(files, "I"))
    assert found["Model"] == ("TSN", "TSM") and found["Block"] == ("None", "CinST->STinC")
    assert found["Params"] == ("23.87M", "23.87M")
    assert found["FLOPs as the paper counts"][1] == "33.15G×1"
    assert found["Paper's Top-1"] == ("19.7", "49.2")
    assert "Data set" not in found and "Frames×Crops×Clips" not in found
    files["c"] = make_scores(seed=2, clips=2)
    found = columns(make_table(files, "I"))
    assert found["Data set"] == ("ssv1", "ssv1", "ssv2")
    assert found["Frames×Crops×Clips"][2] == "8×1×2"


def test_networks_of_another_kind_are_named_by_their_own_words():
    other = {"network": "ViT-B/16 with MSCA-KV", "model": {"name": "vit", "size": "B"}}
    found = columns(make_table({"a": make_scores(**other)}))
    assert found["Method"] == ("ViT-B/16 with MSCA-KV",) and found["Backbone"] == ("—",)
    assert columns(make_table({"a": make_scores(**other)}, "I"))["Block"] == ("—",)


def test_what_is_not_evaluated_and_whose_the_numbers_are_stands_below():
    notes = " ".join(make_table({"a_b.npz": make_scores(damaged=(1,))}).notes)
    assert "a_b.npz: 19 of 20 videos were evaluated" in notes
    assert "Hao et al. 2022 print" in notes and "Table II" in notes


NASTY = r"50% of $x_1$ & {y} ~ ^ \ # a|b <c> [d](e) `f` *g* ×—->"


def test_markdown_is_escaped():
    files = {"a": make_scores(network=NASTY + ", Net|2", model={"name": "vit"})}
    lines = to_markdown(make_table(files)).splitlines()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 11 for line in lines[:3])
    assert len({len(line) for line in lines[:3]}) == 1
    for text in (r"a\|b", r"\<c\>", r"\[d\](e)", r"\*g\*", r"x\_1", r"\`f\`"):
        assert text in lines[2]


def test_latex_is_escaped():
    files = {"a": make_scores(network=NASTY + ", Net", model={"name": "vit"})}
    text = to_latex(make_table(files))
    row = next(line for line in text.splitlines() if line.startswith("50"))
    for escaped in (r"50\%", r"\$x\_1\$", r"\&", r"\{y\}", r"\textasciitilde{}", r"\#",
                    r"\textasciicircum{}", r"\textbackslash{}", r"a\textbar{}b",
                    r"\textless{}c\textgreater{}", r"$\times$---$\rightarrow$"):  # fmt: skip
        assert escaped in row
    assert len(re.findall(r"(?<!\\)&", row)) == 9 and row.endswith(r" \\")
    assert r"\begin{tabular}{lllrrrrrrr}" in text and text.endswith("\\end{tabular}\n")
