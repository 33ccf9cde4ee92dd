"""List the prompt learners: a file each, and a row in METHODS, from which everything else that lists methods follows.

A learner is an `nn.Module` that holds only what is learnt. CLIP, classes and images are arguments, so the same learner
serves every task, and `torch.func.functional_call` runs it with adapted parameters. `Learner` says what it must give.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # the command line reads METHODS without waiting for torch
    import torch
    from torch import Tensor

    from mp.clip.model import CLIP
    from mp.learners.prompts import ClassPrompts


class Method(NamedTuple):
    """Hold a row of METHODS. `meta` and `finetune` have what section 4.2 of the paper sets for this method alone, as
    values of fields of MetaSettings (at least inner_lr and batch) and FinetuneSettings (at least epochs, lr and batch);
    `prompt` has values for both and for PromptSettings."""
    title: str     # as the paper writes it
    learner: str   # the class, as "module.Class" below mp.learners
    meta: dict[str, Any]
    finetune: dict[str, Any]
    prompt: dict[str, Any] = {}
    made_with: tuple[str, ...] = ("length",)  # arguments of the class: settings, and sizes that only files have
    averages_epochs: bool = False  # fine-tuning ends with an average over the epochs' prompts (GPA)
    # Of a method that isn't in the paper: where its settings are from; help says "The paper has none for …: " before.
    # Without it, the method has columns in Table 2.
    source: str = ""


METHODS = {  # in the order of Table 2's columns
    "coop": Method("CoOp", "coop.CoOp", dict(inner_lr=0.025 / 6, batch=32), dict(epochs=200, lr=0.002, batch=32)),
    "cocoop": Method("CoCoOp", "cocoop.CoCoOp", dict(inner_lr=0.025 / 6, batch=8), dict(epochs=10, lr=0.002, batch=1)),
    "promptsrc": Method("PromptSRC", "promptsrc.PromptSRC", dict(inner_lr=0.02 / 6, batch=32),
                        dict(epochs=20, lr=0.0025, batch=4, gpa_mean=None),  # at its share of the epochs
                        made_with=("depth", "length", "image_depth", "image_length"), averages_epochs=True),
    "maple": Method("MaPLe", "maple.MaPLe", dict(inner_lr=0.02 / 6, batch=32), dict(epochs=5, lr=0.0035, batch=4),
                    dict(length=2), made_with=("depth", "length"),
                    source="meta-learning takes promptsrc's, fine-tuning its own paper's"),
}
DEFAULT_METHOD = "promptsrc"  # of the command line


class Learner(Protocol):
    """Say what a method must give, as an nn.Module without buffers: its parameters are what prompt files hold, and each
    must enter the loss, which must have a second derivative (no fused attention) and nothing random in it.

    Its tensors have names that other files know: `ctx` [n, W] is the context; where it is made with depth, `text.i` and
    perhaps `vision.i` are the vectors of layer i, and there is an `image_prompts`, as in mp/learners/deep.py. Built by
    `make_learner` as Class(clip, generator=...), and with what its row in METHODS says that it is `made_with`. Shapes:
    B images, C classes, E joint embedding.
    """
    sees_images: bool      # takes images; else `inputs` is one tensor, the normalised features [B, E] of frozen CLIP
    published_as: str      # the model's name, and so the folder, in which the method's own code keeps its files;
                           # "" where there is no such code, also of a learner that inherits from one that has it

    @staticmethod
    def published() -> dict[str, str]:
        """Return its tensors' names, of any number of layers, and what the method's own code calls them in files."""

    def prepare(self, clip: CLIP, names: list[str]) -> Any:
        """Return what the loss needs of a task's classes and that doesn't depend on what is learnt: computed once.
        `forward` gets it; `classifier` gets plain ClassPrompts. Raises UserError for an empty or too long name."""

    def inputs(self, clip: CLIP, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the loss needs of images uint8 [B, size, size, 3] and that doesn't depend on what is learnt:
        computed once where images are seen again. The first is what `classifier`'s function takes. Each is [B, ...]."""

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        """Return the function from `inputs(...)[0]` to logits [B, C]; what all images share is computed once, here."""

    def forward(self, clip: CLIP, classes: Any, *inputs_and_labels: Tensor) -> Tensor:
        """Return the loss, a mean over the images, of what `prepare` and `inputs` gave, and labels [B]."""

    def image_bytes(self, clip: CLIP, classes: Any) -> int:
        """Return about what each image of a batch adds to the memory that the loss keeps for its gradient."""

    def class_bytes(self, clip: CLIP, classes: Any) -> int:
        """Return about what the classes add to it, however many images there are."""


def learner_class(method: str) -> type:
    """Return the class of a method. Raises KeyError for a method that isn't in METHODS."""
    module, _, name = METHODS[method].learner.partition(".")
    return getattr(importlib.import_module(f"mp.learners.{module}"), name)


def make_learner(method: str, clip: CLIP, depth: int | None = None, length: int | None = None,
                 generator: torch.Generator | None = None, **others: int | None) -> Learner:
    """Make the method's learner, from its handcrafted start, on CLIP's device; what is random comes from `generator`.

    `depth`, `length` and the others are for methods that are made with them; None: the method's default. Raises
    UserError if the towers can't take them.
    """
    sizes = {"depth": depth, "length": length} | others
    sizes = {name: value for name, value in sizes.items() if name in METHODS[method].made_with and value is not None}
    learner = learner_class(method)(clip, generator=generator, **sizes)
    return learner.to(clip.logit_scale)  # CLIP's type, whatever torch's default
