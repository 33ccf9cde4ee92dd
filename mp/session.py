"""What every command sets up first: the suite, CLIP, the output folder, and what made the results."""
import sys
from argparse import Namespace
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from data.suite import Suite, open_suite
from mp import files
from mp.clip import CLIP, load
from mp.cocoop import CoCoOp
from mp.coop import CoOp
from mp.device import choose_device
from mp.errors import UserError
from mp.evaluate import TestSet
from mp.promptsrc import PromptSRC

WEIGHTS = ("OpenAI's ViT-B-16.pt, SHA-256 5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f, from "
           "https://openaipublic.azureedge.net/clip/models/"
           "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt")


@dataclass
class Session:
    suite: Suite
    clip: CLIP
    out: Path      # the suite's own folder below --out
    made_by: dict  # provenance of every file this command writes

    def test_sets(self) -> list[TestSet]:
        return [TestSet(self.suite.load(name), self.clip) for name in self.suite.datasets]

    def meta_prompt(self, method: str, seed: int) -> Path:
        """Where `run.py meta --method METHOD --seeds SEED`, with the paper's settings, leaves its prompt."""
        return self.out / "meta" / f"{method}-seed{seed}" / "prompt.pt"

    def find_prompt(self, given: str, method: str, seed: int) -> Path:
        """The prompt file that `given`, "meta" or a file's name, stands for. Raises UserError if there is none."""
        path = self.meta_prompt(method, seed) if given == "meta" else Path(given)
        if not path.is_file():
            advice = f"; make it with: python run.py meta --method {method} --seeds {seed}" if given == "meta" else ""
            raise UserError(f"{path}: no such prompt file{advice}")
        return path

    def depth(self, asked: int) -> int:
        """PromptSRC's depth; the miniature's towers are shallower than the paper's, and the program says so."""
        layers = min(len(t.resblocks) for t in (self.clip.transformer, self.clip.visual.transformer))
        if self.suite.name == "mini" and asked > layers:
            say(f"prompt depth {layers} instead of {asked}: the miniature's towers have {layers} layers")
            return layers
        return asked

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
        learner.load_state_dict(files.read_prompt(path, settings.method, learner.state_dict()))
        return learner


def open_session(args: Namespace) -> Session:
    """Raises UserError for an absent folder, dataset, device or weights file."""
    device = choose_device(args.device)
    suite = open_suite(args.data, args.datasets)
    weights = args.weights or suite.weights
    if weights is None:
        raise UserError(f"--weights FILE is needed with --data: {WEIGHTS}")
    if suite.name == "mini":
        say("the embedded miniature suite; for the paper's datasets give --data DIR (or set MP_DATA) and --weights FILE")
    clip = load(weights, device)
    made_by = files.provenance(str(device)) | {"suite": suite.name, "weights_sha256": files.sha256(weights)}
    return Session(suite, clip, args.out / suite.name, made_by)


def settings_from(kind: type, args: Namespace, **defaults):
    """A settings dataclass from the options that were given, and `defaults` for those that were not."""
    given = {f.name: getattr(args, f.name) for f in fields(kind) if getattr(args, f.name, None) is not None}
    return kind(**(defaults | given))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
