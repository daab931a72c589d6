"""benchmarks.gpu and its parts: traces, tables, and how the time is spent."""

import contextlib
import gzip
import json
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from aia_jax import create_model
from benchmarks import gpu, gpu_jax, gpu_jobs, gpu_torch, gpu_trace

PROGRAM = """
ENTRY %main.9 (x.1: bf16[4,8], w.1: f32[8]) -> (f32[4], bf16[4,8]) {
  %x.1 = bf16[4,8]{1,0} parameter(0)
  %w.1 = f32[8]{0} parameter(1)
  %fusion.2 = (f32[4]{0}, bf16[4,8]{1,0}) fusion(%x.1, %w.1), kind=kLoop, calls=%fused, \
metadata={op_name="jit(f)/mul(x)"}
  ROOT %copy-start = bf16[4,8]{0,1} copy(%x.1)
}
"""


def test_kernels_of_the_streams_are_counted_once_per_step(tmp_path):
    def named(kind, pid, tid, name):
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}

    def ran(tid, name, microseconds, pid=1, **args):
        return {
            "ph": "X",
            "pid": pid,
            "tid": tid,
            "ts": 0,
            "dur": microseconds,
            "name": name,
            "args": args,
        }

    process = {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}}
    events = [
        process,
        named("thread_name", 1, 7, "Stream #14(Compute)"),
        named("thread_name", 1, 8, "XLA Ops"),
        *[ran(7, "loop_fusion", 300, hlo_op="fusion.2")] * 2,
        *[ran(7, "sm90_kernel", 100)] * 4,
        *[ran(7, "copy_start", 50)] * 2,  # the kernel's name; the event names no operation
        ran(8, "fusion.2", 300, hlo_op="fusion.2"),  # the same kernel on a derived line
        ran(1, "python", 9000, pid=2),
    ]
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)

    kernels = gpu_trace.read_kernels(tmp_path, PROGRAM, steps=2)
    sizes = (64 + 32) + (16 + 64), 64 + 64
    assert kernels == [
        {
            "name": "fusion.2",
            "seconds": pytest.approx(300e-6),
            "calls": 1,
            "bytes": sizes[0],
            "source": "jit(f)/mul(x)",
        },
        {
            "name": "sm90_kernel",
            "seconds": pytest.approx(200e-6),
            "calls": 2,
            "bytes": None,
            "source": "",
        },
        {
            "name": "copy-start",
            "seconds": pytest.approx(50e-6),
            "calls": 1,
            "bytes": sizes[1],
            "source": "",
        },
    ]
    gpu_trace.write_csv(tmp_path / "kernels.csv", kernels)
    titles, first, second, _ = (tmp_path / "kernels.csv").read_text().splitlines()
    assert titles == "name,ms,calls,bytes,source"
    assert first == "fusion.2,0.3000,1,176,jit(f)/mul(x)" and second == "sm90_kernel,0.2000,2,,"


def test_a_profile_without_kernels_says_why_and_loses_no_row(tmp_path, monkeypatch):
    def no_permission():
        raise PermissionError("CUPTI: not permitted\nand more")

    # Runs, and writes no trace.
    monkeypatch.setattr(jax.profiler, "trace", contextlib.nullcontext)
    program = SimpleNamespace(as_text=lambda: PROGRAM)
    refused = gpu_jax._profile(
        tmp_path, SimpleNamespace(program=program, step=no_permission, wait=lambda: None)
    )
    lost = gpu_jax._profile(
        tmp_path, SimpleNamespace(program=program, step=lambda: None, wait=lambda: None)
    )
    job = {"network": "TSN", "mode": "training", "batch": 8, "seconds": 0.1}
    rows = [job, job | refused, job | lost, job | {"kernels": [], "kernel_seconds": 0}]
    assert gpu.format_profiles(rows) == [
        "\nTSN, training, batch 8: the profile failed: PermissionError: CUPTI: not permitted",
        f"\nTSN, training, batch 8: the profile failed: FileNotFoundError: no trace in {tmp_path}",
        "\nTSN, training, batch 8: no kernels in the trace",
    ]


def test_a_profile_tells_the_times_with_and_without_graphs():
    kernel = {"name": "fusion.2", "seconds": 0.06, "calls": 2, "bytes": 3e9}
    job = {"network": "TSN", "mode": "training", "batch": 8, "seconds": 0.1}
    title, _, line = gpu.format_profiles(
        [job | {"kernels": [kernel], "kernel_seconds": 0.08, "seconds_without_graphs": 0.12}]
    )
    assert title == (
        "\nTSN, training, batch 8: 100.00 ms a step, 120.00 ms without CUDA graphs, "
        "80.00 ms of kernels"
    )
    assert line.split() == ["60.000", "75.0%", "2.0", "3000.0", "100", "fusion.2"]


@pytest.mark.parametrize(
    ("step_seconds", "steps"), [(0.01, 4 + 5 * 100), (0.7, 4 + 5), (2.0, 4 + 3), (30.0, 4 + 2)]
)
def test_long_steps_are_repeated_less_often(monkeypatch, step_seconds, steps):
    ran = []
    monkeypatch.setattr(time, "perf_counter", lambda: step_seconds * (len(ran) + 0.001))
    settings = SimpleNamespace(round_seconds=1.0)
    seconds = gpu_jobs.seconds_per_step(lambda: ran.append(0), lambda: None, settings)
    assert seconds == pytest.approx(step_seconds)
    assert len(ran) == pytest.approx(steps, abs=6)


def test_jobs_that_are_not_compiled_in_time_are_named(capsys, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(
        gpu_jax,
        "make_step",
        lambda *_: (jax.jit(lambda x: x), [jax.ShapeDtypeStruct((), float)]),
    )
    monkeypatch.setattr(gpu_jax, "_compile", lambda *_: over.wait())
    settings = SimpleNamespace(
        networks=["TSN"],
        batches=[2, 1],
        clip=[1, 8, 8],
        profile=None,
        deadline=time.time() + 0.2,
        round_seconds=1.0,
    )
    measurer = gpu_jax.Measurer(settings)
    measurer.compile()
    over.set()
    settings.deadline += 60
    gpu_jobs.sweep(settings, measurer, gpu_jax._is_out_of_memory)
    _, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["mode"], row["batch"], row["failed"]) for row in rows] == [
        (mode, batch, "no time left") for batch in (1, 2) for mode in ("training", "evaluation")
    ]


def test_arguments_are_those_of_a_new_network_without_compiling_it():
    model = create_model(gpu_jobs.NUM_CLASSES, stage_sizes=(1, 1))
    _, shapes = gpu_jax.make_step(model, "training", (2, 1, 32, 32))
    state, batch, key = gpu_jax.make_arguments(shapes)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (state, batch, key)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    block, statistics = state.params["stage2_block0"], state.batch_stats["stage2_block0"]
    assert np.std(block["conv2"]["kernel"]) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    assert np.all(block["bn2"]["scale"] == 1) and not np.any(block["bn2"]["bias"])
    assert np.all(statistics["bn2"]["var"] == 1) and not np.any(statistics["bn2"]["mean"])


def test_out_of_memory_is_recognised_when_it_is_wrapped():
    assert gpu_torch.is_out_of_memory(
        RuntimeError("InductorError: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    )
    assert not gpu_torch.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_table_sets_each_row_beside_plain_tsn_and_pytorch():
    job = {"mode": "training", "batch": 64, "compile_seconds": 9.0}
    rows = [
        {"network": "TSN", "seconds": 0.1, "macs": 33e9, **job},
        {"network": "AIA(TSN)", "seconds": 0.11, "macs": 33e9, **job},
        {"network": "AIA(TSN)", "seconds": 0.22, "variant": "compiled", **job},
        {"network": "TSM", "mode": "training", "batch": 64, "failed": "out of memory"},
    ]
    titles, plain, ours, compiled = gpu.format_table(rows, peak_tflops=989)
    assert (
        "1.000" in plain and "640.0" in plain and f"{2 * 3 * 33e9 * 64 / 0.1 / 989e12:.1%}" in plain
    )
    assert "1.100" in ours and ours.endswith("2.00")
    assert compiled.startswith("compiled") and "1.100" not in compiled
    assert len(titles) == len(plain) == len(ours) == len(compiled)
