"""Repeat one request for some seconds, with wrk or, where it is not installed, in Python."""

import http.client
import re
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class LoadResult:
    """Requests per second, and the median and 99th percentile of the latency in milliseconds."""

    rate: float
    p50: float
    p99: float


def drive(
    port: int, path: str, headers: dict[str, str], *, connections: int, seconds: int
) -> LoadResult:
    """Repeat a GET on concurrent connections; raise RuntimeError if wrk reports a failure."""
    if shutil.which("wrk"):
        return _drive_wrk(port, path, headers, connections, seconds)
    return _drive_python(port, path, headers, connections, seconds)


def _drive_wrk(
    port: int, path: str, headers: dict[str, str], connections: int, seconds: int
) -> LoadResult:
    command = ["wrk", "--latency", "-t1", "--timeout", "10s", f"-c{connections}", f"-d{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True
    ).stdout
    errors = re.search(r"(Non-2xx or 3xx responses|Socket errors).*", output)
    if errors:
        raise RuntimeError(f"{path}: {errors[0]}")
    [rate] = re.findall(r"Requests/sec:\s+([\d.]+)", output)
    return LoadResult(float(rate), _percentile(output, "50"), _percentile(output, "99"))


def _percentile(output: str, percentile: str) -> float:
    [(number, unit)] = re.findall(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s)", output, re.MULTILINE)
    return float(number) * _MILLISECONDS[unit]


def _drive_python(
    port: int, path: str, headers: dict[str, str], connections: int, seconds: int
) -> LoadResult:
    latencies: list[float] = []

    def repeat() -> None:
        end = time.monotonic() + seconds
        while (started := time.monotonic()) < end:
            conn = http.client.HTTPConnection("127.0.0.1", port)
            conn.request("GET", path, headers=headers)
            conn.getresponse().read()
            conn.close()
            latencies.append((time.monotonic() - started) * 1e3)

    threads = [threading.Thread(target=repeat) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    percentiles = statistics.quantiles(latencies, n=100)
    return LoadResult(len(latencies) / seconds, percentiles[49], percentiles[98])
