"""run.py show: what a prompt file is, and what became of the prompt; --export writes it for the method's own code."""
from argparse import Namespace
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from data.suite import open_suite
from mp.clip import tokenizer
from mp.clip.download import openai_weights
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.learners import METHODS, Learner, learner_class, make_learner
from mp.learners.prompts import START_TOKENS
from mp.prompts import PromptFile, learner_of, open_prompt, other_weights, plain_dict
from mp.runtime import torchfile
from mp.runtime.errors import UserError
from mp.runtime.progress import say
from mp.report.text import line_up
from mp.settings import PromptSettings, in_words, is_a
from mp.store.cells import complete

WORDS = 3  # nearest ones that are shown
Start = dict[str, Tensor]


def command(args: Namespace) -> None:
    """Print what the file says and holds. Raises UserError for one that isn't a prompt, or was made for another model
    than these weights."""
    file = open_prompt(args.prompt)
    if args.export:
        check_export(file, args.export)
    weights = args.weights or open_suite(args.data).weights or openai_weights()
    clip = load(weights)
    learner = learner_of(PromptSettings(file.method, **file.shape), clip, file)
    print(line_up(list(facts(file, other_weights(file, clip))), left=2))
    start = start_of(file, clip)
    print(f"\n{line_up(list(shapes(file, start)))}")
    print(f"\n{line_up(list(nearest_words(file.params['ctx'], clip)), left=2)}")
    if "depth" in METHODS[file.method].made_with:
        print(f"\n{line_up(list(norms_by_layer(learner)))}")
    if args.export:
        export(file, args.export)


def check_export(file: PromptFile, path: Path) -> None:
    """Raise UserError for a method without code of its own, and for a path that is the prompt's own."""
    meant = complete(path)
    if meant.exists() and meant.samefile(file.path):
        raise UserError(f"--export {path}: the prompt itself; give another file")
    kind = learner_class(file.method)
    if not (kind.published_as and file.params.keys() <= kind.published().keys()):
        title = METHODS[file.method].title
        raise UserError(f"--export: {title} has no code of its own that would load it; leave it out")


def facts(file: PromptFile, differs: str) -> Iterator[list[str]]:
    """Yield what is known of the file; `differs`: how it tells that it was learnt with other weights than these."""
    yield ["prompt", str(file.path)]
    yield ["method", f"{METHODS[file.method].title}, tensors {file.fingerprint[:12]}"]
    identity, provenance = file.identity, file.provenance
    settings = plain_dict(identity, "settings")
    if not provenance:
        yield ["made by", "unknown; it is in the form of the method's own code"]
    elif not settings:
        yield ["made by", f"a script, from what it doesn't say, commit {provenance.get('commit')}"]
    else:
        yield ["made by", f"{provenance.get('command')}, commit {provenance.get('commit')}"]
        yield ["settings", in_words(settings)]
        yield ["trained on", ", ".join(map(str, plain_dict(identity, "trained_on")))]
        yield ["started from", str(identity.get("prompt") or "handcrafted")]
    if file.regulator:
        yield ["regulator", f"{sum(phi.numel() for phi in file.regulator.values()):,} numbers beside the prompt's"]
    if differs:
        yield ["weights", f"others than those at hand: {differs}; distances mean little"]
    elif file.frozen or provenance.get("clip"):
        yield ["weights", "those at hand"]


def start_of(file: PromptFile, clip: CLIP) -> Start:
    """Return the handcrafted start of the prompt's tensors; of random ones only where the seed is known."""
    seed = plain_dict(file.identity, "settings").get("seed")
    known = is_a(int, seed) and 0 <= seed < 2**32
    generator = torch.Generator().manual_seed(seed if known else 0)
    start = make_learner(file.method, clip, generator=generator, **file.sizes).state_dict()
    if known:
        return start
    return {"ctx": start["ctx"]} if len(start["ctx"]) <= START_TOKENS else {}


def shapes(file: PromptFile, start: Start) -> Iterator[list[str]]:
    yield ["tensor", "shape", "norm", "from handcrafted start"]
    for name, tensor in file.params.items():
        distance = f"{(tensor - start[name]).norm():.4f}" if name in start else "-"
        yield [name, " × ".join(map(str, tensor.shape)), f"{tensor.norm():.4f}", distance]


def nearest_words(ctx: Tensor, clip: CLIP) -> Iterator[list[str]]:
    """Yield for each context vector the tokens whose embeddings are nearest, and how far they are (Euclidean)."""
    table = clip.token_embedding.weight
    known = (table != 0).any(1)           # the miniature's hold only the words that it was trained with
    known[tokenizer.SOS :] = False        # SOS and EOT are no words
    ids = known.nonzero().squeeze(1)
    far = torch.cdist(ctx, table[ids], compute_mode="donot_use_mm_for_euclid_dist")  # [n, number of words]
    yield ["vector", "", "norm", *(f"nearest word {i}" for i in range(1, WORDS + 1))]
    for number, (vector, row) in enumerate(zip(ctx, far), 1):
        nearest = row.topk(min(WORDS, len(ids)), largest=False)
        words = [f"{word_of(int(ids[i]))} {row[i]:.4f}" for i in nearest.indices]
        yield [f"ctx {number}", "", f"{vector.norm():.4f}", *words]


def word_of(token: int) -> str:
    """Return a token as text; "…" where a word goes on."""
    text = tokenizer.decode([token])
    return text.strip() if text.endswith(" ") else f"{text}…"


@torch.no_grad()
def norms_by_layer(learner: Learner) -> Iterator[list[str]]:
    """Yield the mean length of each layer's vectors, of the text tower's and the image tower's."""
    text, image = [learner.ctx, *learner.text.values()], learner.image_prompts()
    yield ["layer", "text: mean norm", "image: mean norm"]
    for layer, vectors in enumerate(zip_longest(text, image)):
        norms = ["-" if tower is None else f"{tower.norm(dim=1).mean():.4f}" for tower in vectors]
        yield [str(layer), *norms]


def export(file: PromptFile, path: Path) -> None:
    """Write the tensors in the form, and by the names, of the method's own code."""
    kind = learner_class(file.method)
    names = kind.published()
    state = {names[name]: tensor for name, tensor in file.params.items()}
    torchfile.write(path, {"state_dict": state, "epoch": 1})
    if file.regulator:
        say(f"{path}: the prompt's regulator is left out, as the method's own code has none")
    say(f"{path} written; {METHODS[file.method].title}'s own code loads it as {kind.published_as}/model.pth.tar-1 in "
        "the folder that its load_model is given, with epoch 1")
