import importlib.util
import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_pack_loads_many_times_faster_than_jpegs(capsys):
    path = Path(__file__).with_name("loading.py")
    spec = importlib.util.spec_from_file_location("loading", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--quick"])
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["ratio_warm"] >= 10
