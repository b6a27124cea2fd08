"""Cure a training: diagnose it, try what is prescribed, keep what proves better on fresh seeds, and repeat until it fits.

Each round diagnoses the champion on some seeds, tries the prescriptions in several strengths, and compares the best one with
the champion on fresh seeds, paired, on the confirm split, which nothing else reads. Where that split has fewer than 100 images,
all of this is done on the folds of cross-validations, and no image outside of test is left aside. The cure ends at a good fit,
when nothing helps, when the budget is spent, and at once where the data are at fault.

Reads:   conf/, params.yaml, and the section `cure`, as a training does; trainings that have run before come from build/cache/
Writes:  multirun/cure/<time>/: `index.html`, `rounds.json`, `params.patch` where something was adopted, and a folder for each
         training
Command: python -m pipeline.cure experiment=overfit_small                 cure a training that overfits
         python -m pipeline.cure cure.max_minutes=60 cure.max_runs=200    with a larger budget
         python -m pipeline.cure --apply                                  write what was adopted into params.yaml
         python -m pipeline.cure --resume multirun/cure/…                 resume a cure that was stopped
         python -m pipeline.cure hydra/launcher=slurm                     on a cluster
"""

from collections.abc import Sequence

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.lab import conclusion, output
from pipeline.lab.cure_loop import CureLoop
from pipeline.lab.session import Session, argument_parser, open_session
from pipeline.page import cure as page
from pipeline.stage import lineage
from pipeline.stage.entry import run_job
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.training import job as training_job

COMMAND = "cure"
APPLY = "cure.apply=true"


def finish(session: Session, loop: CureLoop) -> None:
    """Write the page, the rounds and the patch, print the result, and apply the patch where the user asked for it."""
    rounds = conclusion.rounds_record(loop)
    patch, params = conclusion.patch(session, loop)
    suspects = conclusion.suspects(session, rounds)
    results = page.CureResults(
        dataset=DatasetRecord.read(lineage.locate("prepare", loop.config)).name,
        rounds=rounds, config=loop.config.model_dump(), headline=output.headline(rounds),
        worth_of_data=output.worth_of_data(rounds), patch=patch, command=session.command_line(),
        suspects="" if suspects is None else suspects.sentence(),
        picture=None if suspects is None else suspects.picture(), curves=conclusion.curves(loop, rounds),
    )  # fmt: skip
    contents = {"index.html": page.render(results), rounds.FILE: rounds.to_json()}
    if rounds.adopted:
        contents["params.patch"] = patch
    session.write(contents, tags={"goodfit.ended": rounds.reason})
    output.print_result(rounds, patch)
    if suspects is not None:
        print(f"{suspects.sentence()}. The page shows the surest ones.")
    if rounds.adopted and loop.settings.apply:
        _apply(session, params)
    session.print_location("index.html")


def _apply(session: Session, params: str) -> None:
    target = lineage.ROOT / "params.yaml"
    if target.read_text() != (session.source / "params.yaml").read_text():
        raise ConfigError(
            "params.yaml must be as it was when the cure began; it was changed. Apply "
            f"{session.folder / 'params.patch'} by hand."
        )
    atomic.write_text(target, params)
    print("written into params.yaml")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(COMMAND, __doc__, "the training to cure")
    parser.add_argument("--apply", action="store_true", help="write what was adopted into params.yaml")
    options = parser.parse_intermixed_args(arguments)
    train, apply = run_job("train", training_job.main), [APPLY] if options.apply else []
    with open_session(COMMAND, options.overrides, options.resume, train, check=_check, unrecorded=apply) as session:
        loop = CureLoop(session)
        loop.run()
        finish(session, loop)


def _check(config: Config) -> None:
    if config.prepare.confirm_fraction == 0 and config.cure.folds is None:
        raise ConfigError(
            "prepare.confirm_fraction must be above 0 with cure.folds=null, as a change is confirmed on images that chose "
            "nothing; got 0."
        )
    settings = config.cure
    if settings.max_runs < settings.seeds:
        raise ConfigError(
            f"cure.max_runs must allow the cure.seeds={settings.seeds} trainings of a diagnosis; got {settings.max_runs}."
        )


if __name__ == "__main__":
    with as_program():
        main()
