"""run.py zeroshot: accuracies of prompts as they are, beside the handcrafted ones."""
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from mp import files, report
from mp.errors import UserError
from mp.progress import Progress
from mp.session import Session, open_session


@dataclass(frozen=True)
class Shape:
    """What it takes to build a learner."""
    method: str
    depth: int
    length: int
    seed: int


def command(args: Namespace) -> None:
    session = open_session(args)
    prompts = {}  # what is asked for -> one prompt file per seed, or words
    for prompt in args.prompt:
        if prompt == "handcrafted" or "{}" in prompt:
            prompts[prompt] = None
        elif prompt == "meta":
            prompts[f"meta {args.method}"] = [session.find_prompt(prompt, args.method, s) for s in args.seeds]
        elif " " in prompt:
            raise UserError(f"--prompt {prompt!r}: words need {{}} where the class name goes, as in 'a photo of a {{}}.'")
        else:
            prompts[f"{Path(prompt).parent.name}/{Path(prompt).name}"] = [session.find_prompt(prompt, args.method, args.seeds[0])]
    depth = session.depth(args.depth) if args.method == "promptsrc" and any(prompts.values()) else args.depth
    shape = Shape(args.method, depth, args.length, args.seeds[0])
    learners = {title: [session.learner_from(path, shape) for path in paths] for title, paths in prompts.items() if paths}
    compare(session, learners, [title for title, paths in prompts.items() if "{}" in title])


def compare(session: Session, learners: dict[str, list], templates: list[str] = ()) -> None:
    """Evaluate every learner (one per seed and title) and template on every dataset, print and keep the table."""
    handcrafted, columns = {}, {title: [{} for _ in seeds] for title, seeds in learners.items()}
    columns |= {template: [{}] for template in templates}
    progress, roles, counts = Progress("evaluating dataset"), {}, {}
    tests = session.test_sets()
    for number, test in enumerate(tests, 1):
        name = test.dataset.name
        roles[name] = test.dataset.role
        counts[name] = {"classes": len(test.dataset.classes), "images": len(test.dataset.test)}
        handcrafted[name] = test.handcrafted(test.dataset.template)
        for template in templates:
            columns[template][0][name] = test.handcrafted(template)
        for title, seeds in learners.items():
            for results, learner in zip(columns[title], seeds):
                results[name] = test.learnt(learner)
        progress.update(number, len(tests), name)
    print(report.table(roles, handcrafted, columns))
    for title, results in {"handcrafted": [handcrafted], **columns}.items():
        name = "".join(c if c.isalnum() else "-" for c in title).strip("-")
        files.write_json(session.out / "zeroshot" / f"{name}.json",
                         {"prompt": title, "accuracies": results, "counts": counts, "made_by": session.made_by})
