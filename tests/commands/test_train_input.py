"""train.py and eval.py on input that is wrong, damaged or short."""

from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import make_recipe, refused, rows, run, run_here


def test_wrong_input_is_one_line(tmp_path):
    recipe = make_recipe(tmp_path)
    workdir = tmp_path / "run"
    refused(
        run_here("train.py", recipe, workdir, "--config.train.batchsize=8"),
        "train.batchsize",
        "train.batch_size",
    )
    refused(
        run_here("train.py", recipe, workdir, "--config.data.dir=/nowhere/at/all"),
        "/nowhere/at/all",
        "prepare_data.py",
    )
    refused(
        run_here("train.py", recipe, workdir, "--config.data.num_classes=4"),
        "3 classes",
        "num_classes=4",
    )
    refused(
        run_here("train.py", recipe, workdir, "--config.init_from="),
        "convert_torch_weights.py",
        "--config.init_from=scratch",
    )
    refused(
        run_here("train.py", recipe, workdir, "--config.data.val_split=test"),
        "'test'",
        "train",
        "validation",
    )
    refused(
        run_here(
            "train.py",
            recipe,
            workdir,
            "--config.train.batch_size=40",
            "--config.eval.batch_size=40",
        ),
        "18",
        "40",
    )
    refused(run_here("train.py", recipe, workdir, "--config.mesh.fsdp=2"), "mesh.fsdp", "1 device")
    refused(
        run_here("train.py", recipe, workdir, "--config.train.class_weights=(1.0,2.0,1.0,1.0)"),
        "train.class_weights",
        "label 3, a class that does not exist",
    )
    refused(
        run_here(
            "train.py",
            recipe,
            workdir,
            "--config.train.accumulate=4",
            "--config.train.videomix=1.0",
        ),
        "train.videomix",
        "no other clip to mix with",
    )
    refused(run("train.py", tmp_path / "none.py", workdir), "none.py")
    refused(run_here("eval.py", recipe, workdir), "no checkpoint", "train first")
    (tmp_path / "file").write_text("")
    refused(
        run_here("train.py", recipe, tmp_path / "file" / "run"), "--workdir", "cannot be written"
    )
    assert not workdir.exists() or not list(workdir.glob("checkpoints/*"))


def test_a_label_out_of_range_names_its_video(tmp_path):
    recipe = make_recipe(tmp_path, classes=("a", "b", "c", "d"))
    names = sorted((tmp_path / "data").glob("*label*"))
    for path in names:
        path.write_text("a\nb\nc\n")
    refused(run_here("train.py", recipe, tmp_path / "run"), "label 3", "train_", "0 to 2")


def test_damaged_videos_are_replaced_listed_and_limited(tmp_path):
    recipe = make_recipe(tmp_path, shards=1)
    for name in ("train", "validation"):
        (shard,) = (tmp_path / "data").glob(f"*-{name}.tfrecord-*")
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 0xFF
        shard.write_bytes(content)
    done = run_here("train.py", recipe, tmp_path / "run", "--config.train.epochs=1")
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "run" / "bad_records.txt").read_text()
    assert "validation_" in listed
    (validation,) = [row for row in rows(tmp_path / "run") if row["split"] == "validation"]
    assert (validation["evaluated"], validation["expected"]) == (8, 9)
    tested = run_here("eval.py", recipe, tmp_path / "run")
    assert (
        tested.returncode == 1
        and "bad_records.txt" in tested.stderr
        and "8 of 9 videos evaluated" in tested.stdout
    )
    strict = run_here("train.py", recipe, tmp_path / "strict", "--config.data.damaged_share=0")
    refused(strict, "damaged", "data.damaged_share")


def test_short_videos_train_with_repeated_frames(tmp_path):
    """Fewer frames than T: allowed, the frames repeat; under 3 frames: not trained on, and said."""
    make_dataset(tmp_path / "data", {"train": 6, "validation": 3}, frames=(3, 2, 5), size=(16, 16))
    recipe = make_recipe(tmp_path / "recipe")
    done = run_here(
        "train.py",
        recipe,
        tmp_path / "run",
        f"--config.data.dir={tmp_path / 'data'}",
        "--config.train.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    assert "6 training videos have fewer than 3 frames" in done.stdout
