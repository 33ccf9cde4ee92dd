"""What can go wrong with a file, and a small world of inputs and results for it to go wrong in."""
import ctypes
import hashlib
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

META = "meta --method {} --shots 3 --support 2 --data data --weights w.pt --datasets dtd"
ZEROSHOT = "zeroshot --data data --weights w.pt --datasets"
TUNE = "finetune --method coop --data data --weights w.pt --datasets dtd"
RESULT = "runs/paper/zeroshot/handcrafted/DTD.json"
STATE = "runs/paper/meta/cocoop-shots3-support2-seed1/state.pt"
TUNED = "runs/paper/finetune/coop-handcrafted-base/DTD-seed"
TUNE_DEEP = TUNE.replace("coop", "promptsrc")
AVERAGED = "runs/paper/finetune/promptsrc-handcrafted-base/DTD-seed1.state.pt"


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
    assert run(META.format("coop"), world).code == 0
    shutil.copy(world / "runs/paper/meta/coop-shots3-support2-seed1/prompt.pt", world / "p.pt")
    for command in (f"{ZEROSHOT} imagenet", TUNE):
        assert run(command, world).code == 0
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
            and not p.name.endswith("state.pt") and os.access(p, os.R_OK) and p.stat().st_size < 2**20}


def prompts(place):
    return {name: digest for name, digest in contents(place).items() if name.startswith("runs") and name.endswith("prompt.pt")}


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
    os.truncate(path, rng.randrange(1, max(2, size - 20) if path.suffix == ".txt" else size))


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


def damage(fault: str, path: Path, seed: int) -> None:
    FAULTS[fault](path, random.Random(f"{fault} {path.name} {seed}"))


def unchanged(before: dict[str, str], after: dict[str, str], except_for: str) -> None:
    """Nothing that was there is gone, but for the damaged file and what was damaged."""
    lost = [name for name in before if name != except_for and after.get(name) != before[name]]
    COUNTS["finished results lost"] += len(lost)
    assert not lost
