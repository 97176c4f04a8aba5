"""Commands of the suite, each in a child that is forked once TensorFlow is imported; at a file call it ends or fails.

    LD_PRELOAD=file_calls.so python tests/crash/commands.py FOLDER

Reads a line of JSON for each command from standard input, ``{"argv": [...], "end_at": N, "error": E, "log": PATH}``,
and answers with ``{"code": ..., "calls": ..., "stdout": ..., "stderr": ...}``. N is a call's number, or 0: the command
comes to its end. E is the errno with which that call and those after it fail, or 0: SIGKILL ends the process before it.
"""

import ctypes
import json
import os
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from common import cli, tensorflow_setup  # noqa: E402

tensorflow_setup.configure(threads=1)  # before the forks, each of which would take seconds for it

from common import run, sweep  # noqa: E402, F401


def carry_out(argv: list[str]) -> int:
    script, *sys.argv[1:] = argv
    sys.argv[0] = script
    return cli.main(import_module(script.removesuffix(".py")).EXERCISE)


def main() -> None:
    calls = ctypes.CDLL(None)
    for line in sys.stdin:
        command = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as counted:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    calls.arm(sys.argv[1].encode(), command["end_at"], command["error"], command["log"].encode())
                    code = carry_out(command["argv"])
                    sys.stdout.flush()
                    counted.write(str(calls.counted()).encode())
                    counted.flush()
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            texts = []
            for file in (out, err, counted):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            answer = {"code": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}
            print(json.dumps({**answer, "calls": int(texts[2] or 0)}), flush=True)


if __name__ == "__main__":
    main()
