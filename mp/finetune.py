"""run.py finetune: the recipe that CoOp, CoCoOp and PromptSRC share, from a handcrafted or a meta-prompt."""
import math
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from data.dataset import class_range, restrict
from mp.commands import report
from mp.runtime import files, tensors
from mp.store import promptfile, results
from mp.clip.model import CLIP
from mp.runtime.errors import RunError, UserError
from mp.evaluate import TestSet
from mp.meta import check_tensors
from mp.runtime.progress import Progress, say
from mp.commands.session import Session, open_session, settings_from
from mp.settings import FINETUNE, FinetuneSettings
from mp.tasks import draw_shots

Params = dict[str, Tensor]


def command(args: Namespace) -> None:
    """Fine-tune on every dataset and seed, evaluate, keep one result file each, and print the table."""
    session = open_session(args)
    settings = session.fitted(settings_from(FinetuneSettings, args, **FINETUNE[args.method], seed=args.seeds[0]))
    inits = {seed: start_of(session, args, seed) for seed in args.seeds}
    for seed, path in inits.items():
        if path:
            session.learner_from(path, replace(settings, seed=seed))  # refuse a wrong file before any work
    title = f"{args.method} from {args.init if args.init in ('handcrafted', 'meta') else Path(args.init).name}"
    say(f"fine-tuning {title} on {settings.classes} classes: {settings.epochs} epochs, lr {settings.lr:g}, "
        f"batch {settings.batch}, {settings.shots} shots, seeds {' '.join(map(str, args.seeds))}")
    columns, handcrafted, roles = [{} for _ in args.seeds], {}, {}
    progress, runs = Progress("epoch"), len(session.suite.datasets) * len(args.seeds)
    for number, test in enumerate(session.test_sets()):
        name = test.dataset.name
        roles[name], handcrafted[name] = test.dataset.role, test.handcrafted(test.dataset.template)
        for k, seed in enumerate(args.seeds):
            done = (number * len(args.seeds) + k) * settings.epochs

            def report_epoch(epoch: int, text: str, new: int) -> None:
                progress.update(done + epoch, runs * settings.epochs, f"{name}, seed {seed}, {text}", new)

            columns[k][name] = tune_one(session, test, replace(settings, seed=seed), inits[seed], args, report_epoch)
    print(report.table(roles, handcrafted, {title: columns}))


def start_of(session: Session, args: Namespace, seed: int) -> Path | None:
    """The file of the initial prompt; None for the handcrafted one."""
    return None if args.init == "handcrafted" else session.find_prompt(args.init, args.method, seed)


def tune_one(session: Session, test: TestSet, settings: FinetuneSettings, init: Path | None, args: Namespace,
             report_epoch: Callable[[int, str, int], None]) -> dict:
    """Accuracies after fine-tuning on one dataset, from its result file if that is there.

    `report_epoch` gets the epochs done, a text, and how many of them are new since its last call.
    Raises UserError if the file comes from other settings, weights or another initial prompt.
    """
    dataset = test.dataset
    start = "handcrafted" if init is None else promptfile.sha256(init)
    label = args.init if args.init in ("handcrafted", "meta") else start[:12]
    result_file = result_path(session.out, settings.method, label, settings.classes, dataset.name, settings.seed)
    prompt_file, state_file = result_file.with_suffix(".prompt.pt"), result_file.with_suffix(".state.pt")
    made_from = session.made_from(dataset) | {"settings": asdict(settings), "init": start}
    computed = []

    def compute() -> dict:
        if args.force:
            state_file.unlink(missing_ok=True)
        learner = session.learner(settings) if init is None else session.learner_from(init, settings)
        labels = class_range(len(dataset.classes), settings.classes)
        items = restrict(draw_shots(dataset, settings.shots, settings.seed), len(dataset.classes), settings.classes)
        if not items:
            raise UserError(f"{dataset.name}: none of its {len(dataset.classes)} classes is among the {settings.classes} "
                            "ones; give other --classes or --datasets")
        batches = session.feed.augmented(items, settings.batch, settings.seed, dataset.name)

        def log_epoch(line: dict, _: int) -> None:
            computed.append(line["loss"])
            report_epoch(line["epoch"], f"loss {line['loss']:.4f}", 1)

        try:
            classes = session.prepare(learner, dataset.classes[labels.start : labels.stop])
            params, losses = finetune(learner, session.clip, classes, batches,
                                      settings, made_from, state_file, log_epoch)
        except RunError as e:
            raise RunError(f"{dataset.name}, {e}") from None
        learner.load_state_dict(params)
        accuracies = test.learnt(learner)
        promptfile.write(prompt_file, settings.method, params, made_from | session.made_by)
        return {"accuracies": accuracies, "few_shot_images": len(items), "losses": losses,
                "prompt_sha256": promptfile.sha256(prompt_file)}

    result = results.cell(result_file, made_from, session.made_by, compute, args.force)
    files.discard(state_file)
    if not computed:
        report_epoch(settings.epochs, "done before", 0)
    return result["accuracies"]


def result_path(out: Path, method: str, label: str, classes: str, dataset: str, seed: int) -> Path:
    return out / "finetune" / f"{method}-{label}-{classes}" / f"{dataset.replace(' ', '')}-seed{seed}.json"


def learning_rate(epoch: int, epochs: int, lr: float) -> float:
    """Epoch counted from 0: one epoch of warm-up at 1e-5, then a cosine that doesn't reach zero."""
    return 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the prompts at the end of epochs 1..E in PromptSRC's average (GPA); they sum to 1."""
    density = [math.exp(-(((e - mean) / std) ** 2) / 2) for e in range(1, epochs + 1)]
    if sum(density) == 0:
        raise UserError(f"GPA's weights vanish: {epochs} epochs lie too far from their mean, {mean:g}")
    return [d / sum(density) for d in density]


Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # epoch -> (images [B, 3, size, size], labels [B])


def finetune(learner: nn.Module, clip: CLIP, classes: tuple, batches: Batches, settings: FinetuneSettings,
             made_from: dict, state_file: Path, report: Callable[[dict, int], None]) -> tuple[Params, list[float]]:
    """Train `learner` in place on the classes it prepared; returns the parameters to use, and every epoch's mean loss.

    For PromptSRC these are the average of every epoch's last parameters (GPA), for the others the last.
    Writes `state_file` after every epoch and goes on from it, if it was `made_from` the same. `report`
    gets a log line and the number of epochs. Raises RunError naming epoch and step if a loss isn't finite.
    """
    averages = settings.method == "promptsrc"
    weights = gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std) if averages else []
    params, unmoved = dict(learner.named_parameters()), set()  # unmoved: tensors that were already reported
    means, average, momentum = resume(state_file, made_from, params, settings.epochs)

    for epoch in range(len(means), settings.epochs):
        lr = learning_rate(epoch, settings.epochs, settings.lr)
        losses, norms = [], []
        for images, labels in batches(epoch):
            loss = learner(clip, classes, *learner.look(clip, images), labels)
            grads = dict(zip(params, torch.autograd.grad(loss, tuple(params.values()))))
            sgd(params, grads, momentum, lr, settings)
            losses.append(loss.detach())
            norms.append(torch.stack([g.norm() for g in grads.values()]))
        sizes = torch.stack((torch.stack(norms).amax(0), torch.stack([p.detach().norm() for p in params.values()])), 1)
        losses = torch.stack(losses).tolist()  # the epoch's one wait for the device
        bad = [step for step, value in enumerate(losses) if not math.isfinite(value)]
        if bad:
            raise RunError(f"epoch {epoch + 1}, step {bad[0] + 1}: the loss is {losses[bad[0]]}; the state of the last "
                           "good epoch is kept. Try a smaller --lr")
        check_tensors(params, sizes.tolist(), unmoved, f"epoch {epoch + 1}", "--lr")
        if averages:
            average = {k: average[k] + weights[epoch] * p.detach() for k, p in params.items()}
        means.append(sum(losses) / len(losses))
        tensors.write(state_file, {
            "made_from": made_from, "means": means, "average": average, "params": detached(params),
            "momentum": momentum})
        report({"epoch": epoch + 1, "lr": lr, "loss": means[-1], "losses": losses}, settings.epochs)
    return average if averages else detached(params), means


@torch.no_grad()
def sgd(params: Params, grads: Params, momentum: Params, lr: float, settings: FinetuneSettings) -> None:
    """One step in place, as torch.optim.SGD's; that class would import torch's compiler, a second of every start."""
    for k, p in params.items():
        momentum[k].mul_(settings.momentum).add_(grads[k].add(p, alpha=settings.weight_decay))
        p.add_(momentum[k], alpha=-lr)


def detached(params: Params) -> Params:
    return {k: p.detach().clone() for k, p in params.items()}


def resume(state_file: Path, made_from: dict, params: Params, epochs: int) -> tuple[list[float], Params, Params]:
    """Put the parameters where an interrupted run left them; returns its epochs' losses, running average and momentum.

    Raises UserError if the state was made from something else, or is damaged.
    """
    if not state_file.exists():
        return [], *({k: torch.zeros_like(p) for k, p in detached(params).items()} for _ in range(2))
    state = tensors.read(state_file)
    files.require_same(state_file, state.get("made_from"), made_from)
    means, like = state.get("means"), {k: p.detach() for k, p in params.items()}
    done = len(means) if isinstance(means, list) and 0 < len(means) <= epochs else 1
    if wrong := tensors.mismatch(state, {"made_from": made_from, "means": [0.0] * done, "average": like, "params": like,
                                     "momentum": like}, "the state"):
        raise UserError(f"{state_file}: damaged ({wrong}); delete it, and the same command starts from the beginning")
    for k in like:
        like[k].copy_(state["params"][k])
    return means, *({k: v.to(params[k].device) for k, v in state[name].items()} for name in ("average", "momentum"))
