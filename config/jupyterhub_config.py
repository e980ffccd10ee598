"""JupyterHub's entry. Everything stands in labwright.hub.configuration; what you set below it wins.

Another login than the embedded one, for example GitHub's:
    LABWRIGHT_AUTHENTICATOR=oauthenticator.github.GitHubOAuthenticator
    c.GitHubOAuthenticator.client_id = ...            # OAUTH_CLIENT_SECRET comes from the environment
    c.GitHubOAuthenticator.populate_teams_in_auth_state = True
"""

from labwright.hub.configuration import configure

configure(get_config())  # noqa: F821 - JupyterHub puts it here
