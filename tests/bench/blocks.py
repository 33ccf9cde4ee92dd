"""Which building blocks `python -m tests.bench` measures. A method in METHODS has its rows without being named here."""
from typing import NamedTuple

from mp.learners import METHODS

STEPS = 4  # inner steps, as in the paper


class Block(NamedTuple):
    what: str                        # text gradient, fine-tuning, step, meta-gradient or evaluation
    method: str | None               # None: the text gradient, which is the same for all
    classes: int
    images: int = 0                  # of a batch; of fine-tuning, which takes the method's batches, in all
    steps: int = 0                   # inner steps of a meta-gradient; 0 is the gradient of a training step
    tasks: int = 1                   # one after another
    plain: bool = False              # whether the plain way is measured
    plain_images: int | None = None  # evaluated the plain way, where all would take too long; None: all
    memory_only: bool = False        # the time doesn't matter: one run will do
    anew: bool = False               # no graph of an inner step is kept, as where --memory is small

    @property
    def title(self) -> str:
        words = [f"{METHODS[self.method].title} {self.what}" if self.method else self.what, f"{self.classes:,} classes"]
        for number, word in ((self.images, "image"), (self.steps, "step")):
            if number:
                words.append(f"{number} {word}{'s' * (number > 1)}")
        if self.tasks > 1:
            words.append(f"{self.tasks} tasks")
        if self.anew:
            words.append("graphs anew")
        return ", ".join(words)


BLOCKS = [  # in the table's order; a method is named only where a row is about that method alone
    Block("text gradient", None, 100, plain=True),
    *(Block("fine-tuning", method, 100, max(8, row.finetune["batch"]), plain=True) for method, row in METHODS.items()),
    # CoOp encodes the classes once for all images, so the paper's batch of 32 takes hardly more than one image.
    Block("meta-gradient", "coop", 100, 32, STEPS),
    Block("meta-gradient", "coop", 50, 32, STEPS, plain=True),
    Block("meta-gradient", "coop", 50, 32, STEPS, anew=True),
    *(Block("meta-gradient", method, 20, 2, STEPS, plain=not anew, anew=anew)
      for method in METHODS if method != "coop" for anew in (False, True)),
    # CoCoOp encodes them anew for every image, even where nothing is trained.
    Block("evaluation", "cocoop", 100, 100, plain=True, plain_images=4),
    # As many classes as ImageNet has, with the method that adds nothing to the text tower's pass.
    Block("step", "coop", 1000, 32),
    *(Block("meta-gradient", method, 20, 2, steps, memory_only=True, anew=True)
      for method in METHODS for steps in (1, 16)),
    # Tasks add nothing to the memory, with the method whose text features need the most.
    Block("meta-gradient", "cocoop", 20, 2, STEPS, tasks=6, memory_only=True, anew=True),
]
