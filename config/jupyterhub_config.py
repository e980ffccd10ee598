"""JupyterHub's entry. Everything stands in labwright.hub.configuration; what you set below it wins.

To change it, put your own jupyterhub_config.py beside your workbench.yaml. Another login than the embedded one:
    from labwright.hub.configuration import configure
    c = get_config()
    configure(c)
    c.JupyterHub.authenticator_class = "github"  # docs/how-to/admin.md has the rest
A service sees nothing of your shell's environment, so a client's secret comes from a file.
"""

from labwright.hub.configuration import configure

configure(get_config())  # noqa: F821 - JupyterHub puts it here
