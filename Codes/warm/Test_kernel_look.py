"""While a template imports it looks like a kernel, and what a module keeps of that is the kernel's own later."""

import subprocess
import sys

CODE = """
import builtins, logging, sys
from ipykernel.kernelapp import IPKernelApp
from Codes.warm.kernel_look import Guise

class Thing: pass

guise = Guise()
with guise.worn():
    import __main__
    kept, ask, handler = get_ipython(), input, logging.StreamHandler()
    is_kernel = hasattr(kept, "kernel"), "IPKernelApp" in kept.config, type(kept).__name__, kept.__class__.__module__
    print("of the import")
    looks = is_kernel, hasattr(__main__, "__file__"), hasattr(sys, "ps1"), sys.stdout.isatty(), sys.argv[1]
    kept.events.register("post_run_cell", print)
    kept.display_formatter.formatters["text/html"].for_type(Thing, lambda thing: "<b>a thing</b>")
assert looks == ((True, True, "ZMQInteractiveShell", "ipykernel.zmqshell"), False, True, False, "-f"), looks
assert not hasattr(builtins, "get_ipython") and builtins.input is not ask and not hasattr(sys, "ps1")
assert sys.stdout is sys.__stdout__ and sys.modules["__main__"].__file__

app = IPKernelApp.instance()
with guise.becoming(app):
    app.initialize(["-f", sys.argv[1]])
shell = app.kernel.shell
assert print in shell.events.callbacks["post_run_cell"]
assert shell.display_formatter.format(Thing())[0]["text/html"] == "<b>a thing</b>"
assert kept.user_ns is shell.user_ns and handler.stream is sys.stderr and handler.stream.session is app.session
app.kernel._allow_stdin = False
try:
    ask("name? ")
except Exception as error:
    print(type(error).__name__, file=sys.__stdout__, flush=True)
app.close()
"""


def test_what_a_module_sees_is_a_kernel_and_what_it_keeps_is_the_real_one(tmp_path):
    (tmp_path / "script.py").write_text(CODE, "utf-8")
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "kernel.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "of the import" in ended.stdout and "StdinNotImplementedError" in ended.stdout
