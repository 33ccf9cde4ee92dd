"""Meta-prompts for CLIP. For a script of one's own, `from mp import` gives these; mp/api/ explains them."""
import importlib
import importlib.util
from pathlib import Path

__all__ = ["RunError", "UserError", "classify", "fine_tune", "load_clip", "load_prompt", "make_learner", "meta_train",
           "save_prompt"]


def __getattr__(name: str):
    """When asked for: whoever imports a module of `mp`, as `run.py --help` does, needn't wait for torch."""
    if name in __all__:
        return getattr(importlib.import_module("mp.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def require_data() -> None:
    """Raises ImportError if `data` is another package than the one beside this: the name is a common one."""
    root = Path(__file__).resolve().parents[1]
    try:
        spec = importlib.util.find_spec("data")
    except ValueError:  # something called so that was imported from no file
        spec = None
    origin = spec.origin if spec else None
    if origin is None or Path(origin).resolve() != root / "data" / "__init__.py":
        raise ImportError(f"mp: needs the package data of {root}, and here `data` is {origin or 'none'}; put {root} "
                          "first into PYTHONPATH, and your script where nothing else is called data or mp")


require_data()
