"""The caller's hidden state, which may not change a bit: torch's defaults and modes, Pillow's and Python's switches."""
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from PIL import ImageFile


@contextmanager
def fresh_state() -> Iterator[None]:
    """Set everything as in a fresh process, and at the end as the caller had it. `@fresh_state()` does so around a
    function; what that calls back, such as `report`, finds the fresh state, too.

    A fresh process has float32 on the CPU, unless told otherwise, gradients, no autocast, and reads no damaged images.
    Switches that a process has only once are set for its other threads, too.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")  # none is an error
        warnings.filterwarnings("ignore", module=r"PIL\.")
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        stack.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        if torch.get_default_device().type != "cpu":  # else it would only slow down every call of torch
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))  # with gradients, whatever the caller's mode
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):  # else torch would warn where there is no CUDA
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
