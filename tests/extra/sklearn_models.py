"""Small models of scikit-learn, and the seeded or bundled data that they are fitted on.

Only lists what there is: exporting, running and judging is in `test_sklearn_models`. Data are f32
from the start, so that the source model sees the same numbers as the exported one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn import feature_extraction as extraction

Data = tuple[Any, Any]  # features (an array, or columns by name), targets


ARRAYS = {"zipmap": False}  # probabilities as an array, not as a map for each row
_NO_PROBABILITIES = {"linear-svc"}  # converters that do not know the option


@dataclass(frozen=True, eq=False)
class Case:
    """A model: `make` gives it unfitted, `data` what it is fitted on and asked about.

    options: what the converter is told. quick: part of the short test run. peer: whether
    onnxruntime is expected to give what the source gives. empty: whether the exported model can
    say what no rows give; some contain a Reshape to [0, -1] or a StringNormalizer.
    """

    name: str
    make: Callable[[], Any]
    data: Callable[[], Data]
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False
    peer: bool = True
    empty: bool = True


def _single(X: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(X, np.float32)


def flowers() -> Data:
    """Iris: 150 flowers, 4 lengths, 3 species."""
    X, y = datasets.load_iris(return_X_y=True)
    return _single(X), y


def two_flowers() -> Data:
    """Two species that overlap."""
    X, y = flowers()
    return X[50:], y[50:] - 1


def named_flowers() -> Data:
    X, y = flowers()
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


def digits() -> Data:
    """300 pictures of digits, 8 x 8, with whole numbers from 0 to 16."""
    X, y = datasets.load_digits(return_X_y=True)
    return _single(X[:300]), y[:300]


def patients() -> Data:
    """200 patients with 10 measurements and the progress of their diabetes."""
    X, y = datasets.load_diabetes(return_X_y=True)
    return _single(X[:200] * 10), y[:200]


def patients_twice() -> Data:
    X, y = patients()
    return X, np.stack([y, y[::-1] + X[:, 0]], 1)


def tags() -> Data:
    """Flowers with three yes-or-no tags each."""
    X, y = flowers()
    return X, np.stack([y == 0, X[:, 0] > 5.8, X[:, 1] > 3], 1).astype(int)


def gaps() -> Data:
    """Flowers of which a tenth of the numbers is missing."""
    X, y = flowers()
    X = X.copy()
    X[np.random.default_rng(7).random(X.shape) < 0.1] = np.nan
    return X, y


def patients_with_gaps() -> Data:
    """Numbers without ties, for what looks for neighbours."""
    X, y = patients()
    X[np.random.default_rng(8).random(X.shape) < 0.05] = np.nan
    return X, y


def counts() -> Data:
    X, y = digits()
    return np.floor(X), y


def words() -> Data:
    """Columns of texts."""
    random = np.random.default_rng(3)
    X = random.choice(["red", "green", "blue", "ünïcode", ""], (60, 3)).astype(object)
    return X, (X[:, 0] == "red").astype(int)


def numbers() -> Data:
    """Columns of whole numbers, as integers."""
    random = np.random.default_rng(4)
    return random.integers(-2, 4, (60, 3)), random.integers(0, 2, 60)


def sentences() -> Data:
    texts = [
        "the quick brown fox jumps over the lazy dog",
        "the dog sleeps",
        "a fox is no dog, and no dog a fox!",
        "brown bears sleep long",
        "quick quick slow",
    ]
    X = np.array(texts * 4, object).reshape(-1, 1)
    return X, np.array([0, 1, 0, 1, 0] * 4)


def table() -> Data:
    """Columns of numbers, some missing, and columns of texts: a model with two inputs."""
    random = np.random.default_rng(5)
    age, income = random.normal(40, 12, 80), random.lognormal(8, 1, 80)
    age[::9] = np.nan
    kinds = [random.choice(["red", "green", "blue"], 80), random.choice(["S", "M", "L"], 80)]
    columns = {
        "numbers": _single(np.stack([age, income], 1)),
        "kinds": np.stack(kinds, 1).astype(object),
    }
    return columns, (income > 3000).astype(int)


def _mixed() -> Any:
    number = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler()
    )
    kinds = preprocessing.OneHotEncoder(handle_unknown="ignore")
    columns = [("numbers", number, [0, 1]), ("kinds", kinds, [2, 3])]
    return pipeline.make_pipeline(
        compose.ColumnTransformer(columns), linear_model.LogisticRegression(max_iter=500)
    )


def _text_column(vectorizer: Any, model: Any) -> Any:
    """A vectorizer of the one column of texts, then a model."""
    return pipeline.make_pipeline(compose.ColumnTransformer([("text", vectorizer, 0)]), model)


def _stump(**given: Any) -> Any:
    return tree.DecisionTreeClassifier(max_depth=3, random_state=0, **given)


def _voting(**given: Any) -> Any:
    members = [("a", _stump()), ("b", naive_bayes.GaussianNB())]
    return ensemble.VotingClassifier(members, flatten_transform=False, **given)


def _classifiers() -> list[Case]:
    lm, en, nb = linear_model, ensemble, naive_bayes
    logistic = lm.LogisticRegression
    cases = [
        Case("logistic-two", logistic, two_flowers, quick=True),
        Case("logistic", lambda: logistic(max_iter=500), flowers, quick=True),
        Case("logistic-names", lambda: logistic(max_iter=500), named_flowers),
        Case("logistic-digits", lambda: logistic(max_iter=2000), digits),
        Case("logistic-cv", lambda: lm.LogisticRegressionCV(max_iter=500, cv=3), two_flowers),
        Case("ridge-classifier", lm.RidgeClassifier, flowers),
        Case("perceptron", lambda: lm.Perceptron(random_state=0), flowers),
        Case("passive-aggressive", lambda: lm.SGDClassifier(loss="hinge", random_state=1), flowers),
        Case("sgd-log", lambda: lm.SGDClassifier(loss="log_loss", random_state=0), flowers),
        Case("sgd-huber", lambda: lm.SGDClassifier(loss="modified_huber", random_state=0), flowers),
        Case("linear-svc", lambda: svm.LinearSVC(random_state=0), flowers),
        Case("svc-two", lambda: svm.SVC(), two_flowers),
        Case("svc", lambda: svm.SVC(), flowers),
        Case("svc-ovo", lambda: svm.SVC(decision_function_shape="ovo"), flowers),
        Case("svc-names", lambda: svm.SVC(), named_flowers),
        Case("svc-poly", lambda: svm.SVC(kernel="poly", degree=3, coef0=1.0), digits),
        Case("svc-linear", lambda: svm.SVC(kernel="linear"), digits),
        Case("svc-sigmoid", lambda: svm.SVC(kernel="sigmoid", gamma=0.02), flowers),
        Case("svc-sure-two", lambda: svm.SVC(probability=True, random_state=0), two_flowers),
        Case("svc-sure", lambda: svm.SVC(probability=True, random_state=0), flowers, quick=True),
        Case("svc-sure-digits", lambda: svm.SVC(probability=True, random_state=0), digits),
        Case("nu-svc", lambda: svm.NuSVC(nu=0.2), flowers),
        Case("nu-svc-sure", lambda: svm.NuSVC(probability=True, random_state=0, nu=0.2), flowers),
        Case("knn", lambda: neighbors.KNeighborsClassifier(5), flowers, quick=True),
        Case("knn-distance", lambda: neighbors.KNeighborsClassifier(5, weights="distance"), digits),
        Case("gaussian-nb", nb.GaussianNB, flowers),
        Case("bernoulli-nb", lambda: nb.BernoulliNB(binarize=4.0), digits),
        Case("multinomial-nb", nb.MultinomialNB, counts),
        Case("complement-nb", nb.ComplementNB, counts),
        Case("categorical-nb", nb.CategoricalNB, counts),
        Case("lda", discriminant_analysis.LinearDiscriminantAnalysis, flowers),
        Case("qda", discriminant_analysis.QuadraticDiscriminantAnalysis, flowers),
        Case("tree", _stump, flowers, quick=True),
        Case("tree-names", _stump, named_flowers),
        Case("tree-tags", _stump, tags),
        Case("extra-tree", lambda: tree.ExtraTreeClassifier(random_state=0), digits),
        Case("forest", lambda: en.RandomForestClassifier(20, random_state=0), digits, quick=True),
        Case("forest-two", lambda: en.RandomForestClassifier(9, random_state=0), two_flowers),
        Case("extra-trees", lambda: en.ExtraTreesClassifier(9, random_state=0), digits),
        Case("boosting", lambda: en.GradientBoostingClassifier(n_estimators=9), flowers),
        Case("boosting-two", lambda: en.GradientBoostingClassifier(n_estimators=9), two_flowers),
        Case("hist-boosting", lambda: en.HistGradientBoostingClassifier(max_iter=9), flowers),
        Case("hist-boosting-gaps", lambda: en.HistGradientBoostingClassifier(max_iter=9), gaps),
        Case("ada-boost", lambda: en.AdaBoostClassifier(n_estimators=9, random_state=0), flowers),
        Case("bagging", lambda: en.BaggingClassifier(_stump(), 5, random_state=0), flowers),
        Case("voting-soft", lambda: _voting(voting="soft"), flowers),
        Case("voting-hard", _voting, flowers),
        Case(
            "stacking",
            lambda: en.StackingClassifier([("a", _stump()), ("b", nb.GaussianNB())]),
            flowers,
        ),
        Case(
            "calibrated-sigmoid",
            lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(random_state=0), cv=2),
            flowers,
        ),
        Case(
            "calibrated-isotonic",
            lambda: calibration.CalibratedClassifierCV(nb.GaussianNB(), method="isotonic", cv=2),
            two_flowers,
        ),
        Case("one-vs-rest", lambda: multiclass.OneVsRestClassifier(logistic()), flowers),
        Case("one-vs-one", lambda: multiclass.OneVsOneClassifier(logistic()), flowers, empty=False),
        Case("multi-output", lambda: multioutput.MultiOutputClassifier(logistic()), tags),
        Case(
            "mlp",
            lambda: neural_network.MLPClassifier((12,), max_iter=300, random_state=0),
            flowers,
        ),
        Case(
            "mlp-two",
            lambda: neural_network.MLPClassifier(
                (6, 5), activation="tanh", max_iter=300, random_state=0
            ),
            two_flowers,
        ),
    ]
    plain = [c if c.name in _NO_PROBABILITIES else replace(c, options=ARRAYS) for c in cases]
    return [
        *plain,
        Case("zipmap", lambda: logistic(max_iter=500), flowers, quick=True),
        Case("zipmap-names", lambda: logistic(max_iter=500), named_flowers),
    ]


def _network(**given: Any) -> Any:
    return neural_network.MLPRegressor(random_state=0, **given)


def _regressors() -> list[Case]:
    lm, en = linear_model, ensemble
    rbf = gaussian_process.kernels.RBF
    return [
        Case("linear", lm.LinearRegression, patients, quick=True),
        Case("linear-several", lm.LinearRegression, patients_twice),
        Case("ridge", lm.Ridge, patients),
        Case("lasso", lm.Lasso, patients),
        Case("elastic-net", lm.ElasticNet, patients),
        Case("bayesian-ridge", lm.BayesianRidge, patients),
        Case("ard", lm.ARDRegression, patients),
        Case("huber", lambda: lm.HuberRegressor(max_iter=500), patients),
        Case("lars", lm.Lars, patients),
        Case("omp", lm.OrthogonalMatchingPursuit, patients),
        Case("sgd-regressor", lambda: lm.SGDRegressor(random_state=0), patients),
        Case("theil-sen", lambda: lm.TheilSenRegressor(random_state=0), patients),
        Case("ransac", lambda: lm.RANSACRegressor(random_state=0), patients),
        Case("poisson", lm.PoissonRegressor, patients),
        Case("gamma", lm.GammaRegressor, patients),
        Case("tweedie", lambda: lm.TweedieRegressor(power=1.5), patients),
        Case("quantile", lambda: lm.QuantileRegressor(alpha=0.01), patients),
        Case("linear-svr", lambda: svm.LinearSVR(random_state=0, C=100.0), patients),
        Case("svr", lambda: svm.SVR(C=100.0), patients, quick=True),
        Case("svr-poly", lambda: svm.SVR(kernel="poly", coef0=1.0, C=10.0), patients),
        Case("nu-svr", lambda: svm.NuSVR(C=100.0), patients),
        Case("knn-regressor", lambda: neighbors.KNeighborsRegressor(5), patients, quick=True),
        Case(
            "knn-regressor-distance",
            lambda: neighbors.KNeighborsRegressor(5, weights="distance", metric="manhattan"),
            patients,
        ),
        Case("tree-regressor", lambda: tree.DecisionTreeRegressor(max_depth=5), patients),
        Case("tree-several", lambda: tree.DecisionTreeRegressor(max_depth=5), patients_twice),
        Case(
            "forest-regressor",
            lambda: en.RandomForestRegressor(20, max_depth=6, random_state=0),
            patients,
            quick=True,
        ),
        Case("extra-trees-regressor", lambda: en.ExtraTreesRegressor(9, random_state=0), patients),
        Case("boosting-regressor", lambda: en.GradientBoostingRegressor(n_estimators=9), patients),
        Case(
            "hist-boosting-regressor",
            lambda: en.HistGradientBoostingRegressor(max_iter=9),
            patients,
        ),
        Case("ada-boost-regressor", lambda: en.AdaBoostRegressor(n_estimators=9), patients),
        Case("bagging-regressor", lambda: en.BaggingRegressor(lm.Ridge(), 5), patients),
        Case(
            "voting-regressor",
            lambda: en.VotingRegressor([("a", lm.Ridge()), ("b", svm.SVR())]),
            patients,
        ),
        Case(
            "stacking-regressor",
            lambda: en.StackingRegressor([("a", lm.Ridge()), ("b", svm.SVR())]),
            patients,
        ),
        Case(
            "multi-output-regressor",
            lambda: multioutput.MultiOutputRegressor(svm.SVR(C=10.0)),
            patients_twice,
        ),
        Case(
            "mlp-regressor",
            lambda: neural_network.MLPRegressor(
                hidden_layer_sizes=(9,), max_iter=500, random_state=0
            ),
            patients,
        ),
        Case(
            "gaussian-process",
            lambda: gaussian_process.GaussianProcessRegressor(rbf(1.0), alpha=1.0),
            patients,
        ),
        Case("pls", lambda: cross_decomposition.PLSRegression(3), patients_twice),
    ]


def _transformers() -> list[Case]:
    pre, dec = preprocessing, decomposition
    return [
        Case("standard-scaler", pre.StandardScaler, flowers),
        Case("min-max-scaler", pre.MinMaxScaler, flowers),
        Case("min-max-scaler-clip", lambda: pre.MinMaxScaler((0.2, 0.8), clip=True), flowers),
        Case("max-abs-scaler", pre.MaxAbsScaler, flowers),
        Case("robust-scaler", pre.RobustScaler, flowers),
        Case("normalizer-l1", lambda: pre.Normalizer("l1"), patients),
        Case("normalizer-l2", lambda: pre.Normalizer("l2"), patients),
        # onnxruntime divides by max(x), scikit-learn by max|x|
        Case("normalizer-max", lambda: pre.Normalizer("max"), patients, peer=False),
        Case("binarizer", lambda: pre.Binarizer(threshold=3.0), flowers),
        Case("power", pre.PowerTransformer, flowers),
        Case(
            "quantile-transformer",
            lambda: pre.QuantileTransformer(n_quantiles=20),
            flowers,
            empty=False,
        ),
        Case("bins", lambda: pre.KBinsDiscretizer(4, encode="ordinal"), flowers),
        Case("bins-one-hot", lambda: pre.KBinsDiscretizer(4, encode="onehot-dense"), flowers),
        Case("polynomial", lambda: pre.PolynomialFeatures(3), flowers),
        Case("kernel-centerer", pre.KernelCenterer, lambda: (flowers()[0][:4], None)),
        Case("one-hot-words", lambda: pre.OneHotEncoder(sparse_output=False), words, quick=True),
        Case("one-hot-numbers", lambda: pre.OneHotEncoder(sparse_output=False), numbers),
        Case(
            "one-hot-ignore",
            lambda: pre.OneHotEncoder(sparse_output=False, handle_unknown="ignore", drop=None),
            words,
        ),
        Case("one-hot-drop", lambda: pre.OneHotEncoder(sparse_output=False, drop="first"), numbers),
        Case("ordinal-words", pre.OrdinalEncoder, words),
        Case("ordinal-numbers", pre.OrdinalEncoder, numbers),
        Case("simple-imputer", impute.SimpleImputer, gaps),
        Case(
            "imputer-indicator",
            lambda: impute.SimpleImputer(strategy="most_frequent", add_indicator=True),
            gaps,
        ),
        Case("knn-imputer", lambda: impute.KNNImputer(n_neighbors=3), patients_with_gaps),
        Case("pca", lambda: dec.PCA(2), flowers, quick=True),
        Case("pca-whiten", lambda: dec.PCA(3, whiten=True), patients),
        Case("kernel-pca", lambda: dec.KernelPCA(2, kernel="rbf"), flowers),
        Case("incremental-pca", lambda: dec.IncrementalPCA(2), flowers),
        Case("truncated-svd", lambda: dec.TruncatedSVD(2, random_state=0), flowers),
        Case("select-best", lambda: feature_selection.SelectKBest(k=2), flowers),
        Case("variance", lambda: feature_selection.VarianceThreshold(0.3), flowers),
        Case(
            "union",
            lambda: pipeline.make_union(pre.StandardScaler(), dec.PCA(2)),
            flowers,
        ),
    ]


def _isolation() -> Any:
    return ensemble.IsolationForest(n_estimators=5, max_samples=32, random_state=0)


def _others() -> list[Case]:
    text = extraction.text
    return [
        Case("k-means", lambda: cluster.KMeans(3, n_init=2, random_state=0), flowers, quick=True),
        Case("mini-batch", lambda: cluster.MiniBatchKMeans(3, n_init=2, random_state=0), flowers),
        Case("mixture", lambda: mixture.GaussianMixture(3, random_state=0), flowers),
        Case("mixture-tied", lambda: mixture.GaussianMixture(3, covariance_type="tied"), flowers),
        Case(
            "mixture-bayesian",
            lambda: mixture.BayesianGaussianMixture(n_components=3, random_state=0, max_iter=500),
            flowers,
        ),
        Case("one-class", lambda: svm.OneClassSVM(nu=0.2), flowers),
        Case("isolation", _isolation, flowers),
        Case(
            "outlier-factor",
            lambda: neighbors.LocalOutlierFactor(5, novelty=True),
            flowers,
        ),
        Case("table", _mixed, table, ARRAYS, quick=True),
        Case(
            "tfidf",
            lambda: _text_column(text.TfidfVectorizer(), linear_model.LogisticRegression()),
            sentences,
            ARRAYS,
            quick=True,
            empty=False,
        ),
        Case(
            "word-pairs",
            lambda: _text_column(
                text.CountVectorizer(ngram_range=(1, 2)), linear_model.LogisticRegression()
            ),
            sentences,
            ARRAYS,
            empty=False,
        ),
        Case(
            "scaled-svc",
            lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
            flowers,
            ARRAYS,
        ),
    ]


CASES: tuple[Case, ...] = (*_classifiers(), *_regressors(), *_transformers(), *_others())
