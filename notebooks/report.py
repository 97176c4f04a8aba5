# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The image classification report, in a notebook
#
# One experiment of each exercise through the suite's scripts, its figures, a prediction for one picture, and the page
# that puts every result beside the report's. `DATASET = "synthetic"` needs no download and takes minutes on two cores;
# `"real"` downloads CIFAR-100 and the birds, and is best on a GPU.

# %%
import os
import sys
from pathlib import Path

from IPython.display import IFrame, display
from PIL import Image, ImageDraw

DATASET = os.environ.get("REPORT_DATASET", "synthetic")
REPOSITORY = ""  # on Colab: the address to clone the suite from

if "google.colab" in sys.modules and REPOSITORY:
    # !git clone --depth 1 {REPOSITORY} suite
    os.chdir("suite")
    # !pip install --quiet -r requirements.txt
while not Path("reproduce_report.py").exists() and Path.cwd() != Path.cwd().parent:
    os.chdir("..")
sys.path.insert(0, os.getcwd())

from common import train  # noqa: E402

PYTHON = sys.executable
OUTPUT = os.environ.get("REPORT_OUTPUT", "results")
IS_SYNTHETIC = DATASET == "synthetic"
SMALL = {"dataset": "synthetic", "epochs": 2, "limit": 30} if IS_SYNTHETIC else {}
BIRDS = {"dataset": "synthetic", "epochs": 2, "weights": None} if IS_SYNTHETIC else {}

# %% [markdown]
# ## One experiment of each exercise
#
# Keyword arguments are the flags of the command line: `python ex1_basenet.py --variant adam` is the same run as the
# first. A finished run is not trained again; an interrupted one goes on. What comes back holds the history and the
# metrics as dictionaries, and shows its numbers and its figures.

# %%
adam = train("ex1_basenet", "adam", output=OUTPUT, **SMALL)
display(adam)

# %%
train("ex2_improvements", "depth", output=OUTPUT, **SMALL)

# %%
train("ex3_resnet_birds", "linear", output=OUTPUT, **BIRDS)

# %%
train("bonus_residual", "residual", output=OUTPUT, **SMALL)

# %% [markdown]
# ## What a trained network says of a picture
#
# `predict.py` prepares a picture as the run's training did. Put one of your own in the place of this one: a grey sheet
# with a red disk.

# %%
picture = Image.new("RGB", (320, 320), (200, 200, 200))
ImageDraw.Draw(picture).ellipse((60, 60, 260, 260), fill=(200, 30, 30))
picture.save(Path(OUTPUT) / "picture.png")
# !{PYTHON} predict.py {adam.folder} {OUTPUT}/picture.png --explain --output {OUTPUT}/explanations

# %%
display(*(Image.open(path) for path in Path(OUTPUT).glob("explanations/*.png")))

# %% [markdown]
# ## The page
#
# Of the published runs, which needs no training. `python reproduce_report.py` makes it from runs of your own.

# %%
# !{PYTHON} reproduce_report.py --page-only --output {OUTPUT}/page

# %%
IFrame(f"{OUTPUT}/page/report.html", width="100%", height=800)
