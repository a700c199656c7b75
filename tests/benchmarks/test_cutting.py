from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_cutting_keeps_up_with_reading_and_encoding(tmp_path):
    words = [sys.executable, str(Path(__file__).parent / "cutting.py"), "--quick", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    record = json.loads(done.stdout)
    # The whole is 0.65 at 10,000 tiles on an idle machine; opening and tables weigh more on few tiles.
    assert record["ratio"] > 0.3 and record["peak_mib"] < 800, record
