"""Fine-tuning: the recipe that CoOp, CoCoOp and PromptSRC share, from a handcrafted or a meta-prompt."""
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mp import files
from mp.clip import CLIP
from mp.errors import RunError, UserError

Params = dict[str, Tensor]


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
        for name in ("epochs", "batch", "shots"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: must be at least 1")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr {self.lr}: must be a positive number")


PAPER = {
    "coop": dict(epochs=200, lr=0.002, batch=32),
    "cocoop": dict(epochs=10, lr=0.002, batch=1),
    "promptsrc": dict(epochs=20, lr=0.0025, batch=4),
}


def learning_rate(epoch: int, epochs: int, lr: float) -> float:
    """Epoch counted from 0: one epoch of warm-up at 1e-5, then a cosine that doesn't reach zero."""
    return 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the prompts at the end of epochs 1..E in PromptSRC's average (GPA); they sum to 1."""
    density = [math.exp(-(((e - mean) / std) ** 2) / 2) for e in range(1, epochs + 1)]
    if sum(density) == 0:
        raise UserError(f"GPA's weights vanish: {epochs} epochs lie too far from their mean, {mean:g}")
    return [d / sum(density) for d in density]


Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # epoch -> (images [B, 3, size, size], labels [B]), ...


def finetune(learner: nn.Module, clip: CLIP, names: list[str], batches: Batches, settings: FinetuneSettings,
             state_file: Path, report: Callable[[dict, int], None]) -> Params:
    """Train `learner` in place on the classes `names`; returns the parameters to use.

    For PromptSRC these are the average of every epoch's last parameters (GPA), for the others the last.
    Writes `state_file` after every epoch and goes on from it. `report` gets a log line and the number
    of epochs. Raises RunError naming epoch and step if a loss isn't finite.
    """
    device = clip.logit_scale.device
    classes = learner.prepare(clip, names)
    optimizer = torch.optim.SGD(learner.parameters(), lr=settings.lr, momentum=settings.momentum,
                                weight_decay=settings.weight_decay)
    averages = settings.method == "promptsrc"
    weights = gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std) if averages else []
    average = {k: torch.zeros_like(p) for k, p in learner.named_parameters()}
    done, average = resume(state_file, settings, learner, optimizer, average)

    for epoch in range(done, settings.epochs):
        lr = learning_rate(epoch, settings.epochs, settings.lr)
        optimizer.param_groups[0]["lr"] = lr
        losses = []
        for images, labels in batches(epoch):
            inputs = learner.look(clip, images.to(device))
            loss = learner(clip, classes, *inputs, labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        losses = torch.stack(losses).tolist()
        bad = [step for step, value in enumerate(losses) if not math.isfinite(value)]
        if bad:
            raise RunError(f"epoch {epoch + 1}, step {bad[0] + 1}: the loss is {losses[bad[0]]}; the state of the last "
                           "good epoch is kept. Try a smaller --lr")
        if averages:
            average = {k: average[k] + weights[epoch] * p.detach() for k, p in learner.named_parameters()}
        files.write_tensors(state_file, {"settings": asdict(settings), "epochs": epoch + 1, "average": average,
                                         "params": learner.state_dict(), "optimizer": optimizer.state_dict()})
        report({"epoch": epoch + 1, "lr": lr, "loss": sum(losses) / len(losses), "losses": losses}, settings.epochs)
    return average if averages else {k: p.detach().clone() for k, p in learner.named_parameters()}


def resume(state_file: Path, settings: FinetuneSettings, learner: nn.Module, optimizer: torch.optim.Optimizer,
           average: Params) -> tuple[int, Params]:
    """Put learner and optimizer where an interrupted run left them; returns its epochs and running average."""
    if not state_file.exists():
        return 0, average
    state = files.read_tensors(state_file)
    if state.get("settings") != asdict(settings):
        raise UserError(f"{state_file}: from a run with other settings; --force starts anew")
    learner.load_state_dict(state["params"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epochs"], {k: v.to(average[k].device) for k, v in state["average"].items()}
