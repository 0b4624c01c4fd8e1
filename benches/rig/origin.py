"""The app behind every proxy: nginx with one small answer and no end to its connections."""

from .machine import Process, free_port

BODY = "x" * 109 + "\n"

CONF = """
daemon off; worker_processes 1; pid {folder}/origin.pid; error_log {folder}/origin.error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type text/plain; return 200 "{body}"; }}
        # What an app sees of a request: who it is, and which cookies are left.
        location = /seen {{ return 200 "$http_x_forwarded_user|$http_cookie"; }}
    }}
}}
"""


def origin(folder):
    port = free_port()
    conf = folder / "origin.conf"
    conf.write_text(CONF.format(folder=folder, port=port, body=BODY.replace("\n", "\\n")))
    return Process("origin", ["nginx", "-p", folder, "-c", conf, "-e", folder / "origin.error.log"], port, folder)
