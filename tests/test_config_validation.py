from pathlib import Path

from pipeline.config import validation
from pipeline.config.composition import compose

ROOT = Path(__file__).resolve().parents[1]


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    hard = [
        "tracking.tags={a: '1e-4', b: 'null', c: '\\${seed}'}",
        "regularization.l1=1e-5",
        "data.source='ñ, \\'x\\''",
    ]
    config = compose(ROOT / "conf", ROOT / "params.yaml", hard)
    assert config.tracking.tags == {"a": "1e-4", "b": "null", "c": "${seed}"}
    path = tmp_path / "config.yaml"
    path.write_text(validation.as_yaml(config))
    assert validation.load(path) == config
