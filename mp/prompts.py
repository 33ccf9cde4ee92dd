"""Read and write prompt files, of this project and of the methods' own code; make learners that take their tensors.

A file of this project is a dict that torch.load(FILE, weights_only=True) reads: `method`; `params`, the learnt tensors
by name; `identity`, what they were made from; `provenance`, who made them; `regulator`, φ where one was learnt.
"""
import hashlib
import json
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
from mp.runtime import torchfile
from mp.runtime.errors import UserError, unreadable
from mp.runtime.progress import say, say_once
from mp.settings import PromptSettings, flag
from mp.store.cells import complete

Params = dict[str, Tensor]
ADVICE = "give a prompt that `run.py meta` or `finetune` wrote, or the command that made it again with --force"
FOREIGN = "a checkpoint of another project"
OPENAIS_LAYERS = 12  # of both towers of every ViT of theirs: what is deeper is a mistake

# What the methods' own code keeps beside a prompt.
TOWERS = {"image_encoder.": "visual.", "text_encoder.": "", "logit_scale": "logit_scale"}  # how names begin, and CLIP's
SOS_OF = ("token_prefix", "prompt_learner.token_prefix")  # [C, 1, W] of CLIP's embeddings, the same for every class
LEFT_OUT = ("token_suffix", "prompt_learner.token_suffix", "prompt_learner.ZS_image_encoder.")
WRAPPERS = ("module", "_orig_mod")  # before the names of a module that is distributed, or compiled
NEAR = 0.005  # of a tensor's largest value: as far as an average over epochs, in half precision, may move a frozen one


class PromptFile(NamedTuple):
    """Hold a prompt as its file has it."""
    path: Path
    method: str
    params: Params
    about: dict[str, Any] = {}  # all that is in a file of this project: identity, provenance, ...
    frozen: Params = {}         # of CLIP, that other projects keep beside it; by CLIP's names, and "sos" [W]
    regulator: Params = {}      # φ, if one was learnt with it

    @property
    def identity(self) -> dict[str, Any]:
        """Return what the prompt was made from, as its file says; nothing if that isn't plain."""
        identity = dict_in(self.about, "identity")
        return identity if is_json(identity) else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Return what made the prompt, as its file says."""
        return dict_in(self.about, "provenance")

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of method and tensors, whatever their order. What made them doesn't count."""
        digest = hashlib.sha256(repr(self.method).encode())
        for name, tensor in sorted((self.params | self.regulator).items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().to(torch.float64).numpy().tobytes())
        return digest.hexdigest()

    @property
    def sizes(self) -> dict[str, int]:
        """Return what the method's learner is made with to take these tensors; -1: the image tower's is the text
        tower's."""
        length, image_length = rows(self.params, "ctx"), rows(self.params, "vision.0")
        text, image = max(1, depth(self.params, "text.")), depth(self.params, "vision.")
        sizes = {"length": length, "depth": text, "image_depth": -1 if image == text else image,
                 "image_length": -1 if image_length in (0, length) else image_length}
        return {name: value for name, value in sizes.items() if name in METHODS[self.method].made_with}

    @property
    def shape(self) -> dict[str, Any]:
        """Return the settings that the learner is made with to take these tensors: their sizes, and those that no
        tensor tells, as the file states them."""
        stated, made_with = dict_in(self.identity, "settings"), METHODS[self.method].made_with
        values = {name: value for name, value in stated.items() if name in made_with} | self.sizes
        return {field.name: values[field.name] for field in fields(PromptSettings) if field.name in values}

    def check_given(self, given: Iterable[str]) -> None:
        """Raise UserError for settings of a learner that no tensor tells, beside the file, which states them."""
        for name in given:
            if name in METHODS[self.method].made_with and name not in self.sizes:
                raise UserError(f"{flag(name)}: plays no part in a prompt file, which has its own; leave it out")


def dict_in(content: dict, key: str) -> dict[str, Any]:
    """Return a dict's entry; a file may hold something else in its place."""
    entry = content.get(key)
    return entry if isinstance(entry, dict) else {}


def rows(params: Params, name: str) -> int:
    return len(params[name]) if name in params and params[name].dim() else 0


def depth(names: Iterable[str], tower: str = "") -> int:
    """Return how many layers have prompts, by names such as text.8 and proj.8.bias; 0 for a method without such."""
    parts = ".".join(name for name in names if name.startswith(tower)).split(".")
    return max((int(part) for part in parts if part.isdecimal() and len(part) < 10), default=-1) + 1


# Files

def write_prompt(path: Path, method: str, params: Params, identity: dict[str, Any],
                 provenance: dict[str, Any], phi: Params = {}) -> None:
    """Write a file of this project. `identity` and `provenance`: as mp/store/ has them; `phi`: of a regulator."""
    content = {"method": method, "params": on_cpu(params), "identity": identity, "provenance": provenance}
    if phi:
        content["regulator"] = on_cpu(phi)
    torchfile.write(path, content)


def on_cpu(params: Params) -> Params:
    return {name: value.detach().cpu() for name, value in params.items()}


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
    try:
        content = torchfile.load(path)
    except (OSError, MemoryError, ValueError) as e:
        what = FOREIGN if isinstance(e, torchfile.ForeignObjects) else "damaged, or not a file of this project"
        raise UserError(unreadable(path, e, what, ADVICE)) from None
    if isinstance(content, dict) and "state_dict" in content:
        raise UserError(f"{path}: {FOREIGN}; {ADVICE}")
    if not is_prompt(content):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    method, params, phi = content["method"], content["params"], content.get("regulator", {})
    if method not in METHODS:
        raise UserError(f"{path}: made for --method {method[:40]}, which isn't known; give another file")
    if wrong := torchfile.mismatch(phi, regulator.start(params, 0) if phi else {}, "its regulator"):
        raise UserError(f"{path}: {wrong}; give another file, or the command that made it again with --force")
    return PromptFile(path, method, params, content, regulator=phi)


def is_whole(path: Path, identity: dict[str, Any]) -> bool:
    """Return whether a file of this project is undamaged and of this identity. Raises OSError and MemoryError."""
    try:
        content = torchfile.load(path)
    except ValueError:
        return False
    if not is_prompt(content) or content["method"] != identity["settings"]["method"]:
        return False
    if torchfile.mismatch(content.get("identity"), identity) or content["identity"] != identity:
        return False
    provenance = content.get("provenance")
    return isinstance(provenance, dict) and is_json(provenance) and has_numbers(content["params"])


def is_prompt(content: Any) -> bool:
    if not isinstance(content, dict) or not all(is_params(content.get(kind, {})) for kind in ("params", "regulator")):
        return False
    return isinstance(content.get("method"), str) and bool(content.get("params"))


def is_json(value: Any) -> bool:
    """Return whether a value from a file holds only what JSON knows, so that it can be compared, and written into
    results."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def has_numbers(params: Params) -> bool:
    """Return whether these are tensors as they are learnt: plain ones of float32, all finite."""
    like = {name: torch.empty(tensor.shape, device="meta") for name, tensor in params.items()}
    return not torchfile.mismatch(params, like)


def is_params(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def published_state(path: Path) -> dict[str, Any] | None:
    """Return the `state_dict` of a checkpoint; None if the file is something else, or can't be read."""
    try:
        content = torchfile.load(path, objects=True)
    except (OSError, MemoryError, ValueError):
        return None
    state = content.get("state_dict") if isinstance(content, dict) else None
    return state if isinstance(state, dict) and all(isinstance(name, str) for name in state) else None


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
        state = unwrapped(state)
        method, names = recognise(state)
        frozen = tensors_beside(state.keys() - names.values(), state, METHODS[method].title)
        check_tensors(state, names["ctx"])
    except UserError as e:
        raise UserError(f"{path}: {e}; give another file") from None
    params = {ours: state[theirs].detach().float() for ours, theirs in names.items()}
    file = PromptFile(path, method, params, frozen=frozen)
    shape = ", ".join(f"{name} {value}" for name, value in file.sizes.items() if value >= 0)
    say(f"{path}: a prompt of {METHODS[method].title}, as its own code writes it ({shape}), taken to be learnt with "
        "class names at the end")
    return file


def unwrapped(state: dict[str, Any]) -> Params:
    """Return the tensors, by their names without WRAPPERS. Raises UserError if two have the same name then."""
    params = {}
    for name, value in state.items():
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if isinstance(value, Tensor):
            if bare in params:
                raise UserError(f"holds {bare} twice, also as {name}")
            params[bare] = value
    return params


def recognise(state: Params) -> tuple[str, dict[str, str]]:
    """Return the method that has the most tensors in the state, and these tensors' names there by our names. Raises
    UserError if it holds no prompt."""
    method, names = "", {}
    for candidate in METHODS:
        kind = learner_class(candidate)
        published = kind.published() if kind.published_as else {}
        present = {ours: theirs for ours, theirs in published.items() if theirs in state}
        if len(present) > len(names):
            method, names = candidate, present
    if "ctx" not in names:
        raise UserError(f"holds no prompt of {', '.join(row.title for row in METHODS.values())}")
    return method, names


def tensors_beside(names: Iterable[str], state: Params, title: str) -> Params:
    """Return those of CLIP among the state's other tensors: by CLIP's names, and its SOS embedding [W] as "sos".

    Raises UserError for what belongs neither to CLIP nor to a prompt.
    """
    frozen = {}
    for name in sorted(names):
        if not name.startswith((*TOWERS, *SOS_OF, *LEFT_OUT)):
            raise UserError(f"holds {name} beside a prompt of {title}, which has none such")
        for theirs, ours in TOWERS.items():
            if name.startswith(theirs):
                frozen[ours + name.removeprefix(theirs)] = state[name]
        if name in SOS_OF and state[name].dim() == 3 and state[name].numel():
            frozen["sos"] = state[name][0, 0]
    return frozen


def check_tensors(state: Params, ctx: str) -> None:
    """Raise UserError for a tensor that isn't plain, or a context that belongs to the classes of its training."""
    for name, value in state.items():
        # A tensor whose numbers share their bytes could have any size in a small file.
        shared = value.numel() * value.element_size() > value.untyped_storage().nbytes()
        if shared or not value.is_floating_point():
            raise UserError(f"{name} isn't a plain tensor of floating-point numbers")
    if state[ctx].dim() == 3:
        classes, vectors, _ = state[ctx].shape
        raise UserError(f"its context is class-specific, {vectors} vectors of {classes} classes; prompts here are "
                        "shared by all classes")


# A prompt meets weights

def learner_of(settings: PromptSettings, clip: CLIP, prompt: PromptFile | None = None) -> Learner:
    """Make the method's learner, from its handcrafted start, where what is random follows the seed; or with the tensors
    of a prompt file. Say it if these were learnt with other weights. Raises UserError if they don't fit.

    Its `clip` is the mark of the CLIP that it was learnt with, as far as is known, or is going to be.
    This is the one place where a depth is brought down to towers that are shallower than all of OpenAI's, aloud.
    """
    sizes = {field.name: getattr(settings, field.name) for field in fields(settings)
             if field.metadata.get("only_if") == "made_with"}
    if prompt:
        sizes = prompt.sizes | sizes
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
    if prompt:
        learner.load_state_dict(fitted(prompt, settings.method, learner.state_dict()))
        if why := other_weights(prompt, clip):
            say_once(f"{prompt.path}: learnt with other weights of CLIP than these ({why}); here it may mean little")
            learner.clip = prompt.provenance.get("clip", "")
    return learner


def other_weights(prompt: PromptFile, clip: CLIP) -> str:
    """Return how the file tells that its prompt was learnt with other weights of CLIP; "" if it doesn't. Half precision
    is no difference."""
    mark, sha256 = prompt.provenance.get("clip"), prompt.identity.get("weights")
    if isinstance(mark, str) and mark:
        return "" if mark == clip.mark() else f"{mark}, now {clip.mark()}"
    if isinstance(sha256, str) and sha256 and clip.sha256 and sha256 != clip.sha256:
        return f"SHA-256 {sha256[:12]}, now {clip.sha256[:12]}"
    at_hand = dict(clip.named_parameters()) | {"sos": clip.token_embedding.weight[SOS]}
    for name, value in prompt.frozen.items():
        ours = at_hand.get(name)
        if ours is None or value.shape != ours.shape:
            return f"{name} differs"
        difference = value.detach().float().to(ours.device) - ours
        if not difference.abs().max() <= NEAR * ours.abs().max():  # so written, NaN differs, too
            return f"{name} differs"
    return ""


def fitted(prompt: PromptFile, method: str, expected: Params) -> Params:
    """Return a prompt's tensors in the order of `expected`, whose shapes they must fit, for the method that is asked
    for. Raises UserError that says what differs."""
    path, params = prompt.path, prompt.params
    if prompt.method != method:
        raise UserError(f"{path}: made for --method {prompt.method}, not {method}; give that method, or another file")
    if wrong := misfit(params, expected):
        raise UserError(f"{path}: {wrong}")
    return {name: params[name] for name in expected}


def misfit(params: Params, expected: Params) -> str:
    """Return what keeps a prompt's tensors from taking the place of others, and what to do about it; "" if nothing
    does. The width comes first: it is the model's, and other models have other numbers of layers, too."""
    for name in expected:
        if name in params and params[name].shape[1:] != expected[name].shape[1:]:
            return (f"{name} is {list(params[name].shape)}, this model needs {list(expected[name].shape)}; it was made "
                    "for another model: give the --weights that it was made with, or another prompt")
    layers, wanted = depth(params), depth(expected)
    if layers and wanted and layers != wanted:
        return (f"holds prompts for {layers} layers, not {wanted}; give --depth {layers}, and weights of at least so "
                "many layers")
    if params.keys() != expected.keys():
        return (f"holds the tensors {', '.join(params)}, and this method needs {', '.join(expected)}; give another, or "
                "leave out the options of its shape, which follow from the file")
    wrong = torchfile.mismatch(params, expected)
    if wrong and len(params["ctx"]) != len(expected["ctx"]):
        return f"{wrong}; give --length {len(params['ctx'])}"
    if wrong and any(params[name].dtype != expected[name].dtype for name in expected):
        return f"{wrong}; give a file whose tensors are all float32"
    advice = "it is damaged, or not of this method: give another, or the command that made it again with --force"
    return f"{wrong}; {advice}" if wrong else ""
