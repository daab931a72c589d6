"""The code of docs/notebook.md runs, block by block, as it is printed there."""

import re
import sys
import warnings

import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.weights import to_torch
from tests.helpers.paths import ROOT
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE, session_compile_cache
from tests.helpers.tiny_variables import drawn

PAGE = (ROOT / "docs/notebook.md").read_text()
NAMES = ["opening", "closing", "nothing"]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A folder with what the page's code opens, narrow and small."""
    torch = pytest.importorskip("torch")
    recipe = tmp_path / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere"))
    for name in ("clips/0.mp4", "clips/1.mp4"):
        write_video(tmp_path / name, numbered_frames(9, 30, 42))
    plain = ["data.resize=18,24", "model.attention=none"]
    make_run(tmp_path / "runs/mine", recipe, plain, NAMES, {})
    model = create_model(3, 4, temporal="tsm", stem="small", width=8, stage_sizes=(1,))
    arrays = to_torch(drawn(model, np.zeros((1, 4, 16, 16, 3), np.float32)), model)
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    torch.save({"state_dict": tensors}, tmp_path / "authors.pth")
    shifted = {key.replace("conv1.weight", "conv1.net.weight"): v for key, v in tensors.items()}
    shifted["base_model.conv1.weight"] = shifted.pop("base_model.conv1.net.weight")
    torch.save(shifted, tmp_path / "tsm.pth")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_page_runs(notebook, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 6
    names = {}
    with warnings.catch_warnings(), session_compile_cache():
        warnings.simplefilter("ignore")
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number} of notebook.md", "exec"), names)
            *_, last = block.strip().splitlines()
            if last.isidentifier():  # what a notebook shows
                print(repr(names[last]))
    printed = capsys.readouterr().out
    assert "TSN, ResNet" in printed and "clips/0.mp4: " in printed
    assert "do not show temporal (tsn or tsm); say it, as load(…, temporal='tsm')" in printed
    assert names["net"].model.temporal == "tsm" and "aia_jax" in sys.modules


def test_the_readme_links_the_page():
    assert "docs/notebook.md" in (ROOT / "README.md").read_text()
