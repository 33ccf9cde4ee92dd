"""run.py claims: the paper's claims, each with the prompts and seeds that it takes to judge it."""
import os
from argparse import Namespace
from itertools import chain

from mp.commands.options import method_of
from mp.experiment import arms, places, shelf
from mp.experiment.arms import Arm, Results
from mp.experiment.jobs import do_all
from mp.experiment.session import Session, open_session
from mp.report import claims, findings
from mp.report.claims import Comparison
from mp.runtime.errors import UserError

MOST = 4  # processes: each has a CLIP, and memory for gradients


def command(args: Namespace) -> None:
    """Compute what is missing, and print a table and a sentence for each claim."""
    session, method = open_session(args, learns=True), method_of(args)
    best = best_wording(session, args) if "a" in args.only else ""
    rows = {claim: claims.comparisons(claim, method, best) for claim in args.only}
    wanted = []
    for comparison in chain.from_iterable(rows.values()):
        wanted += [comparison.ours, comparison.theirs]
    results = do_all(session, args, wanted, processes_for(session, args), leave_out=True)
    for claim, comparisons in rows.items():
        compared = findings.compare(comparisons, results.by_seed, session.suite.roles)
        notes = notes_of(session, results, comparisons) if claim == "b" else {}
        print(f"({claim}) {claims.TITLES[claim]}: {method}, seeds {' '.join(map(str, args.seeds))}\n")
        print(findings.table(compared, notes), end="\n\n")
        print(findings.sentence(compared, claims.SAID_OF[claim]), end="\n\n")
        if claim == "a":
            print(f'Of {len(claims.WORDINGS)} plain wordings, "{best}" is the best on the tasks of meta-training.\n')
    print(findings.EXPLAINED)


def best_wording(session: Session, args: Namespace) -> str:
    """Return the wording that does best on the datasets that are trained on, be they among --datasets or not."""
    wordings = {words: Arm(words=words) for words in claims.WORDINGS}
    results = do_all(session, args, wordings.values(), datasets=session.suite.training)
    return findings.best_wording({words: results.by_seed(arm)[None] for words, arm in wordings.items()})


def processes_for(session: Session, args: Namespace) -> int:
    """Return how many processes share the work: as --jobs says, else one a core, and one on a GPU."""
    usual = 1 if session.compute.device.type == "cuda" else min(MOST, os.cpu_count() or 1)
    return args.jobs or usual


def notes_of(session: Session, results: Results, rows: list[Comparison]) -> dict[str, str]:
    """Return what stands beside claim (b)'s rows, by their titles: over handcrafted prompts how large ‖G‖ got and how
    often it was clipped, over the regulator's prompt how large the regulator is."""
    notes = {}
    for row in rows:
        regulated = claims.regulated(row.ours.method)
        if row.theirs == regulated and (seeds := list(results.by_seed(regulated))):  # none if all diverged
            file = places.prompt_file(session, regulated, seeds[0])
            prompt, phi = (sum(p.numel() for p in params.values()) for params in (file.params, file.regulator))
            notes[row.title] = f"{phi:,} numbers more than the prompt's {prompt:,}"
        elif row.theirs == arms.HANDCRAFTED and (seeds := list(results.by_seed(row.ours))):
            clip_norm = arms.meta_settings(session.suite, row.ours, seeds[0]).clip_norm
            norms = [norm for seed in seeds for norm in norms_of(session, row.ours, seed)]
            share = sum(norm > clip_norm for norm in norms) / len(norms)
            notes[row.title] = f"‖G‖ up to {max(norms):.1f}, clipped in {share:.0%} of epochs"
    return notes


def norms_of(session: Session, arm: Arm, seed: int) -> list[float]:
    """Return ‖G‖ of every epoch of an arm's meta-training. Raises UserError if its log isn't whole."""
    folder = places.learnt_place(session, arm, seed).prompt.parent
    log = shelf.read_log(folder, arms.meta_settings(session.suite, arm, seed).epochs)
    if not log:
        raise UserError(f"{folder}: its log of meta-training isn't whole; delete the folder, and the same command "
                        "learns that meta-prompt again")
    return [line["grad_norm"] for line in log]
