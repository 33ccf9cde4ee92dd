"""Loading: OpenAI's archive form, a state dict and the miniature's arrays give the same CLIP; damage is named."""
import pickle

import pytest
import torch
from torch import nn

from data import mini
from mp import clip as clip_module
from mp import weights
from mp.errors import UserError


def openai_archive(state, path):
    """A TorchScript archive of the form of OpenAI's: half precision, in nested modules, with three extra numbers."""
    root = nn.Module()
    for name, value in state.items():
        module, *parents = root, *name.split(".")
        for part in parents[:-1]:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(parents[-1], nn.Parameter(torch.as_tensor(value).half(), requires_grad=False))
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(value))
    torch.jit.script(root).save(str(path))


@pytest.fixture(scope="module")
def archive(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "ViT-golden.pt"
    openai_archive(recipe.clip_state("A"), path)
    return path


def test_openais_archive_gives_the_same_clip(archive, clip):
    loaded = clip_module.load(archive)
    ours, theirs = clip.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(theirs[k].dtype == torch.float32 and torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_truncated_archive_is_named(archive, tmp_path):
    data = archive.read_bytes()
    for part in (0.1, 0.5, 0.999):
        (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(UserError, match="cut.pt: not a readable weights file"):
            clip_module.load(tmp_path / "cut.pt")


def test_arrays_keep_the_trained_tokens(clip, tmp_path):
    weights.write_arrays(tmp_path / "c.npz", clip.state_dict(), [5, 3, 49407])
    state = weights.read_state(tmp_path / "c.npz")
    table = clip.token_embedding.weight
    assert state["token_embedding.weight"].shape == table.shape
    assert torch.equal(state["token_embedding.weight"][[3, 5, 49407]].float(), table[[3, 5, 49407]])
    assert not state["token_embedding.weight"][4].any()
    assert torch.equal(state["visual.proj"].float(), clip.visual.proj)


def test_no_code_runs_when_a_file_is_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"a": Trap()}))
    torch.save({"a": Trap()}, tmp_path / "trap2.pt")
    for name in ("trap.pt", "trap2.pt"):
        with pytest.raises(UserError):
            clip_module.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_the_miniature_is_a_small_file_with_64_wide_heads():
    assert mini.WEIGHTS.stat().st_size < 3_000_000
    clip = clip_module.load(mini.WEIGHTS)
    assert [b.attn.heads for b in clip.visual.transformer.resblocks] == [2, 2, 2]
    assert [b.attn.heads for b in clip.transformer.resblocks] == [2, 2, 2]
