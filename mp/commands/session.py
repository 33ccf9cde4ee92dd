"""What every command sets up first: the suite, CLIP, the output folder, and what made the results."""
from argparse import Namespace
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import nn

from data.dataset import Dataset
from data.feed import Feed
from data.suite import Suite, open_suite
from mp.runtime import files, tensors
from mp.store import promptfile
from mp.clip.model import CLIP, load
from mp.learners.cocoop import CoCoOp
from mp.learners.coop import CoOp
from mp.runtime.device import choose
from mp.runtime.processes import join
from mp.clip.download import openai_weights
from mp.runtime.errors import UserError
from mp.evaluate import TestSet
from mp.runtime.progress import say
from mp.learners.promptsrc import PromptSRC
from mp.store.provenance import provenance


@dataclass
class Session:
    suite: Suite
    clip: CLIP
    out: Path      # the suite's own folder below --out
    made_by: dict  # provenance of every file this command writes
    feed: Feed

    tests: dict[str, TestSet] = field(default_factory=dict)
    prepared: dict[tuple, tuple] = field(default_factory=dict)
    told: bool = False  # that the prompts are shallower than asked

    def test_set(self, name: str) -> TestSet:
        if name not in self.tests:
            keep = " ".join([*(self.made_by[k] for k in ("weights_sha256", "precision", "torch")), self.feed.device.type])
            self.tests[name] = TestSet(self.suite.load(name), self.clip, self.feed, keep)
        return self.tests[name]

    def test_sets(self) -> list[TestSet]:
        return [self.test_set(name) for name in self.suite.datasets]

    def made_from(self, dataset: Dataset) -> dict:
        """What every result on a dataset depends on. Other counts or names mean that the dataset isn't the same."""
        return {"weights_sha256": self.made_by["weights_sha256"], "classes": len(dataset.classes),
                "train_images": len(dataset.train), "test_images": len(dataset.test), "names": dataset.digest()}

    def meta_prompt(self, method: str, seed: int) -> Path:
        return meta_prompt(self.out, method, seed)

    def find_prompt(self, given: str, method: str, seed: int) -> Path:
        """The prompt file that `given`, "meta" or a file's name, stands for. Raises UserError if there is none."""
        path = self.meta_prompt(method, seed) if given == "meta" else Path(given)
        if not path.is_file():
            advice = (f"make it with: python run.py meta --method {method} --seeds {seed}" if given == "meta"
                      else "`run.py meta` makes one, and says where")
            raise UserError(f"{path}: no such prompt file; {advice}")
        if given == "meta":  # a file of the user's choice may come from other weights
            kept = files.dig(tensors.read(path), "made_by", "weights_sha256")
            files.require_same(path, {"weights_sha256": kept}, {"weights_sha256": self.made_by["weights_sha256"]})
        return path

    def fitted(self, settings, tell: bool = True):
        """The settings with PromptSRC's depth. The miniature's towers are shallower than the paper's; the program says so."""
        layers = min(len(t.resblocks) for t in (self.clip.transformer, self.clip.visual.transformer))
        if self.suite.name != "mini" or settings.method != "promptsrc" or settings.depth <= layers:
            return settings
        if tell and not self.told:
            say(f"prompt depth {layers} instead of {settings.depth}: the miniature's towers have {layers} layers")
            self.told = True
        return replace(settings, depth=layers)

    def prepare(self, learner: nn.Module, names: list[str]) -> tuple:
        """The learner's classes. PromptSRC's take 60 templates each, so they are kept: nothing in them is learnt."""
        key = type(learner), *names
        if key not in self.prepared:
            self.prepared[key] = learner.prepare(self.clip, names)
        return self.prepared[key]

    def learner(self, settings) -> nn.Module:
        """The method's learner from its handcrafted start; what is random in it follows the seed."""
        generator = torch.Generator().manual_seed(settings.seed)
        if settings.method == "coop":
            learner = CoOp(self.clip)
        elif settings.method == "cocoop":
            learner = CoCoOp(self.clip, generator)
        else:
            learner = PromptSRC(self.clip, settings.depth, settings.length, generator)
        return learner.to(self.clip.logit_scale.device)

    def learner_from(self, path: Path, settings) -> nn.Module:
        """The method's learner with the tensors of a prompt file."""
        learner = self.learner(settings)
        learner.load_state_dict(promptfile.read(path, settings.method, learner.state_dict()))
        return learner


def meta_prompt(out: Path, method: str, seed: int) -> Path:
    """Where `run.py meta --method METHOD --seeds SEED`, with the paper's settings, leaves its prompt."""
    return out / "meta" / f"{method}-seed{seed}" / "prompt.pt"


def open_session(args: Namespace) -> Session:
    """Raises UserError for an absent folder, dataset, device or weights file."""
    compute = choose(args.device, args.precision, args.memory)
    join(compute.device)
    suite = open_suite(args.data, args.datasets)
    if suite.name == "mini":
        say("the embedded miniature suite; for the paper's datasets give --data DIR (or set MP_DATA)")
    weights = args.weights or suite.weights or openai_weights()
    clip = load(weights, compute.device, compute.half, compute.memory)
    made_by = provenance(str(compute.device)) | {
        "precision": compute.precision, "suite": suite.name, "weights_sha256": files.sha256(weights)}
    feed = Feed(clip.visual.image_size, compute.device, args.workers)
    return Session(suite, clip, args.out / suite.name, made_by, feed)


def settings_from(kind: type, args: Namespace, **defaults):
    """A settings dataclass from the options that were given, and `defaults` for those that were not."""
    given = {f.name: getattr(args, f.name) for f in fields(kind) if getattr(args, f.name, None) is not None}
    return kind(**(defaults | given))
