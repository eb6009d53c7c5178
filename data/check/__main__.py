"""Read every image of a data root, report problems, suggest settings: python -m data.check DATAROOT."""

import os
import shlex
from collections.abc import Iterable, Sequence

from data.check.facts import examine_all
from data.check.survey import PHASE, Survey
from data.image_folder import list_images
from util.cli import OneLineParser, run
from util.notices import tell
from util.types import natural


def main(argv: Sequence[str]) -> int:
    """Check a folder; returns 1 if something is wrong with it."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("dataroot", help="a data root as train.py takes it, or any folder of images")
    parser.add_argument("--num_threads", type=natural, default=os.cpu_count(), help="processes that read")
    parser.add_argument("--show", type=natural, default=20, help="files to list of each kind of problem; 0 lists all")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    paths = list_images(opt.dataroot)
    facts, errors = examine_all(paths, opt.num_threads)
    survey = Survey(opt.dataroot, facts)
    findings = {**({"that can't be read": [str(error) for error in errors]} if errors else {}), **survey.findings()}
    for line in report(survey, findings, opt.show or None):
        tell(line)
    return int(bool(findings or survey.lacking()))


def report(survey: Survey, findings: dict[str, list[str]], show: int | None) -> Iterable[str]:
    """What there is, what is wrong with it, and a command line that fits."""
    yield from survey.describe()
    for kind, lines in findings.items():
        yield from ("", f"{len(lines)} images {kind}:", *(f"  {line}" for line in lines[:show]))
        if len(lines) > len(lines[:show]):
            yield f"  and {len(lines) - len(lines[:show])} more; --show 0 lists all"
    yield ""
    if not findings:
        yield "no problem found"
    if survey.layout == "colorization":
        yield "these are no pairs as pix2pix needs them: strips {A|B} twice as wide as high, or trainA/ and trainB/"
    if survey.layout == "single" and PHASE.fullmatch(survey.root.resolve().name):
        yield f"to train, check the folder above: {survey.root.resolve().parent}"
    if survey.lacking():
        yield survey.lacking()
    elif survey.domains:
        yield f"python {shlex.join(survey.settings())}"


if __name__ == "__main__":
    run(main)
