"""The proxy, as addons of mitmproxy. The folders follow the data path. Each imports only from those below it.

connector.py  entry point for `mitmdump -s`
__main__.py   mitmdump reduced to a service, for the image
server/       process: options, sources of Connectors, assembly of the parts, draining
sessions/     the page and JSON of who is connected, on loopback
relay/        one client connection: first head, TLS, requests and their responses, pipes
access/       access decisions, limits on connections, live connections
net/          bytes: TCP, TLS, certificates, name resolution, timers
http1/        HTTP/1.1 messages and WebSocket frames, without I/O
records/      audit log and metrics

docs/architecture.md walks through the files, and docs/glossary.md defines the words.
"""
