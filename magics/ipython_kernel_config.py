# Loads Labwright's magics in every kernel of this environment. `extra_extensions` rather than `extensions`: a person's
# own list in ~/.ipython replaces the latter and adds to neither.
c = get_config()  # noqa: F821 - given by traitlets
c.InteractiveShellApp.extra_extensions.append("labwright.magics")
