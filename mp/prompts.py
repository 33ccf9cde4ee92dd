"""Read and write prompt files, of this project and of the methods' own code; make learners that take their tensors.

A file of this project is a dict that torch.load(FILE, weights_only=True) reads: `method`; `params`, the learnt tensors
by name; `identity`, what they were made from; `provenance`, who made them; `regulator`, φ where one was learnt.
"""
import hashlib
import json
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mp import regulator
from mp.clip.model import CLIP
from mp.clip.tokenizer import SOS
from mp.learners import METHODS, Learner, learner_class, make_learner
from mp.learners.deep import layers_of
from mp.maml import Params
from mp.runtime import torchfile
from mp.runtime.errors import UserError, unreadable
from mp.runtime.progress import say_once
from mp.settings import PromptSettings
from mp.store.cells import complete

ADVICE = "give a prompt that `run.py meta` or `finetune` wrote, or the command that made it again with --force"
OPENAIS_LAYERS = 12  # of both towers of every ViT of theirs: what is deeper is a mistake

# What the methods' own code keeps beside a prompt.
TOWERS = {"image_encoder.": "visual.", "text_encoder.": ""}  # how names begin, and CLIP's
SOS_NAMES = ("token_prefix", "prompt_learner.token_prefix")  # [C, 1, W] of its embedding, the same for every class
LEFT_OUT = ("token_suffix", "prompt_learner.token_suffix")
TEACHER = "prompt_learner.ZS_image_encoder."  # left out, too
WRAPPERS = ("module", "_orig_mod")  # before the names of a module that is distributed, or compiled
TOLD = ("length", "depth", "image_length", "image_depth")  # what tensors' shapes tell of how a learner is made
NEAR = 0.005  # of a tensor's largest value: as far as an average over epochs, in half precision, may move a frozen one


class PromptFile(NamedTuple):
    """Hold a prompt as its file has it."""
    path: Path
    method: str
    params: Params
    identity: dict[str, Any] = {}    # what it was made from, as a file of this project says
    provenance: dict[str, Any] = {}  # what made it, likewise
    regulator: Params = {}           # φ, if one was learnt with it
    frozen: Params = {}              # of CLIP, that other projects keep beside it; by CLIP's names, and "sos" [W]

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of method, tensors, whatever their order, and what else the learner is made with. What
        made them doesn't count."""
        digest = hashlib.sha256(repr(self.method).encode())
        if untold := {name: value for name, value in self.sizes.items() if name not in TOLD}:
            digest.update(json.dumps(untold, sort_keys=True).encode())
        for name, tensor in sorted((self.params | self.regulator).items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().to(torch.float64).numpy().tobytes())
        return digest.hexdigest()

    @property
    def sizes(self) -> dict[str, Any]:
        """Return what the method's learner is made with to take these tensors, and what else the file says of that."""
        text = [name for name in self.params if name.startswith("text.")]
        image = [name for name in self.params if name.startswith("vision.")]
        values = plain_dict(self.identity, "settings") | plain_dict(self.identity, "made_with")  # run.py's; a script's
        values |= {"length": rows(self.params, "ctx"), "depth": 1 + len(text)}
        values |= {"image_length": rows(self.params, "vision.0"), "image_depth": len(image)}
        return {name: values[name] for name in METHODS[self.method].made_with if name in values}

    @property
    def shape(self) -> dict[str, Any]:
        """Return those of its sizes that are settings."""
        names = [field.name for field in fields(PromptSettings)]
        return {name: self.sizes[name] for name in names if name in self.sizes}


def rows(params: Params, name: str) -> int:
    return len(params[name]) if name in params and params[name].dim() else 0


# Files of this project

def write_prompt(path: Path, method: str, params: Params, identity: dict[str, Any],
                 provenance: dict[str, Any], phi: Params = {}) -> None:
    """Write a file of this project. `identity` and `provenance`: as mp/store/ has them; `phi`: of a regulator."""
    content = {"method": method, "identity": identity, "provenance": provenance}
    for kind, tensors in (("params", params), ("regulator", phi)):
        if tensors:
            content[kind] = {name: value.detach().cpu() for name, value in tensors.items()}
    torchfile.write(path, content)


def open_prompt(path: Path) -> PromptFile:
    """Return the prompt in a file of this project, whose path may leave digits out, or in a checkpoint of the method's
    own code. Raises UserError if there is none, or it can't be used."""
    path = complete(path)
    if not path.is_file():
        inside = path / "prompt.pt"  # of a meta-prompt's folder
        advice = f"give {inside}" if inside.is_file() else "`run.py meta` makes one, and says where"
        raise UserError(f"{path}: no such prompt file; {advice}")
    content = load(path, objects=True)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        file = read_published(path, content["state_dict"])
    else:
        file = read_own(path, load(path))
    if not file.sizes.get("length", 1):
        raise UserError(f"{path}: its ctx holds no vectors; give another file")
    return file


def load(path: Path, objects: bool = False) -> Any:
    """Return the content of a file. Raises UserError if it can't be read; `objects`: as in `torchfile.load`."""
    try:
        return torchfile.load(path, objects)
    except (OSError, MemoryError, ValueError) as e:
        foreign = isinstance(e, torchfile.ForeignObjects)
        what = "a checkpoint of another project" if foreign else "damaged, or not a file of this project"
        raise UserError(unreadable(path, e, what, ADVICE)) from None


def read_own(path: Path, content: Any) -> PromptFile:
    """Return the prompt in the content of a file of this project. Raises UserError if there is none."""
    content = content if isinstance(content, dict) else {}
    method, params, phi = content.get("method"), content.get("params"), content.get("regulator", {})
    if not (isinstance(method, str) and is_params(params) and params and is_params(phi)):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    if method not in METHODS:
        raise UserError(f"{path}: made for --method {method[:40]}, which isn't known; give another file")
    if wrong := torchfile.mismatch(phi, regulator.start(params, 0) if phi else {}, "its regulator"):
        raise UserError(f"{path}: {wrong}; give another file, or the command that made it again with --force")
    return PromptFile(path, method, params, plain_dict(content, "identity"), plain_dict(content, "provenance"), phi)


def is_params(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def plain_dict(content: dict, key: str) -> dict[str, Any]:
    """Return a copy of a dict in a file's content, as JSON has it; empty if there is none that JSON knows."""
    try:
        return dict(json.loads(json.dumps(content.get(key))))
    except (TypeError, ValueError, RecursionError):
        return {}


def is_whole(path: Path, identity: dict[str, Any]) -> bool:
    """Return whether a file of this project is undamaged and of this identity. Raises OSError and MemoryError."""
    try:
        file = read_own(path, torchfile.load(path))
    except (ValueError, UserError):
        return False
    if file.identity != identity or file.method != identity["settings"]["method"] or not file.provenance:
        return False
    return all(p.dtype == torch.float32 and p.isfinite().all() for p in file.params.values())


# Files of the methods' own code

def read_published(path: Path, state: dict[str, Any]) -> PromptFile:
    """Return the prompt in the `state_dict` of a method's own code, its tensors by our names in float32; say what it is
    taken for.

    Raises UserError if it holds no prompt, one that belongs to the classes it was trained with, or anything besides;
    and for what no tensor tells but the path: that class names stood in front of the prompt, or inside.
    """
    for elsewhere in ("ctpmiddle", "ctpfront"):
        if elsewhere in f"{path.absolute()} {path.resolve()}".lower():
            raise UserError(f"{path}: learnt with the class name elsewhere, as its path says ({elsewhere}); here names "
                            "stand at the end: give a prompt of ctpend")
    try:
        tensors = unwrapped(state)
        method, names = recognise(tensors)
        frozen = frozen_tensors(tensors, names.values(), METHODS[method].title)
        check_tensors(tensors, names["ctx"])
    except UserError as e:
        raise UserError(f"{path}: {e}; give another file") from None
    params = {ours: tensors[theirs].detach().float() for ours, theirs in names.items()}
    file = PromptFile(path, method, params, frozen=frozen)
    sizes = ", ".join(f"{name} {value}" for name, value in file.sizes.items())
    say_once(f"{path}: a prompt of {METHODS[method].title}, as its own code writes it ({sizes}), taken to be learnt "
             "with class names at the end")
    return file


def unwrapped(state: dict[str, Any]) -> Params:
    """Return the tensors, by their names without WRAPPERS. Raises UserError if two have the same name then."""
    tensors = {}
    for name, value in state.items():
        bare = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
        if bare in tensors:
            raise UserError(f"holds {bare} twice, also as {name}")
        if isinstance(value, Tensor):
            tensors[bare] = value
    return tensors


def recognise(tensors: Params) -> tuple[str, dict[str, str]]:
    """Return the method that has most of these tensors, and their names here by our names. Raises UserError if they
    hold no prompt."""
    present = {}
    for method in METHODS:
        kind = learner_class(method)
        if kind.published_as:
            present[method] = {ours: theirs for ours, theirs in kind.published().items() if theirs in tensors}
    method = max(present, key=lambda method: len(present[method]), default="")
    if "ctx" not in present.get(method, {}):
        raise UserError(f"holds no prompt of {', '.join(METHODS[method].title for method in present)}")
    return method, present[method]


def frozen_tensors(tensors: Params, prompt: Collection[str], title: str) -> Params:
    """Return those of CLIP beside a prompt's, which have the names `prompt`: by CLIP's names, and its SOS embedding
    [W] as "sos". Raises UserError for what belongs neither to CLIP nor to a prompt of the method with this title."""
    frozen = {}
    for name, value in tensors.items():
        tower = next((start for start in TOWERS if name.startswith(start)), None)
        if name in prompt or name in LEFT_OUT or name.startswith(TEACHER):
            continue
        elif name == "logit_scale":
            frozen[name] = value
        elif tower:
            frozen[TOWERS[tower] + name.removeprefix(tower)] = value
        elif name not in SOS_NAMES:
            raise UserError(f"holds {name} beside a prompt of {title}, which has none such")
        elif value.dim() == 3 and value.numel():
            frozen["sos"] = value[0, 0]
    return frozen


def check_tensors(tensors: Params, ctx: str) -> None:
    """Raise UserError for a tensor that isn't plain, or a context that belongs to the classes of its training."""
    for name, value in tensors.items():
        # A tensor whose numbers share their bytes could have any size in a small file.
        shared = value.numel() * value.element_size() > value.untyped_storage().nbytes()
        if shared or not value.is_floating_point():
            raise UserError(f"{name} isn't a plain tensor of floating-point numbers")
    if tensors[ctx].dim() == 3:
        classes, vectors, _ = tensors[ctx].shape
        raise UserError(f"its context is class-specific, {vectors} vectors of {classes} classes; prompts here are "
                        "shared by all classes")


# A prompt meets weights

def learner_of(settings: PromptSettings, clip: CLIP, prompt: PromptFile | None = None) -> Learner:
    """Make the method's learner, from its handcrafted start, where what is random follows the seed; or with the tensors
    of a prompt file. Say it if these were learnt with other weights. Raises UserError if they don't fit.

    Its `clip` is the mark of the CLIP that it was learnt with, as far as is known, or is going to be; its `made_with`,
    all that it was made with.
    This is the one place where a depth is brought down to towers that are shallower than all of OpenAI's, aloud.
    """
    sizes = prompt.sizes if prompt else {}
    for field in fields(settings):
        if field.metadata.get("only_if") == "made_with":
            sizes[field.name] = getattr(settings, field.name)
    layers = layers_of(clip)
    if "depth" in METHODS[settings.method].made_with and layers < settings.depth <= OPENAIS_LAYERS:
        sizes["depth"] = layers
        if not prompt:
            say_once(f"prompt depth {layers} instead of {settings.depth}: these towers have {layers} layers")
    generator = torch.Generator().manual_seed(settings.seed)
    try:
        learner = make_learner(settings.method, clip, generator=generator, **sizes)
    except UserError as e:
        raise UserError(f"{prompt.path}: {e}" if prompt else f"{e}") from None
    learner.clip = clip.mark()
    learner.made_with = {name: value for name, value in sizes.items() if name in METHODS[settings.method].made_with}
    if prompt:
        learner.load_state_dict(fitted(prompt, settings.method, learner.state_dict()))
        if difference := other_weights(prompt, clip):
            say_once(f"{prompt.path}: learnt with other weights of CLIP than these ({difference}); here it may mean "
                     "little")
            learner.clip = prompt.provenance.get("clip", "")
    return learner


def other_weights(prompt: PromptFile, clip: CLIP) -> str:
    """Return how the file tells that its prompt was learnt with other weights of CLIP; "" if it doesn't. Half precision
    is no difference. Raises UserError for a tensor beside the prompt that this CLIP has none of."""
    mark = prompt.provenance.get("clip")
    if mark and mark != clip.mark():
        return f"{str(mark)[:40]}, now {clip.mark()}"
    own = dict(clip.named_parameters()) | {"sos": clip.token_embedding.weight[SOS]}
    if unknown := prompt.frozen.keys() - own.keys():
        raise UserError(f"{prompt.path}: holds {min(unknown)}, which this CLIP has none of; give another file, or the "
                        "--weights that it was made with")
    for name, value in prompt.frozen.items():
        if value.shape != own[name].shape:
            return f"{name} differs"
        difference = value.detach().float().to(own[name].device) - own[name]
        if not difference.abs().max() <= NEAR * own[name].abs().max():  # so written, NaN differs, too
            return f"{name} differs"
    return ""


def fitted(prompt: PromptFile, method: str, expected: Params) -> Params:
    """Return a prompt's tensors in the order of `expected`, whose shapes they must fit, for the method that is asked
    for. Raises UserError that says what differs, and what to do."""
    path, params = prompt.path, prompt.params
    advice = "give the --weights that it was made with, no --depth and --length, or another prompt"
    if prompt.method != method:
        raise UserError(f"{path}: made for --method {prompt.method}, not {method}; give that method, or another file")
    if unpaired := sorted(params.keys() ^ expected.keys()):
        wrong = f"holds {'no' if unpaired[0] in expected else 'also'} {unpaired[0]}"
    else:
        wrong = torchfile.mismatch(params, expected)
        if all(params[name].shape == expected[name].shape for name in expected):
            advice = "give another file, or the command that made it again with --force"
    if wrong:
        raise UserError(f"{path}: {wrong}; {advice}")
    return {name: params[name] for name in expected}
