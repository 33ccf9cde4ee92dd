"""run.py finetune: the recipe (mp/finetune.py) on each dataset, from a handcrafted or a learnt prompt; accuracies."""
import copy
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Dataset, Item, class_range, restrict
from mp import regulator
from mp.clip.model import CLIP
from mp.commands import report as accuracy_report
from mp.commands.options import given_settings
from mp.commands.session import Session, method_of, open_session
from mp.commands.zeroshot import Prompt, learnt_prompt, results_folder
from mp.evaluate import TestSet
from mp.finetune import Batches, FinetuneState, finetune, gaussian_weights, start
from mp.learners import Learner, learner_class
from mp.learners.settings import method_settings
from mp.maml import Params
from mp.prompts import PromptFile, learner_of, open_prompt
from mp.runtime import files
from mp.runtime.errors import RunError, UserError
from mp.runtime.progress import Progress, say
from mp.settings import FinetuneSettings, as_dict, in_words
from mp.store import promptfile, results, states
from mp.store.identity import Identity, require_same, stored

KIND, PROMPT_KIND = "fine-tuning result", "fine-tuned prompt"
Report = Callable[[int, str, int], None]  # epochs done, a text, and how many of them are new since the last call


def command(args: Namespace) -> None:
    """Fine-tune on every dataset and seed, evaluate, keep one result file each, and print the table."""
    file = None if args.init in ("handcrafted", "meta") else open_prompt(Path(args.init))
    method, usual = method_of(args, file), file.training if file else {}
    session = open_session(args)
    given = given_settings(FinetuneSettings, args)
    runs = {seed: finetune_settings(session, method, seed, given, **usual) for seed in args.seeds}
    inits = {seed: find_init(session, file or args.init, settings) for seed, settings in runs.items()}
    settings = runs[args.seeds[0]]
    if usual.get("ivlp") and not args.ivlp:
        say(f"{args.init}: learnt as IVLP, and fine-tuned as such")
    for name in session.suite.datasets:
        check_dataset(session, session.suite.load(name), settings)
        for seed in args.seeds:
            check_kept(session, session.load(name), runs[seed], inits[seed], args.force)
    title = f"{method} from {Path(*Path(args.init).parts[-2:])}"  # every prompt.pt is in a folder that says which
    say(f"fine-tuning {title}: {in_words(as_dict(settings))}")
    handcrafted, columns = {}, [{} for _ in args.seeds]
    tests = [session.test_set(name) for name in session.suite.datasets]
    progress, done, total = Progress("epoch"), 0, len(tests) * len(args.seeds) * settings.epochs
    for test in tests:
        name = test.dataset.name
        handcrafted[name] = test.handcrafted(test.dataset.template)
        for column, seed in zip(columns, args.seeds):
            def report_epoch(epoch: int, text: str, new: int) -> None:
                progress.update(done + epoch, total, f"{name}, seed {seed}, {text}", new)

            column[name] = tune_one(session, test, runs[seed], inits[seed], args.force, report_epoch)
            done += settings.epochs
    print(accuracy_report.table(session.suite.roles, handcrafted, {title: columns}))


def finetune_settings(session: Session, method: str, seed: int, given: dict[str, Any] = {},
                      **usual: Any) -> FinetuneSettings:
    """`usual`: of the prompt to start from. Raises UserError also if the average over epochs has no weight: before any
    work."""
    settings = session.clamp_depth(method_settings(FinetuneSettings, method, given, seed=seed, **usual))
    if learner_class(method).averages_epochs:
        gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std)
    return settings


def find_init(session: Session, given: PromptFile | str, settings: FinetuneSettings) -> Prompt:
    """What `--init` stands for. Raises UserError, before any work, for a file that doesn't fit, or is absent."""
    if given == "handcrafted":
        return Prompt(given, None, learner_of(settings, session.clip), given)
    prompt = learnt_prompt(session, given, settings)
    return prompt._replace(label="meta" if given == "meta" else prompt.fingerprint[:12])


def tune_one(session: Session, test: TestSet, settings: FinetuneSettings, init: Prompt, force: bool,
             report_epoch: Report) -> dict[str, float]:
    """Accuracies after fine-tuning on one dataset, from its result file if that is there.

    Raises UserError if the file was made otherwise.
    """
    path, items, identity = result_of(session, test.dataset, settings, init)
    if force:
        files.discard(state_file(path))
    there = results.finished(path, force, state_file(path))
    compute = partial(tune, session, test, settings, init, items, identity, path, report_epoch)
    result = results.cell(path, KIND, identity, session.provenance, compute, force, state_file(path))
    if there:
        report_epoch(settings.epochs, "done before", 0)
    return result["accuracies"]


def result_of(session: Session, dataset: Dataset, settings: FinetuneSettings,
              init: Prompt) -> tuple[Path, list[Item], Identity]:
    """The file of a result, the images that are trained on, and what it depends on."""
    path = results.finetune_file(results_folder(session, init), settings.method, init.label, settings.classes,
                                 dataset.name, settings.seed)
    items = draw_items(session, dataset, settings)
    return path, items, session.identity(settings, trained_on={dataset.name: items}, tested_on=dataset,
                                         prompt=init.fingerprint)


def check_kept(session: Session, dataset: Dataset, settings: FinetuneSettings, init: Prompt, force: bool) -> None:
    """Raises UserError, before any work, for a result that is there and was made otherwise."""
    path, _, identity = result_of(session, dataset, settings, init)
    if kept := results.finished(path, force, state_file(path)):
        require_same(path, kept["identity"], KIND, identity)


def tune(session: Session, test: TestSet, settings: FinetuneSettings, init: Prompt, items: list[Item],
         identity: Identity, path: Path, report_epoch: Report) -> dict[str, Any]:
    """Fine-tune on the items, evaluate, and write the prompt beside the result's `path`; what the result holds."""
    dataset, learner = test.dataset, copy.deepcopy(init.learner)
    labels = class_range(len(dataset.classes), settings.classes)
    classes = session.prepare(learner, dataset.classes[labels.start : labels.stop])
    batches = session.feed.augmented(items, settings.batch, settings.seed, dataset.name)

    def report(state: FinetuneState) -> None:
        session.say_zero_gradients(state.numbers)
        report_epoch(state.epoch, f"loss {state.numbers['loss']:.4f}", 1)

    try:
        state, losses = train_and_save(learner, session.clip, classes, batches, settings, identity, path, report,
                                       init.regulator)
    except RunError as e:
        raise RunError(f"{dataset.name}, {e}; the state of the last good epoch is kept") from None
    learner.load_state_dict(state.prompt)
    accuracies = test.learnt(learner)
    prompt = path.with_suffix(".prompt.pt")
    promptfile.write(prompt, settings.method, state.prompt, stored(PROMPT_KIND, identity), session.provenance,
                     init.regulator)
    return {"accuracies": accuracies, "few_shot_images": len(items), "losses": losses,
            "prompt_sha256": promptfile.fingerprint(prompt)}


def state_file(result: Path) -> Path:
    return result.with_suffix(".state.pt")


def check_dataset(session: Session, dataset: Dataset, settings: FinetuneSettings) -> None:
    """Raises UserError, before any work, if a class name doesn't fit, or there is nothing to tell apart."""
    session.check_names(dataset, settings)
    count = len(dataset.classes)
    if len(class_range(count, settings.classes)) < 2:
        raise UserError(f"{dataset.name}: of its {count} classes less than two are {settings.classes} ones, which "
                        "leaves nothing to learn; give other --datasets, or fine-tune with --classes all (claims: "
                        "--only a)")


def draw_items(session: Session, dataset: Dataset, settings: FinetuneSettings) -> list[Item]:
    """The few-shot images of the classes to train on."""
    return restrict(session.draw_shots(dataset.name, settings), len(dataset.classes), settings.classes)


def train_and_save(learner: Learner, clip: CLIP, classes: Any, batches: Batches, settings: FinetuneSettings,
                   identity: Identity, path: Path, report: Callable[[FinetuneState], None],
                   kept_phi: Params = {}) -> tuple[FinetuneState, list[float]]:
    """Fine-tune from where an interrupted run stopped, with a state kept beside the result's `path` after every epoch.

    Returns the last state and every epoch's mean loss. Raises UserError for a state that was made otherwise or is
    damaged, and RunError for a loss that isn't finite: then the state of the last good epoch stays.
    """
    file = state_file(path)
    fresh = start(learner)
    found, log = states.resume(file, PROMPT_KIND, identity, fresh, settings.epochs, {"loss": 0.0})
    state = states.placed_like(found, fresh)
    phi = {name: value.to(clip.logit_scale.device) for name, value in kept_phi.items()}
    direction = partial(regulator.regulate, phi) if phi else lambda grads: grads
    for state in finetune(learner, clip, classes, batches, settings, state, direction):
        log.append({"loss": state.numbers["loss"]})
        states.save(file, PROMPT_KIND, identity, state, log)
        report(state)
    return state, [line["loss"] for line in log]
