"""Meta-prompts for CLIP. For a script of one's own, `from mp import` gives these; mp/api/ explains them."""
import importlib

__all__ = ["RunError", "UserError", "classify", "fine_tune", "load_clip", "load_prompt", "make_learner", "meta_train",
           "save_prompt"]


def __getattr__(name: str):
    """When asked for: whoever imports a module of `mp`, as `run.py --help` does, needn't wait for torch."""
    if name in __all__:
        return getattr(importlib.import_module("mp.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
