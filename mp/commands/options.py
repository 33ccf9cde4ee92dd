"""The command line: every option, its default, and where the paper says so."""
import argparse
import math
import os
from pathlib import Path

from mp.runtime.errors import UserError


class Parser(argparse.ArgumentParser):
    """Errors in one line, as of everything else."""

    def error(self, message: str) -> None:
        raise UserError(f"{message}; see: python {self.prog} --help")


def number(text: str) -> float:
    """Also a fraction, as the paper prints its α: 0.025/6."""
    top, _, bottom = text.partition("/")
    try:
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def up_to(limit: int, what: str):
    """A type of option: a whole number from 0 to the limit."""
    def whole(text: str) -> int:
        if not text.isdecimal() or len(text) > 20 or int(text) > limit:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}, 0 to {limit}")
        return int(text)

    return whole


def positive(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", default="auto", choices=["auto", "fp32", "tf32", "bf16", "fp16"],
        help="fp32; tf32 matrix products; or tf32 and half precision where no gradient is needed "
             "(default: fp32 on the CPU, fp16 on CUDA)")
    add("--memory", type=positive, metavar="GIB", help="what one pass may keep for its gradient; more is computed in "
        "parts, with the same result (default: half of the GPU's memory; 2 on the CPU)")


def parse(arguments: list[str], about: str) -> argparse.Namespace:
    args = build(about).parse_args(arguments)
    if "seeds" in args:
        args.seeds = list(dict.fromkeys(args.seeds))  # the same one twice would feign agreement
    return args


def build(about: str) -> Parser:
    parser = Parser("run.py", description=about, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    inputs = Parser(add_help=False, allow_abbrev=False)
    add = inputs.add_argument_group("weights and data").add_argument
    add("--data", type=Path, default=os.environ.get("MP_DATA") or None, metavar="DIR",
        help="folder of the eleven datasets in CoOp's layout (default: $MP_DATA, else the embedded miniature)")
    add("--weights", type=Path, metavar="FILE",
        help="CLIP's weights (default: OpenAI's ViT-B/16, fetched once; the miniature's own)")
    add("--datasets", nargs="+", metavar="NAME",
        help="evaluate on these only (default: all); also a folder with one sub-folder of images per class")
    add("--workers", type=up_to(1024, "a number of processes"), metavar="N",
        help="processes that read images (default: one a core, at most 8)")
    common = Parser(add_help=False, allow_abbrev=False, parents=[inputs])
    add = common.add_argument_group("how and where to").add_argument
    add("--seeds", type=up_to(2**32 - 1, "a seed"), nargs="+", default=[1], metavar="S",
        help="one run for each; tables show mean ± sd")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="where results go (default: runs)")
    add_machine(common)
    add("--force", action="store_true", help="compute again what is already there")
    methods = dict(choices=["coop", "cocoop", "promptsrc"], default="promptsrc")
    commands = parser.add_subparsers(dest="command", required=True, metavar="data | meta | zeroshot | finetune | table | bench")

    data = commands.add_parser("data", parents=[inputs], allow_abbrev=False, help="what is ready, and what is missing",
                               description="Say of the weights and every dataset whether it is ready, or what is missing, "
                                           "where it belongs and where to get it. Ends with code 0 if all is ready.")
    data.add_argument("--check", action="store_true", help="open every image once and list the unreadable ones")

    meta = commands.add_parser("meta", parents=[common], allow_abbrev=False, help="learn a meta-prompt (Algorithm 1)",
                               description="Learn a meta-prompt by Algorithm 1 and compare it with the handcrafted one.")
    meta.add_argument("--method", **methods, help="prompt learner (default: promptsrc)")
    add = meta.add_argument_group("settings (defaults: the paper's section 4.2)").add_argument
    add("--epochs", type=int, help="outer updates (paper: 200, miniature: 50)")
    add("--inner-steps", type=int, default=4, help="0: plain multi-task training (default: 4)")
    add("--inner-lr", type=number, help="α (default: 0.025/6; promptsrc 0.02/6)")
    add("--meta-lr", type=number, default=0.001, help="β (default: 0.001)")
    add("--clip-norm", type=number, default=5.0, help="γ (default: 5)")
    add("--shots", type=int, default=16, help="N images a class (default: 16)")
    add("--support", type=int, default=5, help="K of them for the support set (default: 5)")
    add("--batch", type=int, help="of an inner step (default: 32; cocoop 8)")
    add("--query-batch", type=int, default=-1, help="0: the whole query set; default: as --batch")
    add("--first-order", action="store_true", help="first-order MAML")
    add("--sum-tasks", action="store_true", help="sum over tasks instead of the mean")

    zeroshot = commands.add_parser("zeroshot", parents=[common], allow_abbrev=False, help="accuracy of a prompt as it is",
                                   description="Accuracy of prompts as they are, beside the handcrafted ones.")
    zeroshot.add_argument("--prompt", nargs="+", default=["handcrafted"], metavar="P",
                          help='handcrafted, meta, a prompt FILE, or words such as "an image of a {}."')
    zeroshot.add_argument("--method", **methods, help="of the meta-prompt (default: promptsrc)")

    tune = commands.add_parser("finetune", parents=[common], allow_abbrev=False, help="fine-tune on each dataset",
                               description="Fine-tune on few-shot images of each dataset, then evaluate.")
    tune.add_argument("--method", **methods, help="prompt learner (default: promptsrc)")
    tune.add_argument("--init", default="handcrafted", metavar="I", help="handcrafted, meta or a prompt FILE")
    add = tune.add_argument_group("settings (defaults: the paper's section 4.2)").add_argument
    add("--classes", choices=["base", "new", "all"], default="base", help="train on these classes (default: base)")
    add("--epochs", type=int, help="default: 200, 10, 20 for coop, cocoop, promptsrc")
    add("--lr", type=number, help="default: 0.002, 0.002, 0.0025")
    add("--batch", type=int, help="default: 32, 1, 4")
    add("--shots", type=int, default=16, help="images a class (default: 16)")
    table = commands.add_parser("table", parents=[common], allow_abbrev=False, help="the paper's Table 2 from the results",
                                description="Table 2 from the results in --out: meta-prompt columns as gains, as in the "
                                            "paper. What is missing is a dash, and the commands that fill it are named.")
    add = table.add_argument
    add("--run", action="store_true", help="compute every missing cell first, meta-training and the cheapest first")
    add("--absolute", action="store_true", help="per cent in all columns instead of gains")
    add("--paper", action="store_true", help="the paper's value beside each cell, ! where it differs by over a point")
    add("--format", choices=["text", "markdown", "csv", "latex", "html"], default="text", help="default: text")
    add("--to", type=Path, metavar="FILE", help="write it there instead of printing it")
    add("--classes", choices=["base", "new", "all"], default="base", help="of fine-tuning (default: base)")

    bench = commands.add_parser("bench", allow_abbrev=False, help="speed and memory on this machine",
                                description="Time and peak memory of each building block beside the plain way, and from "
                                            "them hours and memory for each column of Table 2 on this machine.")
    bench.add_argument("--weights", type=Path, metavar="FILE", help="CLIP's weights (default: random, of ViT-B/16's shape)")
    bench.add_argument("--blocks", nargs="+", metavar="WORD", default=[""],
                       help="only blocks whose title has one of these in it, such as 'text' or 'CoCoOp'")
    add_machine(bench)

    for command in (meta, tune, zeroshot):
        add = command.add_argument_group("shape of promptsrc's prompts").add_argument
        add("--depth", type=int, default=9, help="layers with prompts (default: 9, at most what the miniature has)")
        add("--length", type=int, default=4, help="vectors in each (default: 4)")
    return parser
