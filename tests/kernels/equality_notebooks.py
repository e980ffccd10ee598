"""The notebooks that must come out of the fork server as they come out of papermill."""

from __future__ import annotations

from importlib.util import find_spec

Cell = str | tuple[str, list[str]]

NOTEBOOKS: dict[str, list[Cell]] = {
    "trivial": ["x = 1", "x + 1", "print('done')"],
    "no_code": ["# Title only", "   ", ""],
    "print_and_result": ["print('a')\nprint('b', end='')\n'c'"],
    "stderr_and_stdout": ["import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('out again')"],
    "unicode": ["print('Grüße, 世界 🎉 \\u202e')", "'ß' * 3", "{'ключ': 'значение'}"],
    "last_expressions": ["1\n2", "None", "_ = 5\n_", "a = 3; a", "5;"],
    "history_variables": ["7 * 6", "_ + 1", "In[1], Out[1]", "_i2, _ih[1:]", "_oh"],
    "error_in_the_middle": ["a = 1", "def f(n):\n    return 1 / n\n\nf(0)", "print('never')"],
    "error_chain": ["try:\n    {}['k']\nexcept KeyError as e:\n    raise RuntimeError('outer') from e"],
    "syntax_error": ["x = 1", "def broken(:\n    pass"],
    "error_allowed": [("1 / 0", ["raises-exception"]), "print('goes on')"],
    "skipped_cell": ["x = 1", ("x = 2\nprint('skipped')", ["skip-execution"]), "x"],
    "custom_exception": [
        "class Odd(Exception):\n    def __str__(self): return 'very odd'\nraise Odd()",
    ],
    "system_exit": ["import sys\nsys.exit(3)", "print('never')"],
    "system_exit_zero": ["import sys\nsys.exit(0)", "print('never')"],
    "assertion": ["assert 1 == 2, 'arithmetic'"],
    "recursion": ["def f(n): return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e:\n    print(type(e))"],
    "html_and_rich": [
        "from IPython.display import HTML, Markdown, Latex, JSON, SVG, Javascript, display",
        "HTML('<b>bold</b>')",
        "display(Markdown('*hi*'), Latex('$x^2$'))\nJSON({'a': [1, 2]})",
        "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>'))\nJavascript('1+1')",
        "display({'text/plain': 'raw', 'application/x-mine+json': {'k': 1}}, raw=True, metadata={'m': 2})",
    ],
    "display_ids": [
        "from IPython.display import display\nh = display('one', display_id='d1')",
        "h.update('two')\ndisplay('again', display_id='d1')",
        "h.update('three')\nprint('updated')",
    ],
    "clear_output": [
        "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('stays')",
        "print('replaced'); clear_output(wait=True); print('new')",
        "print('also gone'); clear_output(wait=True)",
    ],
    "repr_methods": [
        "class R:\n    def _repr_html_(self): return '<i>r</i>'\n    def __repr__(self): return 'R()'\nR()",
        "class B:\n    def _repr_html_(self): raise ValueError('no html')\n    def __repr__(self): return 'B()'\nB()",
        "class M:\n    def _repr_mimebundle_(self, include=None, exclude=None): return {'text/x': 'm'}\nM()",
    ],
    "async_await": [
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 7",
        "await f()",
        "await asyncio.gather(f(), f())",
        "t = asyncio.create_task(f())\nprint(asyncio.get_running_loop().is_running())",
        "await t",
        "async def bad(): raise ValueError('async')\nawait bad()",
    ],
    "threads": [
        "import threading\ndef w(): print('from a thread')\n"
        "t = threading.Thread(target=w); t.start(); t.join(); print(t.name)",
        "def boom(): raise ValueError('x')\nimport concurrent.futures as c\n"
        "with c.ThreadPoolExecutor(2) as p: print(list(p.map(str, range(5))))",
    ],
    "thread_exception": [
        "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='worker'); t.start(); t.join()",
    ],
    "shell_magics": [
        "!echo hello",
        "files = !printf 'a\\nb\\n'\nfiles",
        "%%bash\necho in bash\necho to stderr >&2",
        "%%sh\nexit 0",
        "%%script sh --no-raise-error\nexit 4",
    ],
    "failing_cell_magic": ["%%bash\nexit 3"],
    "magics": [
        "%cd /\n%pwd",
        "%%capture out\nprint('hidden')",
        "out.stdout",
        "%env LABWRIGHT_X=5",
        "import os; os.environ['LABWRIGHT_X']",
        "a = 1; b = 'x'\n%who\n%whos",
        "%alias_magic t timeit",
        "%precision 3\n3.14159265",
        "%xmode Plain\n1/0",
    ],
    "unknown_magic": ["%nosuchmagic", "%%nosuchcellmagic\nx"],
    "writefile_and_run": [
        "%%writefile mod_eq.py\nvalue = 42\nprint('imported')",
        "import mod_eq; mod_eq.value",
        "%run mod_eq.py",
        "%load_ext autoreload\n%autoreload 2",
        "import os; os.remove('mod_eq.py')",
    ],
    "inspection": ["def f(a, b=2):\n    'Docs.'\n    return a", "f?", "f??", "?int.bit_length"],
    "multiprocessing_fork": [
        "import multiprocessing as mp\nctx = mp.get_context('fork')\ndef sq(x): return x * x",
        "with ctx.Pool(2) as p: print(p.map(sq, range(5)))",
        "p = ctx.Process(target=print, args=('from a fork',)); p.start(); p.join(); p.exitcode",
    ],
    "forks_that_go_on": [
        # Since 3.12 Python warns of forks beside threads, which every kernel has.
        "import os, sys, warnings\nwarnings.simplefilter('ignore')\nmain = os.getpid(); made = [os.fork()]",
        "os.getpid() == main",
        "made.append(os.fork())\nif os.getpid() != main: raise ValueError('in the fork')\n'no error'",
        "made.append(os.fork())\nif os.getpid() != main: sys.exit(3)\n'no end'",
        "made.append(os.fork())\nif os.getpid() != main: exit()\n'no exit'",
        "print(os.getpid() == main, len(made))",
    ],
    "kernel_object": [
        "ip = get_ipython()\ntype(ip).__name__, ip.kernel.implementation, 'IPKernelApp' in ip.config",
        "ip.kernel.language_info['name'], ip.execution_count, ip.has_trait('kernel')",
        "import sys; type(sys.stdout).__mro__[1].__name__ in ('OutStream', 'TextIOBase'), sys.stdout.isatty()",
        "sys.argv[1], len(sys.argv), __name__, sys.stdin.read()",
        "ip.config['IPKernelApp']['connection_file'].endswith('.json'), list(ip.config['IPKernelApp'])",
        "header = ip.kernel.get_parent()['header']; sorted(header), header['date'].tzinfo is not None",
        "ip.user_ns is globals(), sys.modules['__main__'].__dict__ is globals()",
        "input('name? ')",
    ],
    "stdin_refused": ["import getpass\ngetpass.getpass()"],
    "path_and_environment": [
        "import os, sys\nprint([p.replace(os.getcwd(), 'CWD') for p in sys.path])",
        "names = sorted(n for n in os.environ if n not in ('_', 'SHLVL', 'OLDPWD'))\nprint(names)",
        "print(os.environ['TERM'], os.environ['PAGER'], os.environ['MPLBACKEND'])",
        "print(oct(os.umask(0o022)), os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())",
        "import signal; print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))",
        "import locale; print(locale.getlocale(), sys.getfilesystemencoding(), sys.flags)",
        "print(sys.stdout.encoding, sys.stderr.encoding, sys.getrecursionlimit(), sys.gettrace())",
    ],
    "logging_and_warnings": [
        "import logging, warnings\nlogging.warning('careful')",
        "warnings.warn('old')",
        "logging.getLogger('x').error('bad')\nlogging.root.handlers[0].stream is __import__('sys').stderr",
    ],
    "big_outputs": ["for i in range(20000): print('line', i)", "'x' * 1_000_000", "list(range(5000))"],
    "carriage_returns": [
        "for i in range(5): print(f'\\r{i}', end='')\nprint()",
        "print('a\\bb\\x1b[31mred\\x1b[0m')",
    ],
    "deferred_writes": [
        "import time, sys\nfor i in range(3):\n    print(i); sys.stdout.flush()",
        "sys.stdout.write('w'); sys.stdout.writelines(['x', 'y'])",
        "print('after')",
    ],
    "numpy": ["import numpy as np\nnp.arange(12).reshape(3, 4)", "np.linspace(0, 1, 5)", "np.ones(3) / 0"],
    "numpy_matmul_threads": ["import numpy as np\na = np.ones((800, 800))\nfloat((a @ a).sum())"],
    "pandas": [
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2, 3], 'b': list('xyz')})\ndf",
        "df.describe()",
        "df.groupby('b').a.sum()",
        "df.style.highlight_max(subset=['a']).set_uuid('fixed')",
        "df['missing']",
    ],
    "matplotlib": [
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2, 3])",
        "plt.plot([3, 1]); plt.title('t'); plt.show()\nprint('after the figure')",
        "%matplotlib inline\nplt.bar(['a', 'b'], [1, 2])",
        "%config InlineBackend.figure_formats = ['svg']\nplt.rcParams['backend'], plt.rcParams['figure.figsize']",
    ],
    "sklearn_histgradient": [
        "from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier\n"
        "from sklearn.datasets import load_iris\nX, y = load_iris(return_X_y=True)",
        "m = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X, y)\nm.score(X, y)",
        "RandomForestClassifier(10, n_jobs=2, random_state=0).fit(X, y).score(X, y)",
        "from sklearn.model_selection import cross_val_score\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3).round(3)",
    ],
    "sklearn_html": ["from sklearn.linear_model import Ridge\nprint(Ridge())"],
    "pyarrow": [
        "import pyarrow as pa, pyarrow.compute as pc\nt = pa.table({'a': list(range(1000))})\nt.schema",
        "pc.sum(t['a']).as_py()",
        "import pyarrow.parquet as pq\npq.write_table(t, 'eq.parquet'); n = pq.read_table('eq.parquet').num_rows\n"
        "import os; os.remove('eq.parquet'); n",
    ],
    "polars": [
        "import polars as pl\npl.DataFrame({'a': [1, 2, 3]}).lazy().group_by('a').len().sort('a').collect()",
        "pl.select(pl.int_range(1_000_000).sum()).item()",
    ],
    "sqlite": [
        "import sqlite3\nc = sqlite3.connect(':memory:')\nc.execute('create table t (x)')\n"
        "c.executemany('insert into t values (?)', [(1,), (2,)])\nc.execute('select sum(x) from t').fetchall()",
    ],
    "ssl_and_hash": [
        "import ssl, hashlib\nssl.create_default_context().verify_mode",
        "hashlib.sha256(b'x').hexdigest()",
        "import secrets; len(secrets.token_hex(8))",
    ],
    "widgets": [
        "import ipywidgets as w\ns = w.IntSlider(value=3)\ns",
        "s.value = 8\nw.VBox([w.Label('l'), s])",
        "o = w.Output()\nwith o: print('inside')\no",
        "import time\nfrom IPython.display import display\nwith o: display('shown inside')\nprint('outside')",
        "p = w.FloatProgress(max=3)\nfor i in range(4): p.value = i",
    ],
    "widget_image_buffer": ["import ipywidgets as w\nw.Image(value=b'\\x89PNG' + bytes(range(64)), format='png')"],
    "tqdm": ["from tqdm.auto import tqdm\ntype(tqdm).__name__, tqdm.__module__"],
    "comms": [
        "from comm import create_comm\nc = create_comm(target_name='mine', data={'a': 1})\nc.send({'b': 2}); c.close()",
        "from ipykernel.comm import Comm",
    ],
    "atexit_and_files": [
        "import atexit\nf = open('eq-left-open.txt', 'w'); f.write('flushed at exit')\n"
        "atexit.register(lambda: open('eq-atexit.txt', 'w').write('ran'))\nNone",
    ],
    # What each of them holds is compared by itself.
    "files_left_open": [
        "class C: pass\nC.kept = open('eq-open-class', 'w'); C.kept.write('class')",
        "cycle = [open('eq-open-cycle', 'w')]; cycle.append(cycle); cycle[0].write('cycle')",
        "import builtins, json\nbuiltins.kept = open('eq-open-builtins', 'w'); builtins.kept.write('builtins')\n"
        "json.kept = open('eq-open-module', 'w+b'); json.kept.write(b'module')",
        "import signal\ndef handler(number, frame, kept=open('eq-open-handler', 'w')): pass\n"
        "handler.__defaults__[0].write('handler'); signal.signal(signal.SIGUSR1, handler); del handler",
        "import ctypes\nc = ctypes.CDLL(None); c.fopen.restype = ctypes.c_void_p\n"
        "c.fputs(b'stdio', ctypes.c_void_p(c.fopen(b'eq-open-stdio', b'w'))) >= 0",
        "last = open('eq-open-last', 'w'); last.write('last'); last",
    ],
    "garbage": [
        "class D:\n    def __del__(self): print('deleted')\nd = D()",
        "del d",
        "import gc; gc.isenabled()",
    ],
    "dataclass_and_typing": [
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(3)",
        "from typing import get_type_hints\nget_type_hints(P)",
        "import inspect\nprint(inspect.getsource(P))",
    ],
    "pickle_and_main": ["class K: pass\nimport pickle\ntype(pickle.loads(pickle.dumps(K()))) is K, K.__module__"],
    "exit_before_end": ["print('one')\nexit", "import time; time.sleep(2)", "print('never')"],
    "quit_in_last_cell": ["x = 1", "x"],
    "mlflow_import": ["import mlflow\nmlflow.__version__ > '3', mlflow.active_run()"],
    "postponed_prints": [
        "import threading, time\ndef later():\n    time.sleep(0.3)\n    print('late')\n"
        "t = threading.Thread(target=later); t.start()",
        "t.join(); print('joined')",
    ],
    "undecodable_text": ["import os\nname = os.fsdecode(b'caf\\xe9')\nprint(name)", "name", "raise ValueError(name)"],
    "closed_stream": [
        "import sys\nsys.stdout.close()",
        "sys.stdout.closed",
        "try: print('never')\nexcept ValueError as e: r = str(e)\nr",
    ],
    "closed_stream_of_subprocesses": [
        "import sys\nsys.stdout.close()",
        "import os\nos.system('head -c 1000000 /dev/zero')",
    ],
    "descriptor_taken_for_good": [
        "import os, time\nnull = os.open(os.devnull, os.O_WRONLY)\nos.dup2(null, 1); os.dup2(null, 2)",
        "used = time.process_time()\ntime.sleep(1)\ntime.process_time() - used < 0.5",
        "print('goes on')",
    ],
    "settings_over_cells": [
        "import numpy as np, decimal\nnp.set_printoptions(precision=2); np.seterr(all='raise')\n"
        "decimal.setcontext(decimal.Context(prec=5))",
        "np.array([1.23456]), decimal.Decimal(1) / 3",
        "import contextvars\nv = contextvars.ContextVar('v'); v.set(3)",
        "v.get('unset')",
        "np.ones(1) / 0",
    ],
    "other_tasks_cancelled": [
        "import asyncio\nfor task in asyncio.all_tasks() - {asyncio.current_task()}: task.cancel()",
        "await asyncio.sleep(0)\nprint('goes on')",
    ],
    "wide_frame": [
        "import numpy as np, pandas as pd\npd.DataFrame(np.zeros((2, 30)))",
        "pd.get_option('display.max_columns'), pd.get_option('display.width')",
    ],
    "backend_by_environment": [
        "import os\nos.environ['MPLBACKEND'] = 'agg'",
        "import matplotlib.pyplot as plt\nplt.plot([1]); plt.get_backend()",
    ],
    "threads_by_environment": [
        "%env OMP_NUM_THREADS=1\n%env OPENBLAS_NUM_THREADS=1",
        "import numpy, threadpoolctl\n[pool['num_threads'] for pool in threadpoolctl.threadpool_info()]",
    ],
    "picture_of_a_model": [
        "import pandas, mlflow\nfrom sklearn.linear_model import Ridge\nfrom sklearn.pipeline import make_pipeline",
        "make_pipeline(Ridge())",
    ],
}

# No dependency of ours: where somebody has installed it.
if find_spec("torch"):
    NOTEBOOKS["torch"] = [
        "import torch\ntorch.manual_seed(0)\nx = torch.randn(256, 4)\n"
        "y = x @ torch.tensor([1.0, -2.0, 3.0, 0.0])\nx[:2]",
        "net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))\nnet",
        "optimizer = torch.optim.Adam(net.parameters(), lr=0.01)\n"
        "for step in range(60):\n"
        "    optimizer.zero_grad()\n"
        "    loss = torch.nn.functional.mse_loss(net(x).squeeze(), y)\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        "    if step % 20 == 0: print(step, f'{loss.item():.3f}')",
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'\n"
        "big = torch.ones(1000, 1000, device=device)\ndevice, (big @ big).sum()",
        "pairs = torch.utils.data.TensorDataset(x, y)\n"
        "batches = torch.utils.data.DataLoader(pairs, batch_size=64, num_workers=2)\n"
        "sum(len(inputs) for inputs, _ in batches)",
        "torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.initial_seed()",
        "net(torch.zeros(3))",
    ]
