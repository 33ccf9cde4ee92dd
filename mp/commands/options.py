"""The command line. Options that are settings are made from the fields of mp/settings.py."""
import argparse
import os
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from mp.commands.values import at_home, number, path, positive, read_names, up_to
from mp.learners import DEFAULT_METHOD, METHODS
from mp.learners.settings import of_row
from mp.runtime.errors import UserError
from mp.settings import OUT, PARTS, FinetuneSettings, MetaSettings, PromptSettings, flag


PROCESSES = up_to(64, "a number of processes", 1)  # what --jobs takes


class Parser(argparse.ArgumentParser):
    """Raise errors of the command line as one line, as all others are."""

    def error(self, message: str) -> None:
        raise UserError(f"{message}; see: python {self.prog} --help")


def add_settings(parser: Parser, kind: type) -> None:
    """Add the method, and an option for every field made by `setting`. Commands read them by `given_settings`."""
    add_method(parser)
    sources = []
    for method, row in METHODS.items():
        if row.source:
            sources.append(f"The paper has none for {method}: {row.source}.")
    group = parser.add_argument_group("settings (defaults: the paper's section 4.2)", " ".join(sources))
    for field in setting_fields(kind):
        about = f"{field.metadata['about']} (default: {shown_default(field, kind)})"
        if field.type is bool:
            group.add_argument(flag(field.name), action="store_true", default=None, help=about)
        else:
            read = number if field.type is float else field.type
            group.add_argument(flag(field.name), type=read, help=about)


def setting_fields(kind: type) -> list[Field]:
    """Return the fields that are options: those that `setting` made, and neither the method nor the seed."""
    return [field for field in fields(kind) if field.metadata]


def shown_default(field: Field, kind: type) -> str:
    """Return a setting's default in words: the field's, and each method's whose row in METHODS has another."""
    if field.type is bool:
        return "off"
    shown = [] if field.default is MISSING else [str(field.default)]
    for method in METHODS:
        value = of_row(kind, method).get(field.name)
        if value is not None:
            shown.append(f"{method} {value:.4g}")
    return ", ".join(shown) or "none"


def given_settings(kind: type, args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given on the command line, by name; those that weren't are None there."""
    values = {field.name: getattr(args, field.name, None) for field in setting_fields(kind)}
    return {name: value for name, value in values.items() if value is not None}


def method_of(args: argparse.Namespace, file: Any = None) -> str:
    """Return what --method says, else a prompt file's own method, else the usual one. Raises UserError if --method says
    another one than the file's."""
    method = args.method or (file.method if file else DEFAULT_METHOD)
    if file and file.method != method:
        raise UserError(f"{file.path}: made for --method {file.method}, not {method}; give that method, or another "
                        "file")
    return method


# Options that commands share

def add_method(parser: Parser) -> None:
    parser.add_argument("--method", choices=list(METHODS),
                        help=f"prompt learner (default: of a prompt file its own, else {DEFAULT_METHOD})")


def add_inputs(parser: Parser, images: bool = True, datasets: bool = True) -> None:
    """Add the options of what a command reads; `images`: whether it reads any, `datasets`: whether it evaluates."""
    add = parser.add_argument_group("weights and data").add_argument
    add("--data", type=path, default=os.environ.get("MP_DATA") or None, metavar="DIR",
        help="folder of the eleven datasets in CoOp's layout (default: $MP_DATA, else the embedded miniature)")
    add("--weights", type=path, metavar="FILE",
        help="CLIP's weights (default: OpenAI's ViT-B/16, fetched once; the miniature's own)")
    if images:
        add("--workers", type=up_to(1024, "a number of threads"), metavar="N",
            help="threads that read images (default: one a core, at most 8)")
        add("--tasks", type=at_home, nargs="+", metavar="NAME",
            help="meta-train on these, in whatever order (default: Table 1's six); also folders; with the same "
                 "--tasks, --prompt meta, --init meta and table mean what was learnt from them")
    if datasets:
        add("--datasets", type=at_home, nargs="+", metavar="NAME",
            help="evaluate on these only (default: all); also a folder with one sub-folder of images per class")


def add_machine(parser: Parser) -> None:
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", default="auto", choices=["auto", "fp32", "tf32", "bf16", "fp16"],
        help="fp32; tf32 matrix products; or tf32 and half precision where no gradient is needed "
             "(default: fp32 on the CPU, fp16 on CUDA)")
    add("--memory", type=positive, metavar="GIB", help="what one pass may keep for its gradient; more is computed in "
        "parts, as far as it can be, with the same result (default: half of the GPU's memory; 2 on the CPU)")


def add_experiment(parser: Parser) -> None:
    """Add the options of every command that computes accuracies."""
    add_inputs(parser)
    add = parser.add_argument_group("how and where to").add_argument
    add("--seeds", type=up_to(2**32 - 1, "a seed"), nargs="+", default=[1], metavar="S",
        help="one run for each; tables show mean ± sd")
    add("--out", type=path, default=Path(OUT), metavar="DIR", help=f"where results go (default: {OUT})")
    add("--force", action="store_true", help="compute again what is already there")
    add_machine(parser)


# The commands

def add_data(parser: Parser) -> None:
    parser.add_argument("--check", action="store_true", help="open every image once and list the unreadable ones")
    add_inputs(parser)


def add_meta(parser: Parser) -> None:
    add_settings(parser, MetaSettings)
    add_experiment(parser)


def add_zeroshot(parser: Parser) -> None:
    parser.add_argument("--prompt", type=at_home, nargs="+", default=["handcrafted"], metavar="P",
                        help='handcrafted, meta, a prompt FILE, or words such as "an image of a {}."')
    add_settings(parser, PromptSettings)
    add_experiment(parser)


def add_predict(parser: Parser) -> None:
    parser.add_argument("images", type=at_home, nargs="+", metavar="IMAGE",
                        help="image files, and folders: the images in them and in their sub-folders, sorted; before "
                             "the options")
    names = parser.add_argument_group("class names", "one of these").add_mutually_exclusive_group(required=True)
    names.add_argument("--names", nargs="+", metavar="NAME", help='such as: --names cat dog "polar bear"')
    names.add_argument("--names-from", dest="names", type=read_names, metavar="FILE",
                       help="a text file with a name a line")
    names.add_argument("--names-of", dest="datasets", type=at_home, nargs=1, metavar="DATASET",
                       help="one of the suite's, or a folder with one sub-folder of images per class")
    parser.add_argument("--prompt", type=at_home, default="handcrafted", metavar="P",
                        help='handcrafted ("a photo of a {}.", or of --names-of the dataset\'s own), meta (what '
                             '`run.py meta` learnt with --method and seed 1), a prompt FILE, or words such as "an '
                             'image of a {}." (default: handcrafted)')
    add_method(parser)
    parser.add_argument("--out", type=path, default=Path(OUT), metavar="DIR",
                        help=f"where `run.py meta` left what --prompt meta means (default: {OUT})")
    parser.add_argument("--top", type=up_to(10**6, "a number of classes", 1), default=5, metavar="N",
                        help="how many classes of each image, the most probable first (default: 5)")
    parser.add_argument("--format", choices=["text", "json", "csv"], default="text",
                        help="json: an object a line (image, and classes with class and probability); csv: a line for "
                             "each class (image, rank, class, probability) (default: text)")
    add_inputs(parser, datasets=False)
    add_machine(parser)


def add_finetune(parser: Parser) -> None:
    parser.add_argument("--init", type=at_home, default="handcrafted", metavar="I",
                        help="handcrafted, meta or a prompt FILE")
    add_settings(parser, FinetuneSettings)
    add_experiment(parser)


def add_table(parser: Parser) -> None:
    add = parser.add_argument
    add("--run", action="store_true", help="compute every missing cell first")
    add("--absolute", action="store_true", help="per cent in all columns instead of gains")
    add("--jobs", type=PROCESSES, metavar="N", help="with --run, processes that share the work (default: one)")
    add("--paper", action="store_true", help="the paper's value beside each cell, ! where it differs by over a point")
    add("--format", choices=["text", "markdown", "csv", "html"], default="text", help="default: text")
    add("--to", type=path, metavar="FILE", help="write it there instead of printing it")
    add("--classes", choices=PARTS, default="base", help="of fine-tuning (default: base)")
    others = [method for method, row in METHODS.items() if row.source]
    add("--methods", nargs="+", choices=list(METHODS), default=[], metavar="M",
        help=f"also these methods' columns, beside the paper's: {', '.join(others)}")
    add_experiment(parser)


def add_claims(parser: Parser) -> None:
    add_method(parser)
    parser.add_argument("--only", nargs="+", choices=["a", "b", "c"], default=["a", "b", "c"], metavar="CLAIM",
                        help="a: meta-prompts against other prompts; b: clipping, and a regulator; c: what fine-tuning "
                             "leaves")
    parser.add_argument("--jobs", type=PROCESSES, metavar="N",
                        help="processes that share the work (default: one a core, at most 4; one on a GPU)")
    add_experiment(parser)


def add_show(parser: Parser) -> None:
    parser.add_argument("prompt", type=path, metavar="PROMPT",
                        help="a prompt file of this project, or a checkpoint of the method's own code")
    parser.add_argument("--export", type=path, metavar="FILE",
                        help="write it in the form that the method's own code loads")
    add_inputs(parser, images=False, datasets=False)


COMMANDS = {  # name -> the function that adds its options, and what it does
    "data": (add_data, "what is ready of weights and datasets, and what is missing, where it belongs and where to get "
             "it; ends with code 0 if all is ready"),
    "meta": (add_meta, "learn a meta-prompt (Algorithm 1) and compare it with the handcrafted prompt"),
    "zeroshot": (add_zeroshot, "accuracy of prompts as they are, beside the handcrafted ones"),
    "predict": (add_predict, "the most probable classes of any images, on standard output; of the images that can't be "
                "read, a line each on standard error, and code 1 at the end"),
    "finetune": (add_finetune, "fine-tune on few-shot images of each dataset, then evaluate"),
    "table": (add_table, "the paper's Table 2 from the results in --out, meta-prompts' columns as gains; with --run it "
              "computes what is missing"),
    "claims": (add_claims, "what each of the paper's claims comes to: differences over seeds, with confidence "
               "intervals; computes what is missing"),
    "show": (add_show, "what a prompt file is: method, settings, what made it, its shapes; how far it is from its "
             "start, the nearest words, norms of each layer"),
}


def build(about: str) -> Parser:
    parser = Parser("run.py", description=about, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))
    for name, (add_options, what) in COMMANDS.items():
        add_options(commands.add_parser(name, allow_abbrev=False, help=what, description=what))
    return parser


def parse(arguments: list[str], about: str) -> argparse.Namespace:
    """Raise UserError for what can't be parsed. A seed that is given twice counts once: it would feign agreement."""
    args = build(about).parse_args(arguments)
    if "seeds" in args:
        args.seeds = list(dict.fromkeys(args.seeds))
    return args
