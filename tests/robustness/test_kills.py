"""Runs killed with SIGKILL at random moments end with the same bytes as one that was never interrupted."""
import multiprocessing
import random
import time

import pytest
import torch

from mp.store import promptfile
from mp.finetune import finetune
from mp.meta import meta_train
from mp.settings import META, MetaSettings
from mp.tasks import Task
from tests.test_finetune import golden_batches, settings_of
from tests.test_learners import golden_learner

KILLS = 4  # of each kind of run


def meta_run(case, clip, recipe, folder):
    learner, tasks = golden_learner(case, clip, recipe), []
    for name, words in (("one", ["cat", "t-rex", "sea or lake"]), ("two", ["café", "wheelchair"])):
        labels = torch.arange(len(words)).repeat_interleave(6)
        images = torch.from_numpy(recipe.images("A", name, len(labels)))
        tasks.append(Task(name, learner.prepare(clip, words), learner.look(clip, images), labels))
    method = case.rstrip("23")
    settings = MetaSettings(method, epochs=6, shots=6, support=3, inner_lr=META[method]["inner_lr"], batch=3)
    return meta_train(learner, clip, tasks, settings, folder, lambda *_: None)


def tune_run(case, clip, recipe, folder):
    learner = golden_learner(case, clip, recipe)
    return finetune(learner, clip, learner.prepare(clip, recipe.CLASSES["A"]), golden_batches(recipe), settings_of(case),
                    {"seed": 1}, folder / "state.pt", lambda *_: None)[0]


def run(kind, case, clip, recipe, folder):
    torch.set_num_threads(1)
    promptfile.write(folder / "prompt.pt", case, kind(case, clip, recipe, folder), {})


@pytest.mark.parametrize("case", ["coop", "cocoop", "promptsrc2"])
@pytest.mark.parametrize("kind", [meta_run, tune_run])
def test_killed_at_any_moment(kind, case, clip, recipe, tmp_path):
    def start(folder):
        process = multiprocessing.get_context("fork").Process(target=run, args=(kind, case, clip, recipe, folder))
        process.start()
        return process

    started = time.monotonic()
    whole = start(tmp_path / "whole")
    whole.join()
    seconds, rng, kills, rounds = time.monotonic() - started, random.Random(case), 0, 0
    assert whole.exitcode == 0
    expected = (tmp_path / "whole" / "prompt.pt").read_bytes()
    while kills < KILLS:
        rounds += 1
        folder, killed = tmp_path / f"broken{rounds}", True
        while killed:
            process = start(folder)
            process.join(rng.uniform(0, seconds))
            process.kill()
            process.join()
            killed = process.exitcode != 0
            kills += killed
        assert (folder / "prompt.pt").read_bytes() == expected
        assert kind is tune_run or len((folder / "log.jsonl").read_text().splitlines()) == 6
        assert not [p for p in folder.iterdir() if p.suffix not in (".pt", ".jsonl")]
