"""Whatever comes in, there is a value or an error of ours: a few cases of each kind here, thousands in the slow tests.

``python -m tests.fuzz --target lists --seconds 3600`` looks for more.
"""

import subprocess
import sys

import pytest
from conftest import ROOT
from fuzz import TARGETS
from fuzz.harness import fuzz

FEW = 30


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_input_gives_a_value_or_an_error_of_ours(target):
    assert fuzz(TARGETS[target], FEW) >= len(TARGETS[target].found) + FEW // 2


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_minute_of_hostile_input(target):
    command = [sys.executable, "-m", "tests.fuzz", "--target", target, "--seconds", "60"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and " executions" in result.stdout, result.stdout + result.stderr[-5000:]
