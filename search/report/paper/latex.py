"""Text as LaTeX: what others wrote is shown as it is, and never run.

`pdflatex` with its first fonts knows ASCII. An accented letter becomes a letter and its accent,
some signs have a command of their own, and any other is shown by its number.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from trainer.terminal import one_line

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "'": "'{}",  # two of them are another sign, as are two of the next ones
    "`": "`{}",
    "-": "{-}",
    "/": r"/\allowbreak{}",
    "\u00a0": "~",
    "\u00a7": r"\S{}",
    "\u00b0": r"\ensuremath{^\circ}",
    "\u00b1": r"\ensuremath{\pm}",
    "\u00b5": r"\ensuremath{\mu}",
    "\u00b7": r"\textperiodcentered{}",
    "\u00d7": r"\ensuremath{\times}",
    "\u00c6": r"\AE{}",
    "\u00d8": r"\O{}",
    "\u00df": r"\ss{}",
    "\u00e6": r"\ae{}",
    "\u00f8": r"\o{}",
    "\u0131": r"\i{}",
    "\u0141": r"\L{}",
    "\u0142": r"\l{}",
    "\u0152": r"\OE{}",
    "\u0153": r"\oe{}",
    "\u2013": "--",
    "\u2014": "---",
    "\u2018": "`{}",
    "\u2019": "'{}",
    "\u201c": "``{}",
    "\u201d": "''{}",
    "\u2020": r"\dag{}",
    "\u2026": r"\dots{}",
    "\u2192": r"\ensuremath{\rightarrow}",
    "\u2212": r"\ensuremath{-}",
    "\u2264": r"\ensuremath{\leq}",
    "\u2265": r"\ensuremath{\geq}",
}
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
"""Letters by LaTeX's names, which but for one are Unicode's."""


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    return unicodedata.lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


SIGNS |= {_greek(name): rf"\ensuremath{{\{name}}}" for name in GREEK.split()}
ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}


class Tex(str):
    """Text that is LaTeX already."""


def escape(value: Any) -> Tex:
    """Return a value as LaTeX that shows its text in one line; LaTeX of ours stays as it is."""
    if isinstance(value, Tex):
        return value
    return Tex("".join(map(_sign, unicodedata.normalize("NFC", one_line(value)))))


def _sign(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    if sign.isascii() and sign.isprintable():
        return sign
    letter, *marks = list(unicodedata.normalize("NFD", sign))
    if len(marks) == 1 and letter.isascii() and letter.isalpha() and marks[0] in ACCENTS:
        return f"{ACCENTS[marks[0]]}{{{letter}}}"
    return rf"\texttt{{U+{ord(sign):04X}}}"


def code(value: Any) -> Tex:
    """Return a name or a hash in typewriter letters; a long one may be broken anywhere."""
    words = re.findall(r".{1,8}", one_line(value))
    return Tex(r"\texttt{" + r"\allowbreak{}".join(map(escape, words)) + "}")


def capital(text: str) -> str:
    """Return words as a sentence begins."""
    return text[:1].upper() + text[1:]


def listed(values: Iterable[Any]) -> Tex:
    """Return values as `a, b and c`."""
    *first, last = [escape(value) for value in values] or [Tex("none")]
    return Tex(f"{', '.join(first)} and {last}" if first else last)


def table(
    caption: Tex, label: str, columns: str, head: Sequence[Any], *parts: Sequence[Sequence[Any]]
) -> Tex:
    """Return a table with the rules of booktabs, which may go over several pages.

    Args:
        caption: Above it.
        label: To refer to it by.
        columns: As LaTeX has them, such as `llr`.
        head: The names of the columns.
        *parts: Rows, with a rule between two parts.
    """
    line = Tex(r" \\" + "\n")
    body = f"{line}\\midrule\n".join(line.join(map(_cells, part)) for part in parts if part)
    return Tex(
        "\\begingroup\\footnotesize\n"
        "\\setlength{\\LTcapwidth}{\\linewidth}\\setlength{\\tabcolsep}{4pt}\n"
        f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n"
        f"\\caption{{{caption}}}\\label{{{label}}}{line}\\toprule\n"
        f"{_cells(head)}{line}\\midrule\n\\endfirsthead\n"
        f"\\toprule\n{_cells(head)}{line}\\midrule\n\\endhead\n"
        f"\\bottomrule\n\\endfoot\n{body}{line}"
        "\\end{longtable}\n\\endgroup\n"
    )


def _cells(row: Sequence[Any]) -> str:
    return " & ".join(escape(cell) for cell in row)


def filled_in(template: str, /, **values: Any) -> str:
    r"""Return a template's text; every value is escaped that is not LaTeX of ours.

    LaTeX is full of braces, so it is `<< value >>` and `<% if %>` here, and `<# remark #>`.

    Args:
        template: Its name beside this file.
        **values: By the names that it uses.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("search.report.paper", ""),
        undefined=StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # HTML's
        finalize=escape,
    )
    return environment.get_template(template).render(values)
