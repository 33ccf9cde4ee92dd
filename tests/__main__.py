"""All tests, as two processes for two cores:  python -m tests        (some of them: python -m pytest tests/learners)"""
import subprocess
import sys
import tempfile

SHARES = (["tests", "--ignore=tests/robustness", "--ignore=tests/bench"], ["tests/robustness", "tests/bench"])  # of about the same length


def main() -> int:
    """The exit code: 0 if all pass."""
    with tempfile.TemporaryFile() as kept:  # what the second says, until the first has finished
        streams = (None, kept)
        command = [sys.executable, "-m", "pytest", "-q"]
        running = [subprocess.Popen(command + share, stdout=stream) for share, stream in zip(SHARES, streams)]
        codes = [process.wait() for process in running]
        kept.seek(0)
        print(kept.read().decode("utf-8", errors="replace"), end="", flush=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
