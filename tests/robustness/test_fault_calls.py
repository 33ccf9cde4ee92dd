"""What the program makes of bad options, environments, folders and names. A row: what is given, and what is said of it."""
import os
import random
import resource
import shutil
import sys

import pytest

from mp.runtime.progress import Progress
from tests.robustness import faults, tiny
from tests.robustness.counts import COUNTS
from tests.robustness.faults import META, TUNE, ZEROSHOT, copy, limits, run

HUGE = "9" * 30
OPTIONS = [  # "=": the result is that of the second command
    ("", "the following arguments are required: data | meta"),
    ("dream", "invalid choice: 'dream'"),
    ("meta --epoch 3", "unrecognized arguments: --epoch 3"),
    ("meta --method vpt", "argument --method: invalid choice: 'vpt'"),
    ("meta --epochs", "argument --epochs: expected one argument"),
    ("meta --epochs three", "argument --epochs: invalid int value: 'three'"),
    ("meta --epochs 0", "--epochs 0: out of range; give 1 or more"),
    ("meta --epochs -1", "--epochs -1: out of range; give 1 or more"),
    ("meta --epochs " + "9" * 5000, "argument --epochs: invalid int value"),
    ("meta --inner-steps -1", "--inner-steps -1: out of range; give 0 or more"),
    ("meta --inner-lr nan", "--inner-lr nan: out of range; give a positive number"),
    ("meta --inner-lr inf", "--inner-lr inf: out of range; give a positive number"),
    ("meta --inner-lr 1/0", "'1/0' is not a number"),
    ("meta --inner-lr 1/2/3", "'1/2/3' is not a number"),
    ("meta --meta-lr 0", "--meta-lr 0.0: out of range; give a positive number"),
    ("meta --clip-norm -5", "--clip-norm -5.0: out of range; give a positive number"),
    ("meta --shots 5", "--shots 5 leaves no query image beside --support 5; give 6 or more"),
    ("meta --support 0", "--support 0: out of range; give 1 or more"),
    ("meta --batch 0", "--batch 0: out of range; give 1 or more"),
    ("meta --query-batch -2", "--query-batch -2: out of range; give -1 or more"),
    ("meta --seeds -1", "'-1' is not a seed, 0 to"),
    (f"meta --seeds {HUGE}", f"'{HUGE}' is not a seed, 0 to"),
    ("meta --seeds 1.5", "'1.5' is not a seed"),
    ("meta --device tpu", "--device tpu: unknown"),
    ("meta --device cuda:99", "use --device cpu"),
    ("meta --device meta", "--device meta: unknown"),
    ("meta --precision fp8", "invalid choice: 'fp8'"),
    ("meta --depth 0", "--depth 0: out of range; give 1 or more"),
    ("meta --length 0", "--length 0: out of range; give 1 or more"),
    ("meta --length 74 --datasets pets", "take 79 of CLIP's 77 positions; give a smaller --length"),
    (f"meta --length {HUGE} --datasets pets", "of CLIP's 77 positions; give a smaller --length"),
    ("finetune --length 73 --datasets pets", "positions; give a smaller --length"),
    ("meta --datasets MNIST", "no dataset 'MNIST' in the mini suite"),
    ("meta --data nowhere", "nowhere: no such folder"),
    ("meta --data w.pt", "w.pt: no such folder"),
    ("meta --workers -1", "'-1' is not a number of threads"),
    (f"data --workers {HUGE}", "is not a number of threads, 0 to 1024"),
    ("data --workers ²", "is not a number of threads"),
    ("data --seeds 1", "unrecognized arguments: --seeds 1"),
    ("data --datasets pets nowhere", "no dataset 'nowhere'"),
    ("data --weights nowhere --datasets pets", "not ready: weights"),
    ("zeroshot --prompt 'a photo of a'", "words need {} for the class name"),
    ("zeroshot --prompt '" + "word " * 90 + "{}' --datasets pets", "too long for CLIP"),
    ("zeroshot --prompt nowhere.pt", "nowhere.pt: no such prompt file"),
    ("zeroshot --prompt " + "x" * 300, "File name too long"),
    ("zeroshot --prompt ''", "no such prompt file"),
    ("zeroshot --prompt meta --method coop --seeds 2", "make it with: python run.py meta --method coop --seeds 2"),
    ("zeroshot --prompt data", "data: no such prompt file"),
    ("zeroshot --datasets " + "x" * 300, "no dataset"),
    ("zeroshot --datasets other/pets", "one is a dataset's of the suite"),
    ("zeroshot --datasets 'a\tb'", "can't be printed; rename it"),
    ("zeroshot --datasets data/birds other/birds", "another folder of that name is given, too"),
    ("zeroshot --datasets data/birds 'other/b irds'", "another folder of that name is given, too"),
    ("zeroshot --datasets data/dtd/images/banded", "no sub-folders"),
    ("finetune --classes old", "--classes old: out of range; give one of base, new, all"),
    ("finetune --lr nan", "--lr nan: out of range; give a positive number"),
    ("finetune --lr 1e999", "--lr inf: out of range; give a positive number"),
    ("finetune --batch 0", "--batch 0: out of range; give 1 or more"),
    ("finetune --init nowhere", "nowhere: no such prompt file"),
    ("finetune --method coop --datasets data/birds", "of its 2 classes less than two are base ones"),
    ("finetune --method coop --classes new --datasets data/birds", "give other --datasets, or fine-tune with --classes all"),
    ("table --run --datasets pets data/birds", "of its 2 classes less than two are base ones"),
    ("meta --method coop --depth 8", "--depth 8: plays no part in coop; leave it out"),
    ("meta --method coop --length 74", "take 79 of CLIP's 77 positions; give a smaller --length"),
    ("zeroshot --prompt p.pt --method coop --depth 3", "--depth: plays no part without --prompt meta"),
    ("finetune --method promptsrc --ivlp", "unrecognized arguments: --ivlp"),
    ("finetune --method maple --gpa-std 2", "--gpa-std 2.0: plays no part in maple; leave it out"),
    ("table --methods vpt", "argument --methods: invalid choice: 'vpt'"),
    ("finetune --method cocoop --gpa-std 2", "--gpa-std 2.0: plays no part in cocoop; leave it out"),
    ("finetune --method coop --datasets other/one", "only the sub-folder 'only'; a dataset of your own has one for each class"),
    ("finetune --momentum 1", "--momentum 1.0: out of range; give a number from 0 to below 1"),
    ("finetune --momentum -0.1", "--momentum -0.1: out of range; give a number from 0 to below 1"),
    ("finetune --momentum nan", "--momentum nan: out of range; give a number from 0 to below 1"),
    ("finetune --momentum ²", "argument --momentum: '²' is not a number"),
    ("finetune --weight-decay -1", "--weight-decay -1.0: out of range; give 0 or more"),
    ("finetune --weight-decay inf", "--weight-decay inf: out of range; give 0 or more"),
    ("finetune --weight-decay nan", "--weight-decay nan: out of range; give 0 or more"),
    ("finetune --weight-decay 1e300", "argument --weight-decay: '1e300' is more than a tensor's numbers can be"),
    ("finetune --gpa-mean 0", "--gpa-mean 0.0: out of range; give a positive number"),
    ("finetune --gpa-mean 1000 --datasets pets", "GPA's weights vanish: 2 epochs lie too far from their mean, 1000"),
    ("finetune --gpa-mean 1e38 --datasets pets", "give another --gpa-mean, or a larger --gpa-std"),
    ("finetune --gpa-std 0", "--gpa-std 0.0: out of range; give a positive number"),
    ("finetune --gpa-std inf", "--gpa-std inf: out of range; give a positive number"),
    ("finetune --gpa-std 1e-200 --datasets pets", "give another --gpa-mean, or a larger --gpa-std"),
    ("finetune --lr -0", "--lr -0.0: out of range; give a positive number"),
    ("finetune --lr 1e-400", "--lr 0.0: out of range; give a positive number"),
    ("finetune --lr 1e300", "argument --lr: '1e300' is more than a tensor's numbers can be"),
    ("finetune --lr inf/inf", "--lr nan: out of range; give a positive number"),
    (f"finetune --epochs {HUGE}", "out of range; give 1 or more, up to 1,000,000"),
    ("meta --epochs 1000001", "out of range; give 1 or more, up to 1,000,000"),
    ("finetune --epochs ²", "argument --epochs: invalid int value: '²'"),
    ("finetune --depth 0", "--depth 0: out of range; give 1 or more"),
    ("meta --clip-norm nan", "--clip-norm nan: out of range; give a positive number"),
    ("meta --clip-norm=-inf", "--clip-norm -inf: out of range; give a positive number"),
    ("meta --clip-norm -0", "--clip-norm -0.0: out of range; give a positive number"),
    ("meta --meta-lr 1e300", "argument --meta-lr: '1e300' is more than a tensor's numbers can be"),
    ("meta --memory nan", "argument --memory: 'nan' is not a positive number"),
    ("meta --memory -0", "argument --memory: '-0' is not a positive number"),
    ("meta --memory 1e300", "argument --memory: '1e300' is more than"),
    ("meta --seeds 4294967296", "'4294967296' is not a seed, 0 to 4294967295"),
    ("meta \udcff", r"unrecognized arguments: \udcff"),
    ("zeroshot --prompt meta --depth 0", "--depth 0: out of range; give 1 or more"),
    ("zeroshot --prompt meta --length -1", "--length -1: out of range; give 1 or more"),
    ("zeroshot --datasets \udcff", r"no dataset '\udcff' in the mini suite"),
    ("zeroshot --data \udcff", r"\udcff: no such folder"),
    ("zeroshot --weights \udcff", r"\udcff: no such weights file"),
    ("zeroshot --prompt \udcff", r"\udcff: no such prompt file"),
    (f"{TUNE} --out o --lr 1e30", "is kept"),
    (f"{META.format('coop')} --out o --inner-lr 1e30", "is kept"),
    (f"{META.format('coop')} --out o --meta-lr 1e38", "is kept"),
    ("predict nowhere.png --names a b", "'nowhere.png': no such image or folder"),
    ("predict w.pt --names a b", "no image can be read: w.pt: not a readable image"),
    ("predict data --names-from w.pt", "w.pt: no list of names ("),
    ("predict data --names a \udcff", r"a class's name, '\udcff', is empty or can't be printed"),
    ("predict loop --names a b", "'loop': no such image or folder"),
    ("meta --regulator --inner-steps 0", "plays no part with --inner-steps 0; leave it out"),
    ("predict /dev/null --names a b", "'/dev/null': a pipe or the like, and images are read twice; give files"),
    ("table --format pdf", "invalid choice: 'pdf'"),
    ("table --paper", "--paper: the paper has no numbers for the miniature"),
    ("table --to .", ".: can't be written"),
    ("table --to /", "/: can't be written"),
    ("table --to w.pt/x", "w.pt/x: can't be written"),
    ("table --to " + "x" * 300, "can't be written (File name too long)"),
    (f"{ZEROSHOT} dtd --out w.pt", "can't be written"),
    (f"{ZEROSHOT} dtd --out /proc/none", "can't be written"),
    (f"{ZEROSHOT} dtd --out loop", "Too many levels of symbolic links"),
    (f"{META.format('promptsrc')} --depth 99", "prompt depth 99: out of range; these towers take 1 to 9"),
    (f"{META.format('coop')} --inner-steps {10**15}", "memory"),
]
EXACT = [  # odd, and the same as the plain command beside it
    (f"{ZEROSHOT} dtd --seeds 1 1 1", f"{ZEROSHOT} dtd"),
    (f"{ZEROSHOT} dtd --workers 0", f"{ZEROSHOT} dtd"),
    (f"{ZEROSHOT} dtd DTD d-t_d", f"{ZEROSHOT} dtd"),
    (f"{ZEROSHOT} dtd --method coop --prompt 'a b/ü\n.pt'", f"{ZEROSHOT} dtd --method coop --prompt p.pt"),
    ("zeroshot --data 'da ta\nü' --weights 'w\n w.pt' --datasets dtd --out 'o\tut'", f"{ZEROSHOT} dtd"),
    (f"{TUNE} --batch {HUGE} --shots {HUGE} --out o", f"{TUNE} --batch 64 --shots 64 --out o2"),
    (f"{TUNE} --out o", f"{TUNE} --seeds 1"),
    (f"{TUNE} --out \udcff", f"{TUNE} --seeds 1"),
    (f"{TUNE} --out o --lr ٠.٠٠٢ --epochs ٢", f"{TUNE} --seeds 1"),
    (f"{TUNE} --out o --weight-decay -0 --momentum -0", f"{TUNE} --out o2 --weight-decay 0 --momentum 0"),
    (f"{TUNE} --out o --memory 1e-320", f"{TUNE} --seeds 1"),
    (f"{META.format('coop')} --out o --memory 1e19", META.format("coop")),
    (f"{META.format('coop')} --out o --clip-norm inf", f"{META.format('coop')} --out o --clip-norm 1e30"),
    (f"{META.format('coop')} --out o --clip-norm 1e400", f"{META.format('coop')} --out o --clip-norm inf"),
    (f"{ZEROSHOT} dtd --prompt '\udcff{{}}'", f"{ZEROSHOT} dtd --prompt '\ufffd{{}}'"),
]
ENVIRONMENT = [  # of `zeroshot --datasets dtd`
    (dict(MP_DATA="nowhere"), "="), (dict(RANK="1"), "RANK '1' and WORLD_SIZE '1' in the environment"),
    (dict(RANK="x"), "RANK 'x' and WORLD_SIZE '1'"), (dict(WORLD_SIZE="-2"), "WORLD_SIZE '-2'"),
    (dict(RANK="0", WORLD_SIZE="2"), "every process would do the same; torchrun is for meta and table"),
    (dict(XDG_CACHE_HOME="relative", HOME="home"), "set XDG_CACHE_HOME to a folder"),
    (dict(XDG_CACHE_HOME=None, HOME="/proc/none"), "="), (dict(XDG_CACHE_HOME="/proc/none"), "="),
    (dict(XDG_CACHE_HOME="/dev/null"), "="), (dict(TMPDIR="/proc/none"), "="), (dict(COLUMNS="x"), "="),
    (dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"), "="), (dict(CUDA_VISIBLE_DEVICES="x"), "="), (dict(PATH=""), "="),
    (dict(LOCAL_RANK="x"), "="), (dict(LANG="C", LC_ALL="C"), "="),
]

LATE = [  # what could be found out only at the end is found out before any training
    ("meta --method promptsrc --length 72 --shots 3 --support 2 --data data --weights w.pt --datasets imagenet",
     "the prompt and the longest class name take 78 of CLIP's 77 positions"),
    ("finetune --method promptsrc --length 72 --data data --weights w.pt --datasets imagenet",
     "the prompt and the longest class name take 78 of CLIP's 77 positions"),
    ("meta --method coop --shots 3 --support 2 --data data --weights w.pt --out o --datasets other/long", "too long for CLIP"),
    ("meta --method coop --shots 3 --support 2 --data data --weights w.pt --out o --datasets food101", "Food101: no folder"),
    ("meta --method coop --shots 3 --support 2 --data data --weights w.pt --out o --datasets other/one", "only the sub-folder 'only'"),
    ("meta --method coop --shots 3 --support 2 --data other --weights w.pt --out o --datasets fgvc_aircraft",
     "images_variant_test.txt: no image is listed"),
    ("table --run --data other --weights w.pt --out o --datasets dtd fgvc_aircraft", "images_variant_test.txt: no image is listed"),
    ("finetune --method coop --data other --weights w.pt --out o --datasets dtd fgvc_aircraft",
     "images_variant_test.txt: no image is listed"),
]


def line(ended):
    message, = ended.messages()
    assert len(ended.err.splitlines()[-1]) == len(message) and message.isprintable()
    return message


@pytest.fixture
def place(world, tmp_path):
    place = copy(world, tmp_path / "w")
    for folder in ("other/pets", "other/birds", "other/b irds", "a\tb"):
        (place / folder).mkdir(parents=True)
    (place / "loop").symlink_to("loop")
    tiny.pictures(place / "other/one", ["only/1.png", "only/2.png"], 0)
    tiny.pictures(place / "other/long", [f"{name}/{i}.png" for name in ("a", "7" * 80) for i in (1, 2)], 0)
    shutil.copytree(place / "data/fgvc_aircraft", place / "other/fgvc_aircraft")
    (place / "other/fgvc_aircraft/images_variant_test.txt").write_text("\n")
    (place / "other/dtd").symlink_to(place / "data/dtd")
    (place / "a b").mkdir()
    os.link(place / "p.pt", place / "a b/ü\n.pt")
    os.link(place / "w.pt", place / "w\n w.pt")
    (place / "da ta\nü").symlink_to(place / "data")
    return place


@pytest.mark.parametrize("command, says", OPTIONS, ids=lambda v: v[:40])
def test_options(command, says, place):
    ended = run(command, place, limits)
    COUNTS["fault cases"] += 1
    assert ended.code == (1 if says in ("memory", "is kept") else 2), ended.err
    assert says in line(ended) and ";" in line(ended)


@pytest.mark.parametrize("command, says", LATE)
def test_nothing_is_trained_in_vain(command, says, place):
    def never():
        limits()
        Progress.update = lambda self, *_, **__: sys.exit(f"{self.label}: work was done") if self.label == "epoch" else None

    before = faults.contents(place)
    ended = run(command, place, never)
    COUNTS["fault cases"] += 1
    assert ended.code == 2 and says in line(ended) and ";" in line(ended), ended.err
    assert before.items() <= faults.contents(place).items()


@pytest.mark.parametrize("command, plain", EXACT)
def test_names_and_numbers_that_are_only_odd(command, plain, place, undamaged):
    ended = run(command, place, limits)
    COUNTS["fault cases"] += 1
    assert ended.code == 0, ended.err
    numbers = [[word for word in text.out.split() if "." in word and word[-1].isdigit()] for text in (ended, undamaged(plain)[0])]
    COUNTS["wrong numbers"] += numbers[0] != numbers[1]
    assert numbers[0] == numbers[1] and numbers[0]


@pytest.mark.parametrize("env, outcome", ENVIRONMENT, ids=lambda v: str(v)[:40])
def test_environment(env, outcome, place, undamaged):
    ended = run(f"{ZEROSHOT} dtd --out o", place, limits, **env)
    COUNTS["fault cases"] += 1
    if outcome == "=":
        assert (ended.code, ended.out) == (0, undamaged(f"{ZEROSHOT} dtd --out o")[0].out), ended.err
    else:
        assert ended.code == 2 and outcome in line(ended)


def test_a_budget_smaller_than_one_image_needs_is_said(place):
    ended = run(f"{META.format('coop')} --out o --memory 1e-6", place, limits)
    COUNTS["fault cases"] += 1
    assert ended.code == 0 and "DTD: one image and its classes take about " in ended.err and "more than --memory; going on" in ended.err
    assert "more than --memory" not in run(f"{META.format('coop')} --out o2", place, limits).err


def test_a_full_standard_output(place):
    def full():
        limits()
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    ended = run(f"{ZEROSHOT} dtd", place, full)
    COUNTS["fault cases"] += 1
    assert ended.code == 2 and "standard output, or the system: No space left on device; " in line(ended)


def test_a_terminal_that_knows_only_ascii(place):
    def ascii_only():
        limits()
        sys.stdout.reconfigure(encoding="ascii")

    ended = run(f"{ZEROSHOT} dtd --prompt 'ein Bild: {{}} für ü'", place, ascii_only)
    COUNTS["fault cases"] += 1
    assert ended.code == 0 and r"f\xfcr \xfc" in ended.out


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
@pytest.mark.parametrize("command", [META.format("coop") + " --seeds 3", f"{TUNE} --seeds 3", f"{ZEROSHOT} dtd --out o"])
def test_a_disk_that_is_full_from_some_size_on(command, size, place, undamaged):
    """No file grows beyond `size` bytes: the run says which one didn't, loses nothing, and goes on when there is space."""
    size += random.Random(command).randrange(3)

    def full():
        limits()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    before = faults.contents(place)
    with_output = place.parent / ".w0.out"
    ended = run(command, place, full)
    COUNTS["fault cases"] += 1
    faults.unchanged(before, faults.contents(place), "")
    assert ended.code in (0, 2) and with_output.stat().st_size <= size
    assert not list(place.rglob("*.part"))
    again = run(command, place)
    assert (again.code, again.out) == (0, undamaged(command)[0].out)


def test_words_of_a_command_that_is_named_are_quoted_for_the_shell(place):
    ended = run(f"{ZEROSHOT} dtd 'other/b irds' --prompt meta --method cocoop --out 'o ut'", place, limits)
    command = line(ended).split("make it with: python run.py ")[1]
    assert command == "meta --method cocoop --seeds 1 --data data --datasets dtd 'other/b irds' --weights w.pt --out 'o ut'"
