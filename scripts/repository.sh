#!/bin/sh
# Make a git repository of a folder that was downloaded without one, as DVC's experiments need it. Called by `make run`; does
# nothing inside a repository.
set -eu
cd "$(dirname "$0")/.."

if ! command -v git >/dev/null 2>&1; then
    [ -n "$(sed -n 's/^ *no_scm *= *true$/yes/p' .dvc/config.local 2>/dev/null)" ] && exit 0
    printf '[core]\n    no_scm = true\n' >>.dvc/config.local
    echo "git is not installed: DVC runs without it, so \`dvc repro\` works and \`dvc exp run\` does not."
elif [ ! -e .git ] && ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git init --quiet
    git add --all
    git -c user.name=goodfit -c user.email=goodfit@localhost commit --quiet --message "Download goodfit"
    echo "This folder was no git repository: made it one, with all files as the first commit."
fi
