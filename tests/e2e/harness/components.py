"""Plugins of the fixtures, compiled, and variants of them with other contents."""
import os
import subprocess

from . import waxwing


def build(folder, name="evil"):
    """Compiles a plugin of the fixtures as the tests of the sandbox do; the path to the component in `folder`."""
    manifest = os.path.join(waxwing.REPOSITORY, "tests", "fixtures", "evil", "Cargo.toml")
    command = ["cargo", "run", "--quiet", "--package", "waxwing-builder", "--example", "component", "--", manifest, folder, name]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=waxwing.REPOSITORY)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    file = os.path.join(folder, f"{name}.wasm")
    os.chmod(file, 0o644)
    return file


def write_variant(component, number, path):
    """The component with a custom section that nobody reads: another content that does the same. It takes the place of `path` at once."""
    text = b"\x07variant" + number.to_bytes(4, "little")
    with open(component, "rb") as file:
        octets = file.read()
    with open(path + ".new", "wb") as file:
        file.write(octets + b"\x00" + bytes([len(text)]) + text)
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)
