"""The settings of meta-training and fine-tuning: the paper's section 4.2, refused where they make no sense."""
import math
from dataclasses import asdict, dataclass

from mp.runtime.errors import UserError


@dataclass(frozen=True)
class MetaSettings:
    """The paper's section 4.2, in its terms."""
    method: str
    epochs: int = 200
    inner_steps: int = 4
    inner_lr: float = 0.025 / 6  # α
    meta_lr: float = 0.001       # β
    clip_norm: float = 5.0       # γ
    shots: int = 16              # N
    support: int = 5             # K
    batch: int = 32              # of an inner step
    query_batch: int = -1        # -1: as `batch`; 0: the whole query set
    first_order: bool = False
    sum_tasks: bool = False      # Σ over tasks, as Algorithm 1 prints, instead of the text's average
    depth: int = 9               # of PromptSRC's prompts
    length: int = 4
    seed: int = 1

    def __post_init__(self):
        if self.shots < self.support + 1:
            raise UserError(f"--shots {self.shots} leaves no query image beside --support {self.support}; "
                            f"give {self.support + 1} or more")
        for name, least in (("epochs", 1), ("inner_steps", 0), ("support", 1), ("batch", 1), ("query_batch", -1),
                            ("seed", 0), ("depth", 1), ("length", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: too small; give {least} or more")
        for name in ("inner_lr", "meta_lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: out of range; give a positive number")


META = {  # what differs between the methods, section 4.2
    "coop": dict(inner_lr=0.025 / 6, batch=32),
    "cocoop": dict(inner_lr=0.025 / 6, batch=8),
    "promptsrc": dict(inner_lr=0.02 / 6, batch=32),
}


@dataclass(frozen=True)
class FinetuneSettings:
    """The paper's section 4.2 and the original methods' recipe."""
    method: str
    epochs: int
    lr: float
    batch: int
    shots: int = 16
    classes: str = "base"   # base, new or all
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gpa_mean: float = 15.0  # of PromptSRC's Gaussian weights over epochs, counted from 1
    gpa_std: float = 1.0
    depth: int = 9
    length: int = 4
    seed: int = 1

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch", 1), ("shots", 1), ("seed", 0), ("depth", 1), ("length", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: too small; give {least} or more")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr {self.lr}: out of range; give a positive number")


FINETUNE = {
    "coop": dict(epochs=200, lr=0.002, batch=32),
    "cocoop": dict(epochs=10, lr=0.002, batch=1),
    "promptsrc": dict(epochs=20, lr=0.0025, batch=4),
}


def run_name(settings: MetaSettings, usual: MetaSettings) -> str:
    """A folder name that tells apart runs of different settings: coop-seed1, coop-inner_steps0-seed1."""
    other = [f"-{k}{v}" for k, v in asdict(settings).items() if v != getattr(usual, k)]
    return f"{settings.method}{''.join(other)}-seed{settings.seed}"
