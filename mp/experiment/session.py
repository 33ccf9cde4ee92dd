"""A session: the suite, CLIP, images and output folder that every command which computes accuracies opens first."""
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any

from torch import Tensor

from data.dataset import Dataset, Item, few_shot, restrict
from data.feed import Feed
from data.suite import Suite, open_suite
from mp.clip.download import SHA256, openai_weights
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.evaluate import TestSet
from mp.learners import METHODS, Learner
from mp.learners.prompts import START_TOKENS, check_length, class_prompts, unknown_names
from mp.learners.settings import hashed
from mp.prompts import PromptFile, open_prompt
from mp.runtime.device import Compute, choose
from mp.runtime.processes import join
from mp.runtime.progress import Progress, say
from mp.settings import OUT, PromptSettings
from mp.store import cells, features
from mp.store.cells import Identity
from mp.store.provenance import provenance


def once(method: Callable) -> Callable:
    """Let a session compute what a method returns once for the same arguments. It is forgotten with the session, which
    functools.cache would keep for good."""
    @wraps(method)
    def known(session: "Session", *arguments: Any, **named: Any) -> Any:
        key = method.__name__, *arguments, *named.items()
        if key not in session.known:
            session.known[key] = method(session, *arguments, **named)
        return session.known[key]

    return known


@dataclass
class Session:
    """Hold what a command opens once, and what it learns of datasets and prompts on the way."""
    suite: Suite
    clip: CLIP
    out: Path                   # the suite's own folder below --out
    weights: str                # SHA-256 of CLIP's weights file
    precision: str              # as --precision says it
    compute: Compute            # the device, and the precision that "auto" became
    feed: Feed
    provenance: dict[str, Any]  # of every file that this command writes
    options: list[str]          # the options that a command which is named to the user must share with this one
    learns: bool = False        # whether this command learns the meta-prompts that it needs
    known: dict[tuple, Any] = field(default_factory=dict)  # what methods marked `once` returned, and `prepare`

    # What files depend on

    def identity(self, prompt: str, settings: PromptSettings | None = None, trained_on: dict[str, str] | None = None,
                 meta: dict[str, Any] | None = None) -> Identity:
        """Return the identity of a file that depends on these, without the images tested on."""
        return Identity(self.weights, self.precision, prompt, settings and hashed(settings), trained_on, meta=meta)

    @once
    def tested_on(self, name: str) -> dict[str, str]:
        """Return what an identity says of a dataset's test images."""
        dataset = self.suite.load(name)
        return {name: dataset.fingerprint(dataset.test)}

    @property
    def machine(self) -> str:
        """Return what rounding depends on, and so states and cached features."""
        return f"{self.compute.device.type}-{self.compute.precision}"

    # Datasets

    def load(self, name: str) -> Dataset:
        """Return a dataset, the suite's or the user's own; its notes are said."""
        dataset = self.suite.load(name)
        for note in dataset.notes:
            self.say_once(f"{name}: {note}")
        return dataset

    @once
    def draw_shots(self, name: str, shots: int, seed: int, part: str = "all") -> tuple[list[Item], str]:
        """Draw `shots` training images of every class of a dataset, restrict them to a part of the classes, and return
        them with their fingerprint."""
        dataset = self.load(name)
        items = few_shot(dataset.train, shots, seed)
        self.say_few(dataset, items, shots)
        items = restrict(items, len(dataset.classes), part)
        return items, dataset.fingerprint(items)

    def say_few(self, dataset: Dataset, items: list[Item], shots: int) -> None:
        """Say which classes have fewer than so many training images."""
        counts = Counter(item.label for item in items)
        few = [f"{word} ({counts[i]})" for i, word in enumerate(dataset.classes) if counts[i] < shots]
        if few:
            more = f" and {len(few) - 5} more" if len(few) > 5 else ""
            classes = ", ".join(few[:5])
            self.say_once(f"{dataset.name}: fewer than {shots} training images of {classes}{more}; using all of them")

    @once
    def test_set(self, name: str) -> TestSet:
        dataset = self.load(name)
        return TestSet(dataset, self.clip, partial(self.views, dataset), partial(self.recall, dataset))

    def recall(self, dataset: Dataset, compute) -> Tensor:
        """Return the features of the test images that `compute` gives, from the cache folder if they are there."""
        images = [item.source for item in dataset.test]
        if not isinstance(images[0], str):  # drawn, and so small that computing is quicker
            return compute()
        width = self.clip.text_projection.shape[1]
        made_by = [self.weights, self.machine, self.tested_on(dataset.name)]
        return features.recall(made_by, dataset.name, images, width, compute)

    def views(self, dataset: Dataset) -> Iterator[Tensor]:
        """Yield test views, some at a time, with a line of progress if it takes long."""
        progress, done = Progress(f"{dataset.name}: test image", patience=5), 0
        for views in self.feed.plain(dataset.test):
            yield views
            done += len(views)
            progress.update(done, len(dataset.test))

    # Learners and prompts

    @once
    def check_names(self, name: str, settings: PromptSettings) -> None:
        """Raise UserError for class names that don't fit beside the prompt: before hours of training, not after."""
        names = self.suite.load(name).classes
        self.say_unknown(*names)
        length = settings.length if "length" in METHODS[settings.method].made_with else 0
        check_length(self.clip, class_prompts(self.clip, names), 1 + max(length, START_TOKENS))

    def prepare(self, learner: Learner, names: list[str]) -> Any:
        """Return the learner's classes; they may take 60 templates each, and nothing in them is learnt."""
        key = type(learner), *names
        if key not in self.known:
            self.known[key] = learner.prepare(self.clip, names)
        return self.known[key]

    @once
    def open_prompt(self, path: str | Path) -> PromptFile:
        return open_prompt(Path(path))

    def forget_prompts(self) -> None:
        """Let prompt files be read again, as they may have been learnt anew."""
        self.known = {key: value for key, value in self.known.items() if not isinstance(value, PromptFile)}

    # What is said

    def say_zero_gradients(self, numbers: dict[str, Any]) -> None:
        """Say which tensors learn nothing, by an epoch's numbers; each once."""
        for name in numbers["zero_gradients"]:
            self.say_once(f"the gradient of {name} is exactly zero, so it learns nothing")

    @once
    def say_unknown(self, *names: str) -> None:
        """Say which class names mean nothing to this CLIP."""
        if unknown := unknown_names(self.clip, names):
            self.say_once(unknown)

    @once
    def say_once(self, text: str) -> None:
        """Print a line once in this session."""
        say(text)


def open_session(args: Namespace, learns: bool = False) -> Session:
    """Raise UserError for an absent folder, dataset, device or weights file."""
    compute = choose(args.device, args.precision, args.memory)
    join(compute.device)
    suite = open_suite(args.data, args.datasets, args.tasks)
    out = args.out / suite.name
    cells.say_earlier_version(out)
    if suite.name == "mini" and "images" not in args:
        say("the embedded miniature suite; for the paper's datasets give --data DIR (or set MP_DATA)")
    weights = args.weights or suite.weights or openai_weights()
    say_whose(args, suite, weights)
    clip = load(weights, compute.device, compute.half, compute.memory)
    if weights != suite.weights and clip.sha256 != SHA256:
        say(f"{weights}: not OpenAI's ViT-B/16; taken to be trained with QuickGELU, as theirs (weights trained with "
            "GELU, as most of open_clip's, can't be told apart and would give wrong numbers)")
    about = provenance(str(compute.device)) | {"precision": compute.precision, "clip": clip.mark()}
    feed = Feed(clip.visual.image_size, compute.device, args.workers)
    return Session(suite, clip, out, clip.sha256, args.precision, compute, feed, about, shared_options(args), learns)


def say_whose(args: Namespace, suite: Suite, weights: Path) -> None:
    """Say so where images of the user's own are computed with the miniature's CLIP."""
    used = dict.fromkeys([*suite.datasets, *suite.other_tasks])
    own = [name for name in used if name not in open_suite(args.data).datasets]
    if "images" in args:  # the user's, whatever their classes are named after
        own = ["these images"]
    if own and weights == suite.weights:
        say(f"{', '.join(own)}: computed with the miniature's small CLIP; for OpenAI's give --weights FILE or "
            "--data DIR")


def shared_options(args: Namespace) -> list[str]:
    """Return the options that another command needs, too, to find the same files; without those at their defaults."""
    words = []
    defaults = {"data": None, "datasets": None, "tasks": None, "weights": None, "precision": "auto", "out": Path(OUT)}
    for name, default in defaults.items():
        value = getattr(args, name)
        if value not in (None, default):
            words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    return words
