"""Prompt files as inputs, of this project and of the methods' own code, and the learners that take their tensors."""
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mp import regulator
from mp.clip.model import CLIP
from mp.learners import METHODS, Learner, learner_class, make_learner
from mp.learners.deep import layers_of
from mp.learners.prompts import longest_prompt
from mp.learners.published import different_weights, recognise
from mp.runtime import tensors
from mp.runtime.errors import UserError
from mp.runtime.progress import say, say_once
from mp.settings import PromptSettings
from mp.store import promptfile

OPENAIS_LAYERS = 12  # of both towers of every ViT of theirs: what is deeper is a mistake


class PromptFile(NamedTuple):
    """A prompt as its file has it."""
    path: Path
    method: str
    params: dict[str, Tensor]
    about: dict[str, Any] = {}      # all that is in a file of this project: identity, provenance, ...
    frozen: dict[str, Tensor] = {}  # of CLIP, that other projects keep beside it
    regulator: dict[str, Tensor] = {}  # φ, if one was learnt with it

    @property
    def fingerprint(self) -> str:
        return promptfile.digest(self.path, self.method, self.params | self.regulator)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what the file says that it was made from; nothing in a file of another project, or if it isn't plain."""
        identity = self.about.get("identity")
        return identity if isinstance(identity, dict) and promptfile.is_plain(identity) else {}

    @property
    def shape(self) -> dict[str, int]:
        """The settings that the method's learner is made with to take these tensors."""
        settings = {one.name for one in fields(PromptSettings)}
        return {name: value for name, value in self.sizes.items() if name in settings}

    @property
    def sizes(self) -> dict[str, int]:
        """All that it is made with to take them: also what only files of the method's own code set apart."""
        def layers(tower: str) -> int:
            return promptfile.depth(name for name in self.params if name.startswith(tower))

        found = {"length": rows(self.params.get("ctx")), "depth": layers("text.") or 1,
                 "image_depth": layers("vision."), "image_length": rows(self.params.get("vision.0")) or -1}
        for image, text in (("image_depth", "depth"), ("image_length", "length")):
            if found[image] == found[text]:
                found[image] = -1
        made_with = learner_class(self.method).made_with
        return {name: value for name, value in found.items() if name in made_with}


def rows(tensor: Tensor | None) -> int:
    return len(tensor) if tensor is not None and tensor.dim() else 0


def open_prompt(path: Path) -> PromptFile:
    """Raises UserError if there is none, or it can't be used."""
    if not path.is_file():
        raise UserError(f"{path}: no such prompt file; `run.py meta` makes one, and says where")
    try:
        file = promptfile.read_file(path)
    except UserError:
        state = read_published(path)
        if state is None:
            raise
        return published_prompt(path, state)
    if file["method"] not in METHODS:
        raise UserError(f"{path}: made for --method {file['method'][:40]}, which isn't known; give another file")
    phi = file.get("regulator", {})
    like = regulator.start(file["params"], 0) if phi else {}
    if wrong := tensors.mismatch(phi, like, "its regulator"):
        raise UserError(f"{path}: {wrong}; give another file, or the command that made it again with --force")
    return require_vectors(PromptFile(path, file["method"], file["params"], file, regulator=phi))


def published_prompt(path: Path, state: dict[str, Any]) -> PromptFile:
    """The prompt in a checkpoint of the method's own code; says what was found."""
    try:
        method, params, frozen = recognise(state)
    except UserError as e:
        raise UserError(f"{path}: {e}; give another file") from None
    found = require_vectors(PromptFile(path, method, params, frozen=frozen))
    shape = ", ".join(f"{name} {value}" for name, value in found.sizes.items() if value >= 0)
    say(f"{path}: a prompt of {METHODS[method].title}, as its own code writes it ({shape})")
    return found


def require_vectors(file: PromptFile) -> PromptFile:
    """The file. Raises UserError if it holds no context, whose length everything else is asked for."""
    if not file.shape.get("length", 1):
        raise UserError(f"{file.path}: its ctx holds no vectors; give another file")
    return file


def read_published(path: Path) -> dict[str, Any] | None:
    """The `state_dict` of a checkpoint; None if the file is something else, or can't be read."""
    try:
        content = tensors.load(path, objects=True)
    except (OSError, MemoryError, ValueError):
        return None
    state = content.get("state_dict") if isinstance(content, dict) else None
    return state if isinstance(state, dict) and all(isinstance(name, str) for name in state) else None


def check_width(prompt: PromptFile, clip: CLIP) -> None:
    """Raises UserError for a context whose vectors aren't of the text tower's width, or that takes all positions."""
    ctx, width = prompt.params.get("ctx"), clip.text_projection.shape[0]
    if ctx is not None and (ctx.dim() != 2 or ctx.shape[1] != width):
        raise UserError(f"{prompt.path}: ctx is {list(ctx.shape)}, this model needs {[len(ctx), width]}; it was made "
                        "for another model: give the --weights that it was made with, or another prompt")
    if ctx is not None and len(ctx) > longest_prompt(clip):
        raise UserError(f"{prompt.path}: ctx has {len(ctx)} vectors, of which CLIP takes at most "
                        f"{longest_prompt(clip)}; give another file")


def learner_of(settings: PromptSettings, clip: CLIP, prompt: PromptFile | None = None) -> Learner:
    """The method's learner from its handcrafted start; what is random in it follows the seed. Or with the tensors of a
    prompt file; raises UserError if they don't fit, or the file holds a CLIP of other weights.

    The one place where a depth is brought down to towers that are shallower than all of OpenAI's: it says so.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    own = {one.name: getattr(settings, one.name) for one in fields(settings)
           if one.metadata.get("only_if") == "made_with"}
    if prompt:
        check_width(prompt, clip)
        own = prompt.sizes | own
    layers = layers_of(clip)
    if "depth" in learner_class(settings.method).made_with and layers < settings.depth <= OPENAIS_LAYERS:
        own["depth"] = layers
        if not prompt:
            say_once(f"prompt depth {layers} instead of {settings.depth}: these towers have {layers} layers")
    learner = make_learner(settings.method, clip, generator=generator, **own)
    if prompt:
        params = promptfile.fitted(prompt.path, prompt.method, prompt.params, settings.method, learner.state_dict())
        if name := different_weights(prompt.frozen, clip):
            raise UserError(f"{prompt.path}: trained with other weights of CLIP, {name} differs; give those --weights")
        learner.load_state_dict(params)
    return learner
