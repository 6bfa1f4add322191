"""The dashboard: live web pages of a server's projects.

`mlops dashboard` and WorkspaceManager.dashboard() run it; create_app() of `app` returns
its ASGI application. It needs the extra `dashboard`.

One gRPC connection (link) and one watch (live) serve all browsers. Pages are rendered
here, and small events update them. Names, metadata and files are hostile: templates
escape all text, and no page allows inline scripts or styles.
"""
