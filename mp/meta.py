"""run.py meta: Algorithm 1 over the training tasks, epoch after epoch, resumable."""
import json
import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.feed import to_device
from mp import maml
from mp.runtime import files, tensors
from mp.store import promptfile
from mp.clip.model import CLIP
from mp.runtime.processes import agree, first_process, processes, total
from mp.runtime.errors import RunError, UserError
from mp.runtime.progress import Progress, say
from mp.commands.session import Session, open_session, settings_from
from mp.settings import META, MetaSettings, run_name
from mp.tasks import Task, draw_batches, elsewhere, make_task
from mp.commands.zeroshot import compare, learnt_prompt


def command(args: Namespace) -> None:
    """Train one meta-prompt per seed, or take it from an earlier run, then compare them with the handcrafted prompt."""
    session = open_session(args)
    prompts = []
    for seed in args.seeds:
        settings, path = learn(session, args, seed)
        prompts.append(learnt_prompt(session, path, settings, seed))
    if not first_process():
        return
    compare(session, {path.parent.name.removesuffix(f"-seed{seed}"): prompts}, args.force)


def learn(session: Session, args: Namespace, seed: int) -> tuple[MetaSettings, Path]:
    """The settings and the prompt file of one seed, trained unless it is there.

    Raises UserError if the file was made with other settings or weights.
    """
    usual = dict(META[args.method], epochs=session.suite.meta_epochs, seed=seed)
    settings = session.fitted(settings_from(MetaSettings, args, **usual))
    folder = session.out / "meta" / run_name(settings, session.fitted(MetaSettings(args.method, **usual), tell=False))
    prompt = folder / "prompt.pt"
    with files.locked(folder / ".lock") if first_process() else nullcontext():  # a second run waits, then finds it done
        if args.force and first_process():
            for name in ("prompt.pt", "state.pt", "settings.json", "log.jsonl"):
                (folder / name).unlink(missing_ok=True)
        if not agree(prompt.exists()):
            train_one(session, settings, folder)
        else:
            kept = tensors.read(prompt)
            wanted = {"settings": asdict(settings), "weights_sha256": session.made_by["weights_sha256"]}
            files.require_same(prompt, {k: files.dig(kept, "made_by", k) for k in wanted}, wanted)
            files.discard(folder / "state.pt")  # of a run that was killed at its very end
            say(f"{prompt} is there; --force computes it again")
    return settings, prompt


def train_one(session: Session, settings: MetaSettings, folder: Path) -> None:
    say(f"meta-training {folder}: " + ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}"
                                               for k, v in asdict(settings).items()))
    for name in session.suite.datasets:
        session.suite.load(name)  # a dataset that can't be evaluated on is better found before hours of training
    learner = session.learner(settings)
    rank, world = processes()
    tasks = [make_task(session, learner, name, settings) if number % world == rank else elsewhere(name)
             for number, name in enumerate(session.suite.training)]
    made_by = session.made_by | {"tasks": session.suite.training}
    if first_process():
        if (folder / "state.pt").exists():  # an interrupted run goes on, but not with other weights
            kept = files.dig(files.read_json(folder / "settings.json"), "made_by", "weights_sha256")
            files.require_same(folder / "state.pt", {"weights_sha256": kept}, {"weights_sha256": made_by["weights_sha256"]})
        files.write_json(folder / "settings.json", {"settings": asdict(settings), "made_by": made_by})
    progress = Progress("epoch")

    def report(line: dict, epochs: int) -> None:
        progress.update(line["epoch"], epochs, f"query loss {line['query_loss']:.4f}  ‖G‖ {line['grad_norm']:.4f}",
                        new=1)

    params = meta_train(learner, session.clip, tasks, settings, folder, report)
    if first_process():
        promptfile.write(folder / "prompt.pt", settings.method, params, {"settings": asdict(settings), **made_by})
        files.discard(folder / "state.pt")
    agree(None)  # the others read the prompt once it is there


def meta_train(learner: nn.Module, clip: CLIP, tasks: list[Task], settings: MetaSettings, folder: Path,
               report: Callable[[dict, int], None]) -> maml.Params:
    """Algorithm 1. Returns the meta-prompt p.

    Writes state.pt after every epoch and goes on from it; log.jsonl gets a line per epoch, which also
    goes to `report` with the number of epochs. Raises RunError if a loss or gradient isn't finite,
    leaving the last good state. With torchrun each process computes its share of the tasks.
    """
    device = clip.logit_scale.device
    params = {k: p.detach().clone() for k, p in learner.named_parameters()}  # line 1
    params, adam_state, log = agree(resume(folder, settings, params, tasks) if first_process() else None)
    params, adam_state = state_to(params, adam_state, device)
    if log and first_process():
        write_log(folder, log)  # a kill between an epoch's state and its line
    unmoved: set[str] = set()  # tensors that were already reported

    for epoch in range(len(log), settings.epochs):                            # line 2
        started = time.monotonic()
        G = {k: torch.zeros_like(p) for k, p in params.items()}
        losses = torch.zeros(len(tasks), settings.inner_steps + 1, device=device)
        for number, task in enumerate(tasks):                                 # line 3
            if not task.inputs:
                continue

            def loss(p: maml.Params, indices: np.ndarray) -> Tensor:
                batch = [to_device(t[indices], device) for t in (*task.inputs, task.labels)]
                return maml.run(learner, p, clip, task.classes, *batch)

            support, query = draw_batches(task, settings, epoch, number)      # line 4
            losses[number], grad = maml.meta_gradient(                        # lines 5 to 9
                loss, params, support, query, settings.inner_lr, settings.first_order)
            weight = 1.0 if settings.sum_tasks else 1 / len(tasks)
            G = {k: G[k] + weight * grad[k] for k in G}
        losses, *sums = total([losses, *G.values()])
        G = dict(zip(G, sums))
        params, adam_state, norm = maml.meta_update(                          # line 10
            params, G, adam_state, settings.meta_lr, settings.clip_norm)

        sizes = torch.stack([torch.stack((G[k].norm(), p.norm())) for k, p in params.items()])
        values = dict(zip([task.name for task in tasks], losses.tolist()))    # the epoch's one wait for the device
        log.append(summary(epoch, values, norm, settings, time.monotonic() - started))
        check_tensors(params, sizes.tolist(), unmoved, f"epoch {epoch + 1}", "--meta-lr")
        if first_process():
            save(folder, settings, params, adam_state, log)
        report(log[-1], settings.epochs)
    return params


def summary(epoch: int, values: dict[str, list[float]], norm: Tensor, settings: MetaSettings, seconds: float) -> dict:
    """One line of the log. Raises RunError naming the epoch, task and step of the first loss that isn't finite."""
    for task, steps in values.items():
        for step, value in enumerate(steps):
            if not np.isfinite(value):
                where = f"inner step {step + 1}" if step < settings.inner_steps else "the query loss"
                raise RunError(f"epoch {epoch + 1}, task {task}, {where}: the loss is {value}; the state of the last "
                               "good epoch is kept. Try a smaller --inner-lr or --meta-lr")
    norm = float(norm)
    if not np.isfinite(norm):
        raise RunError(f"epoch {epoch + 1}: the meta-gradient isn't finite; the state of the last good epoch is kept. "
                       "Try a smaller --inner-lr")
    query = {task: steps[-1] for task, steps in values.items()}
    return {"epoch": epoch + 1, "query_loss": sum(query.values()) / len(query), "grad_norm": norm,
            "clipped_norm": min(norm, settings.clip_norm), "tasks": query, "seconds": round(seconds, 3)}


def check_tensors(names: Iterable[str], sizes: list, unmoved: set[str], where: str, rate: str) -> None:
    """For norms (gradient, values) of every learnable tensor: raises RunError for one that isn't finite, and reports,
    once, a gradient that is exactly zero."""
    for name, (gradient, values) in zip(names, sizes):
        if not math.isfinite(gradient + values):
            raise RunError(f"{where}: {name} or its gradient isn't finite; the state of the last good epoch is kept. Try a "
                           f"smaller {rate}")
        if gradient == 0 and name not in unmoved:
            unmoved.add(name)
            say(f"{where}: the gradient of {name} is exactly zero, so it learns nothing")


def save(folder: Path, settings: MetaSettings, params: maml.Params, adam_state: maml.AdamState,
         log: list[dict]) -> None:
    """The state first: the log is written again from it, so a kill between the two loses nothing."""
    tensors.write(folder / "state.pt", {
        "settings": asdict(settings), "params": params, "adam": list(adam_state), "log": log})
    write_log(folder, log)


def write_log(folder: Path, log: list[dict]) -> None:
    files.write_whole(folder / "log.jsonl",
                      lambda part: part.write_text("".join(json.dumps(line) + "\n" for line in log)))


def resume(folder: Path, settings: MetaSettings, params: maml.Params,
           tasks: list[Task]) -> tuple[maml.Params, maml.AdamState, list[dict]]:
    """Parameters, Adam's state and the log as an interrupted run left them, or those of a fresh start.

    Raises UserError if the state was made with other settings, or is damaged.
    """
    path = folder / "state.pt"
    if not path.exists():
        return params, maml.adam_start(params), []
    state = tensors.read(path)
    files.require_same(path, state.get("settings"), asdict(settings))
    log = state["log"] if isinstance(state.get("log"), list) else []
    line = summary(0, {task.name: [0.0] for task in tasks}, torch.tensor(0.0), settings, 0.0)
    wrong = tensors.mismatch(state, {"settings": asdict(settings), "params": params, "adam": [0, params, params],
                                 "log": [line] * len(log)}, "the state")
    if wrong or [line["epoch"] for line in log] != list(range(1, len(log) + 1)) or not 0 < len(log) <= settings.epochs:
        raise UserError(f"{path}: damaged ({wrong or 'its log'}); delete it, and the same command starts from the beginning")
    return state["params"], maml.AdamState(*state["adam"]), log


def state_to(params: maml.Params, adam: maml.AdamState, device: torch.device) -> tuple[maml.Params, maml.AdamState]:
    def here(tensors: maml.Params) -> maml.Params:
        return {k: v.to(device) for k, v in tensors.items()}

    return here(params), maml.AdamState(adam.step, here(adam.mean), here(adam.square))
