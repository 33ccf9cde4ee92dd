"""The files that commands leave. Here alone stands how they are called and what they hold: a result is known by its
content, never by its name."""
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

PARTS = ("base", "new", "all")


class Result(NamedTuple):
    path: Path
    content: dict[str, Any]

    @property
    def accuracies(self) -> dict[str, float]:
        return self.content["accuracies"]

    @property
    def identity(self) -> dict[str, Any]:
        return self.content["identity"]

    @property
    def dataset(self) -> str:
        name, = self.identity["tested_on"]
        return name

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of fine-tuning; of a prompt as it is, none."""
        return (self.identity.get("settings") or {}) if "finetune" in self.path.parts else {}

    @property
    def prompt(self) -> dict[str, Any]:
        """The content of the fine-tuned prompt beside the result."""
        contents = [torch.load(path, weights_only=True) for path in self.path.parent.glob("*.prompt.pt")]
        learnt_from = [self.identity.get(name) for name in ("settings", "trained_on", "prompt")]
        content, = [content for content in contents
                    if [content["identity"].get(name) for name in ("settings", "trained_on", "prompt")] == learnt_from]
        return content


def results(out: Path, dataset: str | None = None, tuned: bool | None = None, prompt: str | None = None,
            **settings: Any) -> list[Result]:
    """Return the results below a folder, in the order of their paths: those of a dataset, of a prompt (words or a
    fingerprint), of prompts that are `tuned` or as they are, and with these settings of fine-tuning."""
    fitting = []
    for path in sorted(out.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not {"accuracies", "identity", "provenance"} <= content.keys():
            continue
        result = Result(path, content)
        fits = dataset in (None, result.dataset) and prompt in (None, result.identity["prompt"])
        fits = fits and tuned in (None, bool(result.settings))
        if fits and settings.items() <= result.settings.items():
            fitting.append(result)
    return fitting


def result(out: Path, **wanted: Any) -> Result:
    only, = results(out, **wanted)
    return only


class Learnt(NamedTuple):
    """A meta-prompt's file."""
    path: Path
    content: dict[str, Any]

    @property
    def params(self) -> dict[str, torch.Tensor]:
        return self.content["params"]

    @property
    def settings(self) -> dict[str, Any]:
        return self.content["identity"]["settings"]

    @property
    def log(self) -> list[dict[str, Any]]:
        """A line per epoch."""
        return [json.loads(line) for line in (self.path.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def meta_prompts(out: Path, **settings: Any) -> list[Learnt]:
    """Return the meta-prompts below a folder that were learnt with these settings, in the order of their paths."""
    every = [Learnt(path, torch.load(path, weights_only=True)) for path in sorted(out.rglob("meta/*/prompt*.pt"))]
    return [learnt for learnt in every if settings.items() <= learnt.settings.items()]


def meta_prompt(out: Path, **settings: Any) -> Learnt:
    only, = meta_prompts(out, **settings)
    return only


def everything(out: Path) -> dict[Path, tuple[int, bytes]]:
    """Return when every file changed last, and its bytes; but for locks."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}


def prompts(out: Path) -> dict[Path, dict[str, torch.Tensor]]:
    """Return the tensors of every prompt, by its path below `out`."""
    files = sorted(out.rglob("*prompt*.pt"))
    return {path.relative_to(out): torch.load(path, weights_only=True)["params"] for path in files}


def numbers(out: Path) -> dict[Path, dict[str, float]]:
    """Return the accuracies of every result, by its path below `out`."""
    return {result.path.relative_to(out): result.accuracies for result in results(out)}


def states(out: Path) -> list[Path]:
    """Return what interrupted runs left to go on from."""
    return list(out.rglob("*state-*.pt"))
