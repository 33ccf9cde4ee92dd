"""All tests, as two processes for two cores:  python -m tests        (some of them: python -m pytest tests/learners)

Where there is a GPU, a third one compares it with the CPU.
"""
import subprocess
import sys
import tempfile

import torch

SHARES = (["tests", "--ignore=tests/robustness", "--ignore=tests/bench"],  # of about the same length
          ["tests/robustness", "tests/bench"])
ON_GPU = ["--device", "cuda", "tests/runtime/test_cuda.py", "tests/runtime/test_same_bits.py"]


def main() -> int:
    """The exit code: 0 if all pass."""
    shares = [*SHARES, ON_GPU] if torch.cuda.is_available() else SHARES
    running, kept = [], []  # what all but the first say, until that has finished
    for share in shares:
        if running:
            kept.append(tempfile.TemporaryFile())
        command = [sys.executable, "-m", "pytest", "-q", *share]
        running.append(subprocess.Popen(command, stdout=kept[-1] if kept else None))
    codes = [process.wait() for process in running]
    for file in kept:
        file.seek(0)
        print(file.read().decode("utf-8", errors="replace"), end="", flush=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
