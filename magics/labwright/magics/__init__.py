"""IPython magics. Loaded in every kernel without an import (etc/ipython/ipython_kernel_config.py of the environment).

`load_ipython_extension` registers each magic by name and imports its module at first use, so that a kernel starts
no slower for having them.
"""

from __future__ import annotations

from labwright.magics.registry import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]
