"""The report: what its page says, odd data, contrasts, and one line for wrong input."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from aia_jax import html
from aia_jax.errors import UserError, exit_status
from aia_jax.evaluation.__main__ import main
from aia_jax.evaluation.ensembles import join
from aia_jax.evaluation.metrics import confusion, summarize
from aia_jax.evaluation.report import page
from aia_jax.evaluation.report.mistakes import choose_mistakes
from aia_jax.evaluation.report.models import make_models, make_pairs
from aia_jax.evaluation.report.page import write_report
from aia_jax.evaluation.report.pictures import confusion_picture
from aia_jax.evaluation.score_files import write_scores
from tests.helpers.tiny_scores import make_scores

VOID = {"meta", "img", "input", "br", "line", "circle", "polyline"}


class Text(HTMLParser):
    """The page's text by element, and whether all elements are closed in their order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.texts, self.headings, self.images = [], [], [], []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(filter(None, self.texts))


def report(tmp_path, *scores, **options):
    """Writes the page of scores, without frames; returns its source and its text."""
    files = {f"{number}.npz": one for number, one in enumerate(scores)}
    size, _ = write_report(files, tmp_path / "out" / "report.html", **options)
    source = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert size == len(source.encode())
    return source, Text(source)


def networks(count, videos=60, classes=6):
    return [
        make_scores(videos, classes, seed, network=f"Net {seed}", step=100 + seed)
        for seed in range(count)
    ]


def test_it_says_what_was_tested_and_the_numbers(tmp_path):
    models = networks(3)
    _, found = report(tmp_path, *models)
    assert "60 videos of 6 classes; 3 models" in found.text
    for scores in models:
        summary = summarize(scores)
        for value in (summary.top1, summary.top5, summary.mean_class_accuracy, summary.ece):
            assert f"{value:.1%}" in found.text
        assert f"{summary.loss:.4f}" in found.text
        assert scores.about.network in found.text and f"{scores.about.step}" in found.text
        assert scores.about.weights in found.text and scores.about.data in found.text
    assert "8×1×1" in found.text and "224 × 224 pixels, of frames 240×320" in found.text
    (pair, *_) = make_pairs(make_models({str(k): one for k, one in enumerate(models)})[0])
    assert f"{pair.comparison.p_exact:.2g}" in found.text
    assert f"{len(pair.comparison.gained)} gained" in found.text
    assert found.headings[0] == 1 and found.headings.count(1) == 1
    steps = np.diff(found.headings)
    assert steps.max() == 1  # no level is left out


def test_the_papers_number_is_labelled_as_the_papers(tmp_path):
    _, found = report(tmp_path, make_scores(), make_scores(seed=1, network="Other"))
    assert "the paper’s top-1, top-5" in found.text and "61.7%, 87.2% its Table II" in found.text
    _, found = report(tmp_path, make_scores(dataset="mine"))
    assert "the paper’s top-1" not in found.text
    words = "61.6% top-1 (Table IV) for TSN"
    _, found = report(tmp_path, make_scores(dataset="egtea", paper=words))
    assert f"the paper’s number, not measured here {words}" in found.text


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    source, found = report(tmp_path, *networks(2, 200, 30))
    assert "default-src 'none'" in source
    places = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", source)
    assert places and all(place.startswith(("#", "data:")) for place in places)
    assert "url(" not in source and "@import" not in source
    assert len(found.images) == 2 and all(image["alt"] for image in found.images)
    anchors = {place[1:] for place in places if place.startswith("#")}
    assert anchors and anchors <= set(re.findall(r'id="([^"]+)"', source))
    identifiers = re.findall(r'id="([^"]+)"', source)
    assert len(set(identifiers)) == len(identifiers)


def test_names_are_text_whatever_is_in_them(tmp_path):
    names = (
        '<script>alert("x")</script>',
        "</script><!-- & ' {{ 7 * 7 }}",
        "把某物推到右边",
        "long " * 100,
        "\x1b[31m",
        "é",
    )
    models = [dataclasses.replace(one, class_names=names) for one in networks(2)]
    odd = dataclasses.replace(
        models[0], ids=np.array([f"<b>{name}</b>" for name in models[0].ids.tolist()])
    )
    _, found = report(tmp_path, odd)
    assert re.search(r"<b>video\d+</b>", found.text)
    for classes in (6, 20):
        source, found = report(tmp_path, *_with_names(models, names, classes))
        assert "<script>alert" not in source and "49" not in re.findall(r"\{\{.*?\}\}", source)
        for name in names:
            assert " ".join(name.split()) in found.text


def _with_names(models, names, classes):
    if classes == len(names):
        return models
    more = (*names, *(f"Class {label}" for label in range(len(names), classes)))
    return [
        dataclasses.replace(make_scores(60, classes, seed, network=f"Net {seed}"), class_names=more)
        for seed in range(2)
    ]


def test_one_model_two_classes_and_a_class_without_videos(tmp_path):
    scores = make_scores(12, 2, labels=np.zeros(12, np.int64))
    _, found = report(tmp_path, scores)
    assert "one model" in found.text and "Two models on the same videos" not in found.text
    assert "With 2 classes top-5 is always 100%" in found.text
    assert "Top-1 of the weakest classes" in found.text and "—" in found.text


def test_a_model_without_mistakes(tmp_path):
    labels = np.arange(12) % 3
    scores = make_scores(labels=labels, logits=10 * np.eye(3)[labels])
    _, found = report(tmp_path, scores)
    assert "No model has made a mistake" in found.text
    assert "No video was taken for another class" in found.text


def test_damaged_videos_are_said(tmp_path):
    _, found = report(tmp_path, make_scores(20, damaged=(3, 4)), make_scores(20, seed=1))
    assert "18 of 20" in found.text and "lacks the scores of 2" in found.text


def test_many_models_have_different_letters_and_are_compared_with_the_first(tmp_path):
    models, _ = make_models({str(k): one for k, one in enumerate(networks(30, 8))})
    assert len({model.letter for model in models}) == 30
    assert [(pair.first.number, pair.second.number) for pair in make_pairs(models)] == [
        (0, number) for number in range(1, 30)
    ]
    assert len(make_pairs(models[:5])) == 10
    _, found = report(tmp_path, *networks(7, 8))
    assert "Each model is compared with the first" in found.text


def test_names_tell_models_apart():
    def names(*abouts):
        files = {f"{k}/scores/x.npz": make_scores(8, **about) for k, about in enumerate(abouts)}
        return [model.name for model in make_models(files)[0]]

    assert names({"network": "A"}, {"network": "B"}) == ["A", "B"]
    assert names({"frames": 8, "network": "A"}, {"frames": 16, "network": "A"}) == [
        "A, 8×1×1",
        "A, 16×1×1",
    ]
    assert names({"step": 1, "network": "A"}, {"step": 2, "network": "A"})[1].endswith("step 2")
    assert names({"network": "A"}, {"network": "A"})[1].endswith("(1)")


def test_an_ensemble_is_a_model(tmp_path):
    files = {str(frames): make_scores(frames=frames, seed=frames) for frames in (8, 16)}
    joined, _ = join(files, None, "logits")
    _, found = report(tmp_path, joined, files["8"])
    assert "(ensemble)" in found.text and "member, weight 1" in found.text


def test_the_hardest_videos_and_the_most_confident_mistakes_are_chosen():
    #            right      wrong, unsure  wrong, sure  wrong, very sure
    logits = np.array([[3, 0], [0, 1], [0, 3], [9, 0]], np.float32)
    first = make_scores(labels=np.array([0, 0, 0, 1]), logits=logits)
    second = make_scores(labels=first.labels, logits=-logits, network="Other")
    models, _ = make_models({"a": first})
    hardest, confident = choose_mistakes(models, 2, 1)
    assert hardest.rows == (3, 2) and confident.rows == (3,)
    models, _ = make_models({"a": first, "b": second})
    hardest, *confident = choose_mistakes(models, 9, 1)
    assert sorted(hardest.rows) == [0, 1, 2, 3] and [one.rows for one in confident] == [(3,), (0,)]
    assert choose_mistakes(models, 0, 0) == []


def test_the_confusion_picture_is_transparent_where_no_video_is():
    scores = make_scores(50, 20)
    matrix = confusion(scores)
    source = confusion_picture(matrix, "A & B")
    assert 'alt="A &amp; B"' in source
    data = re.search(r"base64,([^\"]+)", source)[1]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (20, 20, 4) and ((pixels[..., 3] > 0) == (matrix > 0)).all()
    full = np.eye(20, dtype=np.int64) * 7
    data = re.search(r"base64,([^\"]+)", confusion_picture(full, ""))[1]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels[..., 3].diagonal() == 255).all()


def test_the_page_stays_small(tmp_path):
    """Its lists are of fixed length: 2,000 videos make most of what 25,000 do."""
    models = [make_scores(2000, 174, seed, network=f"Net {seed}") for seed in range(3)]
    source, _ = report(tmp_path, *models)
    assert len(source) < 1_500_000


def _colours(scheme):
    """The colours of a scheme by name, as the style sheets define them."""
    style = html.STYLE + (page._FOLDER / "page.css").read_text()
    parts = re.findall(r"@media \(prefers-color-scheme: dark\) \{(.*?)\n\}", style, re.DOTALL)
    dark = " ".join(parts)
    light = style if scheme == "light" else ""
    for part in parts:
        light = light.replace(part, "")
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light or dark))


def _contrast(first, second):
    """The contrast of two colours by WCAG 2."""

    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_told_from_their_ground(scheme):
    colours = _colours(scheme)
    for ground in ("page", "card", "tint"):
        for text in ("ink", "soft", "accent", "warn"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for number in range(8):
        assert _contrast(colours[f"m{number}"], colours["card"]) >= 3, number


def run(capsys, *arguments):
    status = exit_status(lambda: main(["report", *map(str, arguments)]))
    output, errors = capsys.readouterr()
    return status, output, errors


def test_the_command_takes_runs_and_writes_the_page(tmp_path, capsys):
    for seed, scores in enumerate(networks(2)):
        write_scores(tmp_path / f"run{seed}" / "scores" / "a.npz", scores)
    out = tmp_path / "some" / "folder"
    runs = (tmp_path / "run0", tmp_path / "run1" / "scores" / "a.npz")
    status, output, errors = run(capsys, *runs, "--out", out, "--strips", 0)
    assert (status, errors) == (0, "")
    size = (out / "report.html").stat().st_size
    assert output == f"wrote {out / 'report.html'} ({size / 1e3:,.0f} kB)\n"
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert "2 models" in Text((out / "report.html").read_text()).text


def test_classes_in_another_order_are_mapped(tmp_path):
    first, second = networks(2)
    order = np.array([3, 1, 0, 2, 5, 4])
    shuffled = dataclasses.replace(
        second,
        class_names=tuple(second.class_names[k] for k in order),
        logits=second.logits[:, order],
        labels=np.argsort(order)[second.labels],
    )
    straight, _ = report(tmp_path, first, second)
    mapped, _ = report(tmp_path, first, shuffled)
    assert straight == mapped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": 5}, "has other classes than"),
        ({"split": "test"}, "different data sets, splits or labels"),
        ({"videos": 9}, "has other videos than"),
        ({"damaged": tuple(range(20))}, "none of its videos was evaluated"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, change, words):
    files = {"a.npz": make_scores(), "b.npz": make_scores(seed=1, **change)}
    with pytest.raises(UserError, match=words):
        write_report(files, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_wrong_input_is_one_line_and_status_2(tmp_path, capsys):
    write_scores(tmp_path / "a.npz", make_scores())
    (tmp_path / "file").write_text("")
    for name, out, words in (
        ("a.npz", "file", "cannot be written"),
        ("a.npz", "file/folder", "cannot be written"),
        ("b.npz", "out", "b.npz does not exist"),
    ):
        status, output, errors = run(
            capsys, tmp_path / name, "--out", tmp_path / out, "--strips", 0
        )
        assert (status, output) == (2, "") and words in errors and errors.count("\n") == 1
