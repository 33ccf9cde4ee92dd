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
from tests.robustness.forked import Call, Ended
from tests.rehearsal import openai_archive

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
    """In a child: let the run end as by Ctrl-C when the first epoch is saved."""
    def update(self, done, total, text="", new=None):
        if self.label == "epoch":
            signal.raise_signal(signal.SIGTERM)

    tiny.make_small()
    Progress.update = update


def start(command: str, world: Path, before: Callable[[], None] = tiny.make_small, number: int = 0,
          **env: str | None) -> Call:
    return Call(shlex.split(command), world, before, number, **{"XDG_CACHE_HOME": str(world / "cache")} | env)


def run(command: str, world: Path, before: Callable[[], None] = tiny.make_small, **env: str | None) -> Ended:
    return start(command, world, before, **env).wait()


def build(world: Path) -> None:
    """Write inputs, and what the commands leave: a prompt, results, caches, the states of interrupted runs."""
    tiny.write(world / "data")
    (world / "data/w.pt").rename(world / "w.pt")
    openai_archive(tiny.state(), world / "a.pt")
    shutil.copy(mini.WEIGHTS, world / "m.npz")
    for command in (META.format("coop"), USUAL_META, f"{ZEROSHOT} imagenet", TUNE):
        assert run(command, world).code == 0
    shutil.copy(world / find(world, PROMPT), world / "p.pt")
    for command in (META.format("cocoop"), f"{TUNE} --seeds 2", TUNE_DEEP):
        assert run(command, world, interrupt_after_an_epoch).code == 130
    features, = (world / "cache/meta-prompts/features").glob("DTD*")
    features.rename(world / "features")  # by a name that doesn't change
    features.symlink_to(world / "features")


def copy(world: Path, place: Path, *changing: str) -> Path:
    """Make the world again, by hard links, but for the files that are to be changed."""
    shutil.copytree(world, place, copy_function=os.link, symlinks=True)
    for name in changing:
        shutil.copy2(world / name, part := place / ".part")
        os.replace(part, place / name)
    for link in (place / "cache/meta-prompts").rglob("*"):
        if link.is_symlink():
            target = place / link.readlink().name
            link.unlink()
            link.symlink_to(target)
    return place


def contents(world: Path) -> dict[str, str]:
    """Return the hashes of all results, prompts and small inputs; not of what a run replaces as it goes on."""
    hashes = {}
    for path in world.rglob("*"):
        kept = path.suffix in (".json", ".pt", ".txt", ".png", ".jpg", ".npz") and "state-" not in path.name
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 2**20
        if kept and small and os.access(path, os.R_OK):
            hashes[str(path.relative_to(world))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def prompts(place: Path) -> dict[str, str]:
    """Return the hashes of all prompts in --out."""
    return {name: digest for name, digest in contents(place).items()
            if name.startswith("runs") and name.endswith("prompt.pt")}


def finished(place: Path) -> dict:
    """Return the accuracies of every result, and hashes of the prompts, by their files."""
    done = prompts(place)
    for path in (place / "runs").rglob("*.json"):
        if path.name != "settings.json":
            done[str(path.relative_to(place))] = json.loads(path.read_text())["accuracies"]
    return done


def drop_rights() -> None:
    """Let even root be refused what a file's mode refuses its owner."""
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


def unchanged(before: dict[str, str], after: dict[str, str], except_for: str = "") -> None:
    """Hold a run to this: nothing that was there is gone or another, but for the damaged file."""
    assert not [name for name in before if name != except_for and after.get(name) != before[name]]
