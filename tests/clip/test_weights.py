"""Loading: OpenAI's archive form, a state dict and the miniature's arrays give the same CLIP; damage is named."""
import argparse
import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from data.miniature import suite as mini
from mp.clip import checkpoint, weights
from mp.clip.model import CLIP
from mp.runtime.errors import UserError
from tests.rehearsal import SMALL, VIT_B16, add_parameters, openai_archive, random_state


@pytest.fixture(scope="module")
def archive(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "ViT-golden.pt"
    openai_archive(recipe.clip_state("A"), path)
    return path


def test_openais_archive_gives_the_same_clip(archive, clip):
    loaded = weights.load(archive)
    ours, theirs = clip.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(theirs[k].dtype == torch.float32 and torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_truncated_archive_is_named(archive, tmp_path):
    data = archive.read_bytes()
    for part in (0.1, 0.5, 0.999):
        (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(UserError, match="cut.pt: not a readable weights file"):
            weights.load(tmp_path / "cut.pt")


def test_arrays_keep_the_trained_tokens(clip, tmp_path):
    checkpoint.write_arrays(tmp_path / "c.npz", clip.state_dict(), [5, 3, 49407])
    state = weights.read_state(tmp_path / "c.npz")
    table = clip.token_embedding.weight
    assert state["token_embedding.weight"].shape == table.shape
    assert torch.equal(state["token_embedding.weight"][[3, 5, 49407]].float(), table[[3, 5, 49407]])
    assert not state["token_embedding.weight"][4].any()
    assert torch.equal(state["visual.proj"].float(), clip.visual.proj)


def test_the_miniature_is_a_small_file_with_64_wide_heads():
    assert mini.WEIGHTS.stat().st_size < 3_000_000
    clip = weights.load(mini.WEIGHTS)
    assert [b.attn.heads for b in clip.visual.transformer.resblocks] == [2, 2, 2]
    assert [b.attn.heads for b in clip.transformer.resblocks] == [2, 2, 2]


H = dict(image_size=224, patch=14, image_width=1280, image_layers=32, text_width=1024, text_layers=24, embed=1024)
LARGE = dict(image_size=224, patch=14, image_width=1024, image_layers=24, text_width=768, text_layers=12, embed=768)


def shapes(sizes):
    """A state dict of this shape that takes no memory."""
    with torch.device("meta"):
        return CLIP(**sizes).state_dict()


@pytest.mark.parametrize("sizes", [VIT_B16, LARGE | {"image_size": 336}, VIT_B16 | {"image_size": 384}, SMALL | {"text_width": 192}])
def test_openais_shapes_are_known(sizes):
    assert weights.sizes(shapes(sizes), "w.pt") == sizes


def test_the_true_size():
    with torch.device("meta"):
        clip = CLIP(**VIT_B16)
    assert sum(p.numel() for p in clip.parameters()) == 149_620_737
    assert [module.heads for module in clip.modules() if hasattr(module, "heads")] == [12] * 12 + [8] * 12


@pytest.mark.parametrize("sizes", [H, H | {"image_layers": 2, "text_layers": 2}, VIT_B16 | {"image_width": 896},
                                   VIT_B16 | {"image_layers": 24}, LARGE | {"text_width": 1280}, SMALL | {"image_width": 96}])
def test_heads_of_other_shapes_are_not_guessed(sizes):
    with pytest.raises(UserError, match="only of OpenAI's ViTs .* the heads are 64 wide"):
        weights.sizes(shapes(sizes), "w.pt")


def test_a_tower_without_layers_is_no_clip():
    with pytest.raises(UserError, match="not CLIP's weights, image_layers is 0"):
        weights.sizes(shapes(SMALL | {"image_layers": 0}), "w.pt")


@pytest.fixture(scope="module")
def small():
    return random_state(SMALL)


def refused(path, says):
    with pytest.raises(UserError) as error:
        weights.load(path)
    text = str(error.value)
    assert says in text and "\n" not in text and "fetch it again" not in text and str(path) in text


def named(prefix, state):
    return {prefix + name: value for name, value in state.items()}


OPTIMIZER = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
WRAPPED = {
    "beside an optimiser": lambda s: {"model_state_dict": s, "optimizer": OPTIMIZER},
    "twice": lambda s: {"model": {"state_dict": s}}, "module": lambda s: named("module.", s),
    "both": lambda s: {"state_dict": named("module.clip.", s)},
    "flat": lambda s: s | {"epoch": 3, "lr": 0.1, "arch": "ViT-B/16", "done": True, "optimizer": OPTIMIZER},
    "OpenAI's numbers": lambda s: named("module.", s | {"input_resolution": torch.tensor(32)}),
    "facts that hold": lambda s: {"state_dict": s, "vision_heads": 1, "quick_gelu": True, "act": "QuickGELU", "head_width": 64},
    "quick": lambda s: {"name": "ViT-B-32-quickgelu", "state_dict": s},
    "dassl": lambda s: {"config": {"MODEL": {"BACKBONE": {"NAME": "ViT-B/16"}}}, "name": "ViT-L/14@336px", "state_dict": s},
    "OpenAI's files": lambda s: {"init": "clip/ViT-B-16.pt", "name": "ViT-L-14-336px.pt", "state_dict": s},
    "a quick run": lambda s: {"name": "2023-model_ViT-L-14-336-quickgelu-lr_0.1", "act": "quick_gelu", "state_dict": s},
    "Hugging Face's": lambda s: {"base": "openai/clip-vit-base-patch16", "timm": "vit_base_patch16_clip_224.openai", "state_dict": s},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_checkpoints_as_people_have_them(how, small, tmp_path):
    torch.save(WRAPPED[how](small), tmp_path / "w.pt")
    found = weights.read_state(tmp_path / "w.pt")
    assert found.keys() == small.keys() and all(torch.equal(found[k], small[k]) for k in small)


@pytest.mark.parametrize("stated", [
    {"vision_heads": 16}, {"config": {"vision_cfg": {"head_width": 80}}}, {"hidden_act": "gelu_new"}, {"quick_gelu": False},
    {"activation": "relu"}, {"config": {"act_layer": "quick test of torch.nn.GELU"}}, {"act": "quick relu"},
    {"args": {"model": "ViT-B-16"}}, {"arch": "ViT-L-14-336"}, {"arch": "ViT-B-16-plus-240"},
    {"name": "2023-model_ViT-B-32-lr_0.001"}, {"model": "hf-hub:laion/CLIP-ViT-B-16-laion2B"}])
def test_a_file_that_states_other_heads_or_gelu_is_refused(stated, small, tmp_path):
    torch.save({"state_dict": small, **stated}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "but here CLIP is computed with QuickGELU and 64-wide heads")
    torch.save(small | stated, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "but here CLIP is computed with QuickGELU and 64-wide heads")


class Scripted(nn.Module):
    """An archive's root: CLIP's tensors, and what it states besides."""

    def __init__(self, state, heads, activation):
        super().__init__()
        self.heads, self.activation = heads, activation
        add_parameters(self, state)

    def forward(self, x: torch.Tensor):
        return self.activation(x)


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor):
        return x * torch.sigmoid(1.702 * x)


def scripted(path, state, heads=1, activation=QuickGELU(), trace=False):
    root = Scripted(state, heads, activation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(root, torch.zeros(2)) if trace else torch.jit.script(root)
        made.save(str(path))
    return path


@pytest.mark.parametrize("trace", [False, True])
def test_an_archive_that_states_gelu_or_other_heads_is_refused(trace, small, tmp_path):
    loaded = weights.load(scripted(tmp_path / "quick.pt", small, trace=trace))
    assert torch.equal(loaded.visual.proj, small["visual.proj"])
    refused(scripted(tmp_path / "gelu.pt", small, activation=nn.GELU(), trace=trace), "activation = GELU")
    if not trace:
        refused(scripted(tmp_path / "heads.pt", small, heads=2), "states heads = 2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.double])
def test_other_types_in_an_archive_are_those_of_a_state_dict(dtype, small, tmp_path):
    state = {k: v.to(dtype) for k, v in small.items()}
    found = weights.read_state(scripted(tmp_path / "w.pt", state))
    assert all(found[k].dtype == torch.float32 and torch.equal(found[k], state[k].float()) for k in state)


@pytest.mark.parametrize("archive", [False, True])
def test_odd_strides_and_shared_tensors(archive, small, tmp_path):
    shared = torch.randn(64)
    state = small | {"visual.proj": small["visual.proj"].T.contiguous().T, "ln_final.weight": shared, "ln_final.bias": shared,
                     "visual.ln_pre.bias": torch.ones(1).expand(64), "visual.ln_post.bias": torch.randn(99)[3:67]}
    if archive:
        scripted(tmp_path / "w.pt", state)
    else:
        torch.save(state, tmp_path / "w.pt")
    found = weights.read_state(tmp_path / "w.pt")
    assert all(torch.equal(found[k], state[k]) and found[k].is_contiguous() for k in state)
    empty = state | {"extra": torch.zeros(0, 3)}
    if archive:
        refused(scripted(tmp_path / "w.pt", empty), "extra not known")


HUGGING_FACE = {"text_model.embeddings.position_ids": torch.arange(3)[None], "visual_projection.weight": torch.zeros(2, 2),
                "vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2)}
RESNET = {"visual.conv1.weight": torch.zeros(2, 3, 3, 3), "visual.layer1.0.bn1.num_batches_tracked": torch.tensor(3)}
COOP = {"state_dict": {"ctx": torch.zeros(4, 512), "token_prefix": torch.zeros(2, 1, 512)}, "epoch": 50, "val_result": None}
THEIRS = {
    "Hugging Face": (HUGGING_FACE, "Hugging Face's names"), "Hugging Face below": ({"model": named("clip.", HUGGING_FACE)}, "Hugging Face's names"),
    "ResNet": (RESNET, "a ResNet CLIP"), "a ResNet below": ({"state_dict": named("module.", RESNET)}, "a ResNet CLIP"),
    "CoOp's prompt": (COOP, "learnt prompts"), "ours": ({"method": "coop", "params": {"ctx": torch.zeros(4, 512)}}, "--prompt or --init"),
    "a model": (nn.Linear(2, 2), "Python objects (torch.nn.modules.linear.Linear)"),
    "settings": ({"state_dict": {}, "args": argparse.Namespace(a=1)}, "Python objects (argparse.Namespace)"),
    "numpy": ({"state_dict": {}, "best": np.float64(1)}, "Python objects (numpy."),
    "an optimiser": (OPTIMIZER, "visual.conv1.weight is missing"), "a number": (3, "holds no state dict"),
}


@pytest.mark.parametrize("whose", THEIRS)
@pytest.mark.parametrize("old", [False, True])
def test_what_torch_saved_and_is_not_clip_is_named(whose, old, tmp_path):
    content, says = THEIRS[whose]
    torch.save(content, tmp_path / "w.bin", _use_new_zipfile_serialization=not old)
    refused(tmp_path / "w.bin", says)


def test_two_models_in_one_file(small, tmp_path):
    torch.save({"model": small, "ema": {k: v + 1 for k, v in small.items()}}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "holds several CLIPs, below model/, ema/")
    torch.save(named("student.", small) | named("teacher.", small), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "holds several CLIPs, below student., teacher.")
    torch.save(named("clip.", small) | {"adapter.weight": torch.ones(2)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "adapter.weight not known")
    torch.save(named("clip.", small) | {"logit_scale": torch.tensor(1.0)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "beside it: logit_scale not known")


HEADER = b'{"vision_model.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
BYTES = {
    "safetensors": (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "a safetensors file"),
    "page": (b"<!DOCTYPE html><html></html>", "a web page"), "empty": (b"", "an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 354355280\n", "a Git LFS pointer"),
    "pickle": (pickle.dumps({"a": np.zeros(2)}, protocol=4), "not a readable weights file"),
}


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("ending", ["pt", "npz"])
def test_a_file_that_is_not_torchs_is_named(kind, ending, tmp_path):
    content, says = BYTES[kind]
    (tmp_path / f"w.{ending}").write_bytes(content)
    refused(tmp_path / f"w.{ending}", says)


def test_a_folder_is_told_what_is_wanted(tmp_path):
    (tmp_path / "clip-vit-base-patch16").mkdir()
    refused(tmp_path / "clip-vit-base-patch16", "a folder, not a weights file; give what torch.save(model.state_dict(), FILE) writes")


def test_an_archive_around_the_file_is_named(small, tmp_path):
    torch.save(small, tmp_path / "ViT-B-16.pt")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as z:
        z.write(tmp_path / "ViT-B-16.pt", "ViT-B-16.pt")
    refused(tmp_path / "w.zip", "a zip archive of ViT-B-16.pt (unpack it)")


def test_the_miniature_under_another_name(tmp_path):
    shutil.copy(mini.WEIGHTS, tmp_path / "w.pt")
    assert weights.load(tmp_path / "w.pt").visual.image_size == 32
