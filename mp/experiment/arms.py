"""An arm: a prompt, as it is or fine-tuned, and what accuracies are of."""
from typing import Any, NamedTuple

Changes = tuple[tuple[str, Any], ...]  # names and values of settings


def changed(**settings: Any) -> Changes:
    return tuple(settings.items())


class Arm(NamedTuple):
    """A prompt, as it is or fine-tuned: what accuracies are of. Neither words, file nor learnt: the handcrafted start
    of the method."""
    method: str | None = None       # of the learner; None: words alone
    words: str | None = None        # with {} for the class name; "": each dataset's own template
    file: str | None = None         # a prompt file, as it was given
    learnt: Changes | None = None   # what Algorithm 1 makes with these changes of the usual settings
    tuned: Changes | None = None    # fine-tuned with these changes of the usual settings; None: as it is
