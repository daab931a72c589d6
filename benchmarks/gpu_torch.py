"""The PyTorch side of gpu.py, which starts it: the same networks as plain modules, channels last,
bfloat16 autocast, SGD.

Eager first, then torch.compile. Without a CUDA device it says so and measures nothing.
"""

import gc
import time

from benchmarks import gpu_jobs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepared(network, mode, shape, device):
    """A call that queues one step: uint8 clips in, normalised, through the network, in training
    through the optimiser too.
    """
    import torch

    from tests.helpers import torch_nets

    net = (
        torch_nets.VideoNet(gpu_jobs.NUM_CLASSES, **gpu_jobs.NETWORKS[network])
        .to(device)
        .train(mode == "training")
    )
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    # [B, T, H, W, 3] in memory is channels last once the frames are images.
    clips = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)
    labels = torch.arange(shape[0], device=device) % gpu_jobs.NUM_CLASSES
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.9)  # as JAX's

    def loss_of(clips, labels):
        with torch.autocast(device, torch.bfloat16):
            logits = net((clips.float() / 255 - mean) / std)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def train(loss_of):
        optimizer.zero_grad(set_to_none=True)
        loss_of(clips, labels).backward()
        optimizer.step()

    def evaluate(loss_of):
        with torch.no_grad():
            loss_of(clips, labels)

    return train if mode == "training" else evaluate, loss_of


def measure(network, mode, batch, variant, wanted):
    """Seconds a step and to compile, and the allocator's peak."""
    import torch

    torch.compiler.reset()
    gc.collect()  # compiled closures form cycles: the network before would count in this one's peak
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run, loss_of = prepared(network, mode, (batch, *wanted.clip), "cuda")
    if variant == "compiled":
        loss_of = torch.compile(loss_of, dynamic=False)
    start = time.perf_counter()
    run(loss_of)
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    seconds = gpu_jobs.seconds_per_step(lambda: run(loss_of), torch.cuda.synchronize, wanted)
    return {
        "seconds": seconds,
        "compile_seconds": first - seconds,
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def is_out_of_memory(error):
    """Also where Inductor wraps it in an exception of its own: its text holds that of the cause."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def main():
    wanted = gpu_jobs.options()
    try:
        import torch
    except ImportError:
        gpu_jobs.emit(note="PyTorch is not installed; its side is not measured")
        return
    if not torch.cuda.is_available():
        gpu_jobs.emit(
            note=f"PyTorch {torch.__version__} finds no CUDA device; its side is not measured"
        )
        return
    torch.backends.cudnn.benchmark = True
    gpu_jobs.emit(device=torch.cuda.get_device_name(), versions=f"torch {torch.__version__}")
    for variant in ("eager", "compiled") if wanted.compiled else ("eager",):

        def run(network, mode, batch, variant):
            return measure(network, mode, batch, variant, wanted)

        gpu_jobs.sweep(wanted, run, is_out_of_memory, variant=variant)


if __name__ == "__main__":
    main()
