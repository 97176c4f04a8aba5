"""Transfer learning: pretrained weights, features on disk, linear classifiers, fine-tuning in stages."""
