"""Hours and memory for each column of the paper's Table 2, from what `run.py bench` measured on this machine.

Operations are counted from the datasets' numbers of classes and images and the paper's settings; what a block
reached of them per second, and kept per token, comes from its measurement. One seed; reading images isn't counted.
"""
from typing import NamedTuple

from data import paper
from data.dataset import base_count
from mp.bench.blocks import Measured
from mp.clip.model import CLIP
from mp.settings import FINETUNE, META, MetaSettings
from mp.tasks import SECOND_ORDER
from mp.learners.templates import TEMPLATES

NAME, TEMPLATE, PREFIX = 5, 12, 5  # tokens: of a class name with "." and EOT, of a whole template, of SOS and context
GRADIENT = 2                # times the forward pass: the weights are frozen and have no gradients of their own


class Work(NamedTuple):
    """What a column computes: operations by the block whose speed they run at, and the most tokens kept at once."""
    operations: dict[tuple[str, str], float]
    text: float = 0   # tokens, times SECOND_ORDER in meta-training
    image: float = 0


def columns(clip: CLIP) -> dict[str, Work]:
    """Each column of data/table2.csv and its work; weights and test features are shared, as `table --run` does."""
    def token(tower) -> float:  # two operations for each of a layer's 12 W² weights
        return 24 * tower.resblocks[0].ln_1.weight.numel() ** 2 * len(tower.resblocks)

    text, positions = token(clip.transformer), len(clip.visual.positional_embedding)
    image, vision = token(clip.visual.transformer) * positions, positions + 4  # PromptSRC has 4 tokens more
    sets = [row.counts for row in paper.TABLE.values()]
    training = [row.counts for row in paper.TABLE.values() if row.role == "train"]

    def prompts(classes: int) -> float:
        return NAME * classes + PREFIX

    def evaluation(method: str) -> float:
        if method == "cocoop":
            return sum(test * prompts(classes) * text for classes, _, test in sets)
        return sum(prompts(classes) * text for classes, _, _ in sets) + (
            sum(test for _, _, test in sets) * image if method == "promptsrc" else 0)

    work = {"zeroshot/hand": Work({("evaluation", ""): sum(test * image + TEMPLATE * classes * text
                                                           for classes, _, test in sets)})}
    tuned = {}
    for method, tune in FINETUNE.items():
        batch, sees = META[method]["batch"], method == "promptsrc"
        pairs = batch if method == "cocoop" else 1  # of images and classes
        inner = MetaSettings(method).inner_steps
        times = GRADIENT * (3 * inner + 1)  # adapting, a Hessian-vector product (twice that) for each step, the query
        operations = MetaSettings(method).epochs * times * sum(
            pairs * prompts(classes) * text + (batch * image if sees else 0) for classes, _, _ in training)
        most = max(classes for classes, _, _ in training)
        work[f"zeroshot/mp-{method}"] = Work(
            {("meta-gradient", method): operations, ("evaluation", method): evaluation(method)},
            SECOND_ORDER * pairs * prompts(most), SECOND_ORDER * batch * vision if sees else 0)
        operations, most = 0, 0
        for classes, _, _ in sets:
            base = base_count(classes)
            steps = tune["epochs"] * (16 * base // tune["batch"])
            operations += steps * (GRADIENT * prompts(base) * text + tune["batch"] * image * (1 + GRADIENT * sees))
            operations += len(TEMPLATES) * TEMPLATE * base * text * sees
            most = max(most, base)
        tuned |= {f"finetune/{method}/{init}": Work(
            {("step", method): operations, ("evaluation", method): evaluation(method)},
            prompts(most), tune["batch"] * vision if sees else 0) for init in ("hand", "mp")}
    return work | tuned


def estimate(clip: CLIP, measured: dict[tuple[str, str], Measured], kept: dict[str, float]) -> list[list[str]]:
    """Rows: column, hours, GiB. `kept`: how much more memory each method took than clip.kept_bytes says."""
    weights = sum(4 * p.numel() for p in clip.parameters())
    rates = {key: m.operations / m.seconds for key, m in measured.items() if key[0] != "text gradient"}
    rates |= {("evaluation", m): rates[("evaluation", "cocoop")] for m in ("", "coop", "promptsrc")}
    rows = []
    for key, work in columns(clip).items():
        hours = sum(operations / rates[block] for block, operations in work.operations.items()) / 3600
        needed = work.text * clip.kept_bytes(clip.transformer) + work.image * clip.kept_bytes(clip.visual.transformer)
        method = next((m for m in kept if m in key.replace("mp-", "").split("/")), None)
        at_once = min(needed, clip.memory) * kept.get(method, 1)
        rows.append([key, f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}", f"{(weights + at_once) / 2**30:.1f}"])
    return rows
