"""Cure a training: diagnose it, try what is prescribed, keep what proves better on fresh seeds, and repeat until it fits.

Reads what `conf/` and `params.yaml` say, as a training does, and the section `cure`. Each round diagnoses the champion on some
seeds, tries the prescriptions in several strengths, and compares the best one with the champion on fresh seeds, paired, on
the confirm split, which nothing else reads. Stops at a good fit, when nothing helps, when the budget is spent, and at
once where the data are at fault. Writes `multirun/cure/<time>/`: `index.html`, `rounds.json`, `params.patch` where something
was adopted, and a folder for each training. A training that has been run before is taken from `build/cache`.

    python -m pipeline.cure experiment=overfit_small                 cure a training that overfits
    python -m pipeline.cure cure.max_minutes=60 cure.max_runs=200    with a larger budget
    python -m pipeline.cure --apply                                  write what was adopted into params.yaml
    python -m pipeline.cure --resume multirun/cure/…                 resume a cure that was stopped
    python -m pipeline.cure hydra/launcher=submitit_slurm            on a cluster
"""

import os
from collections.abc import Sequence

from pipeline.artefacts.rounds import RoundsRecord
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.lab import conclusion, output
from pipeline.lab.cure_loop import CureLoop
from pipeline.lab.session import Session, argument_parser, open_session
from pipeline.page import cure as page
from pipeline.stage import lineage, signals
from pipeline.stage.entry import run_job
from pipeline.storage import atomic
from pipeline.training import job as training_job

COMMAND = "cure"
APPLY = "cure.apply=true"


def finish(session: Session, loop: CureLoop) -> None:
    """Write the page, the rounds and the patch, print the result, and apply the patch where the user asked for it."""
    rounds = conclusion.rounds_record(loop)
    patch, params = conclusion.patch(session, loop)
    suspects = conclusion.suspects(session.trainings, rounds)
    contents = {"index.html": _page(session, loop, rounds, suspects, patch), rounds.FILE: rounds.to_json()}
    if rounds.adopted:
        contents["params.patch"] = patch
    session.write(contents, tags={"goodfit.ended": rounds.reason})
    output.print_result(rounds, patch)
    if suspects is not None:
        print(f"{suspects.sentence()}. The page shows the surest ones.")
    if rounds.adopted and loop.settings.apply:
        _apply(session, params)
    session.print_location("index.html")


def _page(
    session: Session, loop: CureLoop, rounds: RoundsRecord, suspects: conclusion.Suspects | None, patch: str
) -> str:
    results = page.CureResults(
        rounds=rounds,
        config=loop.config.model_dump(),
        headline=output.headline(rounds),
        worth_of_data=output.worth_of_data(rounds),
        patch=patch,
        command=session.command_line(),
        suspects=None if suspects is None else page.Suspects(
            suspects.sentence(), suspects.images, suspects.audit.labels, suspects.audit.predicted,
            suspects.audit.confidence, suspects.classes,
        ),
        curves=conclusion.curves(session.trainings, rounds),
    )  # fmt: skip
    return page.render(results)


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
    train = run_job("train", training_job.main)
    unrecorded = [APPLY] if options.apply else []
    with open_session(
        COMMAND, options.overrides, options.resume, train, check=_check, unrecorded=unrecorded
    ) as session:
        loop = CureLoop(session)
        loop.run()
        finish(session, loop)


def _check(config: Config) -> None:
    if config.prepare.confirm_fraction == 0:
        raise ConfigError(
            "prepare.confirm_fraction must be above 0, as a change is confirmed on images that chose nothing; got 0."
        )
    settings = config.cure
    if settings.max_runs < settings.seeds:
        raise ConfigError(
            f"cure.max_runs must allow the cure.seeds={settings.seeds} trainings of a diagnosis; got {settings.max_runs}."
        )


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signals.listen()
    with signals.messages():
        main()
