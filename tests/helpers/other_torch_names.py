"""The keys of `OtherNetwork` in a PyTorch file that nobody has: what a `torch_names.py` offers."""

SIZE_FIELDS = "model.channels"

_ROWS = [
    ("params/frames", "frames", (0,)),
    ("params/class_token", "token", (0, 1, 2)),
    ("params/patches/kernel", "patches.weight", (2, 3, 1, 0)),
    ("params/patches/bias", "patches.bias", (0,)),
    ("params/norm/scale", "norm.weight", (0,)),
    ("params/norm/bias", "norm.bias", (0,)),
    ("params/mix/query/kernel", "query.weight", (1, 0)),
    ("params/head/kernel", "head.weight", (1, 0)),
    ("params/head/bias", "head.bias", (0,)),
]


def table(model):
    return _ROWS


def entries(state_dict, model):
    return [(key, key, value) for key, value in state_dict.items()]


def reference_key(key, model):
    return key


def is_backbone(name):
    return not name.startswith(("head.", "params/head/"))


def optional_module(name):
    return None


def describe_size(names):
    return None


def pretrained_source(model):
    return "a network that nobody has"


def shown_fields(keys):
    return {}


def contradiction(keys, model):
    return None


def compare_start(fields, model):
    return []


def recognise(state_dict):
    return "a network that nobody has" if "frames" in state_dict else None
