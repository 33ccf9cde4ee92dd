"""The subcommands of run.py, one file each; options.py makes the command line, values.py reads what is given there."""
import gc
import importlib

from data.errors import DataError
from mp.commands import options
from mp.runtime.errors import UserError
from mp.runtime.processes import processes

SHARED = ("meta", "table")  # the commands whose work several processes share out


def run(arguments: list[str], about: str) -> None:
    """Parse the command line and call its command. Raises UserError for bad input, RunError for a run that failed."""
    args = options.parse(arguments, about)
    rank, world = processes()
    if world > 1 and args.command not in SHARED:
        raise UserError(f"{args.command}: every process would do the same; torchrun is for {' and '.join(SHARED)}; "
                        f"without it, unset RANK ({rank}) and WORLD_SIZE ({world}) in the environment")
    module = importlib.import_module(f"mp.commands.{args.command}")  # after parsing: --help needn't wait for torch
    if not gc.isenabled():  # as run.py starts: what was imported stays, and is never looked through for garbage
        gc.freeze()
        gc.enable()
    try:
        module.command(args)
    except DataError as e:
        raise UserError(str(e)) from None
