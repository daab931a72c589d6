"""The PyTorch side of gpu.py, which starts it: the same networks as plain modules.

Channels last, bfloat16 autocast, SGD; eager first, then torch.compile. Without PyTorch or a CUDA
device it says so and measures nothing.
"""

import gc
import time

from benchmarks import gpu_jobs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepare_step(network, mode, shape, device):
    """A function that queues one step, and the loss function that it takes.

    A step normalises uint8 clips [B, T, H, W, 3], computes logits and loss, and in training updates
    the network. The loss function is an argument so that it can be compiled.
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
    # In memory [B, T, H, W, 3] is what PyTorch calls channels last for images [B·T, 3, H, W].
    clips = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)
    labels = torch.arange(shape[0], device=device) % gpu_jobs.NUM_CLASSES
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.9)  # as JAX's

    def compute_loss(clips, labels):
        with torch.autocast(device, torch.bfloat16):
            logits = net((clips.float() / 255 - mean) / std)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def train(compute_loss):
        optimizer.zero_grad(set_to_none=True)
        compute_loss(clips, labels).backward()
        optimizer.step()

    def evaluate(compute_loss):
        with torch.no_grad():
            compute_loss(clips, labels)

    return train if mode == "training" else evaluate, compute_loss


def measure(network, mode, batch, variant, settings):
    """The seconds of a step and of compiling, and the allocator's peak in bytes."""
    import torch

    torch.compiler.reset()
    # Compiled closures form cycles: without this the previous network would count in the peak.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run, compute_loss = prepare_step(network, mode, (batch, *settings.clip), "cuda")
    if variant == "compiled":
        compute_loss = torch.compile(compute_loss, dynamic=False)
    start = time.perf_counter()
    run(compute_loss)
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    seconds = gpu_jobs.seconds_per_step(lambda: run(compute_loss), torch.cuda.synchronize, settings)
    return {
        "seconds": seconds,
        "compile_seconds": first - seconds,
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def is_out_of_memory(error):
    """Tells by the message, because Inductor wraps the error in one of its own."""
    return "out of memory" in str(error)


def main():
    settings = gpu_jobs.read_settings()
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
    for variant in ("eager", "compiled") if settings.compiled else ("eager",):

        def run(network, mode, batch, variant):
            return measure(network, mode, batch, variant, settings)

        gpu_jobs.sweep(settings, run, is_out_of_memory, variant=variant)


if __name__ == "__main__":
    main()
