"""Every field of a recipe with its default: the paper's (Hao et al. 2022, IV-B) where it has one.

A recipe calls `get_config()` and says only what differs. A field that is not here cannot be set,
neither in a recipe nor on the command line (`--config.train.batch_size=16`). The fields of
`config.model` are those of the network's class, which explains them: `ResNet` in
aia_jax/models/resnet/modeling.py. `use_network(config, name, …)` chooses another network.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from aia_jax.config_fields import use_network

__all__ = ["get_config", "use_network"]


def get_config() -> ConfigDict:
    """Returns the locked defaults, with a ResNet.

    `data.dir`, `data.name` and `init_from` are the recipe's or the user's to fill.
    """
    config = ConfigDict()
    config.seed = 0  # of initialisation, data order, augmentation and dropout
    # Where the first weights come from: a folder written by convert_torch_weights.py, the workdir
    # of another run (its best checkpoint; rows of the head go to the classes of the same names), or
    # "scratch". With "" the run stops and says how to choose.
    config.init_from = ""
    # The folder in which JAX stores compiled programs for later starts; "": no folder.
    config.compile_cache = "~/.cache/aia_jax/compiled"
    # The paper's number for this recipe, a text for the start table; nothing is computed from it.
    config.paper = ""

    config.data = data = ConfigDict()
    data.dir = ""  # folder written by prepare_data.py
    # A run goes on, and is tested, with the data that it was trained on, wherever they lie; other
    # videos, labels or pictures are refused. True: they are meant.
    data.changed_on_purpose = False
    data.name = ""  # the data set's name in tables and reports; nothing is computed from it
    data.num_classes = 0  # must agree with the folder's metadata; 0: as many as it names
    # The records' feature that holds the label; a data set with several (verb, noun) needs a run
    # for each.
    data.label = "label"
    # "single", or "multi" for data with several labels a video: sigmoid instead of softmax. It must
    # agree with the folder's metadata; "": as they say.
    data.label_kind = ""
    data.train_split = "train"
    data.val_split = "validation"
    # T, frames of a clip; or segments of consecutive frames, if the network takes such (H2CN: 5).
    data.num_frames = 8
    # Which frames of a video are taken (aia_jax/data/sampling.py has every rule). "reference": as
    # the paper's code does; below 2·T frames training never sees those after the first T.
    # "uniform": in short videos too every frame is as likely as any other, and clips of
    # eval.protocol=dense10 do not wrap round. "mmaction2": as its code does, crops under test too.
    # "shared": SV-Mix's, one random offset for all segments. "dense32": every 32nd frame of a
    # window (TokShift, MSCA); any number will do.
    data.sampling = "reference"
    data.crop = 224  # pixels, height and width of the network's input
    # Frames are cropped as if they had been resized to this height and width, pixels. A text such
    # as "short256" is a short side, with kept proportions.
    data.resize = FieldReference((240, 320), field_type=object)
    # Multi-scale crop: the sides that a crop may have, as shares of a stored frame's short side.
    data.scales = (1.0, 0.875, 0.75, 0.66)
    # Instead of the multi-scale crop: the whole frame gets a random short side between these two,
    # pixels, such as (224, 329), and a crop of data.crop lies anywhere in it. (): multi-scale crop.
    data.short_side = ()
    # Instead of the multi-scale crop: Inception's random resized crop, whose area is a share of the
    # frame's between these two, such as (0.08, 1.0), at an aspect from 3:4 to 4:3. (): not.
    data.resized_crop = ()
    data.flip = 0.5  # probability of a mirrored clip; left/right classes swap with it
    # What follows is drawn once for all frames of a clip (aia_jax/data/clip_changes.py).
    # Largest changes of brightness, contrast, saturation (shares) and hue (of its circle), such as
    # (0.4, 0.4, 0.4, 0.1), and the probability that a clip is changed at all.
    data.color_jitter = (0.0, 0.0, 0.0, 0.0)
    data.color_jitter_prob = 1.0
    # RandAugment: operations that are drawn for a clip, 2 as a rule, and their strength, from 0 to
    # 10. 0: none. Each is carried out with `randaugment_prob`: timm's and pytorchvideo's 0.5, the
    # paper's and mmaction2's 1.
    data.randaugment = 0
    data.randaugment_magnitude = 9.0
    data.randaugment_prob = 0.5
    data.erase = 0.0  # probability of a box of noise in a clip (random erasing)
    # How far training evens out the classes: they are drawn in proportion to videos^(1 − balance).
    # 0: as often as they have videos; 1: all equally often. An epoch keeps its length.
    data.balance = 0.0
    data.workers = 4  # decoding processes a host; 0 decodes in the training process
    data.threads = 2  # decoding threads of each of them
    # Batches ready in advance: this many wait on the devices, and this many more in each decoding
    # process. More of them bridge longer stalls of the disk and need more memory.
    data.prefetch = 2
    # Share of a split's videos, rounded down, that may be damaged; they are listed in
    # bad_records.txt, and one more stops the run. Of a small split up to three may be, as long as
    # they are no more than a tenth. 0 allows none.
    data.damaged_share = 0.001
    # Videos of the official splits, shown beside the number that is found; 0: not known.
    data.expected = ConfigDict({"train": 0, "validation": 0})

    use_network(config, "resnet")

    config.optim = optim = ConfigDict()
    optim.name = "sgd"  # a row of `OPTIMISERS` in aia_jax/training/optimizer.py
    # Learning rate at `lr_batch_size` clips a step; it is scaled linearly with train.batch_size.
    optim.lr = 0.01
    optim.lr_batch_size = 32  # clips; the paper's 8 on each of 4 GPUs
    optim.momentum = 0.9  # of sgd
    optim.betas = ()  # of adamw, lion and their kind, such as (0.9, 0.999); (): the usual ones
    # sgd and adam add it to the gradient, as torch.optim's do; the others take it off the
    # parameters, × learning rate.
    optim.weight_decay = 1e-4
    optim.clip_norm = 20.0  # largest global norm of the raw gradient; 0: no clipping
    # "steps": the milestones count. "cosine": down to `final_lr` × lr at the end of the last epoch,
    # without milestones.
    optim.schedule = "steps"
    optim.milestones = (20, 40)  # epochs after which the learning rate is multiplied by `decay`
    optim.decay = 0.1
    optim.final_lr = 0.0
    optim.warmup_epochs = 0.0  # epochs of linear warm-up
    # Factors on learning rate and weight decay of groups of parameters: (regular expression for a
    # parameter's whole path, factors), such as ((r"head/bias", {"lr": 2.0, "decay": 0.0}), …). The
    # first that matches a path counts, and one must match. (): those of the network (its
    # `optim_groups`); the config of a run holds what they are.
    optim.groups = ()
    # Factor on the learning rate from each layer to the one below it (layer-wise decay): the head
    # has all of it, the stem the least. 1: none.
    optim.layer_decay = 1.0

    config.train = train = ConfigDict()
    train.method = "supervised"  # what a step does: a file in aia_jax/training/methods/
    train.batch_size = 32  # clips a step over all devices and hosts
    train.epochs = 50
    train.accumulate = 1  # parts into which a step's batch is cut, to save memory
    train.label_smoothing = 0.0  # share of the target that is spread over all classes
    # Weights of the classes in the loss, on average 1 a training video: "inverse" of their videos,
    # "effective0.999" (Cui et al. 2019, β after the word), one number a class, or "none".
    train.class_weights = FieldReference("none", field_type=object)
    # Mixed clips and labels, on the devices: α of Beta(α, α), 0 for none, such as mixup 0.8, cutmix
    # 1.0. CutMix has one box for all frames, VideoMix a cuboid. Of several one is drawn a step, and
    # `mix_prob` is the share of steps that mix.
    train.mixup = 0.0
    train.cutmix = 0.0
    train.videomix = 0.0
    train.mix_prob = 1.0
    train.ema_decay = 0.0  # moving average of the weights, used for evaluation; 0: none
    # Regular expressions, with spaces between them, for whole paths of parameters that get no
    # updates: "stem/.* stage[12]_.*".
    train.freeze = ""
    # True: BatchNorm of the backbone normalises by its running statistics and does not update them,
    # except the first one (TSN's partial BatchNorm; the reference's --npb turns it off).
    train.partial_bn = False
    # Clips over which BatchNorm takes its training statistics: 8 is the paper's, a GPU each. 0: all
    # clips of the step (or of one of its `accumulate` parts), on all devices. Running statistics
    # take the mean over the groups.
    train.bn_group_size = 0
    # Stages (from 1) whose activations are computed again for the gradient: less memory, more time;
    # on CPUs it changes nothing.
    train.remat = ()
    train.log_every = 20  # steps that a line of metrics.jsonl averages over
    # Epochs between validations. Every epoch has a checkpoint; the best one is chosen among those
    # that are validated. The last epoch always is.
    train.val_every = 1
    # The metric by which a checkpoint is the best: top1, top5, loss, mean_class_accuracy, or map
    # (mean average precision, of data with several labels a video). "": map there, else top1.
    train.best_by = ""
    train.patience = 0  # validations in a row without a better one that end the run; 0: any number
    # Steps between checkpoints inside an epoch; 0: checkpoints at the ends of epochs only.
    train.checkpoint_every = 0

    # Of train.method=svmix (SV-Mix, arXiv 2309.09534): what the authors train it by on
    # Something-Something.
    config.svmix = svmix = ConfigDict()
    svmix.mode = "both"  # "spatial", "temporal", or "both": a step draws one
    svmix.prob = 1.0  # share of steps that mix
    svmix.ema_decay = 0.999  # of the teacher, which is the network that is evaluated
    # The selective module's own SGD; its learning rate is constant, and for `optim.lr_batch_size`
    # clips a step as the network's is.
    svmix.lr = 0.05
    svmix.momentum = 0.9
    svmix.weight_decay = 1e-4

    config.eval = ConfigDict()
    # Clips over all devices and hosts. Of a video with several views as many videos are taken as
    # make no more clips than this.
    config.eval.batch_size = 32
    # "center": one clip, of the centres of the segments; "twice" takes 2 clips, "dense10" takes 10.
    config.eval.protocol = "center"

    # Devices on each axis. `data` and `fsdp` both split the batch; `fsdp` also splits parameters
    # and optimiser state.
    config.mesh = ConfigDict()
    config.mesh.data = -1  # -1: all devices that the other axes leave
    config.mesh.fsdp = 1
    config.mesh.time = 1  # splits the frames of long clips

    # A trace into the run's folder, for TensorBoard's profile plug-in or ui.perfetto.dev.
    config.profile = ConfigDict()
    # First traced step; 0: none is traced. After some hundred steps a run is at its speed.
    config.profile.start = 0
    config.profile.stop = 0  # last traced step; a few steps are enough, the files grow fast

    config.log = ConfigDict()
    config.log.tensorboard = True  # event files in the run's folder
    return config.lock()
