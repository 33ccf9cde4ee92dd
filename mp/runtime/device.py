"""The one place that decides where tensors are computed and in which precision."""
import os
import sys
from typing import NamedTuple

import torch
import torch.utils.deterministic

from mp.runtime.errors import UserError

MEMORY = 2 * 2**30  # bytes that one pass may keep for its gradient, unless told otherwise
WORKSPACES = (":4096:8", ":16:8")  # settings of cuBLAS with which its sums have one order
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", "fp32", "tf32", *HALF)


class Compute(NamedTuple):
    device: torch.device
    precision: str            # fp32, tf32, bf16 or fp16
    half: torch.dtype | None  # of the towers' passes that need no gradient (by autocast); None: float32
    memory: int               # bytes that one pass may keep for its gradient

    @property
    def tf32(self) -> bool:
        return self.precision != "fp32"


def choose(device: str, precision: str = "auto", memory: float | None = None) -> Compute:
    """Return where and how to compute, and set torch's switches for it.

    `device`: auto (CUDA if there is one), cpu, cuda or cuda:1. `precision`: auto, fp32, tf32, bf16 or fp16. Parameters
    and whatever has a gradient are float32 everywhere. fp32 is exactly that; tf32 lets CUDA round the inputs of matrix
    products; bf16 and fp16 also run the towers in half precision where no gradient is needed. auto is fp32 on the CPU
    and fp16, the precision of OpenAI's weights, on CUDA. `memory`: GiB that one pass may keep for its gradient; None is
    half of a GPU's, or 2: not the free memory, so that the same command gives the same bits.
    Raises UserError for an unknown precision or device, or one that this machine lacks.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: unknown; use {', '.join(PRECISIONS)}")
    place = find_device(device)
    memory_bytes = MEMORY
    if place.type == "cuda":
        same_bits_on_cuda()
        torch.cuda.set_device(place)
        memory_bytes = torch.cuda.get_device_properties(place).total_memory // 2
    if memory is not None:
        memory_bytes = min(max(1, int(memory * 2**30)), sys.maxsize)
    if precision == "auto":
        precision = "fp16" if place.type == "cuda" else "fp32"
    compute = Compute(place, precision, HALF.get(precision), memory_bytes)
    let_round(place, compute.tf32)
    return compute


def let_round(device: torch.device, tf32: bool) -> None:
    """Set whether CUDA may round the inputs of matrix products: torch has one switch for the whole process."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32


def find_device(name: str) -> torch.device:
    """Return the device of that name, a GPU with its index. Raises UserError if there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    process_gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"  # with torchrun every process of a machine has its GPU
    if name == "cuda":
        name = process_gpu
    if not name.startswith("cuda:"):
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N")
    if name != process_gpu and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"--device {name}: with torchrun every process has a GPU of its own; give --device cuda")
    count = torch.cuda.device_count()
    if name not in [f"cuda:{number}" for number in range(count)]:
        raise UserError(f"--device {name}: this machine has {count} CUDA devices; use --device cpu")
    return torch.device(name)


def same_bits_on_cuda() -> None:
    """Have every operation that knows several orders take a fixed one, or raise RuntimeError if it has none.

    Raises UserError if the environment asks cuBLAS for something else.
    """
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACES[0])  # read when CUDA starts
    if workspace not in WORKSPACES:
        raise UserError(f"CUBLAS_WORKSPACE_CONFIG {workspace}: results would change from run to run; unset it, or set "
                        f"it to {WORKSPACES[0]}")
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, which would import torch's compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # takes time, and nothing here reads such memory
    torch.backends.cudnn.benchmark = False  # would choose by time
