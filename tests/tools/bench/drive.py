"""Load on an address of this machine, and what it saw: wrk's word, or our own client's."""

import http.client
import re
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Seen:
    """Requests a second, and the median and 99th percentile in milliseconds."""

    rate: float
    p50: float
    p99: float


def drive(port: int, path: str, headers: dict[str, str], *, connections: int, seconds: int) -> Seen:
    """Asks one question over and over for so long."""
    if shutil.which("wrk"):
        return _drive_wrk(port, path, headers, connections, seconds)
    return _drive_ourselves(port, path, headers, connections, seconds)


def _drive_wrk(
    port: int, path: str, headers: dict[str, str], connections: int, seconds: int
) -> Seen:
    command = ["wrk", "--latency", "-t1", "--timeout", "10s", f"-c{connections}", f"-d{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True
    ).stdout
    errors = re.search(r"(Non-2xx or 3xx responses|Socket errors).*", said)
    if errors:
        raise RuntimeError(f"{path}: {errors[0]}")
    [rate] = re.findall(r"Requests/sec:\s+([\d.]+)", said)
    return Seen(float(rate), _percentile(said, "50"), _percentile(said, "99"))


def _percentile(said: str, which: str) -> float:
    [(number, unit)] = re.findall(rf"^\s+{which}%\s+([\d.]+)(us|ms|s)", said, re.MULTILINE)
    return float(number) * _UNITS[unit]


def _drive_ourselves(
    port: int, path: str, headers: dict[str, str], connections: int, seconds: int
) -> Seen:
    took: list[float] = []

    def ask() -> None:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            conn = http.client.HTTPConnection("127.0.0.1", port)
            conn.request("GET", path, headers=headers)
            conn.getresponse().read()
            conn.close()
            took.append((time.monotonic() - began) * 1e3)

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(took, n=100)
    return Seen(len(took) / seconds, cuts[49], cuts[98])
