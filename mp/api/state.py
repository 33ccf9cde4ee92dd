"""The caller's hidden state, which may not change a bit: torch's defaults and modes, Pillow's and Python's switches."""
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from PIL import ImageFile


def alone(function: Callable) -> Callable:
    """Return a function that finds everything as in a fresh process, and leaves it as the caller has it.

    What it calls back, such as `report`, finds the same. Switches that a process has only once are set for its other
    threads, too.
    """
    @functools.wraps(function)
    def call(*args, **options):
        with fresh_state():
            return function(*args, **options)

    return call


@contextmanager
def fresh_state() -> Iterator[None]:
    """float32, on the CPU unless told otherwise, with gradients, without autocast; damaged images aren't read."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")  # none is an error
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for read, write, fresh in ((torch.get_default_dtype, torch.set_default_dtype, torch.float32),
                                   (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
                                   (truncated_images, take_truncated_images, False)):
            if read() != fresh:
                stack.callback(write, read())
                write(fresh)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def truncated_images() -> bool:
    return ImageFile.LOAD_TRUNCATED_IMAGES


def take_truncated_images(value: bool) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = value
