"""Other proxies before the same origin, as far as they are installed (`--peers`)."""

import json
import shutil
from pathlib import Path

from .load import COOKIE
from .machine import HERE
from .subjects import ISSUER, Subject

PARTS = Path("target/parts/peers/bin")

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header Host $host;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server origin 127.0.0.1:{origin}
"""

CADDY = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{origin}
}}
"""


def found(name):
    return shutil.which(name, path=PARTS) or shutil.which(name)


def written(rig, name, text, subject):
    file = rig.folder / name
    file.write_text(text.format(folder=rig.folder, port=subject.port, origin=rig.origin_port))
    return file


def nginx(subject, rig):
    return [found("nginx"), "-p", rig.folder, "-c", written(rig, "nginx.conf", NGINX, subject),
            "-e", rig.folder / "nginx.error.log"]


def haproxy(subject, rig):
    return [found("haproxy"), "-db", "-f", written(rig, "haproxy.cfg", HAPROXY, subject)]


def caddy(subject, rig):
    file = written(rig, "Caddyfile", CADDY, subject)
    return ["env", "GOMAXPROCS=1", found("caddy"), "run", "--adapter", "caddyfile", "--config", file]


def envoy(cache):
    """`cache`: None is without authentication, else how many verified tokens it keeps."""
    def argv(subject, rig):
        file = rig.folder / "envoy.json"
        file.write_text(json.dumps(envoy_config(subject, rig, cache)))
        return [found("envoy"), "-c", file, "--concurrency", "1", "-l", "warning",
                "--use-dynamic-base-id"]
    return argv


def envoy_config(subject, rig, cache):
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
        }]},
        "http_filters": [router] if cache is None else [jwt_authn(kind, rig, cache), router],
    }
    return {"static_resources": {
        "listeners": [{
            "address": address(subject.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "origin", "type": "STATIC",
            "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(rig.origin_port)}}]}]},
        }],
    }}


def jwt_authn(kind, rig, cache):
    provider = {
        "issuer": ISSUER, "audiences": ["bench"], "from_cookies": [COOKIE],
        "local_jwks": {"filename": str(rig.folder / "keys.json")},
        "claim_to_headers": [{"header_name": "x-forwarded-user", "claim_name": "sub"}],
    }
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": cache}
    return {"name": "jwt", "typed_config": {
        "@type": f"{kind}.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"p": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}],
    }}


def address(port):
    return {"socket_address": {"address": HERE, "port_value": port}}


def peers():
    """Rows for what is here, and the names of what is not."""
    all_peers = [
        ("nginx", Subject("nginx, no auth", argv=nginx)),
        ("haproxy", Subject("HAProxy, no auth", argv=haproxy)),
        ("caddy", Subject("Caddy, no auth", argv=caddy)),
        ("envoy", Subject("Envoy, no auth", argv=envoy(None))),
        ("envoy", Subject("Envoy jwt_authn, cached", argv=envoy(1000))),
        ("envoy", Subject("Envoy jwt_authn, not cached", argv=envoy(0))),
    ]
    here = [subject for name, subject in all_peers if found(name)]
    missing = sorted({name for name, _ in all_peers if not found(name)})
    return here, missing
