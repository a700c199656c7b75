from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_exact_search_stays_near_its_bounds(tmp_path):
    words = [sys.executable, str(Path(__file__).parent / "search.py"), "--quick", "--cpu", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    record = json.loads(done.stdout)
    # Far from the figures of the full sizes: only a fall by a factor is a fault here.
    assert record["many_rate"] > 0.3 and record["ranking_rate"] > 0.4, record
    assert record["search_peak_mib"] < 512 and record["ranking_peak_mib"] < 512, record
