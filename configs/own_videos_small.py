"""Few videos of your own on a machine without an accelerator: small nets, 64 to 112 pixels.

    python train.py --config configs/own_videos_small.py --config.data.dir=DATA

DATA is what `prepare_data.py folders` (or `csv`, or `lists`) wrote; it prints a command with DATA
filled in, after "next:". Network and size follow the colon, and a way to train may, svmix or
modern, as in configs/own_videos_small.py:tsm,size=112 and configs/own_videos_small.py:tsm,modern.

The nets have three blocks and half of ResNet-50's width (a vision transformer: three layers of 128
channels), and learn from the first number on: no ImageNet weights are needed, and there are none
for such nets. Meant for: some hundred clips that
differ by their motion, a laptop, and minutes. Where appearance decides, or an accelerator is at
hand, configs/own_videos.py with weights from ImageNet learns more.

Frames may be stored at any size, and keep their proportions. At the recipe's own short side they
take the least space and time: `prepare_data.py … --size short72` for size=64, short108 for 96,
short120 for 112.
"""

from ml_collections import ConfigDict

from configs.narrow import NARROW_METHODS, use_narrow
from configs.networks import Argument, Option

_FRAMES = {"64": "short72", "96": "short108", "112": "short120"}  # data.resize by crop

ARGUMENT = Argument(options={"size": Option(tuple(_FRAMES), "side of the network's input, pixels")})
CHOICES = ARGUMENT.describe()


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    size = choice.options["size"]
    config = choice.bare_config()
    config.init_from = "scratch"

    config.data.name = "own videos"
    config.data.sampling = "uniform"  # own clips are often short
    config.data.crop = int(size)
    config.data.resize = _FRAMES[size]
    config.data.scales = (1.0, 0.875, 0.75)
    config.data.workers = 0  # small frames decode faster than processes start

    use_narrow(config, width=32, dropout=0.3)

    config.optim.lr = 0.05
    config.optim.lr_batch_size = 16
    config.optim.warmup_epochs = 1.0
    config.optim.milestones = (40, 52)

    # 200 clips make epochs of 12 steps, of some seconds each on a laptop.
    config.train.batch_size = 16
    config.train.epochs = 60
    config.train.log_every = 10
    config.train.val_every = 2
    config.eval.batch_size = 16
    choice.set_method(config, NARROW_METHODS)
    return config
