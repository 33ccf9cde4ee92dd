"""What the program makes of bad options, environments, folders and names. A row: what is given, and what is said."""
import math
import os
import re
import resource
import shutil
import sys
from dataclasses import fields

import pytest

from mp.learners.settings import method_settings
from mp.runtime.errors import UserError
from mp.runtime.progress import Progress
from mp.settings import FinetuneSettings, MetaSettings
from tests.robustness import tiny
from tests.robustness.faults import META, SUITE, TUNE, ZEROSHOT, contents, copy, limits, run, unchanged

HUGE = "9" * 30
LEARN, ZERO = META.format("coop"), f"{ZEROSHOT} dtd"
INPUTS = "--data data --weights w.pt --out o --datasets"
REFUSED = [
    ("", "the following arguments are required: data | meta"),
    ("dream", "invalid choice: 'dream'"),
    ("meta --epoch 3", "unrecognized arguments: --epoch 3"),
    ("meta \udcff", r"unrecognized arguments: \udcff"),
    ("meta --method vpt", "argument --method: invalid choice: 'vpt'"),
    ("meta --epochs", "argument --epochs: expected one argument"),
    ("meta --epochs three", "argument --epochs: invalid int value: 'three'"),
    ("meta --epochs ²", "argument --epochs: invalid int value: '²'"),
    ("meta --epochs " + "9" * 5000, "argument --epochs: invalid int value"),
    ("meta --inner-lr 1/0", "'1/0' is not a number"),
    ("meta --inner-lr 1/2/3", "'1/2/3' is not a number"),
    (f"meta {SUITE} --meta-lr 1e300", "--meta-lr 1e+300: out of range; give a positive number up to 3.4e+38"),
    ("meta --memory 1e39", "argument --memory: '1e39' is not a positive number up to 3.4e+38"),
    ("meta --memory nan", "argument --memory: 'nan' is not a positive number"),
    ("meta --memory -0", "argument --memory: '-0' is not a positive number"),
    ("meta --seeds -1", "'-1' is not a seed, 0 to"),
    ("meta --seeds 1.5", "'1.5' is not a seed"),
    ("meta --seeds 4294967296", "'4294967296' is not a seed, 0 to 4294967295"),
    (f"data --workers {HUGE}", "is not a number of threads, 0 to 1024"),
    ("data --workers ²", "is not a number of threads"),
    ("meta --device tpu", "--device tpu: unknown"),
    ("meta --device meta", "--device meta: unknown"),
    ("meta --device cuda:99", "use --device cpu"),
    (f"meta {SUITE} --inner-lr inf/inf", "--inner-lr nan: out of range; give a positive number"),
    (f"meta {SUITE} --shots 5", "--shots 5 leaves no query image beside --support 5; give 6 or more"),
    (f"meta {SUITE} --method coop --depth 8", "--depth 8: plays no part in coop; leave it out"),
    (f"meta {SUITE} --length {HUGE}", "of CLIP's 77 positions; give a smaller --length"),
    (f"finetune {SUITE} --classes old", "--classes old: out of range; give one of base, new, all"),
    (f"finetune {SUITE} --lr 1e999", "--lr inf: out of range; give a positive number"),
    (f"finetune {SUITE} --gpa-mean 1000", "GPA's weights vanish: 2 epochs lie too far from their mean, 1000"),
    (f"finetune {SUITE} --gpa-std 1e-200", "give another --gpa-mean, or a larger --gpa-std"),
    (f"{META.format('promptsrc')} --depth 99", "prompt depth 99: out of range; these towers take 1 to 2"),
    ("meta --datasets MNIST", "no dataset 'MNIST' in the mini suite"),
    ("meta --data nowhere", "nowhere: no such folder"),
    ("meta --data w.pt", "w.pt: no such folder"),
    ("zeroshot --data \udcff", r"\udcff: no such folder"),
    ("zeroshot --weights \udcff", r"\udcff: no such weights file"),
    ("data --weights nowhere --datasets pets", "not ready: weights"),
    (f"{ZERO} --prompt 'a photo of a'", "words need {} for the class name"),
    (f"{ZERO} --prompt '" + "word " * 90 + "{}'", "too long for CLIP"),
    (f"{ZERO} --prompt nowhere.pt", "nowhere.pt: no such prompt file"),
    (f"{ZERO} --prompt \udcff", r"\udcff: no such prompt file"),
    (f"{ZERO} --prompt " + "x" * 300, "File name too long"),
    (f"{ZERO} --prompt ''", "no such prompt file"),
    (f"{ZERO} --prompt data", "data: no such prompt file"),
    (f"{ZERO} --prompt p.pt --method coop --depth 3", "--depth: plays no part without --prompt meta"),
    (f"{ZERO} --prompt meta --method coop --seeds 2", "make it with: python run.py meta --method coop --seeds 2"),
    (f"{TUNE} --init nowhere", "nowhere: no such prompt file"),
    ("zeroshot --datasets " + "x" * 300, "no dataset"),
    ("zeroshot --datasets other/pets", "one is a dataset's of the suite"),
    ("zeroshot --datasets 'a\tb'", "can't be printed; rename it"),
    ("zeroshot --datasets data/birds 'other/b irds'", "another folder of that name is given, too"),
    ("zeroshot --datasets data/dtd/images/banded", "no sub-folders"),
    (f"{TUNE} other/one", "only the sub-folder 'only'; a dataset of your own has one for each class"),
    (f"{TUNE} data/birds", "of its 2 classes less than two are base ones"),
    (f"table --run {SUITE} data/birds", "of its 2 classes less than two are base ones"),
    (f"{TUNE} --out o --lr 1e30", "is kept"),
    (f"{LEARN} --out o --meta-lr 1e38", "epoch 1: ctx or its gradient isn't finite"),
    (f"{LEARN} --inner-steps {10**15}", "memory"),
    ("predict nowhere.png --names a b", "'nowhere.png': no such image or folder"),
    ("predict loop --names a b", "'loop': no such image or folder"),
    ("predict /dev/null --names a b", "'/dev/null': a pipe or the like, and images are read twice; give files"),
    ("predict w.pt --names a b", "no image can be read: w.pt: not a readable image"),
    ("predict data --names-from w.pt", "w.pt: no list of names ("),
    ("predict data --names a \udcff", r"a class's name, '\udcff', is empty or can't be printed"),
    ("table --to .", ".: can't be written (Is a directory); give a file's name"),
    ("table --to w.pt/x", "w.pt/x: can't be written"),
    ("table --to " + "x" * 300, "can't be written (File name too long)"),
    (f"{TUNE.replace('coop', 'promptsrc')} --init p.pt", "p.pt: made for --method coop, not promptsrc"),
    (f"{TUNE} --init p.pt --length 2", "no --depth and --length, or another prompt"),
    (f"{ZERO} --out w.pt", "can't be written"),
    (f"{LEARN} --out w.pt", "can't be written"),
    (f"{ZERO} --out /proc/none", "can't be written"),
    (f"{ZERO} --out loop", "Too many levels of symbolic links"),
]
ODD = [  # and the same as the plain command beside it
    (f"{ZERO} --seeds 1 1 1", ZERO),
    (f"{ZERO} --workers 0", ZERO),
    (f"{ZERO} DTD d-t_d", ZERO),
    (f"{ZERO} --method coop --prompt 'a b/ü\n.pt'", f"{ZERO} --method coop --prompt p.pt"),
    (f"{ZERO} --prompt '\udcff{{}}'", f"{ZERO} --prompt '\ufffd{{}}'"),
    ("zeroshot --data 'da ta\nü' --weights 'w\n w.pt' --datasets dtd --out 'o\tut'", ZERO),
    (f"{TUNE} --batch {HUGE} --shots {HUGE} --out o", f"{TUNE} --batch 64 --shots 64 --out o2"),
    (f"{TUNE} --out \udcff", f"{TUNE} --seeds 1"),
    (f"{TUNE} --out o --lr ٠.٠٠٢ --epochs ٢", f"{TUNE} --seeds 1"),
    (f"{TUNE} --out o --weight-decay -0 --momentum -0", f"{TUNE} --out o2 --weight-decay 0 --momentum 0"),
    (f"{TUNE} --out o --memory 1e-320", f"{TUNE} --seeds 1"),
    (f"{LEARN} --out o --memory 1e19", LEARN),
    (f"{LEARN} --out o --clip-norm 1e400", f"{LEARN} --out o --clip-norm 1e30"),
]
ENVIRONMENT = [  # of `zeroshot --datasets dtd`
    (dict(RANK="1"), "RANK '1' and WORLD_SIZE '1' in the environment"),
    (dict(RANK="x"), "RANK 'x' and WORLD_SIZE '1'"),
    (dict(WORLD_SIZE="-2"), "WORLD_SIZE '-2'"),
    (dict(RANK="0", WORLD_SIZE="2"), "every process would do the same; torchrun is for meta and table"),
    (dict(XDG_CACHE_HOME="relative", HOME="home"), "set XDG_CACHE_HOME to a folder"),
    (dict(XDG_CACHE_HOME=None, HOME="/proc/none"), "="),
    (dict(XDG_CACHE_HOME="/dev/null"), "="),
    (dict(MP_DATA="nowhere", TMPDIR="/proc/none", COLUMNS="x", PATH="", LOCAL_RANK="x", LANG="C", LC_ALL="C"), "="),
    (dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1", CUDA_VISIBLE_DEVICES="x"), "="),
]
LATE = [  # what could be found out only at the end is found out before any training
    ("finetune --method promptsrc --length 72 --data data --weights w.pt --datasets dtd imagenet",
     "the prompt and the longest class name take 78 of CLIP's 77 positions"),
    (f"meta --method coop --shots 3 --support 2 {INPUTS} other/long", "too long for CLIP"),
    (f"meta --method coop --shots 3 --support 2 {INPUTS} food101", "Food101: no folder"),
    (f"meta --method coop --shots 3 --support 2 {INPUTS} other/one", "only the sub-folder 'only'"),
    *((f"{command} --data other --weights w.pt --out o --datasets dtd fgvc_aircraft",
       "images_variant_test.txt: no image is listed")
      for command in ("meta --method coop --shots 3 --support 2", "table --run", "finetune --method coop")),
]


def line(ended):
    """Return the only line that the program says of itself, which is the last one."""
    message, = ended.messages()
    assert len(ended.err.splitlines()[-1]) == len(message) and message.isprintable()
    return message


@pytest.fixture
def place(world, tmp_path):
    place = copy(world, tmp_path / "w")
    for folder in ("other/pets", "other/b irds", "a\tb", "a b"):
        (place / folder).mkdir(parents=True)
    (place / "loop").symlink_to("loop")
    tiny.pictures(place / "other/one", ["only/1.png", "only/2.png"], 0)
    tiny.pictures(place / "other/long", [f"{name}/{i}.png" for name in ("a", "7" * 80) for i in (1, 2)], 0)
    shutil.copytree(place / "data/fgvc_aircraft", place / "other/fgvc_aircraft")
    (place / "other/fgvc_aircraft/images_variant_test.txt").write_text("\n")
    (place / "other/dtd").symlink_to(place / "data/dtd")
    os.link(place / "p.pt", place / "a b/ü\n.pt")
    os.link(place / "w.pt", place / "w\n w.pt")
    (place / "da ta\nü").symlink_to(place / "data")
    return place


@pytest.mark.parametrize("command, says", REFUSED, ids=lambda v: v[:40])
def test_refused(command, says, place):
    ended = run(command, place, limits)
    assert ended.code == (1 if says == "memory" or says.endswith(("is kept", "isn't finite")) else 2), ended.err
    assert says in line(ended) and ";" in line(ended)


OUT_OF_RANGE = {  # values of every setting that is a number
    "depth": (0, -1), "length": (0,), "epochs": (0, -1, 10**6 + 1), "inner_steps": (-1,), "shots": (0, -1),
    "support": (0,), "batch": (0,), "query_batch": (-2,), "momentum": (1, -0.1, math.nan),
    "weight_decay": (-1, 1e39, math.inf, math.nan),
    "clip_norm": (0, -5, -0.0, 1e39, -math.inf, math.nan),
    **dict.fromkeys(("inner_lr", "meta_lr", "lr", "gpa_mean", "gpa_std"), (0, -0.0, -1, 1e39, 10**39, math.inf, math.nan)),
}


@pytest.mark.parametrize("kind", [MetaSettings, FinetuneSettings])
def test_numbers_out_of_range(kind):
    for one in fields(kind):
        if one.type in (int, float) and one.name != "seed":
            for value in OUT_OF_RANGE[one.name]:
                with pytest.raises(UserError, match=rf"^--{one.name.replace('_', '-')} {re.escape(str(value))}: out of range; give "):
                    method_settings(kind, "promptsrc", {one.name: value})


@pytest.mark.parametrize("command, says", LATE)
def test_nothing_is_trained_in_vain(command, says, place):
    def update(progress, *_, **__):
        assert progress.label != "epoch", "work was done"

    def never():
        limits()
        Progress.update = update

    before = contents(place)
    ended = run(command, place, never)
    assert ended.code == 2 and says in line(ended) and ";" in line(ended), ended.err
    unchanged(before, contents(place))


def percentages(text):
    return [word for word in text.split() if "." in word and word[-1].isdigit()]


@pytest.mark.parametrize("command, plain", ODD)
def test_names_and_numbers_that_are_only_odd(command, plain, place, undamaged):
    ended = run(command, place, limits)
    assert ended.code == 0, ended.err
    assert percentages(ended.out) == percentages(undamaged(plain)[0]) != []


@pytest.mark.parametrize("env, outcome", ENVIRONMENT, ids=lambda v: str(v)[:40])
def test_environment(env, outcome, place, undamaged):
    ended = run(f"{ZERO} --out o", place, limits, **env)
    if outcome == "=":
        assert (ended.code, ended.out) == (0, undamaged(f"{ZERO} --out o")[0]), ended.err
    else:
        assert ended.code == 2 and outcome in line(ended)


def test_a_budget_smaller_than_one_image_needs_is_said(place):
    ended = run(f"{LEARN} --out o --memory 1e-6", place, limits)
    assert ended.code == 0 and "more than --memory; going on" in ended.err
    assert "DTD: one image and its classes take about " in ended.err
    assert "more than --memory" not in run(f"{LEARN} --out o2", place, limits).err


def test_a_full_standard_output(place):
    def full():
        limits()
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    ended = run(ZERO, place, full)
    assert ended.code == 2 and "standard output, or the system: No space left on device; " in line(ended)


def test_a_terminal_that_knows_only_ascii(place):
    def ascii_only():
        limits()
        sys.stdout.reconfigure(encoding="ascii")

    ended = run(f"{ZERO} --prompt 'ein Bild: {{}} für ü'", place, ascii_only)
    assert ended.code == 0 and r"f\xfcr \xfc" in ended.out


@pytest.mark.parametrize("size", [0, 4097, 100_001])
@pytest.mark.parametrize("command", [f"{LEARN} --seeds 3", f"{TUNE} --seeds 3", f"{ZERO} --out o"])
def test_a_disk_that_is_full_from_some_size_on(command, size, place, undamaged):
    """No file grows beyond `size` bytes: the run loses nothing, and goes on when there is space."""
    def full():
        limits()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    before = contents(place)
    ended = run(command, place, full)
    unchanged(before, contents(place))
    assert ended.code in (0, 2) and not list(place.rglob("*.part"))
    again = run(command, place)
    assert (again.code, again.out) == (0, undamaged(command)[0])


def test_words_of_a_command_that_is_named_are_quoted_for_the_shell(place):
    ended = run(f"{ZERO} 'other/b irds' --prompt meta --method cocoop --out 'o ut'", place, limits)
    options = "--seeds 1 --data data --datasets dtd 'other/b irds' --weights w.pt --out 'o ut'"
    assert line(ended).endswith(f"make it with: python run.py meta --method cocoop {options}")
