"""The one place that decides where tensors are computed and in which precision."""
import os
import sys
from typing import NamedTuple

import torch

from mp.runtime.errors import UserError
from mp.runtime.processes import processes

MEMORY = 2 * 2**30  # bytes that one pass may keep for its gradient, unless told otherwise
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Compute(NamedTuple):
    device: torch.device
    precision: str            # fp32, tf32, bf16 or fp16
    half: torch.dtype | None  # of the towers' passes that need no gradient (by autocast); None: float32
    memory: int               # bytes that one pass may keep for its gradient


def choose(device: str, precision: str = "auto", memory: float | None = None) -> Compute:
    """`device`: auto (CUDA if there is one), cpu, cuda or cuda:1; `precision`: auto, fp32, tf32, bf16 or fp16.

    Parameters and whatever has a gradient are float32 everywhere. fp32 is exactly that; tf32 lets CUDA round
    the inputs of matrix products; bf16 and fp16 also run the towers in half precision where no gradient is
    needed. auto is fp32 on the CPU and fp16, the precision of OpenAI's weights, on CUDA.
    `memory`: GiB that one pass may keep for its gradient; None is half of a GPU's, or 2. What needs more is
    computed in chunks, with the same result; not the free memory, so that the same command gives the same bits.
    Raises UserError for an unknown device or one this machine lacks.
    """
    chosen = find(device)
    on_gpu = chosen.type == "cuda"
    if precision == "auto":
        precision = "fp16" if on_gpu else "fp32"
    if on_gpu:
        torch.cuda.set_device(chosen)
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    if memory is not None:
        kept = min(max(1, int(memory * 2**30)), sys.maxsize)
    elif on_gpu:
        kept = torch.cuda.get_device_properties(chosen).total_memory // 2
    else:
        kept = MEMORY
    return Compute(chosen, precision, HALF.get(precision), kept)


def find(device: str) -> torch.device:
    """The device of that name, a GPU with its index. Raises UserError if there is none."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    own = os.environ.get("LOCAL_RANK", "0")  # with torchrun every process of a machine has a GPU of its own
    if device == "cuda":
        device = f"cuda:{own}"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: unknown; use auto, cpu, cuda or cuda:N") from None
    if found.type == "cuda" and device != f"cuda:{own}" and processes()[1] > 1:
        raise UserError(f"--device {device}: with torchrun every process has a GPU of its own; give --device cuda")
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: not supported; use cpu or cuda")
    if found.type == "cuda" and found.index >= torch.cuda.device_count():
        raise UserError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; "
                        "use --device cpu")
    return found


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor there; from pinned memory, so that a copy to a GPU doesn't hold up the program."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
