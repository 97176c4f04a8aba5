"""The notebook: the same as its script, and every cell of it runs."""

import pytest
from conftest import ROOT

jupytext = pytest.importorskip("jupytext", reason="needs jupytext: pip install -r requirements-dev.txt")
NOTEBOOK = ROOT / "notebooks" / "report.ipynb"


def test_the_notebook_is_its_script_and_keeps_no_outputs():
    notebook, script = jupytext.read(NOTEBOOK), jupytext.read(NOTEBOOK.with_suffix(".py"))
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert cells == [(cell.cell_type, cell.source) for cell in script.cells]
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
def test_every_cell_runs_on_synthetic_data(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install -r requirements-dev.txt")
    monkeypatch.setenv("REPORT_DATASET", "synthetic")
    monkeypatch.setenv("REPORT_OUTPUT", str(tmp_path))
    notebook = jupytext.read(NOTEBOOK)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=None, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum(str(output).count("data:image/png") for output in outputs) == 4 * 3  # figures of a run
    assert len(list(tmp_path.glob("synthetic/*/*/seed-0/metrics.json"))) == 4
    assert len(list(tmp_path.glob("explanations/*.png"))) == 1
    assert (tmp_path / "page" / "report.html").exists()
