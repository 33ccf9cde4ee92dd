"""The two loops as commands run them, with files, on the golden numbers' images and towers."""
from types import SimpleNamespace

import torch

from data.dataset import Dataset, Item
from data.suite import Suite
from mp.experiment import training
from mp.experiment.arms import Arm, Job
from mp.experiment.places import PromptPlace
from mp.experiment.session import Session
from mp.learners.settings import hashed
from mp.runtime.device import Compute
from mp.store.cells import Identity


def session_of(clip, classes=(), batches=None, items=()):
    """Open a session of a suite with one dataset, which is called "five"; `batches` are what fine-tuning sees."""
    dataset = Dataset("five", "a photo of a {}.", list(classes), list(items), [])
    suite = Suite("mini", [], ["five"], lambda name: dataset, None, None)
    compute = Compute(torch.device("cpu"), "fp32", None, clip.memory if clip else 0)
    feed = SimpleNamespace(augmented=lambda *_: batches)
    return Session(suite, clip, None, "weights", "fp32", compute, feed, {}, [])


def identity_of(settings):
    return Identity("weights", "fp32", "handcrafted", settings)


def learn(session, learner, tasks, settings, folder, report=lambda epoch, text: None):
    """Do what run.py meta does, and return the last epoch's tensors."""
    place = PromptPlace(folder / "prompt.pt", identity_of(hashed(settings)), folder / "state-cpu-fp32.pt")
    return training.train(session, learner, tasks, settings, place, report)


def tune(session, method, changes, folder, report=lambda epoch, text: None):
    """Do what run.py finetune does with one dataset, and return the prompt's tensors and the epochs' losses."""
    arm = Arm(method, tuned=tuple({"classes": "all", **changes}.items()))
    place = PromptPlace(folder / "r.prompt.pt", identity_of(changes), folder / "r.state-cpu-fp32.pt")
    training.tune(session, Job(arm, 1, "five"), place, report)
    content = torch.load(place.prompt, weights_only=True)
    return content["params"], content["provenance"]["losses"]
