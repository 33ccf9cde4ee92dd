"""What can go wrong with a file, and a small world of inputs and results for it to go wrong in."""
import ctypes
import hashlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from data.miniature import suite as mini
from mp.runtime.progress import Progress
from tests.robustness import tiny
from tests.robustness.counts import COUNTS
from tests.robustness.forked import Call, Ended
from tests.rehearsal import SMALL, openai_archive, random_state

SUITE = "--data data --weights w.pt --datasets dtd"
META = f"meta --method {{}} --shots 3 --support 2 {SUITE}"
USUAL_META = f"meta --method coop {SUITE}"
ZEROSHOT = "zeroshot --data data --weights w.pt --datasets"
TUNE = f"finetune --method coop {SUITE}"
TUNE_DEEP = TUNE.replace("coop", "promptsrc")

# Files of the world, as patterns for `find`: names end in digits that follow from all that the content depends on.
RESULT = "runs/paper/zeroshot/handcrafted/DTD-*.json"
PROMPT = "runs/paper/meta/coop-seed1-shots3-support2-*/prompt.pt"
USUAL_PROMPT = "runs/paper/meta/coop-seed1-????????????/prompt.pt"
STATE = "runs/paper/meta/cocoop-seed1-shots3-support2-*/state-*.pt"
TUNED = "runs/paper/finetune/coop-handcrafted-base/DTD-seed1-*.json"
TUNED_PROMPT = TUNED.replace(".json", ".prompt.pt")
TUNING_STATE = "runs/paper/finetune/coop-handcrafted-base/DTD-seed2-*.state-*.pt"
AVERAGED = "runs/paper/finetune/promptsrc-handcrafted-base/DTD-seed1-*.state-*.pt"


def find(place: Path, pattern: str) -> str:
    """Return the one file of a place that a pattern fits, relative to it."""
    file, = place.glob(pattern)
    return str(file.relative_to(place))


def interrupt_after_an_epoch() -> None:
    """To be called in a child: the run ends as by Ctrl-C when the first epoch is saved."""
    def update(self, done, total, text="", new=None):
        if self.label == "epoch":
            signal.raise_signal(signal.SIGTERM)

    tiny.make_small()
    Progress.update = update


def start(command: str, world: Path, before: Callable[[], None] = tiny.make_small, number: int = 0, **env: str | None) -> Call:
    return Call(shlex.split(command), world, before, number, **{"XDG_CACHE_HOME": str(world / "cache")} | env)


def run(command: str, world: Path, before: Callable[[], None] = tiny.make_small, **env: str | None) -> Ended:
    return start(command, world, before, **env).wait()


def build(world: Path) -> None:
    """Inputs, and what the commands leave: a prompt, results, caches, the states of interrupted runs."""
    tiny.write(world / "data")
    (world / "data/w.pt").rename(world / "w.pt")
    openai_archive(random_state(SMALL), world / "a.pt")
    shutil.copy(mini.WEIGHTS, world / "m.npz")
    for command in (META.format("coop"), USUAL_META, f"{ZEROSHOT} imagenet", TUNE):
        assert run(command, world).code == 0
    shutil.copy(world / find(world, PROMPT), world / "p.pt")
    for command in (META.format("cocoop"), f"{TUNE} --seeds 2", TUNE_DEEP):
        assert run(command, world, interrupt_after_an_epoch).code == 130
    features, = (world / "cache/meta-prompts/features").glob("DTD*")
    features.rename(world / "features")  # by a name that doesn't change
    features.symlink_to(world / "features")


def copy(world: Path, place: Path, *own: str) -> Path:
    """The world again, by hard links, but for the files that are to be changed."""
    shutil.copytree(world, place, copy_function=os.link, symlinks=True)
    for name in own:
        shutil.copy2(world / name, part := place / ".part")
        os.replace(part, place / name)
    for link in (place / "cache/meta-prompts").rglob("*"):
        if link.is_symlink():
            target = place / link.readlink().name
            link.unlink()
            link.symlink_to(target)
    return place


def contents(world: Path) -> dict[str, str]:
    """Hashes of all results, prompts and small inputs; not of what a run replaces as it goes on."""
    return {str(p.relative_to(world)): hashlib.sha256(p.read_bytes()).hexdigest() for p in world.rglob("*")
            if p.is_file() and not p.is_symlink() and p.suffix in (".json", ".pt", ".txt", ".png", ".jpg", ".npz")
            and "state-" not in p.name and os.access(p, os.R_OK) and p.stat().st_size < 2**20}


def prompts(place):
    return {name: digest for name, digest in contents(place).items() if name.startswith("runs") and name.endswith("prompt.pt")}


def finished(place: Path) -> dict:
    """Accuracies of every result, and hashes of the prompts, by their files."""
    results = {str(p.relative_to(place)): json.loads(p.read_text())["accuracies"] for p in (place / "runs").rglob("*.json")
               if p.name != "settings.json"}
    return results | prompts(place)


def drop_rights() -> None:
    """Even root is then refused what a file's mode refuses its owner."""
    class Head(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    assert ctypes.CDLL(None).capset(ctypes.byref(Head(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0


def absent(path, rng):
    path.unlink()


def empty(path, rng):
    path.write_bytes(b"")


def cut(path, rng):
    size = path.stat().st_size
    os.truncate(path, rng.randrange(1, max(2, size - 20) if path.suffix in (".txt", ".json") else size))


def noise(path, rng):
    path.write_bytes(rng.randbytes(path.stat().st_size))


def folder(path, rng):
    path.unlink()
    path.mkdir()


def loop(path, rng):
    path.unlink()
    path.symlink_to(path)


def forbidden(path, rng):
    path.chmod(0)


def huge(path, rng):
    os.truncate(path, 2**38)


FAULTS = {f.__name__: f for f in (absent, empty, cut, noise, folder, loop, forbidden, huge)}


def limits() -> None:
    """In a child: no more memory than a machine may have, and no rights beyond the file modes."""
    tiny.make_small()
    resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))
    drop_rights()


def damage(fault: str, path: Path, seed: str) -> None:
    FAULTS[fault](path, random.Random(f"{fault} {seed}"))


def unchanged(before: dict[str, str], after: dict[str, str], except_for: str) -> None:
    """Nothing that was there is gone, but for the damaged file and what was damaged."""
    lost = [name for name in before if name != except_for and after.get(name) != before[name]]
    COUNTS["finished results lost"] += len(lost)
    assert not lost


def made_anew(place: Path, file: str, command: str, undamaged: Callable) -> None:
    """Hold a command to this: the file, whose content isn't what its name says, is set aside whole and made anew, the
    number is right, and nothing else changes."""
    content, before = (place / file).read_bytes(), contents(place)
    ended = run(command, place, limits)
    COUNTS["fault cases"] += 1
    whole, made = undamaged(command)
    COUNTS["wrong numbers"] += ended.out != whole.out or prompts(place) != made
    assert (ended.code, ended.out) == (0, whole.out) and prompts(place) == made, ended.err
    assert (place / f"{file}.damaged").read_bytes() == content and f"{file}: damaged; set aside" in ended.err
    after = contents(place)
    assert all(after[name] == digest for name, digest in before.items() if name != file)
