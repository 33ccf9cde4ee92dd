"""All tests, in groups that two processes take one after another:  python -m tests

A group that passes is one line; of one that fails, all is shown. Some tests alone: python -m pytest tests/learners.
Where there is a GPU, the last group compares it with the CPU.
"""
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

APART = ("tests/robustness", "tests/commands", "tests/walks", "tests/store")
REST = ["tests", *(f"--ignore={folder}" for folder in APART)]
GROUPS = [REST, *([folder] for folder in APART)]  # those that take longest first, so that both processes end together
ON_GPU = ["--device", "cuda", "tests/runtime/test_cuda.py", "tests/runtime/test_same_bits.py"]


def run(group: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", *group]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


def main() -> int:
    """Run all groups and return the exit code: 0 if all pass."""
    groups = [*GROUPS, ON_GPU] if torch.cuda.is_available() else GROUPS
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        for group, ended in zip(groups, pool.map(run, groups)):
            failed += ended.returncode != 0
            said = ended.stdout if ended.returncode else ended.stdout.splitlines()[-1]
            print(f"{' '.join(group)}: {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
