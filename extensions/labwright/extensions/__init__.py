"""The Jupyter server extension: a thin, authenticated door from the browser to core and data."""
