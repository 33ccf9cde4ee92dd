"""A short run of everything on a miniature dataset: meta, zeroshot, finetune and table, all three methods.

    python -m tests.golden.regression        writes tests/golden/regression.json, which test_regression.py compares with

Do that only after a change that is meant to change the numbers, and say so in the commit.
"""
import argparse
import contextlib
import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("regression.json")
DATASETS = ["aircraft"]


def compute(folder: Path) -> dict:
    """Losses, gradient norms, norms of prompts, accuracies and the table, of a run in `folder`."""
    import torch

    import run
    from data import suite
    from mp.commands import table
    from mp.experiment import session
    from mp.learners import METHODS

    def small(*args):
        whole = suite.open_suite(*args)
        return whole._replace(meta_epochs=2, training=whole.training[2:4])

    session.open_suite = table.open_suite = small
    for method, epochs in (("coop", 2), ("cocoop", 1), ("promptsrc", 2)):
        short = {"epochs": epochs, "batch": 16, "gpa_mean": 15.0}
        METHODS[method] = METHODS[method]._replace(finetune=METHODS[method].finetune | short)
    out = io.StringIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), write_through=True)) as out:
        code = run.main(["table", "--run", "--datasets", *DATASETS, "--format", "csv", "--out", str(folder)])
    assert code == 0
    out.seek(0)
    found = {"table": list(csv.reader(out.read().splitlines())), "meta": {}, "prompts": {}, "finetune": {}, "accuracies": {}}
    for file in sorted((folder / "mini").rglob("*.*")):
        name = re.sub("-[0-9a-f]{12}(?=[./])", "", file.relative_to(folder / "mini").as_posix())
        if file.name == "log.jsonl":
            found["meta"][name] = [[line[k] for k in ("query_loss", "grad_norm")] for line in map(json.loads, file.open())]
        elif file.name.endswith("prompt.pt"):
            params = torch.load(file, weights_only=True)["params"]
            found["prompts"][name] = {k: [p.norm().item(), p.abs().mean().item()] for k, p in params.items()}
        elif file.suffix == ".json" and file.name != "settings.json":
            result = json.loads(file.read_text())
            found["accuracies"][name] = result["accuracies"]
            if "losses" in result:
                found["finetune"][name] = result["losses"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=FILE)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder + "/cache"
        found = compute(Path(folder))
    args.to.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
