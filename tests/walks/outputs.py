"""What commands leave and print. Here alone stands how files are called and what they hold: a result is known by its
content, never by its name."""
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

PARTS = ("base", "new", "all")
MEASURES = ("base", "new", "HM", "all")  # as printed


class Result(NamedTuple):
    path: Path
    accuracies: dict[str, float]
    identity: dict[str, Any]
    provenance: dict[str, Any]
    content: dict[str, Any]

    @property
    def dataset(self) -> str:
        name, = self.identity["tested_on"]
        return name

    @property
    def settings(self) -> dict[str, Any]:
        """Of what was fine-tuned; of a prompt as it is, none."""
        return (self.identity.get("settings") or {}) if "finetune" in self.path.parts else {}

    @property
    def prompt(self) -> dict[str, Any]:
        """The content of the fine-tuned prompt beside it."""
        known = ("settings", "trained_on", "prompt")
        found = []
        for path in self.path.parent.glob("*.prompt.pt"):
            content = torch.load(path, weights_only=True)
            if all(content["identity"].get(name) == self.identity.get(name) for name in known):
                found.append(content)
        only, = found
        return only


def results(out: Path, **wanted: Any) -> list[Result]:
    """All below a folder, in the order of their paths, of this `dataset`, this `prompt` (words or a fingerprint), and with
    these settings of fine-tuning; `tuned`: whether of fine-tuned prompts or of prompts as they are."""
    found = []
    for path in sorted(out.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"accuracies", "identity", "provenance"} <= content.keys():
            found.append(Result(path, content["accuracies"], content["identity"], content["provenance"], content))
    return [one for one in found if belongs(one, **wanted)]


def belongs(result: Result, dataset: str | None = None, tuned: bool | None = None, prompt: str | None = None,
            **settings: Any) -> bool:
    if dataset not in (None, result.dataset) or prompt not in (None, result.identity["prompt"]):
        return False
    if tuned not in (None, bool(result.settings)):
        return False
    return all(result.settings.get(name) == value for name, value in settings.items())


def result(out: Path, **wanted: Any) -> Result:
    only, = results(out, **wanted)
    return only


class Learnt(NamedTuple):
    """A meta-prompt."""
    path: Path
    content: dict[str, Any]

    @property
    def params(self) -> dict[str, torch.Tensor]:
        return self.content["params"]

    @property
    def log(self) -> list[dict[str, Any]]:
        """A line per epoch."""
        return [json.loads(line) for line in (self.path.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def meta_prompts(out: Path, **settings: Any) -> list[Learnt]:
    """All that `meta` learnt with these settings, in the order of their paths."""
    found = [Learnt(path, torch.load(path, weights_only=True)) for path in sorted(out.rglob("meta/*/prompt*.pt"))]
    return [one for one in found
            if all(one.content["identity"]["settings"].get(name) == value for name, value in settings.items())]


def meta_prompt(out: Path, **settings: Any) -> Learnt:
    only, = meta_prompts(out, **settings)
    return only


def everything(out: Path) -> dict[Path, tuple[int, bytes]]:
    """When every file changed last, and its bytes; but for locks."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}


def prompts(out: Path) -> dict[Path, dict[str, torch.Tensor]]:
    """The tensors of every prompt, by its path below `out`."""
    return {path.relative_to(out): torch.load(path, weights_only=True)["params"] for path in sorted(out.rglob("*prompt*.pt"))}


def numbers(out: Path) -> dict[Path, dict[str, float]]:
    """The accuracies of every result."""
    return {one.path.relative_to(out): one.accuracies for one in results(out)}


def states(out: Path) -> list[Path]:
    """What interrupted runs left to go on from."""
    return list(out.rglob("*state-*.pt"))


# What is printed

def rows(text: str, groups: int) -> dict[str, list[list[str]]]:
    """Of the table of zeroshot, meta and finetune: by dataset or average, for each group of columns its cells, one of each of MEASURES."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        count = len(MEASURES)
        cells = words[-count * groups :]
        name = " ".join(words[: -count * groups]).rstrip("*")
        if name and all(re.fullmatch(r"[+-]?\d+\.\d(±\d+\.\d)?|-", cell) for cell in cells):
            found[name] = [cells[i : i + count] for i in range(0, len(cells), count)]
    return found


def table_rows(text: str) -> dict[tuple[str, str], list[str]]:
    """Of Table 2: by dataset or average and measure, the cells."""
    found, name = {}, ""
    for line in text.splitlines():
        match = re.match(r"(.*?)\s*\b(base|new|HM|all)\s{2,}(.*)$", line)
        if match:
            name = match[1].rstrip("*") or name
            found[name, match[2]] = match[3].split()
    return found


def claim_rows(text: str) -> list[dict[str, list[str]]]:
    """Of claims: for each table, by the row's title, how many seeds and six cells."""
    tables: list[dict[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("points"):
            tables.append({})
        cells = r"\s+([+-]\d+\.\d(?:±\d+\.\d)?|-)" * 6
        match = re.match(rf"(\S.*?)\s+(\d+){cells}(\s|$)", line)
        if match and tables:
            tables[-1][match[1]] = list(match.groups()[1:8])
    return tables
