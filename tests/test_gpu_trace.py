"""The reading of a profiler's trace that benchmarks/gpu.py prints."""

import contextlib
import gzip
import json

import gpu
import gpu_jax
import gpu_program
import gpu_torch
import gpu_trace
import jax
import pytest

PROGRAM = """
ENTRY %main.9 (x.1: bf16[4,8], w.1: f32[8]) -> (f32[4], bf16[4,8]) {
  %x.1 = bf16[4,8]{1,0} parameter(0)
  %w.1 = f32[8]{0} parameter(1)
  %fusion.2 = (f32[4]{0}, bf16[4,8]{1,0}) fusion(%x.1, %w.1), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/mul(x)"}
  ROOT %copy-start = bf16[4,8]{0,1} copy(%x.1)
}
"""


def test_bytes_of_an_operation_are_its_inputs_and_outputs():
    sizes = gpu_program.operation_bytes(PROGRAM)
    assert sizes["fusion.2"] == (64 + 32) + (16 + 64)
    assert sizes["copy-start"] == 128


def test_kernels_of_the_streams_are_counted_once_per_step(tmp_path):
    def named(kind, pid, tid, name):
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}

    def ran(tid, name, microseconds, pid=1, **args):
        return {"ph": "X", "pid": pid, "tid": tid, "ts": 0, "dur": microseconds, "name": name, "args": args}

    process = {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}}
    events = [
        process,
        named("thread_name", 1, 7, "Stream #14(Compute)"),
        named("thread_name", 1, 8, "XLA Ops"),
        *[ran(7, "loop_fusion", 300, hlo_op="fusion.2")] * 2,
        *[ran(7, "sm90_kernel", 100)] * 4,
        ran(8, "fusion.2", 300, hlo_op="fusion.2"),  # the same kernel on a derived line
        ran(1, "python", 9000, pid=2),
    ]
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)

    kernels, seconds = gpu_trace.top_kernels(tmp_path, PROGRAM, steps=2)
    assert seconds == pytest.approx(500e-6)
    assert kernels == [
        {"name": "fusion.2", "seconds": pytest.approx(300e-6), "calls": 1, "bytes": 176},
        {"name": "sm90_kernel", "seconds": pytest.approx(200e-6), "calls": 2, "bytes": None},
    ]


def test_a_profile_without_kernels_says_why_and_loses_no_row(tmp_path, monkeypatch):
    def no_permission():
        raise PermissionError("CUPTI: not permitted\nand more")

    monkeypatch.setattr(jax.profiler, "trace", contextlib.nullcontext)  # it runs, and writes nothing
    refused = gpu_jax._profile(tmp_path, no_permission, lambda: None, PROGRAM)
    lost = gpu_jax._profile(tmp_path, lambda: None, lambda: None, PROGRAM)
    job = {"network": "TSN", "mode": "training", "batch": 8, "seconds": 0.1}
    rows = [job, job | refused, job | lost, job | {"kernels": [], "kernel_seconds": 0}]
    assert gpu.profiles(rows) == [
        "\nTSN, training, batch 8: the profile failed: PermissionError: CUPTI: not permitted",
        f"\nTSN, training, batch 8: the profile failed: FileNotFoundError: no trace in {tmp_path}",
        "\nTSN, training, batch 8: no kernels in the trace",
    ]


def test_out_of_memory_is_known_when_it_is_wrapped():
    assert gpu_torch.is_out_of_memory(RuntimeError("InductorError: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"))
    assert not gpu_torch.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_table_sets_each_row_beside_plain_tsn_and_pytorch():
    job = {"mode": "training", "batch": 64, "compile_seconds": 9.0}
    rows = [
        {"network": "TSN", "seconds": 0.1, "macs": 33e9, **job},
        {"network": "AIA(TSN)", "seconds": 0.11, "macs": 33e9, **job},
        {"network": "AIA(TSN)", "seconds": 0.22, "variant": "compiled", **job},
        {"network": "TSM", "mode": "training", "batch": 64, "failed": "out of memory"},
    ]
    titles, plain, ours, compiled = gpu.table(rows, peak_tflops=989)
    assert "1.000" in plain and "640.0" in plain and f"{2 * 3 * 33e9 * 64 / 0.1 / 989e12:.1%}" in plain
    assert "1.100" in ours and ours.endswith("2.00")
    assert compiled.startswith("compiled") and "1.100" not in compiled
    assert len(titles) == len(plain) == len(ours) == len(compiled)
