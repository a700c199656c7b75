from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_an_index_of_made_rows_finds_them(tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed")
    words = [sys.executable, str(Path(__file__).parent / "approximate.py"), "--quick", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    record = json.loads(done.stdout)
    assert record["recall_at_10"] > 0.9 and record["index_mib"] < 4, record
