"""Play a Dockerfile in plain folders: the few instructions that ours uses, each stage a chroot, no container engine.

It stops at anything it does not know, so that a Dockerfile cannot outgrow its check unnoticed. When all stages are
made, the last one is started as the image would be (its user, environment and command, in a network namespace of its
own), must pass its HEALTHCHECK, must end with status 0 when it is told to, and must have found a place for the history
of its calls. Used by scripts/check-dockerfile.sh.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK_UP = (
    "import fcntl, socket, struct;"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 1))"  # SIOCSIFFLAGS, IFF_UP
)


@dataclass
class Stage:
    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    )
    workdir: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def argv(self, command: list[str]) -> list[str]:
        """`command` inside: environment, directory and user as the instructions so far say."""
        inside = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        account = [] if self.user == "root" else [f"--userspec={self.user}:{self.user}"]
        return ["chroot", *account, str(self.root), "/usr/bin/env", "-i", *variables, "/bin/sh", "-c", inside]


def instructions(text: str) -> list[tuple[str, str]]:
    """(WORD, rest) of each instruction, comments dropped and continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if word
    ]


class Player:
    def __init__(self, context: Path, work: Path, bases: dict[str, Path], lent: dict[str, str]) -> None:
        self._context, self._work, self._bases, self._lent = context, work, bases, lent
        self._stages: dict[str, Stage] = {}
        self.stage: Stage | None = None

    def play(self, word: str, rest: str) -> None:
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            root = self._work / f"stage-{len(self._stages)}"
            subprocess.run(["cp", "-a", str(self._bases[image.strip()]), str(root)], check=True)
            self.stage = self._stages[name.strip() or str(len(self._stages))] = Stage(root)
            return
        stage = self.stage
        assert stage is not None, "the first instruction must be FROM"
        match word:
            case "RUN":
                argv = stage.argv(["/bin/sh", "-c", rest])
                argv[argv.index("-i") + 1 : argv.index("-i") + 1] = [f"{n}={v}" for n, v in self._lent.items()]
                subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
            case "COPY":
                self._copy(stage, shlex.split(rest))
            case "WORKDIR":
                stage.workdir = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(rest.partition("CMD ")[2])
            case "EXPOSE":
                pass
            case _:
                raise SystemExit(f"dockerfile.py: does not know {word}")

    def _copy(self, stage: Stage, parts: list[str]) -> None:
        source_root = self._context
        if parts[0].startswith("--from="):
            source_root = self._stages[parts.pop(0).removeprefix("--from=")].root
        *sources, target = parts
        into = target.endswith("/") or len(sources) > 1
        destination = stage.root / (Path(stage.workdir) / target).as_posix().lstrip("/")
        for source in sources:
            found = source_root / source.lstrip("/")
            if found.is_dir():  # its contents are copied, not the folder itself
                shutil.copytree(found, destination, symlinks=True, dirs_exist_ok=True)
            else:
                place = destination / found.name if into else destination
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)


def start(stage: Stage, seconds: float) -> None:
    """Run the image's command, wait for its health check, stop it."""
    run, check = stage.argv(stage.entrypoint + stage.command), stage.argv(stage.healthcheck)
    isolated = subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0
    if isolated:
        script = f"{shlex.quote(sys.executable)} -c {shlex.quote(LOOPBACK_UP)} && exec {shlex.join(run)}"
        run = ["unshare", "--net", "/bin/sh", "-c", script]
    else:
        print("dockerfile.py: no network namespace may be made here: port 5060 must be free", flush=True)
    node = subprocess.Popen(run)
    if isolated:
        check = ["nsenter", f"--net=/proc/{node.pid}/ns/net", *check]
    try:
        deadline = time.monotonic() + seconds
        while subprocess.run(check, check=False).returncode != 0:
            if node.poll() is not None:
                raise SystemExit(f"dockerfile.py: the image's command ended with {node.returncode}")
            if time.monotonic() > deadline:
                raise SystemExit(f"dockerfile.py: not healthy after {seconds:g} s")
            time.sleep(0.5)
        node.terminate()
        status = node.wait(30)
        if status != 0:
            raise SystemExit(f"dockerfile.py: ended with {status} when told to stop")
    finally:
        if node.poll() is None:
            node.kill()
            node.wait()
    outbox = stage.root / stage.environment["SIPBRIDGE_STATE"].lstrip("/") / "var" / "outbox"
    if not any(outbox.glob("*.outbox")):
        raise SystemExit(f"dockerfile.py: the node had no place for its history in {outbox}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", action="append", default=[], metavar="IMAGE=FOLDER")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--lend", action="append", default=[], metavar="NAME=VALUE", help="for the RUN steps only")
    arguments = parser.parse_args()
    lent = dict(text.split("=", 1) for text in arguments.lend)
    bases = {image: Path(folder) for image, _, folder in (text.partition("=") for text in arguments.base)}
    player = Player(arguments.dockerfile.resolve().parent, arguments.work, bases, lent)
    for word, rest in instructions(arguments.dockerfile.read_text()):
        print(f"dockerfile.py: {word} {rest[:100]}", flush=True)
        player.play(word, rest)
    assert player.stage is not None
    start(player.stage, seconds=30)
    print("dockerfile.py: every step ran; the node was healthy and stopped when told to")


if __name__ == "__main__":
    main()
