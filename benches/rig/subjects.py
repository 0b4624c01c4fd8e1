"""What is measured: each subject is a proxy's command, its configuration and the request it gets."""

from dataclasses import dataclass, field

from .machine import HERE, PROXY_CORE, Process, free_port

ISSUER = "http://127.0.0.1:9"  # never asked: the keys come from a file

EVERGATE = """\
listen: 127.0.0.1:{port}
admin: {{ address: "127.0.0.1:{admin}" }}
threads: 1
log: {{ format: json, access: {access_log} }}
upstream: http://127.0.0.1:{origin}
issuer: {{ url: "{issuer}", audience: bench, keys: {{ file: "{folder}/keys.json" }} }}
cookies: {{ secure: false }}
routes:
  - {{ path: /public/*, auth: public }}
{routes}  - {{ path: /* }}
"""


@dataclass
class Subject:
    """One row of the table."""

    name: str
    path: str = "/app/page"
    # valid: one good token; unseen: another one each time
    tokens: str = "valid"
    # More than the cookie: what a browser sends along
    headers: dict = field(default_factory=dict)
    access_log: bool = False
    routes: int = 0
    argv: list = None  # None: the gateway
    port: int = 0
    admin: int = 0
    figures: list = field(default_factory=list)

    @property
    def is_gateway(self):
        return self.argv is None

    def process(self, rig, wrapped_in=(), cores=PROXY_CORE, limit_s=60):
        """A fresh process, so that no round finds the caches of the one before."""
        self.port, self.admin = free_port(), free_port()
        argv = self.argv(self, rig) if self.argv else self._gateway(rig)
        return Process(
            self.name.replace(" ", "-").replace(",", ""), [*wrapped_in, *argv], self.port, rig.folder,
            cores=cores, limit_s=limit_s, quiet=self.access_log,
        )

    def _gateway(self, rig):
        file = rig.folder / "gateway.yaml"
        file.write_text(EVERGATE.format(
            port=self.port, admin=self.admin, origin=rig.origin_port, issuer=ISSUER, folder=rig.folder,
            access_log=str(self.access_log).lower(), routes=many_routes(self.routes),
        ))
        return [rig.binary("evergate"), "run", "-c", file]


def many_routes(count):
    """Alike to the last segment, which is where a lookup has to tell them apart."""
    return "".join(f"  - {{ path: /app/section-{n:05}/pages/* }}\n" for n in range(count))


def one_of(count):
    return f"/app/section-{count // 2:05}/pages/7"


def bare(subject, rig):
    return [rig.binary("examples/bare"), f"{HERE}:{subject.port}", f"{HERE}:{rig.origin_port}", "1"]


BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://app.example.org/app/",
    "DNT": "1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Priority": "u=0, i",
}

BARE = Subject("bare Pingora", argv=bare)
BARE_BROWSER = Subject("bare Pingora, a browser's headers", argv=bare, headers=BROWSER)
VALID_BROWSER = Subject("valid cookie, a browser's headers", headers=BROWSER)
VALID = Subject("valid cookie")
PUBLIC = Subject("public route", path="/public/page")
GATEWAY = [
    PUBLIC,
    VALID,
    Subject("valid cookie, access log on", access_log=True),
    Subject("token never seen before, ES256", tokens="unseen"),
    Subject("valid cookie, 10 routes", routes=10, path=one_of(10)),
    Subject("valid cookie, 10000 routes", routes=10_000, path=one_of(10_000)),
]
