"""Plugins of the fixtures, compiled."""
import os
import subprocess

from . import waxwing


def build(folder, package="evil"):
    """Compiles a plugin of `tests/fixtures/evil` as the tests of the sandbox do; the path to the component."""
    manifest = os.path.join(waxwing.REPOSITORY, "tests", "fixtures", "evil", "Cargo.toml")
    command = ["cargo", "run", "--quiet", "--package", "waxwing-builder", "--example", "component", "--", manifest, folder, package]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=waxwing.REPOSITORY)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    file = os.path.join(folder, f"{package}.wasm")
    os.chmod(file, 0o644)
    return file
