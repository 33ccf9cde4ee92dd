"""Table 2 as one self-contained HTML page: the table coloured by gain, bars of gain, learning curves, settings."""
import json
import math
from html import escape
from pathlib import Path
from statistics import fmean

from mp.learners import METHODS
from mp.runtime.errors import DAMAGE, UserError
from mp.runtime.text import spread
from mp.settings import PARTS, in_words
from mp.store import promptfile, results
from mp.table.columns import Column, methods_of
from mp.table.read import Table
from mp.table.render import Rows, spans

STYLE = Path(__file__).with_name("page.css")
AXIS, HALF = 200, 66                         # of bars: where they begin, and how long they get
LEFT, BOTTOM, WIDE, HIGH = 34, 110, 266, 100   # of curves
Log = list[dict[str, float]]                 # a line per epoch


def html(table: Table, rows: Rows, notes: list[str]) -> str:
    """The page. Whatever came from a file or the command line is escaped."""
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    gains = [bars(table, column) for column in table.columns if column.baseline]
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in notes),
            f'<div class="wide">{table_html(table, rows)}</div>',
            "<h2>Gain of meta-prompts over handcrafted ones, all classes, points</h2>",
            "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
            f'<div class="panels">{"".join(gains)}</div>']
    plots = "".join(plots_of(table, method) for method in methods_of(table.columns))
    if plots:
        body += ["<h2>Meta-training</h2>", f'<div class="panels">{plots}</div>']
    body += listed("Settings", [escape(line) for line in settings_lines(table)])
    body += listed("Missing", [f"<code>{escape(command)}</code>" for command in table.missing])
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
            "<body>\n" + "\n".join(body) + "\n</body></html>\n")


def figure(content: str, height: int, about: str, caption: str) -> str:
    return (f'<figure><svg viewBox="0 0 310 {height}" role="img" aria-label="{about}">{content}</svg>'
            f"<figcaption>{caption}</figcaption></figure>")


def listed(title: str, items: list[str]) -> list[str]:
    """A heading and a list; nothing without items."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return [f"<h2>{title}</h2><ul>{lines}</ul>"] if items else []


def table_html(table: Table, rows: Rows) -> str:
    groups = "".join(f'<th colspan="{columns}">{group}</th>' for group, columns in spans(table.columns))
    titles = "".join(f"<th>{column.title}</th>" for column in table.columns)
    lines = [f'<tr><th colspan="2"></th>{groups}</tr><tr><th></th><th></th>{titles}</tr></thead><tbody>']
    for (name, part), (shown, _, *texts) in zip(table.rows, rows):
        lines.append(f"<tr class=first><th>{escape(shown)}</th>" if part == PARTS[0] else "<tr><th></th>")
        lines.append(f'<td class="part">{part}</td>')
        for column, text in zip(table.columns, texts):
            gains = column.numbers(table.ours, name, part, gain=True) if column.baseline else []
            lines.append(f'<td style="{shade(gains)}">{escape(text)}</td>')
        lines.append("</tr>")
    return f"<table><thead>{''.join(lines)}</tbody></table>"


def shade(gains: list[float]) -> str:
    """Green for a gain, red for a loss, full at ten points."""
    if not gains:
        return ""
    mean = fmean(gains)
    colour = "up" if mean > 0 else "down"
    return f"background: rgba(var(--{colour}), {min(1, abs(mean) / 10) * 0.55:.2f})"


def bars(table: Table, column: Column) -> str:
    """A column's gains on all classes as horizontal bars: the training datasets, a gap, then the others."""
    gains = {}
    for name in table.roles:
        of_seeds = column.numbers(table.ours, name, "all", gain=True)
        gains[name] = fmean(of_seeds) if of_seeds else None
    scale = max([1.0, *(abs(gain) for gain in gains.values() if gain is not None)])
    drawn, y = [], 4
    for role in ("train", "test"):
        names = [name for name in gains if table.roles[name] == role]
        drawn += [bar(name, gains[name], scale, y + 16 * number) for number, name in enumerate(names)]
        y += 16 * len(names) + 8
    drawn.append(f'<line class="axis" x1="{AXIS}" x2="{AXIS}" y1="0" y2="{y - 8}"/>')
    return figure("".join(drawn), y, "gain per dataset", f"{column.group} {column.title}")


def bar(name: str, gain: float | None, scale: float, y: int) -> str:
    short = name if len(name) <= 16 else name[:15] + "…"
    label = f'<text x="84" y="{y + 10}" text-anchor="end">{escape(short)}</text>'
    if gain is None:
        return label
    width = abs(gain) / scale * HALF
    x, end, way, anchor = AXIS, AXIS + width + 3, "up", "start"
    if gain < 0:
        x, end, way, anchor = AXIS - width, AXIS - width - 3, "down", "end"
    return (f'{label}<rect class="{way}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="12"/>'
            f'<text class="soft" x="{end:.1f}" y="{y + 10}" text-anchor="{anchor}">{spread([gain], sign=True)}</text>')


def read_log(prompt: Path) -> Log:
    """Of the meta-training that made the prompt. Nothing if the log isn't there, not readable or of another one."""
    try:
        about = json.loads(prompt.with_name("settings.json").read_text(encoding="utf-8"))
        kept = promptfile.read_file(prompt)["identity"]
        if json.dumps(kept, sort_keys=True) != json.dumps(about["identity"], sort_keys=True):
            return []
        lines = [json.loads(line) for line in prompt.with_name("log.jsonl").read_text(encoding="utf-8").splitlines()]
        log = [{k: float(line[k]) for k in ("query_loss", "grad_norm", "clipped_norm")} for line in lines]
    except (UserError, *DAMAGE):
        return []
    finite = all(all(map(math.isfinite, line.values())) for line in log)
    return log if finite else []


def plots_of(table: Table, method: str) -> str:
    """Query loss, and the norm of G before and after clipping, over the epochs, a line per seed."""
    logs = [read_log(results.meta_prompt(table.out, method, seed)) for seed in table.seeds]
    logs = [log for log in logs if log]
    if not logs:
        return ""
    title = METHODS[method].title
    loss = plot(title, "query loss", logs, {"query_loss": "a"})
    norms = {"grad_norm": "b", "clipped_norm": "a"}
    return loss + plot(title, "‖G‖ before clipping (orange) and after (blue)", logs, norms)


def plot(title: str, what: str, logs: list[Log], styles: dict[str, str]) -> str:
    """`styles`: a log's key -> the class of its line."""
    curves = []
    for log in logs:
        for key, style in styles.items():
            curves.append((style, [line[key] for line in log]))
    top = max(max(values) for _, values in curves)
    bottom = min(min(values) for _, values in curves)
    last = max(map(len, logs))
    step, scale = WIDE / max(1, last - 1), HIGH / ((top - bottom) or 1)
    drawn = ['<path class="axis" d="M34 8V112H302"/>']
    for style, values in curves:
        heights = [BOTTOM - scale * (value - bottom) for value in values]
        corners = [f"{LEFT + step * i:.1f},{height:.1f}" for i, height in enumerate(heights)]
        drawn.append(f'<polyline class="{style}" points="{" ".join(corners)}"/>')
    for x, y, label in ((30, 14, f"{top:.3g}"), (30, 112, f"{bottom:.3g}"), (300, 124, f"epoch {last}")):
        drawn.append(f'<text class="soft" x="{x}" y="{y}" text-anchor="end">{label}</text>')
    return figure("".join(drawn), 128, what, f"{title}: {what}")


def settings_lines(table: Table) -> list[str]:
    """The settings of each method's meta-training and fine-tuning."""
    lines = []
    for method in methods_of(table.columns):
        try:
            kept = promptfile.read_file(results.meta_prompt(table.out, method, table.seeds[0]))
            lines.append(f"meta-training: {in_words(dict(kept['identity']['settings']))}")
        except (UserError, *DAMAGE):
            continue
    return lines + [f"fine-tuning: {in_words(kept)}" for kept in table.tuning.values()]
