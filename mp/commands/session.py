"""What commands open first: the suite, CLIP, the output folder; and what they all ask for."""
import shlex
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from data.dataset import Dataset, Item, few_shot
from data.feed import Feed
from data.suite import Suite, open_suite
from mp.clip.download import SHA256, openai_weights
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.commands.options import OUT
from mp.evaluate import TestSet
from mp.learners import DEFAULT_METHOD, Learner, learner_class
from mp.learners.prompts import START_TOKENS, check_length, class_prompts, unknown_names
from mp.learners.settings import method_settings
from mp.prompts import PromptFile, open_prompt
from mp.runtime.device import choose
from mp.runtime.errors import UserError
from mp.runtime.processes import join
from mp.runtime.progress import Progress, say
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings, as_dict
from mp.store import features, results
from mp.store.identity import FORMAT, Identity, mismatch, refuse_earlier, tasks_of
from mp.store.provenance import provenance


@dataclass(eq=False)  # each is itself alone, for `cache`
class Session:
    suite: Suite
    clip: CLIP
    out: Path                    # the suite's own folder below --out
    weights: str                 # SHA-256 of CLIP's weights file
    precision: str
    feed: Feed
    provenance: dict[str, Any]   # of every file this command writes
    options: Sequence[str] = ()  # that a command which is named to the user must share with this one
    prepared: dict[tuple, Any] = field(default_factory=dict)

    # What a file's content depends on

    def identity(self, settings: PromptSettings | None = None, trained_on: dict[str, list[Item]] | None = None,
                 tested_on: Dataset | None = None, prompt: str | None = None) -> Identity:
        """All of it: the one place where it is gathered. `trained_on`: by dataset, the images that were drawn."""
        return Identity(
            format=FORMAT, weights=self.weights, device=self.feed.device.type, precision=self.precision,
            settings=as_dict(settings) if settings else None,
            trained_on={name: self.suite.load(name).fingerprint(items) for name, items in (trained_on or {}).items()},
            tested_on={tested_on.name: self.test_fingerprint(tested_on.name)} if tested_on else None,
            prompt=prompt)

    @cache
    def test_fingerprint(self, name: str) -> str:
        dataset = self.suite.load(name)
        return dataset.fingerprint(dataset.test)

    @property
    def tasks_out(self) -> Path:
        """Where meta-prompts go, and what is made from those with the usual settings."""
        return results.tasks_folder(self.out, self.suite.other_tasks)

    # Datasets

    def load(self, name: str) -> Dataset:
        """The suite's, or the user's own; its notes are said."""
        dataset = self.suite.load(name)
        for note in dataset.notes:
            self.say_once(f"{name}: {note}")
        return dataset

    def draw_shots(self, name: str, settings: MetaSettings | FinetuneSettings) -> list[Item]:
        """`shots` training images of every class of a dataset; says which classes have fewer, and uses these."""
        dataset = self.load(name)
        items = few_shot(dataset.train, settings.shots, settings.seed)
        counts = Counter(item.label for item in items)
        few = [f"{word} ({counts[i]})" for i, word in enumerate(dataset.classes) if counts[i] < settings.shots]
        if few:
            more = f" and {len(few) - 5} more" if len(few) > 5 else ""
            self.say_once(f"{name}: fewer than {settings.shots} training images of {', '.join(few[:5])}{more}; using "
                          "what there is")
        return items

    def task_images(self, settings: MetaSettings) -> dict[str, list[Item]]:
        """Of every task of meta-training, the images that are drawn."""
        return {name: self.draw_shots(name, settings) for name in self.suite.training}

    @cache
    def test_set(self, name: str) -> TestSet:
        dataset = self.load(name)
        self.say_unknown(*dataset.classes)
        return TestSet(dataset, self.clip, partial(self.shown, dataset), partial(self.recall, dataset))

    def recall(self, dataset: Dataset, compute: Callable[[], Tensor]) -> Tensor:
        """The features of the test images that `compute` gives, from the cache folder if they are there."""
        images = [item.source for item in dataset.test]
        if not isinstance(images[0], str):  # drawn, and so small that computing is quicker
            return compute()
        width = self.clip.text_projection.shape[1]
        return features.recall(self.identity(tested_on=dataset), dataset.name, images, width, compute)

    def shown(self, dataset: Dataset) -> Iterator[Tensor]:
        """Test views, some at a time, with a line of progress if it takes long."""
        progress, done = Progress(f"{dataset.name}: test image", patience=5), 0
        for views in self.feed.plain(dataset.test):
            yield views
            done += len(views)
            progress.update(done, len(dataset.test))

    # Learners and prompts

    def meta_settings(self, method: str, seed: int, given: dict[str, Any] = {}) -> MetaSettings:
        """What is given, else what is usual for the method on this suite."""
        usual = {"seed": seed}
        if self.suite.meta_epochs is not None:
            usual["epochs"] = self.suite.meta_epochs
        return method_settings(MetaSettings, method, given, **usual)

    def meta_folder(self, settings: MetaSettings) -> Path:
        """Where such a meta-prompt lies: named after the settings that aren't the usual ones."""
        return results.meta_folder(self.tasks_out, settings, self.meta_settings(settings.method, settings.seed))

    def check_names(self, dataset: Dataset, settings: PromptSettings) -> None:
        """Raises UserError for class names that don't fit beside the prompt: before hours of training, not after."""
        self.say_unknown(*dataset.classes)
        length = settings.length if "length" in learner_class(settings.method).made_with else 0
        check_length(self.clip, class_prompts(self.clip, dataset.classes), 1 + max(length, START_TOKENS))

    def prepare(self, learner: Learner, names: list[str]) -> Any:
        """The learner's classes, kept: they may take 60 templates each, and nothing in them is learnt."""
        key = type(learner), *names
        if key not in self.prepared:
            self.prepared[key] = learner.prepare(self.clip, names)
        return self.prepared[key]

    def meta_prompt(self, settings: PromptSettings) -> PromptFile:
        """The meta-prompt of a method and seed with the usual settings. Raises UserError if there is none."""
        path = results.meta_prompt(self.tasks_out, settings.method, settings.seed)
        words = ["meta", "--method", settings.method, "--seeds", str(settings.seed), *self.options]
        if not path.is_file():
            raise UserError(f"{path}: no such prompt file; make it with: {shlex.join(['python', 'run.py', *words])}")
        file = open_prompt(path)
        kept = file.about.get("identity")
        refuse_earlier(path, kept)
        usual = self.meta_settings(settings.method, settings.seed)
        wanted = {"weights": self.weights, "settings": as_dict(usual), "trained_on": self.wanted_tasks(kept, usual)}
        if wrong := mismatch(kept, wanted):
            raise UserError(f"{path}: {wrong}; give the file's name if that is meant, those --weights, or another "
                            "--out")
        return file

    def wanted_tasks(self, kept: dict[str, Any], usual: MetaSettings) -> dict[str, str]:
        """What a meta-prompt must be trained on, whose file keeps this. Of Table 1's tasks the names alone count: who
        evaluates may not have their images."""
        if self.suite.other_tasks:
            return self.identity(trained_on=self.task_images(usual)).trained_on
        return {name: tasks_of(kept).get(name, "a task") for name in self.suite.training}

    # What is said

    def say_zero_gradients(self, numbers: dict[str, Any]) -> None:
        """Of an epoch's numbers: which tensors learn nothing, each once."""
        for name in numbers["zero_gradients"]:
            self.say_once(f"the gradient of {name} is exactly zero, so it learns nothing")

    @cache  # so that it is looked for once
    def say_unknown(self, *names: str) -> None:
        """Which class names mean nothing to this CLIP."""
        if unknown := unknown_names(self.clip, names):
            self.say_once(unknown)

    @cache  # so that it is said once
    def say_once(self, text: str) -> None:
        say(text)


def method_of(args: Namespace, file: PromptFile | None = None) -> str:
    """What --method says, else the file's own."""
    return args.method or (file.method if file else DEFAULT_METHOD)


def open_session(args: Namespace) -> Session:
    """Raises UserError for an absent folder, dataset, device or weights file, or results of an earlier version."""
    compute = choose(args.device, args.precision, args.memory)
    join(compute.device)
    suite = open_suite(args.data, args.datasets, args.tasks)
    out = args.out / suite.name
    results.refuse_earlier_version(out)
    if suite.name == "mini" and "images" not in args:
        say("the embedded miniature suite; for the paper's datasets give --data DIR (or set MP_DATA)")
    weights = args.weights or suite.weights or openai_weights()
    used = dict.fromkeys([*suite.datasets, *suite.other_tasks])
    own = [name for name in used if name not in open_suite(args.data).datasets]
    if "images" in args:  # the user's, whatever their classes are named after
        own = ["these images"]
    if own and weights == suite.weights:
        say(f"{', '.join(own)}: computed with the miniature's small CLIP; for OpenAI's give --weights FILE or "
            "--data DIR")
    clip = load(weights, compute.device, compute.half, compute.memory)
    if weights != suite.weights and clip.sha256 != SHA256:
        say(f"{weights}: not OpenAI's ViT-B/16; taken to be trained with QuickGELU, as theirs (weights trained with "
            "GELU, as most of open_clip's, can't be told apart and would give wrong numbers)")
    about = provenance(str(compute.device)) | {"precision": compute.precision, "suite": suite.name}
    feed = Feed(clip.visual.image_size, compute.device, args.workers)
    return Session(suite, clip, out, clip.sha256, compute.precision, feed, about, shared_options(args))


def shared_options(args: Namespace) -> list[str]:
    """The options that a command for a missing cell must share with this one."""
    words = ["--data", str(args.data)] if args.data else []
    words += ["--datasets", *args.datasets] if args.datasets else []
    words += ["--tasks", *args.tasks] if args.tasks else []
    words += ["--weights", str(args.weights)] if args.weights else []
    words += ["--out", str(args.out)] if str(args.out) != OUT else []
    return words
