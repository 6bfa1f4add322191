"""From training to monitoring within one project. Run it in any directory:

    pip install 'mlops-workspace[all]'
    python quickstart.py

It creates ./mlops/workspace/wine-quickstart, and can be run repeatedly.
"""

import joblib
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.client import MLOpsClient

PROJECT = "wine-quickstart"
PARAMETERS = {"C": 0.5, "max_iter": 200}


def main() -> None:
    client = MLOpsClient.from_project(PROJECT)
    data = load_wine(as_frame=True).frame
    train, test = train_test_split(
        data, test_size=0.4, random_state=0, stratify=data["target"]
    )

    version_data(client, data)
    with client.start_run(
        "training", description="Logistic regression on scikit-learn's wines"
    ):
        model = train_model(client, train, test)
    bento_tag = store_model(client, model)
    with client.start_run("monitoring"):
        monitor(client, train, test)
    print_status(client, bento_tag)


def version_data(client: MLOpsClient, data: pd.DataFrame) -> None:
    """Version the data: DVC keeps every version that is added.

    The push copies it to the remote, which is below the workspace by default.
    """
    data.to_csv(client.workspace.dvc_path / "wine.csv", index=False)
    added = client.dvc_add(client.workspace.dvc_path / "wine.csv")
    client.dvc_push()
    print(f"data:   wine.csv, version {added['md5']}")


def train_model(
    client: MLOpsClient, train: pd.DataFrame, test: pd.DataFrame
) -> LogisticRegression:
    """Train a model; log its parameters, metrics and itself to the MLflow run."""
    model = make_pipeline(StandardScaler(), LogisticRegression(**PARAMETERS))
    model.fit(train.drop(columns="target"), train["target"])
    predicted = model.predict(test.drop(columns="target"))
    metrics = {
        "accuracy": accuracy_score(test["target"], predicted),
        "f1": f1_score(test["target"], predicted, average="macro"),
    }
    client.log_params(PARAMETERS)
    client.log_metrics(metrics)
    print(
        f"run:    accuracy {metrics['accuracy']:.3f}, model {client.log_model(model)}"
    )
    return model


def store_model(client: MLOpsClient, model: LogisticRegression) -> str:
    """Store the model in BentoML's store under a new version, and build a bento.

    The bento serves the model.
    """
    joblib.dump(model, client.workspace.outputs_path / "wine.joblib")
    result = client.deploy_model(
        "outputs/wine.joblib", "wine_classifier", build_bento=True
    )
    print(f"model:  {result['tag']}")
    return result["bento_tag"]


def monitor(client: MLOpsClient, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """Compare wines as they arrive with the training data.

    In this example, Evidently finds the second batch stronger.
    """
    client.set_reference_data(train.drop(columns="target"))
    features = test.drop(columns="target")
    for name, current in {
        "as before": features,
        "stronger": features.assign(
            alcohol=features["alcohol"] + 2, proline=features["proline"] * 1.5
        ),
    }.items():
        drift = client.monitor_predictions(current)
        print(f"drift:  {name}: {', '.join(drift['drifted_columns']) or 'none'}")
    print(f"report: {drift['report_html']}")


def print_status(client: MLOpsClient, bento_tag: str) -> None:
    """Print the libraries' own counts, and how to view the results."""
    components = client.get_status(deep=True)["components"]
    runs, tracked = components["mlflow"]["runs"], components["dvc"]["tracked"]
    models, reports = (
        components["bentoml"]["models"],
        components["evidently"]["reports"],
    )
    print(
        f"status: {runs} runs, {tracked} tracked files, "
        f"{models} models, {reports} reports\n"
    )
    print(
        "Look at it:\n  mlflow ui --backend-store-uri "
        f"{client.workspace.mlflow_tracking_uri}"
    )
    print(f"  BENTOML_HOME={client.workspace.models_path} bentoml serve {bento_tag}")


if __name__ == "__main__":
    main()
