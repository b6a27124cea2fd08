"""Serve a package over HTTP: upload images, and get labels, calibrated probabilities, sets and "unknown" as JSON.

Command: python -m pipeline.serve                                      the package in build/package, for this machine alone
         python -m pipeline.serve --model model.zip --port 8080        another package, on another port
         python -m pipeline.serve --model models:/shoes@champion       one from MLflow
         curl -F file=@shoe.jpg -F file=@bag.png localhost:8000/predict    files as a form
         curl -H 'Content-Type: image/jpeg' --data-binary @shoe.jpg localhost:8000/predict
Needs the extra `serve`: pip install -e '.[serve]'. The addresses are described at /docs, and in docs/serve.md.
"""

from collections.abc import Sequence

from pipeline.serving.command import need, parser, serve
from pipeline.stage.program import as_program


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve what the command line names until a signal comes."""
    options = parser("serve", __doc__).parse_args(arguments)
    need("serve")
    from pipeline.serving.app import add_root

    serve(options, add_root, "POST images to {url}/predict; {url}/docs describes it.")


if __name__ == "__main__":
    with as_program():
        main()
