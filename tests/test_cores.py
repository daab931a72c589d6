"""The number of cores, on systems that can say which are this process's and on those that cannot."""

import os

from aia_jax.prepare.command import main
from aia_jax.video.decode import cores


def test_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores() == 3


def test_without_affinity_all_cores_count(monkeypatch, capsys):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    assert (
        main([]) == 0 and "exit status" in capsys.readouterr().out
    )  # its parser takes the number as a default
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
