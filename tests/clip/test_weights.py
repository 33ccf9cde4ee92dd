"""Loading: OpenAI's archive form, a state dict and the miniature's arrays give the same CLIP; damage is named."""
import pickle

import pytest
import torch

from data.miniature import suite as mini
from mp.clip import model as clip_module
from mp.clip import weights
from mp.runtime.errors import UserError
from tests.rehearsal import SIZES, openai_archive, random_state


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


def test_an_archive_of_the_true_size(tmp_path):
    state = random_state(SIZES)
    assert sum(v.numel() for v in state.values()) == 149_620_737  # ViT-B/16's number of parameters
    openai_archive(state, tmp_path / "ViT-B-16.pt", 224)
    assert (tmp_path / "ViT-B-16.pt").stat().st_size > 2 * 149_620_737
    loaded = clip_module.load(tmp_path / "ViT-B-16.pt")
    assert all(torch.equal(p, state[name].half().float()) for name, p in loaded.state_dict().items())
    assert loaded.visual.image_size == 224 and len(loaded.transformer.resblocks) == 12
    assert [m.heads for m in loaded.modules() if hasattr(m, "heads")] == [12] * 12 + [8] * 12
    with torch.no_grad():
        assert loaded.encode_image(torch.zeros(1, 3, 224, 224)).shape == (1, 512)


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
