"""Every field of a recipe with its default: the paper's (Hao et al. 2022, IV-B) where it has one.

A recipe calls `get_config()` and says only what differs. A field that is not here cannot be set,
neither in a recipe nor on the command line (`--config.train.batch_size=16`).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the locked defaults. `data.dir`, `data.name`, `data.num_classes` and `init_from` are
    the recipe's or the user's to fill.
    """
    config = ConfigDict()
    config.seed = 0  # of initialisation, data order, augmentation and dropout
    # Where the first weights come from: a folder written by convert_torch_weights.py, the workdir
    # of another run (its best checkpoint; rows of the head go to the classes of the same names), or
    # "scratch". "" stops with a line that says how.
    config.init_from = ""
    # folder in which JAX keeps compiled programs for later starts; "": none are kept
    config.compile_cache = "~/.cache/aia_jax/compiled"

    config.data = data = ConfigDict()
    data.dir = ""  # folder written by prepare_data.py
    data.name = ""  # for the eye: tables and reports
    data.num_classes = 1  # must be what the folder's metadata say
    # label feature of the records; data sets with several (verb, noun) have one run each
    data.label = "label"
    data.train_split = "train"
    data.val_split = "validation"
    data.num_frames = 8  # T, frames of a clip
    data.crop = 224  # pixels, height and width of the network's input
    data.resize = (240, 320)  # pixels, height and width of the stored frames
    data.scales = (
        1.0,
        0.875,
        0.75,
        0.66,
    )  # multi-scale crop: sides as shares of the short side of a stored frame
    data.flip = 0.5  # probability of a mirrored clip; left/right classes swap with it
    data.workers = 4  # decoding processes a host; 0 decodes in the training process
    data.threads = 2  # decoding threads of each of them
    data.prefetch = (
        2  # batches that wait on the devices; and finished ones that wait in each decoding process
    )
    # Share of a split's videos, rounded down, that may be damaged; they are listed in
    # bad_records.txt, and one more stops the run. Of fewer than 1,000 videos the default allows
    # none.
    data.damaged_share = 0.001
    data.expected = ConfigDict(
        {"train": 0, "validation": 0}
    )  # videos of the official splits, shown beside what is found; 0: not known

    config.model = model = ConfigDict()
    model.depth = 50  # ResNet-50 or 101
    model.temporal = "tsn"  # or "tsm": temporal shift in every block
    model.attention = (
        "none"  # or C, ST, CinST, STinC, joined by -> (one after another) and + (averaged)
    )
    model.dropout = 0.5  # rate before the head
    model.width = 64  # channels of the first stage's bottlenecks
    model.stage_sizes = ()  # blocks of each stage; () takes those of `depth`
    model.stem = (
        "imagenet"  # or "small": 3x3, stride 1, no max-pool, for frames of a few dozen pixels
    )
    model.fold_div = 8  # temporal shift moves 1/fold_div of the channels each way
    # or "bfloat16": of activations; parameters, statistics, logits and loss stay float32
    model.compute_dtype = "float32"

    config.optim = optim = ConfigDict()
    optim.lr = (
        0.01  # learning rate at `lr_batch_size` clips a step; scaled linearly with train.batch_size
    )
    optim.lr_batch_size = 32  # clips; the paper's 8 on each of 4 GPUs
    optim.momentum = 0.9
    optim.weight_decay = 1e-4  # added to the gradient before momentum, as torch.optim.SGD does
    optim.clip_norm = 20.0  # largest global norm of the raw gradient; 0 is off
    optim.milestones = (20, 40)  # epochs after which the learning rate is multiplied by `decay`
    optim.decay = 0.1
    optim.warmup_epochs = 0.0  # epochs of linear warm-up
    # (pattern for a parameter's whole path, factors on learning rate and weight decay); the first
    # that matches counts, and one must.
    optim.groups = (
        (r".*/kernel", {"lr": 1.0, "decay": 1.0}),
        (r"head/bias", {"lr": 2.0, "decay": 0.0}),
        (r".*bn\d?/(scale|bias)", {"lr": 1.0, "decay": 0.0}),
    )

    config.train = train = ConfigDict()
    train.batch_size = 32  # clips a step over all devices and hosts
    train.epochs = 50
    train.accumulate = 1  # parts that a step's batch is cut into to save memory
    train.label_smoothing = 0.0  # share of the target spread over all classes
    train.ema_decay = 0.0  # moving average of the weights, used for evaluation; 0 is off
    # patterns, with spaces between, for whole paths of parameters that get no updates: "stem/.*
    # stage[12]_.*"
    train.freeze = ""
    # BatchNorm of the backbone as it is, statistics too, but for the first (TSN's; the reference's
    # --npb: off)
    train.partial_bn = False
    # Clips that BatchNorm takes its training statistics over: 8 is the paper's (a GPU each); 0: all
    # clips of the step (or of its part, if `accumulate` cuts it), on all devices. Running
    # statistics take the mean over the groups.
    train.bn_group_size = 0
    # stages, 1 to 4, whose activations are computed again for the gradient: less memory, more time;
    # nothing on CPUs
    train.remat = ()
    train.log_every = 20  # steps averaged in a line of metrics.jsonl
    train.checkpoint_every = (
        0  # steps between checkpoints inside an epoch; 0: at the ends of epochs only
    )

    config.eval = ConfigDict()
    config.eval.batch_size = 32  # videos over all devices and hosts
    config.eval.protocol = (
        "center"  # one clip of the segments' centres; "twice" and "dense10" take 2 and 10 clips
    )

    # Devices on each axis. `data` and `fsdp` both split the batch; `fsdp` also splits parameters
    # and optimiser state.
    config.mesh = ConfigDict()
    config.mesh.data = -1  # -1: all that the other axes leave
    config.mesh.fsdp = 1
    config.mesh.time = 1  # splits the frames of long clips

    # A trace into the run's folder, for TensorBoard's profile plug-in or ui.perfetto.dev.
    config.profile = ConfigDict()
    config.profile.start = 0  # first step traced; let the run get into its stride before; 0: none
    config.profile.stop = 0  # last step traced; a few are enough, files grow fast

    config.log = ConfigDict()
    config.log.tensorboard = True  # event files in the run's folder
    return config.lock()
