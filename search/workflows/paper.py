"""`segtune paper`: a study as LaTeX, in a folder that pdflatex can compile."""

from pathlib import Path

from search.report.paper.document import write_paper
from search.storage.studies import find_study
from trainer.files.new_folder import appearing, check_free


def paper(name: str, out: Path, *, runs: Path) -> None:
    """Write a study into a new folder, which appears whole or not at all.

    Args:
        name: Of the study, or its path.
        out: The folder.
        runs: The folder of all studies.

    Raises:
        ConfigError: There is no such study, none of its trials has reported, or `out` cannot be
            made.
        OSError: S3 does not answer, or the disk is full.
    """
    check_free(out)
    folder = find_study(name, runs)
    with appearing(out) as new:
        write_paper(folder, new)
    print(f"wrote      {out}")
    print(
        f"compile    cd {out} && pdflatex paper && bibtex paper && pdflatex paper && pdflatex paper"
    )
