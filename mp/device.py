"""The one place that decides where and how tensors are computed."""
import torch

from mp.errors import UserError


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`. Learning is in float32; CUDA uses TF32 products.

    Raises UserError for an unknown device or one this machine lacks.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu")
    torch.set_float32_matmul_precision("high")  # TF32 on CUDA; on the CPU float32 stays float32
    return device
