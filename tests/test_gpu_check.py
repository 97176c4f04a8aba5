"""The check for those who have a GPU, on the CPU."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_it_tells_sameness_finiteness_and_accuracy_of_every_way():
    command = [sys.executable, "benchmarks/gpu_check.py", "--network", "improved", "resnet50, frozen normalisation"]
    command += ["--precision", "float32", "float16", "--limit", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    header, line, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines()]
    assert header[2:6] == ["device", "seconds", "same bytes", "finite"] and len(line) == len(header)
    assert [row[1] for row in rows] == ["float32", "float16", "float32, not deterministic"] * 2
    for _, precision, device, seconds, same, finite, accuracy, on_cpu in rows:
        assert (device, finite) == ("CPU", "yes") and float(seconds) > 0
        assert same == "yes" or precision == "float32, not deterministic"
        assert 0 <= float(accuracy) <= 1
        if precision == "float32":
            assert accuracy == on_cpu


@pytest.mark.slow
def test_a_run_that_fails_is_in_the_table_and_in_the_exit_code():
    command = [sys.executable, "benchmarks/gpu_check.py", "--network", "improved", "--precision", "float32"]
    result = subprocess.run([*command, "--epochs", "0"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "error: argument --epochs: '0' is not a whole number from 1" in result.stdout
