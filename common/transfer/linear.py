"""Linear classifiers of scikit-learn, as the weights of a network's last layer."""

import warnings
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from common.errors import UserError
from common.experiment import LinearClassifier

FOLDS = 3
CLASSIFIERS = {
    "svm": lambda seed: LinearSVC(dual=True, max_iter=20, random_state=seed),
    "logistic": lambda seed: LogisticRegression(max_iter=200, tol=1e-3),
}


class _Scaler(StandardScaler):
    """Standardises, but a feature that hardly varies only as if it varied by a tenth of the usual.

    The weight of such a feature would have no bound, nor would the gradient of a fine-tuning that begins with it.
    """

    def fit(self, features, labels=None):
        super().fit(features)
        self.scale_ = np.maximum(self.scale_, np.median(self.scale_) / 10)
        return self


def fit_classifier(
    classifier: LinearClassifier, features: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Kernel float32 (features, classes), bias (classes,), and the C that cross-validation chose.

    Features are standardised; the returned weights take them as they are.

    Args:
        classifier: "svm" (one against the rest) or "logistic" (multinomial), and the C to choose from.
        features: float (images, features).
        labels: int (images,).

    Raises:
        UserError: a class has fewer than ``FOLDS`` images.
    """
    if (fewest := np.bincount(labels).min()) < FOLDS:
        raise UserError(
            f"a class has {fewest} training images, too few for cross-validation with {FOLDS} folds; "
            "change --limit or --validation-fraction"
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # The optimum lies in the span of the images. Of few images, coordinates in it are fewer than features; of many,
    # finding them would take longer than it saves.
    span = PCA() if 2 * len(features) < features.shape[1] else "passthrough"
    pipeline = Pipeline([("scaler", _Scaler()), ("span", span), ("classifier", CLASSIFIERS[classifier.kind](seed))])
    search = GridSearchCV(pipeline, {"classifier__C": classifier.grid}, cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation sees how good it is
        search.fit(np.asarray(features, np.float32), labels)
    scaler, span, best = (step for _, step in search.best_estimator_.steps)
    coefficients, intercept = best.coef_, best.intercept_
    if span != "passthrough":
        coefficients = coefficients @ span.components_
    if len(coefficients) == 1:  # two classes share one line
        coefficients, intercept = (np.concatenate([-each, each]) / 2 for each in (coefficients, intercept))
    kernel = coefficients.T / scaler.scale_[:, None]
    bias = intercept - scaler.mean_ @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32), {"C": best.C}
