"""The data sets, by what an exercise takes; the first of each kind is the one the report used.

A new data set is a file that makes a ``DataSet`` and its name here.
"""

from common.datasets.cifar import CIFAR10, CIFAR100
from common.datasets.cub200 import CUB200
from common.datasets.cub200_2011 import CUB200_2011
from common.datasets.folder import PHOTOGRAPH_FOLDER, SMALL_FOLDER
from common.datasets.synthetic import SYNTHETIC
from common.datasets.synthetic_birds import SYNTHETIC_BIRDS

DATASETS = {
    "small images": (CIFAR100, CIFAR10, SYNTHETIC, SMALL_FOLDER),
    "photographs": (CUB200, SYNTHETIC_BIRDS, CUB200_2011, PHOTOGRAPH_FOLDER),
}
