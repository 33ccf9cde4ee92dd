"""Meta-prompts for CLIP: MAML with gradient clipping over CoOp, CoCoOp and PromptSRC.

    python run.py data                        what is ready of the weights and datasets, and what is missing
    python run.py meta --method coop          learn a meta-prompt, then compare it with the handcrafted prompt
    python run.py zeroshot --prompt meta      accuracy of a prompt as it is
    python run.py finetune --init meta        fine-tune from a meta-prompt, or from "a photo of a"
    python run.py table --run                 the paper's Table 2, computing what is missing

Without --data the embedded miniature suite runs; with it, the paper's eleven datasets.
"""
import importlib
import signal
import sys

from mp import options
from mp.errors import RunError, UserError


def main(arguments: list[str]) -> int:
    args = options.parse(arguments, __doc__)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # ends as cleanly as Ctrl-C does
    command = importlib.import_module(f"mp.{args.command}").command  # after parsing: --help needn't wait for torch
    try:
        command(args)
    except UserError as e:
        print(f"run.py: {e}", file=sys.stderr)
        return 2
    except RunError as e:
        print(f"run.py: {e}", file=sys.stderr)
        return 1
    except RuntimeError as e:
        if "DataLoader worker" not in str(e):  # raised at any point of the main process when a worker dies
            raise
        print("run.py: a process that reads images died, perhaps for lack of memory or of shared memory (/dev/shm); "
              "the same command goes on, with --workers 0 in this process alone", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; give the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
