"""Checkpoints: what is restored is what was saved, bit for bit, or an error that says what is wrong and what is left."""

import os
import re
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax.training import digest
from aia_jax.training.checkpoint import Checkpoints
from aia_jax.training.checkpoint_files import CheckpointError, best_step, committed_steps, load_weights, read_meta
from aia_jax.training.state import TrainState

META = {"metrics": {"top1": 0.5}, "position": 7, "class_names": ["left", "right"]}
TX = optax.sgd(0.1, momentum=0.9)


def make_state(seed=0, width=4, ema=False):
    rng = np.random.default_rng(seed)
    variables = {
        "params": {"head": {"kernel": rng.normal(size=(3, width)).astype("f4"), "bias": rng.normal(size=width).astype("f4")}},
        "batch_stats": {"bn": {"mean": rng.normal(size=3).astype("f4")}},
    }
    return TrainState.create(variables, TX, ema=ema).replace(step=jnp.asarray(seed, jnp.int32))


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(directory, *steps, **options):
    with Checkpoints(directory, keep_latest=9) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, make_state(step, **options), META | {"position": step})
            checkpoints.wait()


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))


def run_python(program, **environment):
    """Runs a program with this module's names at hand, in its own process."""
    program = "import sys; sys.path.insert(0, 'tests/training')\nfrom test_checkpoint import *\n" + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_is_restored_is_what_was_saved(tmp_path):
    state = make_state(3, ema=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(state) is None
        assert checkpoints.best_step() is None
        assert checkpoints.save(3, state, META)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3]
        restored, meta = checkpoints.restore_latest(jax.eval_shape(lambda: state))
        assert not checkpoints.save(3, make_state(4, ema=True), META)  # a step is never written over
    assert meta == META
    assert_same(restored, state)


def test_a_save_holds_the_state_of_its_time_though_the_next_step_reuses_the_memory(tmp_path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = advance({"w": jnp.zeros((512, 512)), "v": jnp.zeros(100)})
    expected = jax.tree.map(lambda x: np.array(x), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(20):
            state = advance(state)
        restored, _ = checkpoints.restore(1, jax.eval_shape(lambda: state))
    assert_same(restored, expected)


def test_latest_and_best_are_kept(tmp_path):
    scores = {1: 0.1, 2: 0.6, 3: 0.6, 4: None, 5: 0.2, 6: 0.3}
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step), {"metrics": {"top1": score}})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.best_step() == 2
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:  # scores of an earlier process count too
        checkpoints.save(7, make_state(7), {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 6, 7]
        assert best_step(tmp_path) == checkpoints.best_step() == 2


def test_weights_load_without_the_optimiser(tmp_path):
    state = make_state(1, ema=True)
    state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, META)
        checkpoints.save(2, make_state(2, ema=True), {"metrics": {"top1": 0.1}})
    assert_same(load_weights(tmp_path, "best"), jax.tree.map(np.asarray, state.ema))
    assert_same(load_weights(tmp_path, 1, ema=False), {"params": state.params, "batch_stats": state.batch_stats})
    latest = load_weights(str(tmp_path))
    assert_same(latest, make_state(2, ema=True).ema)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(latest))
    assert read_meta(tmp_path, 1) == META


def test_a_flipped_byte_in_any_file_is_harmless_or_an_error_that_names_it(tmp_path):
    save_steps(tmp_path, 1, 2, ema=True)
    state, checked, raised = make_state(2, ema=True), 0, set()
    with Checkpoints(tmp_path) as checkpoints:
        for path in sorted(path for path in (tmp_path / "2").rglob("*") if path.is_file()):
            size = path.stat().st_size
            for position in {0, size // 3, size // 2, size - 1} if size else ():
                flip(path, position, bit=position % 8)
                checked += 1
                try:
                    restored, meta = checkpoints.restore_latest(state)
                    assert_same(restored, state)
                    assert meta == META | {"position": 2}
                except CheckpointError as error:
                    assert re.search(r"step 2 is damaged: file .*/2/.*; step 1 is whole: .*--resume_from=1$", str(error))
                    assert path.name == digest.SUMS or f"/{path.relative_to(tmp_path)} " in str(error)
                    raised.add(path.name)
                flip(path, position, bit=position % 8)
        assert_same(checkpoints.restore_latest(state)[0], state)
    assert checked > 30
    assert {digest.SUMS, "metadata", "manifest.ocdbt", "_METADATA"} <= raised


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # reads that Orbax gave up half-way
def test_a_byte_flipped_before_the_files_were_sealed_is_found_by_the_leaf(tmp_path):
    """The files' digests are made anew after each flip: only the leaves' own digests are left to tell."""
    save_steps(tmp_path, 1)
    state, folder, messages = make_state(1), tmp_path / "1", []
    with Checkpoints(tmp_path) as checkpoints:
        for path in sorted(path for path in (folder / "state").rglob("*") if path.is_file()):
            size = path.stat().st_size
            for position in range(size // 10, size, max(1, size // 5)):
                flip(path, position)
                digest.seal(folder)
                try:
                    assert_same(checkpoints.restore(1, state)[0], state)
                except CheckpointError as error:
                    messages.append(str(error))
                flip(path, position)
    assert messages
    assert all("leaf " in message or "cannot be read" in message for message in messages)


def test_other_numbers_in_a_readable_file_are_found_by_the_leaf(tmp_path):
    save_steps(tmp_path, 1)
    with Checkpoints(tmp_path / "other") as checkpoints:
        checkpoints.save(1, make_state(1).replace(params=make_state(2).params), META)
    (tmp_path / "1" / "state").rename(tmp_path / "1" / "was")
    (tmp_path / "other" / "1" / "state").rename(tmp_path / "1" / "state")
    digest.seal(tmp_path / "1")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="leaf params/head/bias does not hold the numbers"):
        checkpoints.restore(1, make_state(1))
    with pytest.raises(CheckpointError, match="leaf params/head/bias does not hold the numbers"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / digest.SUMS).unlink(), "SHA256SUMS cannot be read .* not written to its end"),
        (lambda folder: (folder / "meta" / "metadata").unlink(), "file .*/3/meta/metadata is missing"),
        (lambda folder: (folder / "state" / "d" / "more").write_text("x"), "file .*/3/state/d/more is not listed"),
    ],
)
def test_missing_and_foreign_files_are_named_with_the_newest_whole_step(tmp_path, damage, message):
    save_steps(tmp_path, 1, 2, 3)
    damage(tmp_path / "3")
    flip(tmp_path / "2" / "meta" / "metadata", 5)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=message + ".*; step 1 is whole"):
        checkpoints.restore_latest(make_state(3))
    with pytest.raises(CheckpointError, match=message + ".*; step 1 is whole"):
        load_weights(tmp_path)
    flip(tmp_path / "1" / "meta" / "metadata", 5)
    with pytest.raises(CheckpointError, match="no earlier step is whole: restore the folder from a backup"):
        load_weights(tmp_path)


def test_going_on_from_an_earlier_step_sets_later_ones_aside(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.rewind(1) == [2, 3]
        assert checkpoints.steps() == [1]
        again = make_state(9)
        assert checkpoints.save(2, again, META)
        assert_same(checkpoints.restore(2, again)[0], again)
        assert checkpoints.rewind(1) == [2]
        with pytest.raises(CheckpointError, match="no checkpoint of step 3"):
            checkpoints.rewind(3)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2.set-aside", "3.set-aside", "2.set-aside-again"}


def test_a_checkpoint_of_another_model_names_what_differs(tmp_path):
    save_steps(tmp_path, 1)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError) as wider:
            checkpoints.restore(1, make_state(1, width=5))
        with pytest.raises(CheckpointError) as averaged:
            checkpoints.restore(1, make_state(1, ema=True))
    assert "params/head/bias is float32[4] there, float32[5] here" in str(wider.value)
    assert "; 1 more differ." in str(wider.value)  # two parameters and their momenta
    assert "ema/batch_stats/bn/mean is missing there, float32[3] here" in str(averaged.value)
    assert "Use the config that the run was started with" in str(averaged.value)


def test_wrong_requests_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="train first"):
        load_weights(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="choose another --workdir"):
        Checkpoints(tmp_path / "file" / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        with pytest.raises(TypeError):
            checkpoints.save(1, make_state(1), {"array": np.zeros(1)})
        checkpoints.save(1, make_state(1), {})
        with pytest.raises(CheckpointError, match=r"no checkpoint of step 2 in .*; there are: 1"):
            checkpoints.restore(2, make_state(1))
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* has a validation top-1"):
        load_weights(tmp_path / "run", "best")


def test_another_mesh_restores_the_same_bits(tmp_path):
    """Saved on one device, restored and saved on two, restored on four, with parameters sharded; digests do not depend on it."""
    program = """
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        directory, devices, step = Path(sys.argv[-1]), {devices}, {step}
        state = make_state(1, width=8)
        mesh = jax.make_mesh((devices,), ("fsdp",), axis_types=(AxisType.Auto,))
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(
            mesh, P(None, "fsdp") if x.shape == (3, 8) else P("fsdp") if x.shape == (8,) else P())), state)
        with Checkpoints(directory) as checkpoints:
            restored, _ = checkpoints.restore_latest(abstract)
            assert_same(restored, state)
            assert restored.params["head"]["kernel"].sharding == abstract.params["head"]["kernel"].sharding
            assert restored.params["head"]["kernel"].addressable_shards[0].data.shape == (3, 8 // devices)
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
        from aia_jax.training.checkpoint import SaveFailed
        checkpoints = Checkpoints({str(tmp_path)!r}, keep_latest=1)
        large = jax.tree.map(jnp.asarray, {{"w": np.random.default_rng(0).normal(size=200_000).astype("f4")}})
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
    message = r"saving step 2 in .* failed: .*File too large.*; step 1 is the last good one and is untouched\n\[3\]\n$"
    assert re.search(message, done.stdout), done.stdout + done.stderr[-3000:]


def test_a_killed_save_leaves_only_whole_steps(tmp_path):
    """SIGKILL at several points of a run that saves all the time: every step that can be seen is whole, and remains are removed."""
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
        (tmp_path / "9999.orbax-checkpoint-tmp").mkdir()  # what a save leaves that is killed half-way
        with Checkpoints(tmp_path) as checkpoints:
            for step in checkpoints.steps():
                restored, meta = checkpoints.restore(step, make_state(0))
                assert_same(restored, make_state(step))
                assert meta == META
            checkpoints.save(checkpoints.steps()[-1] + 1, make_state(checkpoints.steps()[-1] + 1), META)
        assert all(path.name.isdecimal() for path in tmp_path.iterdir())


def test_several_processes_save_one_checkpoint(tmp_path):
    """Two processes, each with half of the kernel; then one process alone reads it."""
    program = f"""
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        rank = int(os.environ["RANK"])
        jax.distributed.initialize(os.environ["COORDINATOR"], num_processes=2, process_id=rank)
        mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(AxisType.Auto,))
        def place(x):
            sharding = NamedSharding(mesh, P(None, "fsdp") if x.shape == (3, 4) else P())
            return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x)[index])
        with Checkpoints({str(tmp_path)!r}) as checkpoints:
            for step in (1, 2, 3):
                state = jax.tree.map(place, make_state(step))
                checkpoints.save(step, state, META)
            assert checkpoints.rewind(2) == [3]
            restored, meta = checkpoints.restore_latest(state)
            expected = jax.tree.map(place, make_state(2))
            same = [np.array_equal(a.addressable_data(0), b.addressable_data(0)) for a, b in zip(
                jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True)]
            assert all(same) and meta == META
        print("same")
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        processes = [pool.submit(run_python, program, RANK=str(rank), COORDINATOR=coordinator) for rank in (0, 1)]
        outcomes = [process.result() for process in processes]
    for outcome in outcomes:
        assert outcome.stdout.endswith("same\n"), outcome.stderr[-3000:]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(make_state(0))[0], make_state(2))


def test_checkpoint_folders_are_found_by_their_names(tmp_path):
    for name in ("10", "9", "9.set-aside", "11.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    assert committed_steps(tmp_path) == [9, 10]
    assert committed_steps(Path(tmp_path) / "absent") == []
