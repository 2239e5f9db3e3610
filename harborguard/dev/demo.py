"""Demo data: generate Trivy, Grype and sensor reports from small tables.

The combinations are invented: which image has which vulnerabilities. The vulnerability ids, their
scores and the versions that fix them are real.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from itertools import chain, islice, product
from random import Random
from string import Template
from uuid import UUID

# Registry, number of names to use (0: all), languages (-: none, ?: one at random), and one or two
# lists of words whose combinations are the names.
_IMAGES: str = """
docker.io/library 0 - nginx,redis,postgres,mariadb,memcached,haproxy,httpd,rabbitmq,mongo,nextcloud
docker.io/library 0 - drupal,wordpress,varnish,mysql,couchdb,perl,php,bash,gcc,buildpack-deps,irssi
docker.io/library 0 go golang,traefik,caddy,vault,consul,registry,influxdb,telegraf,docker,nats
docker.io/library 0 java tomcat,maven,gradle,cassandra,solr,zookeeper,flink,sonarqube,jetty,groovy
quay.io/harbor-demo 0 go metrics,alerts,etcd,argo,certificates,dns,storage,network operator,server
registry.example.test:5000 0 npm,python,go,java ci build-agent,toolbox,release-tools,workbench
registry.example.test:5000 66 ? fraud,platform,reports,tools,stock,mail,hr,crm,wiki COMPONENTS
ghcr.io/harbor-demo 92 ? accounts,billing,catalog,checkout,ledger,payments,search,web COMPONENTS
123456789012.dkr.ecr.eu-west-1.amazonaws.com 50 ? loyalty,mobile,partners,pos,returns COMPONENTS
europe-west1-docker.pkg.dev/harbor-demo 51 ? forecast,labs,recommender,routing,vision COMPONENTS
"""
_COMPONENTS = "admin,api,batch,cron,events,frontend,gateway,importer,notifier,proxy,sync,worker"
_LANGUAGES: tuple[str, ...] = ("npm", "python", "go", "java")
_NO_FINDINGS, _ALL_FINDINGS = ((0, 0),) * 4, ((999, 999),) * 4  # more than the tables contain
# Weight, operating systems, and (min, max) numbers of critical, high, medium and low findings.
_PROFILES = (
    (8, "apk apk deb", _NO_FINDINGS),
    (27, "apk deb", ((0, 0), (0, 0), (1, 9), (0, 26))),
    (30, "apk deb deb", ((0, 0), (2, 11), (3, 18), (0, 30))),
    (20, "deb", ((0, 0), (18, 22), (6, 16), (10, 30))),
    (15, "apk deb deb deb wheezy", ((1, 9), (6, 30), (2, 18), (5, 30))),
)
_SEVERITIES = {"C": ("Critical", 25), "H": ("High", 10), "M": ("Medium", 3), "L": ("Low", 1)}
_RELEASES = {"apk": "alpine 3.18.2", "deb": "debian 12.1", "wheezy": "debian 7.4"}
# Grype's names of package types, where they differ.
_KINDS = {"wheezy": "deb", "go": "go-module", "java": "java-archive"}
# Binary packages that Debian builds from one source. Capitals in _ADVISORIES name the source.
_BINARIES = {
    "GCC": "libgcc-s1,libstdc++6,gcc-12-base,gcc-12,cpp-12,g++-12,libasan8,libatomic1,libgomp1",
    "GLIBC": "libc6,libc-bin,libc6-dev,libc-dev-bin,libc-l10n,locales,locales-all,nscd",
    "GPG": "gpgv,gnupg,gpg,gpg-agent,gpgconf,gpgsm,dirmngr,gnupg-l10n,gnupg-utils,scdaemon",
    "KRB5": "libkrb5-3,libk5crypto3,libgssapi-krb5-2,libkrb5support0,libkrb5-dev,libkdb5-10",
    "UTIL": "util-linux,libuuid1,libblkid1,libmount1,libsmartcols1,mount,bsdutils,uuid-dev",
}
# Columns of _ADVISORIES. Packages and versions are lists; each combination is one finding.
_COLUMNS: tuple[str, ...] = ("id", "severity", "score", "package", "version", "fixed", "title")
_ADVISORIES = {
    "deb": """
CVE-2005-2541 L 7.0 tar 1.34+dfsg-1.2 - Extracts setuid and setgid files without a warning
CVE-2011-4116 L 7.5 perl,perl-base,libperl5.36 5.36.0-7 - File::Temp follows symbolic links
CVE-2018-5709 L 7.5 KRB5 1.20.1-2 - Integer overflow in the entries of a database dump
CVE-2022-0563 L 5.5 UTIL 2.38.1-5 - chfn and chsh disclose files of root
CVE-2022-3219 L 3.3 GPG 2.2.40-1.1 - Denial of service by a key with many signatures
CVE-2022-27943 L 5.5 GCC 12.2.0-14 - Stack exhaustion in the demangler of Rust
CVE-2023-5678 M 5.3 openssl,libssl3,libssl-dev 3.0.9-1 3.0.13-1~deb12u1 Slow checks of DH keys
CVE-2023-46218 M 6.5 curl,libcurl4,libcurl3-gnutls 7.88.1-10+deb12u1 7.88.1-10+deb12u5 Cookie leak
CVE-2023-50495 M 6.5 libtinfo6,libncursesw6,ncurses-bin,libncurses-dev 6.4-4 - Segmentation fault
CVE-2024-0727 M 5.5 openssl,libssl3,libssl-dev 3.0.9-1 3.0.13-1~deb12u1 Null dereference in PKCS12
CVE-2023-4911 H 7.8 GLIBC 2.36-9+deb12u1 2.36-9+deb12u3 Looney Tunables: overflow in ld.so
CVE-2023-5363 H 7.5 openssl,libssl3,libssl-dev 3.0.9-1 3.0.11-1~deb12u2 Wrong key and IV lengths
CVE-2023-24329 H 7.5 python3.11,libpython3.11 3.11.2-6 3.11.2-6+deb12u2 urllib blocklist bypass
CVE-2023-44487 H 7.5 libnghttp2-14 1.52.0-1 1.52.0-1+deb12u1 HTTP/2 rapid reset
CVE-2023-47038 H 7.8 perl,perl-base,libperl5.36 5.36.0-7 5.36.0-7+deb12u1 Out-of-bounds write
CVE-2023-50387 H 7.5 libsystemd0,libudev1,udev 252.12-1~deb12u1 252.23-1~deb12u1 KeyTrap in DNSSEC
CVE-2024-0553 H 7.5 libgnutls30 3.7.9-2 3.7.9-2+deb12u2 Timing side channel in RSA-PSK
CVE-2024-1086 H 7.8 linux-libc-dev 6.1.38-1 6.1.76-1 nf_tables: use after free
CVE-2024-2961 H 7.3 GLIBC 2.36-9+deb12u1 2.36-9+deb12u6 iconv writes out of bounds
CVE-2024-6387 H 8.1 openssh-client,openssh-server 1:9.2p1-2 1:9.2p1-2+deb12u3 regreSSHion
CVE-2023-38545 C 9.8 curl,libcurl4 7.88.1-10+deb12u1 7.88.1-10+deb12u4 SOCKS5 heap overflow
CVE-2023-45853 C 9.8 zlib1g,zlib1g-dev 1:1.2.13.dfsg-1 - Integer overflow in MiniZip
CVE-2024-5535 C 9.1 openssl,libssl3,libssl-dev 3.0.9-1 3.0.15-1~deb12u1 Buffer overread in ALPN
CVE-2024-32002 C 9.0 git,git-man 1:2.39.2-1.1 1:2.39.5-0+deb12u1 Recursive clones run code
CVE-2024-37371 C 9.1 KRB5 1.20.1-2 1.20.1-2+deb12u2 Invalid reads of GSS tokens
CVE-2024-45491 C 9.8 libexpat1,libexpat1-dev 2.5.0-1 2.5.0-1+deb12u1 Overflow in dtdCopy()""",
    "wheezy": """
CVE-2014-0160 H 7.5 openssl,libssl1.0.0 1.0.1e-2+deb7u4 1.0.1e-2+deb7u5 Heartbleed: leaks memory
CVE-2014-6271 C 9.8 bash 4.2+dfsg-0.1 4.2+dfsg-0.1+deb7u1 Shellshock: environment runs code""",
    "apk": """
CVE-2023-42366 M 5.5 busybox,ssl_client 1.36.1-r0 1.36.1-r6 Heap overflow in awk
CVE-2023-5363 H 7.5 libcrypto3,libssl3 3.1.1-r1 3.1.4-r0 Wrong cipher key and IV lengths
CVE-2023-52425 H 7.5 libexpat 2.5.0-r1 2.6.0-r0 Denial of service by large tokens
CVE-2023-38545 C 9.8 curl,libcurl 8.1.2-r0 8.4.0-r0 Heap overflow in the SOCKS5 handshake""",
    "npm": """
CVE-2023-42282 L 3.7 ip 1.1.5,1.1.8,2.0.0 2.0.1,1.1.9 Takes private addresses for public ones
CVE-2023-45857 M 6.5 axios 0.21.1,0.21.4,0.26.1,0.27.2,1.2.1,1.4.0 1.6.0,0.28.0 XSRF token leaks
CVE-2024-29041 M 6.1 express 4.16.4,4.17.1,4.18.0,4.18.2 4.19.2,5.0.0-beta.3 Open redirect
CVE-2021-3807 H 7.5 ansi-regex 3.0.0,4.1.0,5.0.0 6.0.1,5.0.1,4.1.1,3.0.1 ReDoS in escape codes
CVE-2021-23337 H 7.2 lodash 4.17.10,4.17.11,4.17.15,4.17.19,4.17.20 4.17.21 Command injection
CVE-2022-25883 H 7.5 semver 5.3.0,5.6.0,5.7.1,6.3.0,7.0.0,7.3.5,7.3.8 7.5.2,6.3.1,5.7.2 ReDoS
CVE-2024-37890 H 7.5 ws 6.2.2,7.4.6,7.5.9,8.2.3,8.13.0 5.2.4,6.2.3,7.5.10,8.17.1 Denial of service
CVE-2021-44906 C 9.8 minimist 0.0.8,0.0.10,0.2.0,1.2.0,1.2.5 1.2.6,0.2.4 Prototype pollution""",
    "python": """
CVE-2022-40897 M 5.9 setuptools 45.2.0,52.0.0,58.1.0 65.5.1 ReDoS in package_index
CVE-2023-32681 M 6.1 requests 2.25.1,2.27.1,2.28.1 2.31.0 Proxy-Authorization leaks
CVE-2024-34064 M 5.4 Jinja2 2.11.3,3.0.3,3.1.2 3.1.4 xmlattr accepts invalid keys
CVE-2023-0286 H 7.4 cryptography 3.4.8,36.0.2,38.0.1 39.0.1 X.400 address type confusion
CVE-2023-4863 H 8.8 Pillow 8.4.0,9.0.1,9.4.0 10.0.1 Heap overflow in bundled libwebp
CVE-2024-6345 H 8.8 setuptools 45.2.0,52.0.0,58.1.0 70.0.0 Remote code execution by downloads
CVE-2020-14343 C 9.8 PyYAML 5.1.2,5.3.1 5.4 full_load runs code""",
    "go": """
CVE-2023-48795 M 5.9 golang.org/x/crypto v0.1.0,v0.6.0,v0.9.0,v0.14.0 0.17.0 Terrapin: truncation
CVE-2023-39325 H 7.5 golang.org/x/net v0.2.0,v0.5.0,v0.7.0,v0.10.0,v0.15.0 0.17.0 HTTP/2 rapid reset
CVE-2024-21626 H 8.6 github.com/opencontainers/runc v1.1.5,v1.1.9 1.1.12 Leaky Vessels: escape
CVE-2024-34156 H 7.5 stdlib v1.18.10,v1.19.4,v1.20.4,v1.20.14,v1.21.4 1.22.7,1.23.1 gob recursion
CVE-2024-24790 C 9.8 stdlib v1.18.10,v1.19.4,v1.20.4,v1.20.14,v1.21.4 1.21.11,1.22.4 Mapped IPv4""",
    "java": """
CVE-2020-8908 L 3.3 com.google.guava:guava 20.0,28.2-jre,30.1-jre 32.0.0-android Open temp files
CVE-2021-45105 M 5.9 org.apache.logging.log4j:log4j-core 2.8.2,2.13.3,2.14.1 2.17.0,2.3.1 Recursion
CVE-2022-1471 H 8.3 org.yaml:snakeyaml 1.17,1.23,1.24,1.26,1.29,1.30,1.33 2.0 Deserializes any type
CVE-2022-42003 H 7.5 com.fasterxml.jackson.core:jackson-databind 2.13.2,2.13.3 2.13.4.2 Nesting
CVE-2016-1000027 C 9.8 org.springframework:spring-web 5.3.9,5.3.17,5.3.27 6.0.0 Deserialization
CVE-2021-44228 C 10.0 org.apache.logging.log4j:log4j-core 2.8.2,2.13.3,2.14.1 2.15.0,2.3.1 Log4Shell
CVE-2022-22965 C 9.8 org.springframework:spring-beans 5.3.9,5.3.13,5.3.17 5.3.18 Spring4Shell""",
}
# Templates of a report and of one finding for each format. Only the sensor's reports have a status.
_TRIVY = """{"SchemaVersion": 2, "CreatedAt": "$finished", "ArtifactName": "$reference",
"ArtifactType": "container_image", "Metadata": {"OS": {"Family": "$family", "Name": "$release"},
"RepoTags": [$tags], "RepoDigests": ["$name@$digest"], "ImageConfig": {"created": "$built"}},
"Results": [{"Target": "$reference ($family $release)", "Vulnerabilities": [$findings]}]}"""
_TRIVY_FINDING = """{"VulnerabilityID": "$id", "PkgName": "$package", "InstalledVersion":
"$version", "FixedVersion": "$fixed", "Severity": "$severity", "Title": "$title",
"PrimaryURL": "https://avd.aquasec.com/nvd/$id", "CVSS": {"nvd": {"V3Score": $score}}}"""
_GRYPE = """{"matches": [$findings], "distro": {"name": "$family", "version": "$release"},
"source": {"type": "image", "target": {"userInput": "$reference", "manifestDigest": "$digest",
"tags": [$tags], "repoDigests": ["$name@$digest"], "config": "$config"}},
"descriptor": {"name": "grype", "version": "0.104.1", "timestamp": "$finished"}}"""
_GRYPE_FINDING = """{"vulnerability": {"id": "$id", "severity": "$word", "description": "$title",
"dataSource": "https://nvd.nist.gov/vuln/detail/$id", "fix": {"versions": [$fixes]},
"cvss": [{"version": "3.1", "metrics": {"baseScore": $score}}]},
"artifact": {"name": "$package", "version": "$version", "type": "$type"}}"""
_SENSOR = """{"version": "1.0", "sensor": {"version": "0.1.0", "name": "demo"},
"image": {"ref": "$reference", "digest": "$name@$digest", "name": "$name", "tag": "$tag"},
"scan": {"id": "$scan", "startedAt": "$started", "finishedAt": "$finished", "status": "$status"},
"findings": {"vulnerabilities": [$findings], "packages": [], "compliance": [], "efficiency": []},
"aggregates": {"vulnerabilityCounts": {$counts}, "riskScore": $risk}}"""
_SENSOR_FINDING = """{"cveId": "$id", "source": "trivy", "severity": "$severity", "title": "$title",
"cvssScore": $score, "packageName": "$package", "installedVersion": "$version",
"fixedVersion": "$fixed", "vulnerabilityUrl": "https://avd.aquasec.com/nvd/$id"}"""
_FORMATS = ((_TRIVY, _TRIVY_FINDING), (_GRYPE, _GRYPE_FINDING), (_SENSOR, _SENSOR_FINDING))

_Fields = dict[str, str]
_Bounds = tuple[tuple[int, int], ...]


def make_reports(now: datetime) -> Iterator[bytes]:
    """Yield JSON reports with times before `now` (UTC); the same `now` gives the same reports."""
    rng = Random(52)  # noqa: S311 - reproducible data, not a secret
    images = list(_list_images(rng))
    for name, languages in rng.sample(images, len(images)):
        yield from _scan_builds(rng, name, languages, now)


def _list_images(rng: Random) -> Iterator[tuple[str, list[str]]]:
    for line in _IMAGES.replace("COMPONENTS", _COMPONENTS).strip().splitlines():
        registry, count, languages, *words = line.split()
        paths = list(product(*(word.split(",") for word in words)))
        for path in rng.sample(paths, int(count) or len(paths)):
            chosen = rng.choice(_LANGUAGES) if languages == "?" else languages
            yield "/".join((registry, *path)), chosen.split(",")


def _scan_builds(rng: Random, name: str, languages: list[str], now: datetime) -> Iterator[bytes]:
    """Yield one scan of each build of an image, newest build first, all in one format."""
    _, systems, bounds = rng.choices(_PROFILES, [weight for weight, *_ in _PROFILES])[0]
    if len(languages) > 1:
        systems, bounds = "deb", _ALL_FINDINGS
    system = rng.choice(systems.split())
    status = rng.choices(("SUCCESS", "PARTIAL", "FAILED", "CANCELLED"), (89, 6, 4, 1))[0]
    document, finding = rng.choice(_FORMATS) if status == "SUCCESS" else _FORMATS[-1]
    if status in {"FAILED", "CANCELLED"}:
        bounds = _NO_FINDINGS
    built_at = now - timedelta(days=rng.uniform(0.2, 60))
    family, release = _RELEASES[system].split()
    for index, tag in enumerate(_list_tags(rng)):
        digest = sha256(f"{name}:{tag}:{index}".encode()).hexdigest()
        started_at = built_at + min(now - built_at, timedelta(days=2)) * rng.uniform(0.1, 0.9)
        moments = (built_at, started_at, started_at + timedelta(minutes=2))
        findings = list(_pick_findings(rng, [system, *languages], bounds))
        build = {"status": status, "family": family, "release": release}
        build |= _describe_build(name, built_at.strftime(tag), digest, moments)
        build |= _describe_findings(finding, findings)
        yield Template(document).substitute(build).encode()
        built_at -= timedelta(days=rng.uniform(3, 12))


def _list_tags(rng: Random) -> list[str]:
    """Return the tags of an image's builds, newest first: strftime formats, "" for no tag."""
    count = rng.choices((1, 2, rng.randint(3, 6), rng.randint(7, 14)), (88, 6, 4, 2))[0]
    style = rng.choices(("{}", "v{}", "%Y.%m.%d", "latest", "main", ""), (40, 12, 10, 22, 13, 3))[0]
    major, minor = rng.randint(0, 4), rng.randint(count, 30)
    versions = [f"{major}.{minor - age}.{rng.randint(0, 6)}" for age in range(count)]
    if style in {"latest", "main"}:
        return [style, *versions[1:-1], style][:count]
    return [style.format(version) for version in versions]


def _pick_findings(rng: Random, ecosystems: list[str], bounds: _Bounds) -> Iterator[_Fields]:
    for severity, (minimum, maximum) in zip(_SEVERITIES, bounds, strict=True):
        advisories = list(chain.from_iterable(_read_advisories(e, severity) for e in ecosystems))
        rng.shuffle(advisories)
        yield from islice(chain.from_iterable(advisories), rng.randint(minimum, maximum))


@cache
def _read_advisories(ecosystem: str, severity: str) -> list[list[_Fields]]:
    """Return, for each advisory, its findings: one per package and version."""
    rows = [row.split(maxsplit=6) for row in _ADVISORIES.get(ecosystem, "").strip().splitlines()]
    advisories = [dict(zip(_COLUMNS, row, strict=True)) for row in rows if row[1] == severity]
    return [list(_list_findings(ecosystem, advisory)) for advisory in advisories]


def _list_findings(ecosystem: str, advisory: _Fields) -> Iterator[_Fields]:
    word, _ = _SEVERITIES[advisory["severity"]]
    kind = _KINDS.get(ecosystem, ecosystem)
    fixed = [version for version in advisory["fixed"].split(",") if version != "-"]
    shared = advisory | {"severity": word.upper(), "word": word, "type": kind}
    shared |= {"fixed": ", ".join(fixed), "fixes": ", ".join(f'"{each}"' for each in fixed)}
    packages = _BINARIES.get(advisory["package"], advisory["package"]).split(",")
    for package, version in product(packages, advisory["version"].split(",")):
        yield shared | {"package": package, "version": version}


def _describe_build(name: str, tag: str, digest: str, moments: Iterable[datetime]) -> _Fields:
    reference = f"{name}:{tag}" if tag else f"{name}@sha256:{digest}"
    names = {"name": name, "tag": tag, "reference": reference, "digest": f"sha256:{digest}"}
    built, started, finished = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in moments]
    times = {"built": built, "started": started, "finished": finished}
    config = b64encode(f'{{"created": "{built}"}}'.encode()).decode()
    tags = f'"{reference}"' if tag else ""
    return names | times | {"scan": str(UUID(digest[:32])), "config": config, "tags": tags}


def _describe_findings(template: str, findings: list[_Fields]) -> _Fields:
    words = [finding["word"] for finding in findings]
    counts = {word: words.count(word) for word, _ in _SEVERITIES.values()}
    risk = sum(weight * counts[word] for word, weight in _SEVERITIES.values())
    return {
        "findings": ", ".join(map(Template(template).substitute, findings)),
        "counts": ", ".join(f'"{word.lower()}": {count}' for word, count in counts.items()),
        "risk": str(min(100, risk)),
    }
