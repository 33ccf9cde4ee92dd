"""Meta-prompts for CLIP: MAML with gradient clipping over CoOp, CoCoOp and PromptSRC.

    python run.py data                        what is ready of the weights and datasets, and what is missing
    python run.py meta --method coop          learn a meta-prompt, then compare it with the handcrafted prompt
    python run.py zeroshot --prompt meta      accuracy of a prompt as it is
    python run.py finetune --init meta        fine-tune from a meta-prompt, or from "a photo of a"
    python run.py table --run                 the paper's Table 2, computing what is missing
    python run.py bench                       speed and memory on this machine

Without --data the embedded miniature suite runs; with it, the paper's eleven datasets.
"""
import importlib
import multiprocessing
import os
import re
import signal
import sys

from mp.commands import options
from mp.runtime.errors import RunError, UserError, printable


def main(arguments: list[str]) -> int:
    """The exit code: 0, 1 for a run that failed midway, 2 for bad input."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # a shell's >&-
            setattr(sys, name, open(os.devnull, "w"))
    try:
        sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that doesn't know a character
        args = options.parse(arguments, __doc__)
        importlib.import_module(f"mp.commands.{args.command}").command(args)  # after parsing: --help needn't wait for torch
        sys.stdout.flush()
        return 0
    except UserError as e:
        return failed(str(e), 2)
    except RunError as e:
        return failed(str(e), 1)
    except OSError as e:  # what no reader or writer below expected of a path
        if not e.filename:
            sys.stdout = None  # perhaps it failed, and Python would try to write it again at the end
        return failed(f"{e.filename or 'standard output, or the system'}: {e.strerror or e}; mend that, then give the same "
                      "command again", 2)
    except (MemoryError, RuntimeError) as e:
        if "DataLoader worker" in str(e):  # raised at any point of the main process when a worker dies
            return failed("a process that reads images died, perhaps for lack of memory; the same "
                          "command goes on, with --workers 0 in this process alone", 1)
        if isinstance(e, RuntimeError) and not any(text in str(e) for text in ("allocate memory", "out of memory")):
            raise
        asked = re.search(r"tried to allocate [\d.]+ \w+", str(e), re.IGNORECASE)
        return failed(f"not enough memory{f' ({asked[0]})' if asked else ''}; the same command goes on where there is more, or "
                      "try smaller numbers", 1)


def failed(text: str, code: int) -> int:
    end_line = "\n" if sys.stderr.isatty() else ""  # of a progress line
    print(f"{end_line}run.py: {printable(text)}", file=sys.stderr)
    return code


def end_when_interrupted() -> None:
    """Ctrl-C and SIGTERM end this process, and those it started, at once, with code 130.

    Files are whole at every moment. An exception that comes just anywhere isn't: libraries swallow it, or crash of it.
    """
    own = os.getpid()

    def end(*_) -> None:
        try:
            if os.getpid() == own:  # not one that reads images
                for child in multiprocessing.active_children():
                    child.kill()
                os.write(2, b"\nrun.py: interrupted; give the same command again to go on\n"[not sys.stderr.isatty():])
        finally:
            os._exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for jobs in the background
            signal.signal(number, end)


if __name__ == "__main__":
    end_when_interrupted()
    sys.exit(main(sys.argv[1:]))
