"""The five operations of README.md in Python, against the server in the environment.

install_deb.sh runs this in another network, with an address, a token and a CA in the
variables MLOPS_WORKSPACE_....
"""

from mlops.workspace import WorkspaceError, WorkspaceManager


def main() -> None:
    manager = WorkspaceManager()
    created = manager.create_workspace(
        "remote", mlflow_experiment_id="17", metadata={"runs": 3}
    )
    assert created.project_name == "remote"
    assert manager.get_workspace("remote").metadata == {"runs": 3}
    manager.update_workspace_metadata("remote", metadata={"stage": "production"})
    found = manager.list_workspaces(filter="metadata.stage = production")
    assert [each.project_name for each in found] == ["remote"]
    try:
        manager.create_workspace("remote")
    except WorkspaceError as error:
        assert error.details["reason"] == "WORKSPACE_EXISTS", error
    else:
        raise AssertionError("created twice")
    manager.delete_workspace("remote", force=True)
    assert not manager.list_workspaces(filter="metadata.stage = production")
    try:
        WorkspaceManager(token="mlw_wrong").list_workspaces()
    except WorkspaceError as error:
        assert error.details["reason"] == "CREDENTIALS_INVALID", error
    else:
        raise AssertionError("a wrong token is accepted")


if __name__ == "__main__":
    main()
