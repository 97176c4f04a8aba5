# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
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

import keras
import numpy as np
from IPython.display import IFrame, display

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
# The network is a plain Keras file; the run's `config.json` knows the classes and how images were normalised.

# %%
config = adam.config
network = keras.models.load_model(adam.folder / "model.keras")
picture = np.full((32, 32, 3), 200.0)  # a grey sheet with a red disk: put a picture of your own here, 32×32, 0..255
rows, columns = np.mgrid[:32, :32]
picture[(rows - 16) ** 2 + (columns - 16) ** 2 < 100] = (200, 30, 30)
mean, deviation = (np.array(config["normalization"][key]) for key in ("mean", "standard_deviation"))
logits = network.predict(((picture - mean) / deviation)[None], verbose=0)[0]
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for label in np.argsort(-probabilities)[:3]:
    print(f"{config['dataset']['classes'][label]}: {probabilities[label]:.1%}")

# %% [markdown]
# ## The page
#
# Of the published runs, which needs no training. `python reproduce_report.py` makes it from runs of your own.

# %%
# !{PYTHON} reproduce_report.py --page-only --output {OUTPUT}/page

# %%
IFrame(f"{OUTPUT}/page/report.html", width="100%", height=800)
