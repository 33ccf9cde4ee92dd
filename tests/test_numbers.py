"""The paper's numbers a second time, literally: section 4.2 with the recipes that it takes over, and Table 1.

What is here comes from the paper, from the methods' own code where the paper names nothing, and from CoOp's layout of
the datasets. It is compared with what the commands ask for, so that no number changes in one place without a word.
"""
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from data import images, paper
from data.suite import open_suite
from mp import maml
from mp.clip import model, tokenizer
from mp.clip.derivatives import LayerNorm
from mp.clip.model import CLIP
from mp.learners import METHODS, make_learner, promptsrc
from mp.learners.settings import method_settings
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings

METHODS_BY_THE_PAPER = {
    #             title        depth  length   α, of 6 tasks   batch   epochs  lr      batch   GPA's mean
    "coop":      ("CoOp",      None,  4,       0.025 / 6,      32,     200,    0.002,  32,     None),
    "cocoop":    ("CoCoOp",    None,  4,       0.025 / 6,      8,      10,     0.002,  1,      None),
    "promptsrc": ("PromptSRC", 9,     4,       0.02 / 6,       32,     20,     0.0025, 4,      15.0),
    "maple":     ("MaPLe",     9,     2,       0.02 / 6,       32,     5,      0.0035, 4,      None),  # not the paper's
}
META = {"epochs": 200, "meta_lr": 0.001, "clip_norm": 5.0, "inner_steps": 4, "shots": 16, "support": 5}
META_READINGS = {"query_batch": -1, "first_order": False, "sum_tasks": False, "regulator": False}  # where it is silent
FINETUNE = {"classes": "base", "shots": 16, "momentum": 0.9, "weight_decay": 0.0005}
ABLATIONS = {"image_depth": -1, "image_length": -1, "ivlp": False}  # off


def resolved(kind, method):
    """What a command trains with that gets no option; the ablations' settings must be off, if there are any."""
    found = asdict(method_settings(kind, method, {}))
    assert all(ABLATIONS[name] == found.pop(name) for name in ABLATIONS.keys() & found.keys())
    for one in fields(PromptSettings):
        if one.metadata.get("only_if") == "made_with" and one.name not in METHODS[method].made_with:
            del found[one.name]  # it plays no part
    return found


def shape_of(method):
    _, depth, length, *_ = METHODS_BY_THE_PAPER[method]
    return {"method": method, "seed": 1, "length": length} | ({"depth": depth} if depth else {})


def test_the_methods_are_these():
    assert all(METHODS[name].title == title for name, (title, *_) in METHODS_BY_THE_PAPER.items())
    assert [name for name, row in METHODS.items() if not row.source] == ["coop", "cocoop", "promptsrc"]  # of Table 2


@pytest.mark.parametrize("method", METHODS_BY_THE_PAPER)
def test_settings_are_section_4_2s(method):
    _, _, _, inner_lr, inner_batch, epochs, lr, batch, gpa_mean = METHODS_BY_THE_PAPER[method]
    assert resolved(PromptSettings, method) == shape_of(method)
    assert resolved(MetaSettings, method) == shape_of(method) | META | META_READINGS | {
        "inner_lr": inner_lr, "batch": inner_batch}
    found = resolved(FinetuneSettings, method)
    gpa = found.pop("gpa_mean"), found.pop("gpa_std")
    assert found == shape_of(method) | FINETUNE | {"epochs": epochs, "lr": lr, "batch": batch}
    assert METHODS[method].averages_epochs == (gpa_mean is not None)
    assert gpa_mean is None or gpa == (gpa_mean, 1.0)


def test_with_the_papers_datasets_meta_training_takes_the_papers_epochs(tmp_path):
    suite = open_suite(tmp_path)
    assert suite.meta_epochs is None  # the settings' 200 then
    assert open_suite(None).meta_epochs == 50


WIDTH, IMAGE_WIDTH, EMBED = 512, 768, 512  # of ViT-B/16
NETWORK = [(EMBED // 16, EMBED), (EMBED // 16,), (WIDTH, EMBED // 16), (WIDTH,)]
SHAPES = {
    "coop": [(4, WIDTH)],
    "cocoop": [(4, WIDTH), *NETWORK],
    "promptsrc": [(4, WIDTH), *[(4, WIDTH)] * 8, *[(4, IMAGE_WIDTH)] * 9],
    "maple": [(2, WIDTH), *[(2, WIDTH)] * 8, *[(IMAGE_WIDTH, WIDTH), (IMAGE_WIDTH,)] * 9],
}


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("asked", [False, True], ids=["by the class", "by the settings"])
def test_what_is_learnt_at_vit_b16s_size(method, asked):
    with torch.device("meta"):
        clip = CLIP(224, 16, IMAGE_WIDTH, 12, WIDTH, 12, EMBED)
    clip.token_embedding = torch.nn.Embedding.from_pretrained(torch.zeros(49408, 1).expand(-1, WIDTH))
    clip.logit_scale = torch.nn.Parameter(torch.zeros(()))
    settings = method_settings(PromptSettings, method, {})
    learner = make_learner(method, clip, *((settings.depth, settings.length) if asked else ()))
    assert [tuple(p.shape) for p in learner.parameters()] == SHAPES[method]


def test_clips_numbers():
    assert LayerNorm(4).eps == 1e-5 and tokenizer.CONTEXT_LENGTH == 77 and tokenizer.VOCABULARY == 49408
    assert model.MEAN.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073], rel=1e-7)
    assert model.STD.flatten().tolist() == pytest.approx([0.26862954, 0.26130258, 0.27577711], rel=1e-7)
    colours = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    expected = [(0 - 0.48145466) / 0.26862954, (0.2 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    assert model.normalise(colours).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_crops_of_training_views():
    assert images.AREA == (0.08, 1.0) and images.RATIO == (0.75, 4 / 3)


def test_promptsrcs_weights_of_the_losses(clip):
    """With features a tenth away from the frozen ones everywhere: 25/10 and 20/10."""
    assert len(promptsrc.TEMPLATES) == len(set(promptsrc.TEMPLATES)) == 60
    assert all(template.count("{}") == 1 for template in promptsrc.TEMPLATES)
    frozen = torch.full((3, 5), 0.5)
    classes = promptsrc.AnchoredClasses(None, frozen)
    terms = promptsrc.loss_terms(clip, classes, frozen + 0.1, frozen - 0.1, frozen, torch.tensor([0, 1, 2]))
    assert terms["text"].item() == pytest.approx(2.5) and terms["image"].item() == pytest.approx(2.0)


@pytest.mark.parametrize("size", [1e-9, 1.0])
def test_adam_is_its_papers(size):
    """β₁ 0.9, β₂ 0.999, ε 1e-8; with gradients as small as ε, it counts."""
    p = {"a": torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)}
    expected, m, v, state = p["a"].numpy().copy(), np.zeros(3), np.zeros(3), maml.adam_start(p)
    for t in range(1, 5):
        gradient = size * np.array([1.0, -t, 0.25 * t * t])
        p, state = maml.adam(p, {"a": torch.from_numpy(gradient)}, state, 0.001)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= 0.001 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(p["a"], expected, rtol=0, atol=1e-13)


DATASETS = {
    # role in Table 1, classes, folder, images below it, the labels' file, template
    "Caltech101": ("train", 100, "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json",
                   "a photo of a {}."),
    "EuroSAT": ("train", 10, "eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}."),
    "FGVC Aircraft": ("train", 100, "fgvc_aircraft", "images", "variants.txt", "a photo of a {}, a type of aircraft."),
    "Flowers102": ("train", 102, "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json",
                   "a photo of a {}, a type of flower."),
    "OxfordPets": ("train", 37, "oxford_pets", "images", "split_zhou_OxfordPets.json",
                   "a photo of a {}, a type of pet."),
    "UCF101": ("train", 101, "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}."),
    "DTD": ("test", 47, "dtd", "images", "split_zhou_DescribableTextures.json", "{} texture."),
    "Food101": ("test", 101, "food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food."),
    "ImageNet": ("test", 1000, "imagenet", "images", "classnames.txt", "a photo of a {}."),
    "Stanford Cars": ("test", 196, "stanford_cars", "", "split_zhou_StanfordCars.json", "a photo of a {}."),
    "SUN397": ("test", 397, "sun397", "SUN397", "split_zhou_SUN397.json", "a photo of a {}."),
}
IMAGES = {  # for training and for testing, of the benchmark that CoOp published
    "Caltech101": (4128, 2465), "EuroSAT": (13500, 8100), "FGVC Aircraft": (3334, 3333), "Flowers102": (4093, 2463),
    "OxfordPets": (2944, 3669), "UCF101": (7639, 3783), "DTD": (2820, 1692), "Food101": (50500, 30300),
    "ImageNet": (1281167, 50000), "Stanford Cars": (6509, 8041), "SUN397": (15880, 19850)}


def test_the_datasets_are_table_1s():
    found = {name: (row.role, row.counts[0], row.folder, row.images, row.labels, row.template)
             for name, row in paper.TABLE.items()}
    assert found == DATASETS and list(found) == list(DATASETS)
    assert {name: row.counts[1:] for name, row in paper.TABLE.items()} == IMAGES
    totals = {role: sum(classes for own, classes, *_ in DATASETS.values() if own == role) for role in ("train", "test")}
    assert totals == {"train": 450, "test": 1741}  # as Table 1 sums them up
    readers = {name: row.read.__name__ for name, row in paper.TABLE.items() if row.read is not paper.read_split}
    assert readers == {"FGVC Aircraft": "read_aircraft", "ImageNet": "read_imagenet"}
    assert paper.TRAINING == ["Caltech101", "EuroSAT", "FGVC Aircraft", "Flowers102", "OxfordPets", "UCF101"]


def test_the_suite_is_all_of_them(tmp_path):
    suite = open_suite(tmp_path)
    assert suite.datasets == list(DATASETS) and suite.training == paper.TRAINING
    assert suite.roles == {name: role for name, (role, *_) in DATASETS.items()}
