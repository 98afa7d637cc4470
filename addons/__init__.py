"""The proxy: addons of mitmproxy. Folders in the order of the data; each imports only from those below it.

connector.py  the entry, for `mitmdump -s`
__main__.py   mitmdump without what only people ask of it, for the image
server/       the process: options, where Connectors come from, what is joined of it, the end
relay/        one client connection: first head, TLS, requests and their responses, pipes
access/       may the caller use the Connector, for how many connections, and for how long
net/          bytes: TCP, TLS, certificates, names, timers
http1/        HTTP/1.1 messages and WebSocket frames, without IO
records/      what happened: audit lines, metrics

docs/architecture.md walks through the files, and docs/glossary.md defines the words.
"""
