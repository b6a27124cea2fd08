"""Train the network: fit, stop early, keep the best weights, go on after a kill, log to MLflow.

Reads:   build/prepare/ (training and validation split) and build/augment/
Writes:  build/train/: `model.ckpt` (the best weights), `history.csv` (a row for each epoch), `signals.json` (what is measured
         once) and `run.json` (origin and outcome of the training)
Command: python -m pipeline.train                                       one training, as params.yaml says
         python -m pipeline.train model=convnet train.max_epochs=40     another
         python -m pipeline.train -m model.dropout=0,0.3 seed=1,2       a sweep: an MLflow run with a child for each job
         python -m pipeline.train train.devices=2                       in two processes, each on a GPU or a share of the CPU
         torchrun --nproc-per-node=2 -m pipeline.train train.devices=2  the same by torchrun; --nnodes=… on several machines
"""

import os

from pipeline.training.job import main

if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0":  # a follower of the process that leads
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        from pipeline.training.processes import follow_leader
        from pipeline.training.training import follow

        follow_leader(follow)
    else:
        from pipeline.stage.entry import run
        from pipeline.sweep.command import multirun
        from pipeline.tracking.sweep import sweep

        run("train", main, multirun(sweep))
