"""Checkpoints of other meshes, of several processes, of killed processes, and on a full disk."""

import os
import re
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

from aia_jax.checkpoints.manager import Checkpoints
from tests.helpers.paths import ROOT
from tests.helpers.tiny_state import META, assert_same, make_state

_NAMES = """
import os
from pathlib import Path
import jax
import jax.numpy as jnp
import numpy as np
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.checkpoints.files import committed_steps
from tests.helpers.tiny_state import META, assert_same, make_state
"""


def run_python(program, **environment):
    """Runs a program in its own process, with the names that all of them need."""
    program = _NAMES + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_another_mesh_restores_the_same_bits(tmp_path):
    """Saved on one device, restored and saved on two, restored on four, with sharded parameters.

    The digests stay the same.
    """
    program = """
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        directory, devices, step = Path(sys.argv[-1]), {devices}, {step}
        state = make_state(1, width=8)
        mesh = jax.make_mesh((devices,), ("fsdp",), axis_types=(AxisType.Auto,))
        specs = {{(3, 8): P(None, "fsdp"), (8,): P("fsdp")}}
        def abstract(x):
            sharding = NamedSharding(mesh, specs.get(x.shape, P()))
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        targets = jax.tree.map(abstract, state)
        with Checkpoints(directory) as checkpoints:
            restored, _ = checkpoints.restore_latest(targets)
            assert_same(restored, state)
            kernel = restored.params["head"]["kernel"]
            assert kernel.sharding == targets.params["head"]["kernel"].sharding
            assert kernel.addressable_shards[0].data.shape == (3, 8 // devices)
            checkpoints.save(step, restored, META)
        print("same")
    """
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1, width=8), META)
    for step, devices in ((2, 2), (3, 4)):
        done = run_python(
            program.format(devices=devices, step=step).replace("sys.argv[-1]", repr(str(tmp_path))),
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        )
        assert done.stdout.strip() == "same", done.stderr[-3000:]
    leaves = [(tmp_path / str(step) / "leaves" / "metadata").read_text() for step in (2, 3)]
    assert leaves[0] == leaves[1]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(make_state(0, width=8))[0], make_state(1, width=8))


def test_a_full_disk_keeps_the_last_good_step_and_says_so(tmp_path):
    done = run_python(
        f"""
        import resource
        from aia_jax.checkpoints.manager import SaveFailed
        checkpoints = Checkpoints({str(tmp_path)!r}, keep_latest=1)
        large = {{"w": jnp.asarray(np.random.default_rng(0).normal(size=200_000), jnp.float32)}}
        checkpoints.save(1, large, {{}})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            checkpoints.save(2, large, {{}})
            checkpoints.wait()
            print("saved")
        except SaveFailed as error:
            print(error)
        assert checkpoints.steps() == [1]
        assert_same(checkpoints.restore_latest(large)[0], large)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        checkpoints.save(3, large, {{}})  # there is room again
        checkpoints.close()
        print(committed_steps({str(tmp_path)!r}))
        """
    )
    message = (
        r"saving step 2 in .* failed: .*File too large.*; step 1 is the last good one and is "
        r"untouched\n\[3\]\n$"
    )
    assert re.search(message, done.stdout), done.stdout + done.stderr[-3000:]


def test_a_killed_save_leaves_only_whole_steps(tmp_path):
    """SIGKILL at several moments of a run that saves all the time.

    Every step that can be seen is whole, and what is not is removed.
    """
    program = f"""
        import os, threading, time
        def die(): time.sleep(float(os.environ["DELAY"])); os.kill(os.getpid(), 9)
        with Checkpoints({str(tmp_path)!r}) as checkpoints:
            start = max(checkpoints.steps(), default=0)
            checkpoints.save(start + 1, make_state(start + 1), META)
            checkpoints.wait()
            threading.Thread(target=die, daemon=True).start()
            for step in range(start + 2, 10_000):
                checkpoints.save(step, make_state(step), META)
    """
    for delay in (0.1, 0.15, 0.22):
        done = run_python(program, DELAY=str(delay))
        assert done.returncode == -9, done.stderr[-3000:]
        # What a save leaves that is killed half-way.
        (tmp_path / "9999.orbax-checkpoint-tmp").mkdir()
        with Checkpoints(tmp_path) as checkpoints:
            for step in checkpoints.steps():
                restored, meta = checkpoints.restore(step, make_state(0))
                assert_same(restored, make_state(step))
                assert meta == META
            following = checkpoints.steps()[-1] + 1
            checkpoints.save(following, make_state(following), META)
        assert all(path.name.isdecimal() for path in tmp_path.iterdir())


def test_several_processes_save_one_checkpoint(tmp_path):
    """Two processes, each with half of the kernel; then one process alone reads it."""
    program = f"""
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from aia_jax.errors import UserError
        from aia_jax.training.workdir import WorkdirLock
        rank = int(os.environ["RANK"])
        jax.distributed.initialize(os.environ["COORDINATOR"], num_processes=2, process_id=rank)
        mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(AxisType.Auto,))
        def shard(x):
            sharding = NamedSharding(mesh, P(None, "fsdp") if x.shape == (3, 4) else P())
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
        with Checkpoints({str(tmp_path)!r}) as checkpoints:
            for step in (1, 2, 3):
                state = jax.tree.map(shard, make_state(step))
                checkpoints.save(step, state, META)
                checkpoints.add_metrics(step, {{"top1": step / 10}})
            assert checkpoints.best_step() == 3 and checkpoints.steps() == [2, 3]
            assert checkpoints.rewind(2) == [3]
            restored, meta = checkpoints.restore_latest(state)
            expected = jax.tree.map(shard, make_state(2))
            same = [np.array_equal(a.addressable_data(0), b.addressable_data(0)) for a, b in zip(
                jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True)]
            assert all(same) and meta == META | {{"metrics": {{"top1": 0.2}}}}
        with WorkdirLock(Path({str(tmp_path)!r})):  # the first process holds it, all are refused
            try:
                WorkdirLock(Path({str(tmp_path)!r}))
            except UserError as error:
                assert "in use" in str(error)
                print("same")
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        processes = [
            pool.submit(run_python, program, RANK=str(rank), COORDINATOR=coordinator)
            for rank in (0, 1)
        ]
        outcomes = [process.result() for process in processes]
    for outcome in outcomes:
        assert outcome.stdout.endswith("same\n"), outcome.stderr[-3000:]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(make_state(0))[0], make_state(2))
