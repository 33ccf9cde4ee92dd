"""Meta-prompts for CLIP: MAML with gradient clipping over prompt learners: CoOp, CoCoOp, PromptSRC, MaPLe.

    python run.py data                        what is ready of the weights and datasets, and what is missing
    python run.py meta --method coop          learn a meta-prompt, then compare it with the handcrafted prompt
    python run.py zeroshot --prompt meta      accuracy of a prompt as it is
    python run.py predict a.jpg --names a b   the most probable classes of any images
    python run.py finetune --init meta        fine-tune from a meta-prompt, or from "a photo of a"
    python run.py table --run                 the paper's Table 2, computing what is missing
    python run.py claims --seeds 1 2 3        the paper's claims, put to the test
    python run.py show PROMPT                 what a prompt file is, and the words nearest to it

Without --data the embedded miniature suite runs; with it, the paper's eleven datasets.
"""
import gc
import os
import sys
import time

from mp import commands
from mp.runtime.errors import RunError, UserError, printable, short_of_memory
from mp.runtime.interrupt import end_when_interrupted


AFTER_THE_FIRST = 5  # seconds: if the first of several processes failed, too, it says so, and torchrun ends this one
SPINS = "1000"  # of a waiting thread: some microseconds, where OpenMP's own are many milliseconds


def main(arguments: list[str]) -> int:
    """Run a command. Returns the exit code: 0, 1 for a run that failed midway, 2 for bad input."""
    open_closed_streams()
    try:
        commands.run(arguments, __doc__)
        sys.stdout.flush()
        return 0
    except UserError as e:
        return failed(str(e), 2)
    except RunError as e:
        return failed(str(e), 1)
    except BrokenPipeError:  # nobody reads on, as with `| head`
        sys.stdout = None  # else Python would try to write it again at the end
        return 1
    except OSError as e:  # what no reader or writer expected of a path
        return failed(system_trouble(e), 2)
    except (MemoryError, RuntimeError) as e:
        if not short_of_memory(e):
            raise
        return failed(memory_trouble(e), 1)


def let_threads_sleep() -> None:
    """Let OpenMP's waiting threads sleep: on a busy machine those that spin keep off the ones that they wait for.

    Its library reads the environment when torch is loaded. What the person has set there stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def open_closed_streams() -> None:
    """Let what is printed go nowhere where the shell has closed a stream (>&-)."""
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that doesn't know a character


def system_trouble(error: OSError) -> str:
    where = error.filename
    if not where:
        where = "standard output, or the system"
        sys.stdout = None  # perhaps it failed, and Python would try to write it again at the end
    return f"{where}: {error.strerror or error}; mend that, then give the same command again"


def memory_trouble(error: MemoryError | RuntimeError) -> str:
    first_line = str(error).partition("\n")[0][:120]
    asked = f" ({first_line})" if first_line else ""
    return f"not enough memory{asked}; the same command goes on where there is more, or try smaller numbers"


def failed(text: str, code: int) -> int:
    if os.environ.get("RANK", "0") != "0":
        time.sleep(AFTER_THE_FIRST)
    end_line = "\n" if sys.stderr.isatty() else ""  # of a progress line
    print(f"{end_line}run.py: {printable(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    let_threads_sleep()
    end_when_interrupted()
    gc.disable()  # until all is imported
    sys.exit(main(sys.argv[1:]))
