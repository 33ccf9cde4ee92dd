"""Prompt files, of this project and of the methods' own code, and the learners that take their tensors.

A file of this project is a dict that torch.load(FILE, weights_only=True) reads: `method`; `params`, the learnt tensors
by name; `identity`, what they were made from; `provenance`, who made them; `regulator`, φ where one was learnt.
"""
import hashlib
from collections.abc import Iterable
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
from mp.learners.prompts import longest_prompt
from mp.runtime import torchfile
from mp.runtime.errors import UserError
from mp.runtime.progress import say, say_once
from mp.settings import PromptSettings
from mp.store.cells import complete

Params = dict[str, Tensor]
ADVICE = "give a prompt that `run.py meta` or `finetune` wrote, or the command that made it again with --force"
OPENAIS_LAYERS = 12  # of both towers of every ViT of theirs: what is deeper is a mistake

# What the methods' own code keeps beside a prompt.
TOWERS = {"image_encoder.": "visual.", "text_encoder.": "", "logit_scale": "logit_scale"}  # how names begin, and CLIP's
SOS_OF = ("token_prefix", "prompt_learner.token_prefix")  # [C, 1, W] of CLIP's embeddings, the same for every class
LEFT_OUT = ("token_suffix", "prompt_learner.token_suffix", "prompt_learner.ZS_image_encoder.")
WRAPPERS = ("module", "_orig_mod")  # before the names of a module that is distributed, or compiled
NEAR = 0.005  # of a tensor's largest value: as far as an average over epochs, in half precision, may move a frozen one


class PromptFile(NamedTuple):
    """A prompt as its file has it."""
    path: Path
    method: str
    params: Params
    about: dict[str, Any] = {}  # all that is in a file of this project: identity, provenance, ...
    frozen: Params = {}         # of CLIP, that other projects keep beside it; by CLIP's names, and "sos" [W]
    regulator: Params = {}      # φ, if one was learnt with it

    @property
    def identity(self) -> dict[str, Any]:
        """What it was made from, as its file says."""
        kept = self.about.get("identity")
        return kept if isinstance(kept, dict) else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """What made it, as its file says."""
        kept = self.about.get("provenance")
        return kept if isinstance(kept, dict) else {}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.method, self.params | self.regulator)

    @property
    def sizes(self) -> dict[str, int]:
        """What the method's learner is made with to take these tensors; -1: the image tower's as the text tower's."""
        text, image = (depth(name for name in self.params if name.startswith(tower)) for tower in ("text.", "vision."))
        length, image_length = (rows(self.params.get(name)) for name in ("ctx", "vision.0"))
        found = {"length": length, "depth": text or 1, "image_depth": -1 if image == (text or 1) else image,
                 "image_length": -1 if image_length in (0, length) else image_length}
        return {name: value for name, value in found.items() if name in learner_class(self.method).made_with}

    @property
    def shape(self) -> dict[str, int]:
        """Those of its sizes that are settings."""
        settings = {one.name for one in fields(PromptSettings)}
        return {name: value for name, value in self.sizes.items() if name in settings}


def rows(tensor: Tensor | None) -> int:
    return len(tensor) if tensor is not None and tensor.dim() else 0


def depth(names: Iterable[str]) -> int:
    """How many layers have prompts, by names such as text.8 and proj.8.bias; 0 for a method without such."""
    parts = ".".join(names).split(".")
    return max((int(part) for part in parts if part.isdecimal() and len(part) < 10), default=-1) + 1


def fingerprint(method: str, params: Params) -> str:
    """SHA-256 of a prompt's method and tensors, whatever their order. What made it doesn't count."""
    found = hashlib.sha256(repr(method).encode())
    for name, tensor in sorted(params.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().to(torch.float64).numpy().tobytes())
    return found.hexdigest()


# Files

def write_prompt(path: Path, method: str, params: Params, identity: dict[str, Any],
                 provenance: dict[str, Any], phi: Params = {}) -> None:
    """A file of this project. `identity` and `provenance`: as mp/store/ has them; `phi`: of a regulator."""
    def on_cpu(some: Params) -> Params:
        return {name: value.detach().cpu() for name, value in some.items()}

    content = {"method": method, "params": on_cpu(params), "identity": identity, "provenance": provenance}
    torchfile.write(path, content | ({"regulator": on_cpu(phi)} if phi else {}))


def open_prompt(path: Path) -> PromptFile:
    """Return the prompt in a file of this project, whose path may leave digits out, or in a checkpoint of the method's
    own code. Raises UserError if there is none, or it can't be used."""
    path = complete(path)
    if not path.is_file():
        raise UserError(f"{path}: no such prompt file; `run.py meta` makes one, and says where")
    state = published_state(path)
    file = read_ours(path) if state is None else read_published(path, state)
    if not file.sizes.get("length", 1):
        raise UserError(f"{path}: its ctx holds no vectors; give another file")
    return file


def read_ours(path: Path) -> PromptFile:
    file = torchfile.load_dict(path, ADVICE)
    if "state_dict" in file:
        raise UserError(f"{path}: {torchfile.FOREIGN}; {ADVICE}")
    method, params, phi = file.get("method"), file.get("params"), file.get("regulator", {})
    if not isinstance(method, str) or not is_params(params) or not params or not is_params(phi):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    if method not in METHODS:
        raise UserError(f"{path}: made for --method {method[:40]}, which isn't known; give another file")
    if wrong := torchfile.mismatch(phi, regulator.start(params, 0) if phi else {}, "its regulator"):
        raise UserError(f"{path}: {wrong}; give another file, or the command that made it again with --force")
    return PromptFile(path, method, params, file, regulator=phi)


def is_whole(path: Path, identity: dict[str, Any]) -> bool:
    """Whether a file of this project is undamaged and of this identity. Raises OSError and MemoryError."""
    try:
        content = torchfile.load(path)
    except ValueError:
        return False
    if not isinstance(content, dict) or content.get("identity") != identity:
        return False
    good = isinstance(content.get("method"), str) and isinstance(content.get("provenance"), dict)
    return good and is_params(content.get("params")) and bool(content["params"])


def is_params(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def published_state(path: Path) -> dict[str, Any] | None:
    """The `state_dict` of a checkpoint; None if the file is something else, or can't be read."""
    try:
        content = torchfile.load(path, objects=True)
    except (OSError, MemoryError, ValueError):
        return None
    state = content.get("state_dict") if isinstance(content, dict) else None
    return state if isinstance(state, dict) and all(isinstance(name, str) for name in state) else None


def read_published(path: Path, state: dict[str, Any]) -> PromptFile:
    """The prompt in the `state_dict` of a method's own code; says what it is taken for. Raises UserError for what no
    tensor tells but the path: that it was learnt with class names in front of it, or inside."""
    for elsewhere in ("ctpmiddle", "ctpfront"):
        if elsewhere in f"{path.absolute()} {path.resolve()}".lower():
            raise UserError(f"{path}: learnt with the class name elsewhere, as its path says ({elsewhere}); here names "
                            "stand at the end: give a prompt of ctpend")
    try:
        method, params, frozen = recognise(state)
    except UserError as e:
        raise UserError(f"{path}: {e}; give another file") from None
    file = PromptFile(path, method, params, frozen=frozen)
    shape = ", ".join(f"{name} {value}" for name, value in file.sizes.items() if value >= 0)
    say(f"{path}: a prompt of {METHODS[method].title}, as its own code writes it ({shape}), taken to be learnt with "
        "class names at the end")
    return file


def recognise(state: dict[str, Any]) -> tuple[str, Params, Params]:
    """The method that has the most of its tensors in a `state_dict`, these by our names in float32, and CLIP's own.

    Raises UserError if it holds no prompt, one that belongs to the classes it was trained with, or anything besides.
    """
    state = unwrapped(state)
    method, names = "", {}
    for candidate in METHODS:
        kind = learner_class(candidate)
        published = kind.published() if kind.published_as else {}
        own = {ours: theirs for ours, theirs in published.items() if theirs in state}
        if len(own) > len(names):
            method, names = candidate, own
    if "ctx" not in names:
        titles = ", ".join(row.title for row in METHODS.values())
        raise UserError(f"holds no prompt of {titles}")
    left = state.keys() - names.values()
    for name in sorted(left):
        if not name.startswith((*TOWERS, *SOS_OF, *LEFT_OUT)):
            raise UserError(f"holds {name} beside a prompt of {METHODS[method].title}, which has none such")
    for name, value in state.items():
        if not is_plain(value):
            raise UserError(f"{name} isn't a plain tensor of floating-point numbers")
    params = {ours: state[theirs].detach().float() for ours, theirs in names.items()}
    if params["ctx"].dim() == 3:
        classes, vectors, _ = params["ctx"].shape
        raise UserError(f"its context is class-specific, {vectors} vectors of {classes} classes; prompts here are "
                        "shared by all classes")
    return method, params, frozen({name: state[name] for name in left})


def unwrapped(state: dict[str, Any]) -> Params:
    """The tensors, by their names without WRAPPERS. Raises UserError if two have one name then."""
    found = {}
    for name, value in state.items():
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if isinstance(value, Tensor):
            if bare in found:
                raise UserError(f"holds {bare} twice, also as {name}")
            found[bare] = value
    return found


def is_plain(value: Tensor) -> bool:
    """Also that none of its numbers is there twice: a small file could hold a tensor of any size."""
    bytes_there = value.untyped_storage().nbytes()
    return value.is_floating_point() and value.numel() * value.element_size() <= bytes_there


def frozen(state: Params) -> Params:
    """Those of CLIP's own, by CLIP's names, and its SOS embedding [W] as "sos"."""
    found = {}
    for name, value in state.items():
        for theirs, ours in TOWERS.items():
            if name.startswith(theirs):
                found[ours + name.removeprefix(theirs)] = value
        if name in SOS_OF and value.dim() == 3 and value.numel():
            found["sos"] = value[0, 0]
    return found


# A prompt meets weights

def learner_of(settings: PromptSettings, clip: CLIP, prompt: PromptFile | None = None) -> Learner:
    """The method's learner from its handcrafted start; what is random in it follows the seed. Or with the tensors of a
    prompt file: says if they were learnt with other weights, and raises UserError if they don't fit.

    Its `clip` is the mark of the CLIP that it was learnt with, as far as is known, or is going to be.
    The one place where a depth is brought down to towers that are shallower than all of OpenAI's: it says so.
    """
    sizes = {one.name: getattr(settings, one.name) for one in fields(settings)
             if one.metadata.get("only_if") == "made_with"}
    if prompt:
        check_context(prompt, clip)
        sizes = prompt.sizes | sizes
    layers = layers_of(clip)
    if "depth" in learner_class(settings.method).made_with and layers < settings.depth <= OPENAIS_LAYERS:
        sizes["depth"] = layers
        if not prompt:
            say_once(f"prompt depth {layers} instead of {settings.depth}: these towers have {layers} layers")
    generator = torch.Generator().manual_seed(settings.seed)
    learner = make_learner(settings.method, clip, generator=generator, **sizes)
    learner.clip = clip.mark()
    if prompt:
        learner.load_state_dict(fitted(prompt, settings.method, learner.state_dict()))
        if why := other_weights(prompt, clip):
            say_once(f"{prompt.path}: learnt with other weights of CLIP than these ({why}); here it may mean little")
            learner.clip = prompt.provenance.get("clip", "")
    return learner


def check_context(prompt: PromptFile, clip: CLIP) -> None:
    """Raises UserError for a context whose vectors aren't of the text tower's width, or that takes all positions."""
    ctx, width = prompt.params.get("ctx"), clip.text_projection.shape[0]
    if ctx is not None and (ctx.dim() != 2 or ctx.shape[1] != width):
        raise UserError(f"{prompt.path}: ctx is {list(ctx.shape)}, this model needs {[len(ctx), width]}; it was made "
                        "for another model: give the --weights that it was made with, or another prompt")
    if ctx is not None and len(ctx) > longest_prompt(clip):
        raise UserError(f"{prompt.path}: ctx has {len(ctx)} vectors, of which CLIP takes at most "
                        f"{longest_prompt(clip)}; give another file")


def other_weights(prompt: PromptFile, clip: CLIP) -> str:
    """How its file tells that a prompt was learnt with other weights of CLIP; "" if it doesn't. Half precision is no
    difference."""
    mark, sha256 = prompt.provenance.get("clip"), prompt.identity.get("weights")
    if isinstance(mark, str) and mark:
        return "" if mark == clip.mark() else f"{mark}, now {clip.mark()}"
    if isinstance(sha256, str) and clip.sha256 and sha256 != clip.sha256:
        return f"SHA-256 {sha256[:12]}, now {clip.sha256[:12]}"
    known = dict(clip.named_parameters()) | {"sos": clip.token_embedding.weight[SOS]}
    for name, kept in prompt.frozen.items():
        ours = known.get(name)
        if ours is None or kept.shape != ours.shape:
            return f"{name} differs"
        value = kept.detach().float().to(ours.device)
        if not (value - ours).abs().max() <= NEAR * ours.abs().max():
            return f"{name} differs"
    return ""


def fitted(prompt: PromptFile, method: str, expected: Params) -> Params:
    """A prompt's tensors in the order of `expected`, once they fit its shapes, and the method is the one asked for.

    Raises UserError that says what differs: the method, a tensor's shape (width or length), or the depth.
    """
    path, params = prompt.path, prompt.params
    if prompt.method != method:
        raise UserError(f"{path}: made for --method {prompt.method}, not {method}; give that method, or another file")
    if params.keys() != expected.keys():
        layers, wanted = depth(params), depth(expected)
        if layers and wanted and layers != wanted:
            raise UserError(f"{path}: holds prompts for {layers} layers, not {wanted}; give --depth {layers}, and "
                            "weights of at least so many layers")
        raise UserError(f"{path}: holds the tensors {', '.join(params)}, and this method needs {', '.join(expected)}; "
                        "give another, or leave out the options of its shape, which follow from the file")
    if wrong := torchfile.mismatch(params, expected):
        raise UserError(f"{path}: {wrong}; {remedy(params, expected)}")
    return {name: params[name] for name in expected}


def remedy(params: Params, expected: Params) -> str:
    """What to do about tensors that don't fit: another --length, other weights, or another file."""
    if any(params[name].shape[1:] != expected[name].shape[1:] for name in expected):
        return "it was made for another model: give the --weights that it was made with, or another prompt"
    if "ctx" in expected and len(params["ctx"]) != len(expected["ctx"]):
        return f"give --length {len(params['ctx'])}"
    if any(params[name].dtype != expected[name].dtype for name in expected):
        return "give a file whose tensors are all float32"
    return "it is damaged, or not of this method: give another, or the command that made it again with --force"
